//! A session that receives messages, beside a textbook one and other libraries.
//!
//! Every receiver is given the same masked bytes, which are copied into its buffer as the kernel
//! does, and hands out whole messages: unmasked, and text validated.

mod groups;
mod stream;
mod textbook {
    pub(crate) mod decoder;
}

use std::future::poll_fn;
use std::hint::black_box;
use std::io::Read;
use std::mem;
use std::pin::Pin;

use criterion::{Criterion, Throughput};
use fastwebsockets::{FragmentCollector, Role as FastRole, WebSocket};
use futures_core::Stream as _;
use ringsock::buf::Pool;
use ringsock::proto::ws::{Event, HEADER_LEN_MAX, Limits, MessageKind, Role, Session, encoder};
use tokio_websockets::ServerBuilder;
use tungstenite::protocol;

use groups::{group, measure, run};
use stream::{Stream, ready};
use textbook::decoder;

/// How messages arrive.
struct Shape {
    name: &'static str,
    lens: &'static [usize],
    /// How many messages stand back to back.
    count: usize,
    /// Into how many arrivals they are cut at least.
    pieces_min: usize,
    arrival_len_max: usize,
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "whole",
        lens: &[16, 125, 1 << 10, 16 << 10, 64 << 10, 1 << 20],
        count: 1,
        pieces_min: 1,
        arrival_len_max: usize::MAX,
    },
    Shape {
        name: "in pieces",
        lens: &[16, 1 << 10, 16 << 10, 64 << 10, 1 << 20],
        count: 1,
        pieces_min: 4,
        arrival_len_max: 16 << 10,
    },
    Shape { name: "64 at once", lens: &[16, 125, 1 << 10], count: 64, pieces_min: 1, arrival_len_max: usize::MAX },
];

const LIMITS: Limits = Limits { message_bytes_max: 64 << 20, fragments_max: 1024, empty_fragments_max: 16 };

fn main() {
    run(|criterion| {
        for (kind, name) in [(MessageKind::Text, "text"), (MessageKind::Binary, "binary")] {
            for shape in &SHAPES {
                receive(criterion, &format!("receive {name}, {}", shape.name), kind, shape);
            }
        }
    });
}

fn receive(criterion: &mut Criterion, name: &str, kind: MessageKind, shape: &Shape) {
    let mut group = group(criterion, name);
    for &len in shape.lens {
        let bytes = messages(kind, len, shape.count);
        let arrival_len = bytes.len().div_ceil(shape.pieces_min).min(shape.arrival_len_max);
        let stream = || Stream::new(bytes.clone(), arrival_len);
        let mut of = |name: &str, work: &mut dyn FnMut(usize) -> usize| {
            assert_eq!(work(shape.count), shape.count * len, "{name} receives what was sent");
            let throughput = Throughput::Bytes((shape.count * len) as u64);
            measure(&mut group, name, len, throughput, || work(black_box(shape.count)));
        };
        of("textbook", &mut by_textbook(stream(), arrival_len));
        of("ringsock", &mut by_ringsock(stream(), arrival_len));
        of("tungstenite", &mut by_tungstenite(stream()));
        of("fastwebsockets", &mut by_fastwebsockets(stream()));
        of("tokio-websockets", &mut by_tokio_websockets(stream()));
    }
    group.finish();
}

/// `count` masked messages of `len` bytes each, back to back.
fn messages(kind: MessageKind, len: usize, count: usize) -> Vec<u8> {
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(len / 45 + 1);
    let mut out = Vec::with_capacity(count * (len + HEADER_LEN_MAX));
    for _ in 0..count {
        encoder::frame(&mut out, kind.opcode(), &text.as_bytes()[..len], Some([0x37, 0xfa, 0x21, 0x3d]));
    }
    out
}

fn by_ringsock(mut stream: Stream, arrival_len: usize) -> impl FnMut(usize) -> usize {
    let (mut session, mut pool) = (Session::new(Role::Server, LIMITS), Pool::default());
    let mut buffer = vec![0; arrival_len];
    move |count| {
        let (mut received, mut bytes) = (0, 0);
        while received < count {
            let len = stream.read(&mut buffer).expect("memory can be read");
            let mut input = &mut buffer[..len];
            while let Some(event) = session.receive(&mut input, &mut pool).expect("the peer keeps the rules") {
                if let Event::Message(message) = &event {
                    received += 1;
                    bytes += black_box(message.bytes()).len();
                }
                event.give_back(&mut pool);
            }
        }
        bytes
    }
}

/// Gathers what arrived in a vector, and each message in one of its own.
fn by_textbook(mut stream: Stream, arrival_len: usize) -> impl FnMut(usize) -> usize {
    let (mut buffer, mut held, mut message) = (vec![0; arrival_len], Vec::new(), Vec::new());
    move |count| {
        let (mut received, mut bytes) = (0, 0);
        while received < count {
            let len = stream.read(&mut buffer).expect("memory can be read");
            held.extend_from_slice(&buffer[..len]);
            let mut at = 0;
            while let Some(header) = decoder::header(&held[at..]) {
                let Some(payload) = held[at + header.len..].get(..header.payload_len) else { break };
                message.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ header.key[index % 4]));
                at += header.len + header.payload_len;
                if header.fin {
                    let whole = mem::take(&mut message);
                    assert!(header.opcode != 1 || str::from_utf8(&whole).is_ok(), "the text is valid");
                    received += 1;
                    bytes += black_box(whole).len();
                }
            }
            held.drain(..at);
        }
        bytes
    }
}

fn by_tungstenite(stream: Stream) -> impl FnMut(usize) -> usize {
    let mut socket = protocol::WebSocket::from_raw_socket(stream, protocol::Role::Server, None);
    move |count| (0..count).map(|_| black_box(socket.read().expect("the peer keeps the rules")).len()).sum()
}

fn by_fastwebsockets(stream: Stream) -> impl FnMut(usize) -> usize {
    let mut socket = FragmentCollector::new(WebSocket::after_handshake(stream, FastRole::Server));
    move |count| {
        let mut read = || black_box(ready(socket.read_frame()).expect("the peer keeps the rules"));
        (0..count).map(|_| read().payload.len()).sum()
    }
}

fn by_tokio_websockets(stream: Stream) -> impl FnMut(usize) -> usize {
    let mut socket = ServerBuilder::new().serve(stream);
    move |count| {
        let mut read = || ready(poll_fn(|context| Pin::new(&mut socket).poll_next(context)));
        let mut message = || black_box(read().expect("it never ends").expect("the peer keeps the rules"));
        (0..count).map(|_| message().as_payload().len()).sum()
    }
}
