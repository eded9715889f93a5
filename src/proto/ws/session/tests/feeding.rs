//! How tests give bytes to a session, and what they expect of it: cut in every way, through receive
//! buffers, straight into the message and in blocks.

use super::super::*;
use crate::proto::ws::{CloseCode, encoder};

/// The key that the examples of RFC 6455 section 5.7 use.
pub(super) const KEY: Key = [0x37, 0xfa, 0x21, 0x3d];
/// Inputs up to this length are cut at every offset, longer ones at some.
pub(super) const EVERY_CUT_LEN_MAX: usize = 4 << 10;
/// Inputs up to this length are cut at every pair of offsets.
pub(super) const EVERY_PAIR_LEN_MAX: usize = 48;

/// An [`Event`] that owns its payload, or another way in which an input ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expect {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Error(ProtocolError),
    /// The input ends inside a frame or between the fragments of a message.
    UnderWay,
}

/// A way in which bytes reach a session.
pub(super) type Feed = fn(&mut Session, &[u8], &mut Pool) -> Vec<Expect>;

#[track_caller]
pub(super) fn check(input: &[u8], expect: &[Expect]) {
    check_as(Role::Server, Limits::default(), input, expect);
}

#[track_caller]
pub(super) fn check_as(role: Role, limits: Limits, input: &[u8], expect: &[Expect]) {
    let mut warm = Pool::default();
    let mut run = |cuts: &[usize]| {
        for feed in [feed as Feed, feed_straight, feed_blocks] {
            for pool in [&mut Pool::default(), &mut warm] {
                assert_eq!(observe(role, limits, input, cuts, feed, pool), expect, "cut at {cuts:?}");
            }
        }
    };
    run(&[]);
    for cut in 0..=input.len() {
        if input.len() <= EVERY_CUT_LEN_MAX || cut < 20 || input.len() - cut < 5 || cut % 9973 == 0 {
            run(&[cut]);
        }
    }
    if input.len() <= EVERY_PAIR_LEN_MAX {
        for first in 0..=input.len() {
            (first..=input.len()).for_each(|second| run(&[first, second]));
        }
    }
    run(&Vec::from_iter(1..input.len()));
}

/// Checks that the only event is `error`, raised by the byte that brings the input to `len` bytes.
#[track_caller]
pub(super) fn check_refused(input: &[u8], len: usize, error: ProtocolError) {
    check(input, &[Expect::Error(error)]);
    assert_eq!(refused_at(Role::Server, input), Some(len));
}

/// Runs a session over `input` cut at `cuts`, and looks at what is left of it at the end.
#[track_caller]
pub(super) fn observe(
    role: Role,
    limits: Limits,
    input: &[u8],
    cuts: &[usize],
    feed: Feed,
    pool: &mut Pool,
) -> Vec<Expect> {
    let mut session = Session::new(role, limits);
    let mut events = Vec::new();
    let mut start = 0;
    for &end in cuts.iter().chain([&input.len()]) {
        events.extend(feed(&mut session, &input[start..end], pool));
        start = end;
    }
    let is_over = matches!(events.last(), Some(Expect::Close(..) | Expect::Error(_)));
    assert_eq!(session.is_ended(), is_over, "ended by its last event only");
    if session.is_at_rest() {
        assert_eq!(pool.lent(), 0, "a session at rest holds no memory");
    } else {
        events.push(Expect::UnderWay);
    }
    session.end(pool);
    assert!(session.is_ended() && session.is_at_rest() && !session.is_assembling());
    assert_eq!(pool.lent(), 0, "an ended session holds no memory");
    for late in [frame(0x89, b"late"), frame(0x81, b"late"), vec![0xff; 20]] {
        assert_eq!(feed(&mut session, &late, pool), [], "delivered after the end");
    }
    events
}

/// Hands `bytes` over as one receive buffer.
#[track_caller]
pub(super) fn feed(session: &mut Session, bytes: &[u8], pool: &mut Pool) -> Vec<Expect> {
    let mut events = Vec::new();
    feed_rest(session, bytes, pool, &mut events);
    events
}

/// Hands over what belongs to a frame under way as if it were received straight into its message,
/// and the rest as one receive buffer.
#[track_caller]
pub(super) fn feed_straight(session: &mut Session, mut bytes: &[u8], pool: &mut Pool) -> Vec<Expect> {
    let mut events = Vec::new();
    while !bytes.is_empty()
        && let Some(mut block) = session.lend(0, pool)
    {
        let room = block.capacity() - block.len();
        let len = bytes.len().min(session.payload_to_come()).min(room);
        assert!(len > 0, "a block is lent with room");
        block.extend_from_slice(&bytes[..len]);
        bytes = &bytes[len..];
        match session.restore(block, len, pool) {
            Ok(Some(event)) => events.push(taken(event, pool)),
            Ok(None) => {}
            Err(error) => events.push(Expect::Error(error)),
        }
    }
    feed_rest(session, bytes, pool, &mut events);
    events
}

/// Hands `bytes` over in a block of their own where the session takes that, and else as [`feed_straight`]
/// does.
#[track_caller]
pub(super) fn feed_blocks(session: &mut Session, bytes: &[u8], pool: &mut Pool) -> Vec<Expect> {
    let mut block = pool.take(bytes.len());
    block.extend_from_slice(bytes);
    match session.adopt(block, pool) {
        Ok(Adoption::Taken(event)) => event.into_iter().map(|event| taken(event, pool)).collect(),
        Ok(Adoption::Declined(block)) => {
            assert_eq!(*block, bytes, "it comes back as it was");
            pool.give(block);
            feed_straight(session, bytes, pool)
        }
        Err(error) => vec![Expect::Error(error)],
    }
}

/// What an event is, after its memory was given back.
fn taken(event: Event<'_>, pool: &mut Pool) -> Expect {
    let expect = owned(&event);
    event.give_back(pool);
    expect
}

#[track_caller]
pub(super) fn feed_rest(session: &mut Session, bytes: &[u8], pool: &mut Pool, events: &mut Vec<Expect>) {
    let mut buffer = bytes.to_vec();
    let mut input = &mut buffer[..];
    loop {
        match session.receive(&mut input, pool) {
            Ok(Some(event)) => events.push(taken(event, pool)),
            Ok(None) => break,
            Err(error) => events.push(Expect::Error(error)),
        }
    }
    assert!(input.is_empty(), "input is consumed or discarded");
}

pub(super) fn owned(event: &Event<'_>) -> Expect {
    match event {
        Event::Message(message) => match message.text() {
            Some(text) => Expect::Text(text.to_owned()),
            None => Expect::Binary(message.bytes().to_vec()),
        },
        Event::Compressed(_) => panic!("nothing was agreed on compression"),
        Event::Ping(payload) => Expect::Ping(payload.to_vec()),
        Event::Pong(payload) => Expect::Pong(payload.to_vec()),
        Event::Close { code, reason } => {
            let reason = String::from_utf8(reason.to_vec()).expect("a reason is validated");
            Expect::Close(code.map(CloseCode::get), reason)
        }
    }
}

/// How many bytes of `input` it takes to raise an error.
pub(super) fn refused_at(role: Role, input: &[u8]) -> Option<usize> {
    let (mut session, mut pool) = (Session::new(role, Limits::default()), Pool::default());
    let is_error = |event: &Expect| matches!(event, Expect::Error(_));
    let index = input.iter().position(|&byte| feed(&mut session, &[byte], &mut pool).iter().any(is_error));
    index.map(|index| index + 1)
}

/// A masked frame that begins with the byte `first`.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = announced(first, payload.len());
    mask::append(&mut out, payload, KEY);
    out
}

/// The header alone of such a frame.
pub(super) fn announced(first: u8, payload_len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    encoder::header(&mut out, Opcode::Binary, payload_len, Some(KEY));
    out[0] = first;
    out
}

pub(super) fn text(text: &str) -> Expect {
    Expect::Text(text.to_owned())
}

pub(super) fn limits(message_bytes_max: usize) -> Limits {
    Limits { message_bytes_max, ..Limits::default() }
}

/// How much memory the session held.
pub(super) fn held_bytes(mut session: Session, pool: &mut Pool) -> usize {
    let before = pool.retained_bytes();
    session.end(pool);
    pool.retained_bytes() - before
}
