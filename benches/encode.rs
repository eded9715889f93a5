//! Writing frames into memory that is used again, beside a textbook encoder and other libraries.

mod groups;
mod stream;
mod textbook {
    pub(crate) mod encoder;
}

use std::future::poll_fn;
use std::hint::black_box;
use std::pin::Pin;

use criterion::{Criterion, Throughput};
use fastwebsockets::{Frame as FastFrame, OpCode as FastOpcode};
use futures_sink::Sink;
use ringsock::proto::ws::{HEADER_LEN_MAX, Opcode, encoder};
use ringsock::simd::mask::Key;
use tokio_websockets::{ClientBuilder, Config, Message};
use tungstenite::Bytes;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader, FrameSocket};

use groups::{Group, group, measure, run};
use stream::{Stream, ready};

const LENS: [usize; 6] = [16, 125, 1 << 10, 16 << 10, 64 << 10, 1 << 20];
const KEY: Key = [0x37, 0xfa, 0x21, 0x3d];

fn main() {
    run(|criterion| {
        role(criterion, "encode as server", None);
        role(criterion, "encode as client", Some(KEY));
    });
}

fn role(criterion: &mut Criterion, name: &str, key: Option<Key>) {
    let mut group = group(criterion, name);
    for len in LENS {
        // It is never freed: so the libraries that want to own a payload may have it for nothing.
        let payload: &'static [u8] = vec![b'x'; len].leak();
        let out = &mut Vec::with_capacity(len + 2 * HEADER_LEN_MAX);
        let throughput = || Throughput::Bytes(len as u64);
        measure(&mut group, "textbook", len, throughput(), || {
            textbook::encoder::frame(cleared(out), black_box(payload), key);
            out.len()
        });
        measure(&mut group, "ringsock", len, throughput(), || {
            encoder::frame(cleared(out), Opcode::Binary, black_box(payload), key);
            out.len()
        });
        measure(&mut group, "tungstenite", len, throughput(), tungstenite(payload, key));
        // It masks in place, so the payload is a masked one every second time.
        let mut owned = payload.to_vec();
        measure(&mut group, "fastwebsockets", len, throughput(), || {
            let mut frame = FastFrame::new(true, FastOpcode::Binary, key, black_box(&mut owned[..]).into());
            if key.is_some() {
                frame.mask();
            }
            black_box(frame.write(out)).len()
        });
        tokio_websockets(&mut group, payload, key);
    }
    group.finish();
}

/// By the socket of frames, since `Frame::format` masks in a copy of its own. The stream takes what
/// stands in the socket's buffer then, without copying it once more.
fn tungstenite(payload: &'static [u8], key: Option<Key>) -> impl FnMut() {
    let mut socket = FrameSocket::new(Stream::new(Vec::new(), 1));
    move || {
        let header = FrameHeader { opcode: OpCode::Data(Data::Binary), mask: key, ..FrameHeader::default() };
        let frame = Frame::from_payload(header, Bytes::from_static(black_box(payload)));
        socket.write(frame).expect("the stream takes all");
    }
}

/// Only as a client, with a random key: as a server it hands the payload on as it is, see
/// `send_queue`.
fn tokio_websockets(group: &mut Group<'_>, payload: &'static [u8], key: Option<Key>) {
    if key.is_none() {
        return;
    }
    let config = Config::default().frame_size(usize::MAX);
    let mut socket = ClientBuilder::new().config(config).take_over(Stream::new(Vec::new(), 1));
    measure(group, "tokio-websockets", payload.len(), Throughput::Bytes(payload.len() as u64), || {
        let message = Message::binary(black_box(payload));
        Pin::new(&mut socket).start_send(message).expect("the connection is open");
        ready(poll_fn(|context| Pin::new(&mut socket).poll_flush(context))).expect("the stream takes all");
    });
}

/// The memory to write into. The compiler must take it for a block that others look at.
fn cleared(out: &mut Vec<u8>) -> &mut Vec<u8> {
    out.clear();
    black_box(out)
}
