//! STOMP frames in and out: what a client's SEND and ACK cost to read, and a MESSAGE to write, beside a pass
//! over the same bytes that looks for a NUL.

mod groups;

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ringsock::buf::Pool;
use ringsock::proto::stomp::{Command, Decoder, Incoming, Limits, Session, SessionOptions, Version, encoder};

use groups::{group, measure, run};

const BODY_LENS: [usize; 3] = [16, 256, 16 << 10];

fn main() {
    run(|criterion| {
        read_send(criterion);
        read_ack(criterion);
        write_message(criterion);
    });
}

/// As `@stomp/stompjs` writes it.
fn send(len: usize) -> Vec<u8> {
    let head = "SEND\ndestination:/topic/prices.eur.usd\ncontent-type:application/json\n";
    format!("{head}content-length:{len}\n\n{}\0", "x".repeat(len)).into()
}

fn read_send(criterion: &mut Criterion) {
    let mut group = group(criterion, "STOMP SEND, by length of the body");
    for len in BODY_LENS {
        let input = send(len);
        let throughput = || Throughput::Bytes(input.len() as u64);
        measure(&mut group, "(look for a NUL)", len, throughput(), || memchr::memchr(0, black_box(&input)));
        let (mut pool, mut decoder) = (Pool::default(), Decoder::new(Limits::default()));
        decoder.set_version(Version::V1_2);
        measure(&mut group, "(decoder)", len, throughput(), || {
            let mut input = black_box(&input[..]);
            decoder.receive(&mut input, &mut pool).expect("a good frame").map(|frame| frame.body().len())
        });
        let mut session = open(&mut pool);
        measure(&mut group, "ringsock", len, throughput(), || request(&mut session, &input, &mut pool));
        let (front, back) = input.split_at(input.len() / 2);
        measure(&mut group, "ringsock, cut in the middle", len, throughput(), || {
            request(&mut session, front, &mut pool) | request(&mut session, back, &mut pool)
        });
    }
}

fn read_ack(criterion: &mut Criterion) {
    let input = b"ACK\nid:w0.17.4711\n\n\0";
    let mut pool = Pool::default();
    let mut session = open(&mut pool);
    let mut group = group(criterion, "STOMP ACK");
    measure(&mut group, "ringsock", "1.2", Throughput::Elements(1), || request(&mut session, input, &mut pool));
}

fn write_message(criterion: &mut Criterion) {
    let mut group = group(criterion, "STOMP MESSAGE, by length of the body");
    for len in BODY_LENS {
        let body = vec![b'x'; len];
        let mut out = Vec::with_capacity(len + 1024);
        let throughput = || Throughput::Bytes(len as u64);
        measure(&mut group, "(copy the body)", len, throughput(), || {
            out.clear();
            out.extend_from_slice(black_box(&body));
        });
        for (name, version) in [("ringsock", Version::V1_2), ("ringsock, 1.0", Version::V1_0)] {
            measure(&mut group, name, len, throughput(), || {
                out.clear();
                let mut message = encoder::begin(black_box(&mut out), version, Command::Message);
                message.header("subscription", "sub-0").header("message-id", "w0.17.4711");
                message.header("destination", "/topic/prices.eur.usd").header("content-type", "application/json");
                message.finish(black_box(&body));
            });
        }
    }
}

fn open(pool: &mut Pool) -> Session {
    let mut session = Session::new(SessionOptions::default(), 0);
    let mut connect = &b"CONNECT\naccept-version:1.2\n\n\0"[..];
    let login = session.receive(&mut connect, 0, pool);
    assert!(matches!(login, Ok(Some(Incoming::Connect(_)))));
    assert!(session.accept("s", "ringsock", 0, &mut Vec::new()));
    session
}

/// Whether a request came.
fn request(session: &mut Session, input: &[u8], pool: &mut Pool) -> bool {
    let mut input = black_box(input);
    session.receive(&mut input, 0, pool).expect("a good frame").is_some()
}
