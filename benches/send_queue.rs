//! What waits to be sent: the replies of a turn, and one frame for many peers, up to the slices
//! that a send is given. Beside it a queue of vectors and other libraries.
//!
//! tokio-websockets queues payloads without copying them and sends header and payload as slices of
//! their own. fastwebsockets has no queue: it writes each frame to its socket at once.

mod groups;
mod stream;
mod textbook {
    pub(crate) mod encoder;
}

use std::collections::VecDeque;
use std::future::poll_fn;
use std::hint::black_box;
use std::pin::Pin;

use criterion::{Criterion, Throughput};
use futures_sink::Sink;
use ringsock::buf::{Pool, SendQueue};
use ringsock::proto::ws::{HEADER_LEN_MAX, MessageKind, Opcode, encoder};
use tokio_websockets::{Message as TokioMessage, ServerBuilder, WebSocketStream};
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Bytes, Message};

use groups::{group, measure, run};
use stream::{Stream, ready};

/// How many replies a turn has.
const COUNTS: [usize; 3] = [1, 16, 256];
/// How many peers a shared frame goes to.
const PEERS: usize = 64;
/// Payloads of shared frames: those that are gathered by copy, and those that are not.
const SHARED_LENS: [(&str, usize); 4] =
    [("125 B", 125), ("1 KiB", 1 << 10), ("16 KiB", 16 << 10), ("64 KiB", 64 << 10)];

fn main() {
    run(|criterion| {
        replies(criterion, "replies of 16 B", &[7; 16]);
        replies(criterion, "replies of 1 KiB", &[7; 1 << 10]);
        shared(criterion);
    });
}

/// The replies of a turn to one peer. Other libraries own what they send: a static payload, which
/// they need not copy for that, is the best case.
fn replies(criterion: &mut Criterion, name: &str, reply: &'static [u8]) {
    let mut group = group(criterion, name);
    for count in COUNTS {
        let throughput = || Throughput::Elements(count as u64);
        let mut queue = VecDeque::new();
        measure(&mut group, "queue of vectors", count, throughput(), || {
            for _ in 0..count {
                queue.push_back(encoded(black_box(reply)));
            }
            send_vectors(&mut queue)
        });
        let (mut queue, mut pool) = (SendQueue::default(), Pool::default());
        measure(&mut group, "ringsock", count, throughput(), || {
            for _ in 0..count {
                let reply = black_box(reply);
                queue.write(&mut pool, HEADER_LEN_MAX + reply.len(), |out| {
                    encoder::frame(out, Opcode::Binary, reply, None);
                });
            }
            send(&mut queue, &mut pool)
        });
        let mut socket = tungstenite_socket();
        measure(&mut group, "tungstenite", count, throughput(), || {
            for _ in 0..count {
                let message = Message::Binary(Bytes::from_static(black_box(reply)));
                socket.write(message).expect("the buffer takes all");
            }
            socket.flush().expect("the stream takes all");
        });
        let mut socket = ServerBuilder::new().serve(Stream::new(Vec::new(), 1));
        measure(&mut group, "tokio-websockets", count, throughput(), || {
            for _ in 0..count {
                let message = TokioMessage::binary(black_box(reply));
                Pin::new(&mut socket).start_send(message).expect("the connection is open");
            }
            flush(&mut socket);
        });
    }
    group.finish();
}

/// One message to many peers, each with a queue of its own.
fn shared(criterion: &mut Criterion) {
    let mut group = group(criterion, "message to 64 peers");
    for (row, len) in SHARED_LENS {
        let payload = vec![7; len];
        let throughput = || Throughput::Elements(PEERS as u64);
        let mut queues: Vec<VecDeque<Vec<u8>>> = (0..PEERS).map(|_| VecDeque::new()).collect();
        measure(&mut group, "queue of vectors", row, throughput(), || {
            let frame = encoded(black_box(&payload));
            queues.iter_mut().for_each(|queue| queue.push_back(frame.clone()));
            queues.iter_mut().map(send_vectors).sum::<usize>()
        });
        let mut queues: Vec<SendQueue> = (0..PEERS).map(|_| SendQueue::default()).collect();
        let mut pool = Pool::default();
        measure(&mut group, "ringsock", row, throughput(), || {
            let frame = encoder::shared(MessageKind::Binary, black_box(&payload));
            queues.iter_mut().for_each(|queue| queue.push_shared(&mut pool, &frame));
            queues.iter_mut().map(|queue| send(queue, &mut pool)).sum::<usize>()
        });
        let mut sockets: Vec<_> = (0..PEERS).map(|_| tungstenite_socket()).collect();
        measure(&mut group, "tungstenite", row, throughput(), || {
            let message = Message::Binary(Bytes::copy_from_slice(black_box(&payload)));
            for socket in &mut sockets {
                socket.write(message.clone()).expect("the buffer takes all");
            }
            sockets.iter_mut().for_each(|socket| socket.flush().expect("the stream takes all"));
        });
        let mut sockets: Vec<_> = (0..PEERS).map(|_| ServerBuilder::new().serve(Stream::new(Vec::new(), 1))).collect();
        measure(&mut group, "tokio-websockets", row, throughput(), || {
            let message = TokioMessage::binary(Bytes::copy_from_slice(black_box(&payload)));
            for socket in &mut sockets {
                Pin::new(socket).start_send(message.clone()).expect("the connection is open");
            }
            sockets.iter_mut().for_each(flush);
        });
    }
    group.finish();
}

fn encoded(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN_MAX + payload.len());
    textbook::encoder::frame(&mut out, payload, None);
    out
}

/// Takes all that waits, as the worker does, and says how much that was.
fn send(queue: &mut SendQueue, pool: &mut Pool) -> usize {
    let mut sent = 0;
    while let Some(payload) = queue.take(pool) {
        sent += payload.pieces().map(|piece| black_box(piece).len()).sum::<usize>();
        payload.give_back(pool);
    }
    sent
}

fn send_vectors(queue: &mut VecDeque<Vec<u8>>) -> usize {
    queue.drain(..).map(|frame| black_box(&frame[..]).len()).sum()
}

fn tungstenite_socket() -> WebSocket<Stream> {
    WebSocket::from_raw_socket(Stream::new(Vec::new(), 1), Role::Server, None)
}

fn flush(socket: &mut WebSocketStream<Stream>) {
    ready(poll_fn(|context| Pin::new(&mut *socket).poll_flush(context))).expect("the stream takes all");
}
