//! What a handler can bring about.

use std::any::Any;
use std::mem;
use std::ops::Range;

use crate::buf::{Pool, SendQueue, SharedFrame};
use crate::handler::{ConnectionId, Transport};
use crate::proto::ws::deflate::Outgoing;
use crate::proto::ws::{CloseCode, HEADER_LEN_MAX, Message, MessageKind, Opcode, Payload, encoder};
use crate::slab::Key;

/// Payloads up to this length are copied behind their header; longer ones that lie in a block of
/// their own are sent from there.
const COPY_LEN_MAX: usize = 16 << 10;

/// An effect on connections other than the one at hand, or on its life: the worker applies it when
/// the handler has returned.
#[derive(Debug)]
pub enum Command {
    /// Sends a frame to one connection, on any worker.
    Send {
        /// The receiver.
        to: ConnectionId,
        /// The frame.
        frame: SharedFrame,
    },
    /// Sends a frame to every open connection on every worker.
    Broadcast {
        /// The frame.
        frame: SharedFrame,
    },
    /// Begins the close handshake of a connection, on any worker.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// The status code.
        code: CloseCode,
        /// The reason, cut to 123 bytes.
        reason: Box<str>,
    },
    /// Sends a message in two parts to a connection of this worker.
    Deliver {
        /// The receiver.
        to: Key,
        /// Text or binary, where the transport tells them apart.
        kind: MessageKind,
        /// Where in [`Commands::heads`] its first part is.
        head: Range<usize>,
        /// Its second part.
        tail: SharedFrame,
    },
    /// Goes on with the messages of a connection of this worker that was paused by [`Effects::pause`].
    Resume {
        /// The connection.
        connection: Key,
    },
    /// Hands something to the handler of another worker.
    Post {
        /// The index of the worker.
        worker: u16,
        /// What it gets.
        parcel: Parcel,
    },
}

/// What handlers asked for, in order.
#[derive(Debug, Default)]
pub struct Commands {
    /// The commands.
    pub list: Vec<Command>,
    /// The first parts of messages that are delivered, one behind the other.
    pub heads: Vec<u8>,
}

/// Something that the handler of one worker tells that of another.
#[derive(Debug)]
pub struct Parcel {
    /// What it is: a type that the handlers have agreed on.
    pub content: Box<dyn Any + Send>,
    /// About how much memory it holds, in bytes.
    pub bytes: usize,
}

/// What a handler does about an event.
///
/// Messages to the connection at hand are encoded at once, straight into the block that is sent at
/// the end of the loop's turn: all replies of a turn leave in one send. Everything else is noted
/// and applied when the handler has returned.
#[derive(Debug)]
pub struct Effects<'w> {
    connection: ConnectionId,
    queue: &'w mut SendQueue,
    pool: &'w mut Pool,
    commands: &'w mut Commands,
    /// What was sent and not taken by the socket yet.
    blocked_bytes: usize,
    outgoing: Option<Outgoing<'w>>,
    may_compress: bool,
    transport: Transport,
    now_ms: u64,
    is_backed_up: bool,
    queue_bytes_max: usize,
    pauses: bool,
    close: Option<OwnClose>,
}

/// The code and reason by which a handler closes the connection at hand.
pub type OwnClose = (CloseCode, Box<str>);

impl<'w> Effects<'w> {
    /// Effects for `connection`, whose outgoing bytes go to `queue` behind `blocked_bytes` that the
    /// socket has no room for.
    pub fn new(
        connection: ConnectionId,
        queue: &'w mut SendQueue,
        blocked_bytes: usize,
        pool: &'w mut Pool,
        commands: &'w mut Commands,
    ) -> Self {
        Self {
            connection,
            queue,
            pool,
            commands,
            blocked_bytes,
            outgoing: None,
            may_compress: true,
            transport: Transport::WebSocket,
            now_ms: 0,
            is_backed_up: false,
            queue_bytes_max: usize::MAX,
            pauses: false,
            close: None,
        }
    }

    /// Says what the connection at hand is, and the time.
    #[must_use]
    pub fn with_transport(self, transport: Transport, now_ms: u64) -> Self {
        Self { transport, now_ms, ..self }
    }

    /// Says how many bytes may wait for the connection at hand.
    #[must_use]
    pub fn with_bound(self, queue_bytes_max: usize) -> Self {
        Self { queue_bytes_max, ..self }
    }

    /// Whether more bytes wait to be sent to the connection at hand than may.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queued_bytes() > self.queue_bytes_max
    }

    /// Says whether parcels wait for room in another worker's mailbox.
    #[must_use]
    pub fn with_backlog(self, is_backed_up: bool) -> Self {
        Self { is_backed_up, ..self }
    }

    /// Milliseconds on the worker's clock, which never goes back.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// How bytes of the connection at hand come and go.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The connection at hand.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Free blocks, for what a handler gathers.
    pub fn pool(&mut self) -> &mut Pool {
        self.pool
    }

    /// Has messages compressed by `outgoing`, if there is one.
    #[must_use]
    pub fn with_compression(self, outgoing: Option<Outgoing<'w>>) -> Self {
        Self { outgoing, ..self }
    }

    /// Says whether what this call sends from here on may be compressed, where that was agreed with the
    /// peer. It may at first. Of a [`SharedFrame`] that is said when it is made, by
    /// [`SharedFrame::uncompressed`].
    ///
    /// A message that holds a secret had better not be: its compressed length tells how much of it is
    /// like the other text of the message and, with [`Policy::Dedicated`](crate::Policy::Dedicated), of those
    /// before it. If an attacker provides some of that text, he can guess the secret piece by piece (RFC
    /// 7692 section 8).
    pub fn set_compression(&mut self, allowed: bool) {
        self.may_compress = allowed;
    }

    /// Sends a text message to the connection at hand.
    pub fn send_text(&mut self, text: &str) {
        self.send(MessageKind::Text, text.as_bytes());
    }

    /// Sends a binary message to the connection at hand.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send(MessageKind::Binary, bytes);
    }

    /// Sends the message at hand back to where it came from.
    ///
    /// A long message that has a block of its own is sent from there, without another copy; `message` is
    /// empty then.
    pub fn echo(&mut self, message: &mut Message<'_>) {
        match mem::replace(&mut message.payload, Payload::View(&[])) {
            Payload::Block { mut block, start } if block.len() - start > COPY_LEN_MAX => {
                let opcode = message.kind.opcode();
                if self.send_compressed(opcode, &block[start..]) {
                    return self.pool.give(block);
                }
                let start = encoder::header_before(&mut block, start, opcode).unwrap_or_else(|| {
                    let len = block.len() - start;
                    self.queue.write(self.pool, HEADER_LEN_MAX, |out| encoder::header(out, opcode, len, None));
                    start
                });
                self.queue.push_block(self.pool, block, start);
            }
            payload => {
                self.send(message.kind, &payload);
                message.payload = payload;
            }
        }
    }

    /// Sends a message to one connection of this server. It is applied when the handler has returned,
    /// so what is sent to the connection at hand by [`Effects::send_text`] meanwhile comes first. A
    /// connection on another worker is reached through a bounded mailbox; what finds it full is
    /// dropped and counted in `mail_dropped` of the counters. If the receiver's queue is over its
    /// bound, it is closed as a slow consumer; if it is gone, nothing happens.
    ///
    /// The frame is made once for any number of receivers, by [`encoder::shared`]. To a stream nothing is sent: see
    /// [`Effects::deliver`].
    pub fn send_to(&mut self, to: ConnectionId, frame: &SharedFrame) {
        self.commands.list.push(Command::Send { to, frame: frame.clone() });
    }

    /// Sends a message to every open connection of this server, on all its workers, the one at hand
    /// included, but for streams, with the bounds and in the order of [`Effects::send_to`]. Receivers whose queue is
    /// over its bound are closed as slow consumers.
    pub fn broadcast(&mut self, frame: &SharedFrame) {
        self.commands.list.push(Command::Broadcast { frame: frame.clone() });
    }

    /// Sends a message in two parts to a connection of this worker: what is the receiver's own, and what it shares
    /// with others and is not copied if it is long. To the connection at hand it is sent at once, to others when
    /// the handler has returned. A receiver is not closed for being slow: [`Handler::on_full`] tells of it, and
    /// whoever goes on sends into memory. Only with more than four times the bound in its queue it is closed, as a
    /// slow consumer, by what is delivered from other calls than its own.
    ///
    /// Over a stream the parts are sent as they are.
    ///
    /// [`Handler::on_full`]: crate::Handler::on_full
    pub fn deliver(&mut self, to: ConnectionId, kind: MessageKind, head: &[u8], tail: &SharedFrame) {
        if to == self.connection {
            return self.send_parts(kind, head, tail);
        }
        let start = self.commands.heads.len();
        self.commands.heads.extend_from_slice(head);
        let head = start..self.commands.heads.len();
        self.commands.list.push(Command::Deliver { to: to.key, kind, head, tail: tail.clone() });
    }

    /// Hands something to the handler of another worker, which gets it by [`Handler::on_parcel`]. What is posted
    /// to one worker arrives in order, unless that worker has ended. It never gets lost for want of room: it
    /// waits, and [`Effects::is_backed_up`] says so.
    ///
    /// [`Handler::on_parcel`]: crate::Handler::on_parcel
    pub fn post(&mut self, worker: u16, parcel: Parcel) {
        self.commands.list.push(Command::Post { worker, parcel });
    }

    /// Whether parcels wait for room in another worker's mailbox: time to take in less.
    #[must_use]
    pub fn is_backed_up(&self) -> bool {
        self.is_backed_up
    }

    /// How many commands wait until the handler has returned: a handler that gathers very many had better come back
    /// for the rest.
    #[must_use]
    pub fn waiting_commands(&self) -> usize {
        self.commands.list.len()
    }

    /// Has the messages of the connection at hand wait from now on, until [`Effects::resume`].
    pub fn pause(&mut self) {
        self.pauses = true;
    }

    /// Goes on with the messages of a connection of this worker, when the handler has returned.
    pub fn resume(&mut self, connection: ConnectionId) {
        if connection == self.connection {
            self.pauses = false;
        }
        self.commands.list.push(Command::Resume { connection: connection.key });
    }

    /// Closes the connection at hand, after what was sent to it so far. None of its messages is
    /// delivered any more.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.close.get_or_insert_with(|| (code, reason.into()));
    }

    /// Closes any connection of this server.
    pub fn close_other(&mut self, connection: ConnectionId, code: CloseCode, reason: &str) {
        if connection == self.connection {
            self.close(code, reason);
        } else {
            self.commands.list.push(Command::Close { connection, code, reason: reason.into() });
        }
    }

    /// How many bytes wait to be sent to the connection at hand. Past the bound, its messages are
    /// not delivered until [`on_drain`](crate::handler::Handler::on_drain).
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes() + self.blocked_bytes
    }

    /// How the handler closed the connection at hand, if it did; and whether it paused it.
    #[must_use]
    pub fn into_outcome(self) -> (Option<OwnClose>, bool) {
        (self.close, self.pauses)
    }

    fn send_parts(&mut self, kind: MessageKind, head: &[u8], tail: &SharedFrame) {
        let len = head.len() + tail.len();
        if self.transport == Transport::WebSocket {
            if self.outgoing.is_some() && self.may_compress && tail.may_compress() {
                return self.send(kind, &[head, tail].concat());
            }
            self.queue.write(self.pool, HEADER_LEN_MAX + head.len(), |out| {
                encoder::header(out, kind.opcode(), len, None);
                out.extend_from_slice(head);
            });
        } else {
            self.queue.write(self.pool, head.len(), |out| out.extend_from_slice(head));
        }
        self.queue.push_shared(self.pool, tail);
    }

    fn send(&mut self, kind: MessageKind, payload: &[u8]) {
        if self.transport == Transport::Stream {
            return self.queue.write(self.pool, payload.len(), |out| out.extend_from_slice(payload));
        }
        let opcode: Opcode = kind.opcode();
        if !self.send_compressed(opcode, payload) {
            let len = HEADER_LEN_MAX + payload.len();
            self.queue.write(self.pool, len, |out| encoder::frame(out, opcode, payload, None));
        }
    }

    /// Sends the compressed form of a message, if it has one.
    fn send_compressed(&mut self, opcode: Opcode, payload: &[u8]) -> bool {
        let outgoing = self.outgoing.as_mut().filter(|_| self.may_compress);
        let Some(compressed) = outgoing.and_then(|outgoing| outgoing.compress(payload)) else { return false };
        let len = HEADER_LEN_MAX + compressed.len();
        self.queue.write(self.pool, len, |out| encoder::compressed_frame(out, opcode, compressed, None));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;

    const ID: ConnectionId = ConnectionId { worker: 0, key: Key { slot: 1, generation: 2 } };
    const OTHER: ConnectionId = ConnectionId { worker: 1, key: Key { slot: 1, generation: 2 } };

    #[test]
    fn a_long_gathered_message_is_echoed_from_its_own_block() {
        let (mut pool, mut queue, mut commands) = (Pool::default(), SendQueue::default(), Commands::default());
        let mut block = pool.take(100_000);
        block.resize(100_000, 7);
        let address = block.as_ptr();
        let mut message = Message { kind: MessageKind::Binary, payload: Payload::Block { block, start: 0 } };
        Effects::new(ID, &mut queue, 0, &mut pool, &mut commands).echo(&mut message);
        let sent = queue.take(&mut pool).expect("a frame waits");
        let pieces: Vec<&[u8]> = sent.pieces().collect();
        assert_eq!(pieces[0], [0x82, 127, 0, 0, 0, 0, 0, 1, 0x86, 0xa0]);
        assert_eq!((pieces[1].as_ptr(), pieces[1].len(), message.bytes().len()), (address, 100_000, 0));
        sent.give_back(&mut pool);
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn replies_share_a_block_and_commands_keep_their_order() {
        let (mut pool, mut queue, mut commands) = (Pool::default(), SendQueue::default(), Commands::default());
        let mut effects = Effects::new(ID, &mut queue, 0, &mut pool, &mut commands);
        let frame = encoder::shared(MessageKind::Text, b"all");
        effects.send_text("a");
        effects.broadcast(&frame);
        effects.send_binary(b"b");
        effects.close(CloseCode::NORMAL, "done");
        effects.close_other(OTHER, CloseCode::GOING_AWAY, "too");
        assert_eq!(effects.queued_bytes(), 6);
        assert_eq!(effects.into_outcome(), (Some((CloseCode::NORMAL, "done".into())), false));
        let sent = queue.take(&mut pool).expect("frames wait");
        assert_eq!(sent.pieces().collect::<Vec<_>>(), [b"\x81\x01a\x82\x01b"]);
        let close = Command::Close { connection: OTHER, code: CloseCode::GOING_AWAY, reason: "too".into() };
        assert_eq!(format!("{:?}", commands.list), format!("{:?}", [Command::Broadcast { frame }, close]));
        sent.give_back(&mut pool);
    }
}
