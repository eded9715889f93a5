//! A handler that does what its peers say, and writes down what it is told.

use std::mem;
use std::sync::Arc;

use crate::buf::SharedFrame;
use crate::handler::{CloseCause, ConnectionId, Effects, Handler, Parcel, Transport};
use crate::proto::ws::{CloseCode, Message, MessageKind, encoder};
use crate::ring::RingHandle;
use crate::ring::scripted::Happens::{Accepted, AcceptedBy, Received};
use crate::ring::scripted::{Asked, Hand};
use crate::slab::Key;
use crate::worker::turns::{Bench, REQUEST};
use crate::worker::{Mailbox, Options, Peer, Worker};

/// What a peer says is a list of orders, parted by semicolons; other words are only written down.
#[derive(Default)]
pub(super) struct Puppet {
    pub(super) log: Vec<String>,
    /// Orders for when a queue is full, when one has drained, and when the turn ends.
    pub(super) when_full: &'static str,
    pub(super) when_drained: &'static str,
    pub(super) at_end: &'static str,
    pub(super) timeout_ms: Option<u64>,
}

/// The two parts of what is delivered: `<` and as many `=`.
pub(super) fn delivered(len: usize) -> Vec<u8> {
    [&b"<"[..], &vec![b'='; len]].concat()
}

impl Puppet {
    fn note(&mut self, what: &str, connection: ConnectionId) {
        self.log.push(format!("{what} {}", connection.key.slot));
    }

    fn obey(&mut self, orders: &str, effects: &mut Effects<'_>) {
        for order in orders.split(';') {
            let words: Vec<&str> = order.split(' ').collect();
            let number = |index: usize| words[index].parse::<u32>().expect("a number");
            let id = |slot| ConnectionId { worker: 0, key: Key { slot, generation: 0 } };
            let len = |index: usize| usize::try_from(number(index)).expect("small");
            match words[0] {
                "pause" => effects.pause(),
                "resume" => effects.resume(id(number(1))),
                "send" => effects.send_binary(&vec![b'.'; len(1)]),
                "deliver" => {
                    effects.deliver(id(number(1)), MessageKind::Text, b"<", &SharedFrame::new(&delivered(len(2))[1..]));
                }
                "broadcast" => effects.broadcast(&encoder::shared(MessageKind::Text, b"all")),
                "close" => effects.close_other(id(number(1)), CloseCode::NORMAL, ""),
                "post" => {
                    let content = Box::new(words[3..].join(" "));
                    effects.post(number(1).try_into().expect("few"), Parcel { content, bytes: len(2) });
                }
                "count" => {
                    for count in 0..number(2) {
                        let parcel = Parcel { content: Box::new(count.to_string()), bytes: 1 };
                        effects.post(number(1).try_into().expect("few"), parcel);
                    }
                }
                "backed" => self.log.push(format!("backed up: {}", effects.is_backed_up())),
                "timeout" => self.timeout_ms = Some(effects.now_ms() + u64::from(number(1))),
                _ => {}
            }
        }
    }
}

impl Handler for Puppet {
    fn on_start(&mut self, worker: u16, workers: u16) {
        self.log.push(format!("start {worker} of {workers}"));
    }

    fn on_open(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        let what = if effects.transport() == Transport::Stream { "stream" } else { "socket" };
        self.note(what, connection);
    }

    fn on_message(&mut self, connection: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        let orders = message.text().expect("all say texts").to_owned();
        self.note(&format!("[{orders}]"), connection);
        self.obey(&orders, effects);
    }

    fn on_bytes(&mut self, connection: ConnectionId, bytes: &[u8], effects: &mut Effects<'_>) {
        let orders = String::from_utf8(bytes.to_vec()).expect("all say texts");
        self.note(&format!("[{orders}]"), connection);
        self.obey(&orders, effects);
    }

    fn on_full(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        self.note("full", connection);
        self.obey(self.when_full, effects);
    }

    fn on_drain(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        self.note("drained", connection);
        self.obey(self.when_drained, effects);
    }

    fn on_close(&mut self, connection: ConnectionId, cause: CloseCause, _: &mut Effects<'_>) {
        self.note(&format!("{cause:?}"), connection);
    }

    fn on_parcel(&mut self, parcel: Parcel, effects: &mut Effects<'_>) {
        let orders = parcel.content.downcast::<String>().expect("only texts are posted");
        self.log.push(format!("parcel {orders}"));
        self.obey(&orders, effects);
    }

    fn poll_timeout(&mut self, _: u64) -> Option<u64> {
        self.timeout_ms
    }

    fn on_timeout(&mut self, effects: &mut Effects<'_>) {
        self.timeout_ms = None;
        self.log.push(format!("timeout at {}", effects.now_ms()));
    }

    fn on_turn_end(&mut self, effects: &mut Effects<'_>) {
        if !self.at_end.is_empty() {
            self.log.push("end".into());
            self.obey(self.at_end, effects);
        }
    }
}

impl Bench<Puppet> {
    /// A worker with a listener for WebSockets and one for streams, and no connection yet.
    pub(super) fn new(puppet: Puppet, options: Options) -> Self {
        Self::among(0, &[], puppet, options)
    }

    /// Worker number `index` of those with `mailboxes`.
    pub(super) fn among(index: u16, mailboxes: &[Arc<Mailbox>], puppet: Puppet, options: Options) -> Self {
        let peer = |mailbox: &Arc<Mailbox>| Peer { mailbox: mailbox.clone(), ring: RingHandle::of_nothing() };
        let mailbox = mailboxes.get(usize::from(index)).cloned().unwrap_or_default();
        let (hand, peers) = (Hand::default(), mailboxes.iter().map(peer).collect());
        let worker = Worker::new(index, hand.driver(), puppet, options, mailbox.clone(), peers);
        let mut bench =
            Self { hand, mailbox, worker: worker.with_listeners(&[Transport::WebSocket, Transport::Stream]) };
        bench.turn(0, &[]);
        bench
    }

    /// The same with a WebSocket in slot 0 and a stream in slot 1, none of which has said anything.
    pub(super) fn opened(mut self) -> Self {
        self.turn(10, &[(0, Accepted), (1, AcceptedBy(1))]);
        self.turn(10, &[(0, Received(REQUEST))]);
        self.turn(10, &[]);
        self.log();
        self
    }

    /// What the handler was told since the last call.
    pub(super) fn log(&mut self) -> Vec<String> {
        mem::take(&mut self.worker.context.handler.log)
    }

    /// A turn in which a peer says something; returns what it asked for.
    pub(super) fn hear(&mut self, now_ms: u64, slot: u32, bytes: &[u8]) -> Vec<Asked> {
        self.turn(now_ms, &[(slot, Received(bytes))])
    }
}

/// What a client sends to say something.
pub(super) fn text(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).ok().filter(|len| *len < 126).expect("short");
    [&[0x81, 0x80 | len, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// What a server sends to say something of fewer than 2^16 bytes.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("short");
    let [high, low] = len.to_be_bytes();
    let header = if len < 126 { vec![first, low] } else { vec![first, 126, high, low] };
    [&header, payload].concat()
}
