//! How much memory a session holds for what has arrived, and for what was only announced.

use super::super::*;
use super::feeding::{Expect, Feed, announced, feed, feed_straight, frame, held_bytes, limits};
use crate::proto::ws::Message;

#[test]
fn a_message_in_pieces_owns_a_block_until_it_is_given_back() {
    let (mut session, mut pool) = (Session::new(Role::Server, Limits::default()), Pool::default());
    let mut bytes = frame(0x81, b"Hello");
    let (mut head, mut tail) = bytes.split_at_mut(8);
    assert!(matches!(session.receive(&mut head, &mut pool), Ok(None)));
    let event = session.receive(&mut tail, &mut pool).expect("a good frame").expect("its end has arrived");
    assert!(
        matches!(&event, Event::Message(Message { payload: payload @ Payload::Block { .. }, .. }) if **payload == *b"Hello")
    );
    assert!(session.is_at_rest());
    assert_eq!(pool.lent(), 1);
    event.give_back(&mut pool);
    assert_eq!(pool.lent(), 0);
}

#[test]
fn an_announced_length_takes_no_memory() {
    let announced_then_one_byte = |len: usize, max: usize| {
        let (mut session, mut pool) = (Session::new(Role::Server, limits(max)), Pool::default());
        let free = pool.take(len.min(64 << 10));
        pool.give(free);
        assert_eq!(feed(&mut session, &[&announced(0x82, len)[..], b"x"].concat(), &mut pool), []);
        assert_eq!(pool.lent(), 1);
        held_bytes(session, &mut pool)
    };
    assert_eq!(announced_then_one_byte(60 << 10, 64 << 10), 1024 + 64);
    assert_eq!(announced_then_one_byte(1 << 62, usize::MAX), 1024 + 64);
}

#[test]
fn a_message_in_small_pieces_at_most_doubles_what_has_arrived() {
    let payload = vec![b'x'; 200_000];
    let one_frame = frame(0x82, &payload);
    let mut fragments = frame(0x01, b"");
    payload.chunks(250).for_each(|piece| fragments.extend(frame(0x00, piece)));
    // What is received straight has room for a page more.
    for (feed, page) in [(feed as Feed, 0), (feed_straight, 4 << 10)] {
        for input in [&one_frame, &fragments] {
            for piece_len in [1, 100, 1_024, 1_460, 5_000] {
                for (arrived, capacity) in blocks_taken(&input[..input.len() - 1], piece_len, feed) {
                    // A block has room for a frame header besides.
                    let allowed = (2 * (arrived + page)).max(16 << 10) + 64;
                    assert!(capacity <= allowed, "{capacity} for {arrived} bytes in pieces of {piece_len}");
                }
            }
        }
    }
}

/// Each block that a message in pieces took: the bytes that had arrived then, and its capacity.
fn blocks_taken(input: &[u8], piece_len: usize, feed: Feed) -> Vec<(usize, usize)> {
    let (mut session, mut pool) = (Session::new(Role::Server, limits(1 << 20)), Pool::default());
    let (mut blocks, mut arrived, mut taken_at) = (Vec::new(), 0, 0);
    for piece in input.chunks(piece_len) {
        let before = pool.retained_bytes();
        assert_eq!(feed(&mut session, piece, &mut pool), []);
        arrived += piece.len();
        // A message that moves to a larger block gives the former one back.
        if pool.retained_bytes() != before {
            blocks.push((taken_at, pool.retained_bytes() - before));
            taken_at = arrived;
        }
    }
    blocks.push((taken_at, held_bytes(session, &mut pool)));
    blocks
}

#[test]
fn free_blocks_are_not_pinned_by_what_is_only_announced() {
    let mut pool = Pool::new(256 << 20);
    let mut sessions = Vec::new();
    for _ in 0..100 {
        let mut busy = Session::new(Role::Server, Limits::default());
        frame(0x82, &[1; 60 << 10]).chunks(16 << 10).for_each(|piece| drop(feed(&mut busy, piece, &mut pool)));
        let mut idle = Session::new(Role::Server, Limits::default());
        assert_eq!(feed(&mut idle, &frame(0x82, &[1; 60 << 10])[..1_100], &mut pool), []);
        sessions.push(idle);
    }
    let held: usize = sessions.into_iter().map(|session| held_bytes(session, &mut pool)).sum();
    assert!(held <= 100 * ((16 << 10) + 64), "{held} bytes for 110,000 that arrived");
}

#[test]
fn room_at_once_is_for_messages_as_long_as_the_peer_is_trusted_with() {
    let room = |trusted: usize| {
        let (mut session, mut pool) = (Session::new(Role::Server, limits(1 << 20)), Pool::default());
        assert_eq!(feed(&mut session, &[&announced(0x82, 500_000)[..], b"x"].concat(), &mut pool), []);
        let block = session.lend(trusted, &mut pool).expect("a frame is under way");
        let room = block.capacity() - block.len();
        assert!(matches!(session.restore(block, 0, &mut pool), Ok(None)));
        session.end(&mut pool);
        assert_eq!(pool.lent(), 0);
        room
    };
    assert!(room(500_000) >= 499_999, "as many were sent before");
    for trusted in [0, 1, 499_999] {
        let room = room(trusted);
        assert!((4096..=(16 << 10) + 64).contains(&room), "{room} bytes of room for one that arrived");
    }
}

#[test]
fn a_block_that_comes_back_after_the_end_goes_to_the_pool() {
    let (mut session, mut pool) = (Session::new(Role::Server, limits(1 << 20)), Pool::default());
    assert_eq!(feed(&mut session, &[&announced(0x82, 500_000)[..], b"x"].concat(), &mut pool), []);
    let mut block = session.lend(0, &mut pool).expect("a frame is under way");
    session.end(&mut pool);
    assert_eq!(pool.lent(), 1, "it is still lent");
    block.extend_from_slice(b"late");
    assert!(matches!(session.restore(block, 4, &mut pool), Ok(None)));
    assert_eq!(pool.lent(), 0);
}

#[test]
fn a_message_that_fills_its_block_is_neither_moved_nor_copied() {
    for (cut, fin) in [(0, true), (8, true), (20, true), (5_000, true), (300, false)] {
        let (mut session, mut pool) = (Session::new(Role::Server, limits(1 << 20)), Pool::default());
        let input = frame(if fin { 0x82 } else { 0x02 }, &[7; 10_000]);
        let mut block = pool.take(input.len());
        let address = block.as_ptr();
        block.extend_from_slice(&input[..input.len() - cut]);
        let mut adopted = session.adopt(block, &mut pool).expect("a good frame");
        if cut > 0 {
            assert!(matches!(adopted, Adoption::Taken(None)), "the rest is to come");
            assert_eq!(session.payload_to_come(), cut);
            let mut block = session.lend(0, &mut pool).expect("a frame is under way");
            block.extend_from_slice(&input[input.len() - cut..]);
            adopted = Adoption::Taken(session.restore(block, cut, &mut pool).expect("a good frame"));
        }
        if fin {
            let Adoption::Taken(Some(Event::Message(message))) = adopted else { panic!("a message: {adopted:?}") };
            assert_eq!((message.bytes(), message.bytes().as_ptr()), (&[7; 10_000][..], address.wrapping_add(8)));
            message.payload.give_back(&mut pool);
        } else {
            assert_eq!(feed(&mut session, &frame(0x80, b""), &mut pool), [Expect::Binary(vec![7; 10_000])]);
        }
        assert_eq!((pool.lent(), pool.copied_bytes()), (0, 0));
    }
}

#[test]
fn a_block_is_declined_unless_one_data_frame_begins_with_it_and_fills_it() {
    let two = [frame(0x82, b"one"), frame(0x82, b"two")].concat();
    for bytes in [&b""[..], b"\x82", &frame(0x82, b"a")[..5], &two, &frame(0x80, b"a"), &frame(0x89, b"a"), b"\xc2\x80"]
    {
        let (mut session, mut pool) = (Session::new(Role::Server, Limits::default()), Pool::default());
        let mut block = pool.take(bytes.len());
        block.extend_from_slice(bytes);
        let adopted = session.adopt(block, &mut pool).expect("the ordinary way says what is wrong");
        let Adoption::Declined(block) = adopted else { panic!("{bytes:?} was taken: {adopted:?}") };
        assert_eq!(*block, bytes);
        assert!(session.is_at_rest() && !session.is_ended());
    }
}
