//! One core's share of the server: a loop around one driver, its connections and its handler.
//!
//! ```text
//! turn: submit everything and wait          the only system call
//!       dispatch what completed             changes state, asks the kernel for nothing
//!       expire deadlines
//!       end the handler's turn            parcels leave for other workers
//!       settle every connection touched     state becomes operations: at most one send each
//! ```
//!
//! Dispatching and settling are apart on purpose. What happens to a connection in a turn, be it
//! ten messages, a broadcast and a deadline, changes its state only; [`Worker::settle`] then looks
//! at the state once and asks for what is missing: a send of all that waits, a receive that ended,
//! a close. So replies of a turn leave in one send, and every rule about operations stands in one
//! place.

mod accept;
mod active;
mod command;
mod compression;
mod connection;
mod context;
mod counters;
mod expire;
mod handle;
mod heartbeat;
mod mailbox;
mod parcel;
mod pause;
mod pressure;
mod receive;
mod send;
mod settle;
mod shortage;
#[cfg(test)]
mod simulation;
mod stream;
#[cfg(test)]
mod turns;
mod upgrade;

use std::collections::VecDeque;
use std::sync::Arc;
use std::{io, mem};

use crate::handler::{Handler, Transport};
use crate::proto::http::HeadLimits;
use crate::proto::ws::Limits;
use crate::ring::{Completion, Driver};
use crate::slab::{Key, Table};
use crate::timer::Wheel;

use accept::Acceptor;
use connection::Connection;
use context::Context;
use parcel::{Outbox, POST_AGAIN_MS};
use pressure::Newest;
use shortage::Shortage;

pub use compression::Options as CompressionOptions;
pub use counters::Counters;
pub use handle::{Handle, PostError};
pub use heartbeat::Beat;
pub use mailbox::{Mail, Mailbox, Peer};
pub use pressure::Pressure;

/// The limits that a worker keeps its connections to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Connections at once; more wait in the listening socket's queue.
    pub connections_max: u32,
    /// From accept to the end of the upgrade request, however the bytes come.
    pub handshake_timeout_ms: u64,
    /// From our Close or refusal to the end of the connection. It begins anew with whatever the peer
    /// takes of what still waits for it, twelve times at most.
    pub close_timeout_ms: u64,
    /// From the first byte of a message that comes in pieces to its last.
    pub assembly_timeout_ms: u64,
    /// How long a peer may take none of what is sent to it.
    pub stall_timeout_ms: u64,
    /// When a connection of which nothing was heard is pinged, and when it is given up; `None` for no pings. There
    /// are none over streams.
    pub ping: Option<Beat>,
    /// After how long without messages a connection hibernates: once or twice as long, or sooner where pings
    /// come more often. It begins so, too. It is polled then, which spares the kernel 600 bytes, and costs one
    /// more receive when it speaks. `None` for never.
    pub hibernate_after_ms: Option<u64>,
    /// Frames of a connection that are processed in one turn before others get theirs. Each 256 bytes of a stream
    /// count as one.
    pub frames_per_turn_max: u32,
    /// A frame with at least so many bytes still to come is received straight into its message, past
    /// the receive buffers.
    pub straight_bytes_min: usize,
    /// After a message at least this long the next one is received into a block of its own, past the
    /// receive buffers.
    pub block_bytes_min: usize,
    /// Bytes that may wait to be sent to a connection before its messages are no longer read.
    pub send_queue_bytes_max: usize,
    /// Limits of a request head.
    pub head: HeadLimits,
    /// Limits of messages and fragments.
    pub messages: Limits,
    /// How messages are compressed.
    pub compression: CompressionOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 1 << 20,
            handshake_timeout_ms: 5_000,
            close_timeout_ms: 5_000,
            assembly_timeout_ms: 30_000,
            stall_timeout_ms: 10_000,
            ping: Some(Beat { interval_ms: 25_000, timeout_ms: 20_000 }),
            hibernate_after_ms: Some(10_000),
            frames_per_turn_max: 1024,
            straight_bytes_min: 192 << 10,
            block_bytes_min: 32 << 10,
            send_queue_bytes_max: 256 << 10,
            head: HeadLimits::default(),
            messages: Limits::default(),
            compression: CompressionOptions::default(),
        }
    }
}

/// How often free memory is looked through. Half of what was not needed goes each time.
const TRIM_INTERVAL_MS: u64 = 1_000;

/// How long a worker that is to stop at once waits for the kernel to end what is under way.
const CUT_OFF_MS: u64 = 1_000;
/// Room that is kept for those that come up for a look together.
const LOOKS_KEPT: usize = 4 << 10;
/// Room that is kept for the first parts of messages to others.
const HEAD_BYTES_KEPT: usize = 256 << 10;
/// Room that is kept for the first parts of messages.
const HEADS_KEPT: usize = 256 << 10;
/// When accepts that a cancel has missed are cancelled again.
const CANCEL_AGAIN_MS: u64 = 1;

/// Whether a worker goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// There is, or may be, something to do.
    Running,
    /// It was told to stop, and its last connection is closed.
    Stopped,
}

/// A loop around one driver: everything that one core does.
pub struct Worker<D, H> {
    driver: D,
    connections: Table<Connection>,
    deadlines: Wheel,
    acceptor: Acceptor,
    context: Context<H>,
    mailbox: Arc<Mailbox>,
    peers: Vec<Peer>,
    outbox: Outbox,
    stopping: bool,
    /// When it stops whatever is still open, once it was told to abort.
    cut_off_at_ms: Option<u64>,
    /// The next turn must not wait: something has to follow a send that is done when it returns.
    hurry: bool,
    shortage: Shortage,
    pressure: Pressure,
    newest: Newest,
    /// Connections that have something to be received into blocks.
    readable: VecDeque<Key>,
    /// When free memory that was not needed for a while is given back.
    trim_at_ms: u64,
    /// Connections whose state changed in this turn.
    touched: Vec<Key>,
    completions: Vec<Completion>,
    fired: Vec<u32>,
    due: Vec<Key>,
    /// Open connections whose deadlines have passed, for which there was no time yet.
    delayed: VecDeque<Key>,
    receivers: Vec<Key>,
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Makes worker number `index`, which accepts from its first turn on. `peers` are all workers of
    /// the server in the order of their indexes, this one included; it may be empty for one alone.
    pub fn new(
        index: u16,
        driver: D,
        mut handler: H,
        options: Options,
        mailbox: Arc<Mailbox>,
        peers: Vec<Peer>,
    ) -> Self {
        handler.on_start(index, u16::try_from(peers.len().max(1)).unwrap_or(u16::MAX));
        Self {
            driver,
            connections: Table::default(),
            deadlines: Wheel::default(),
            acceptor: Acceptor::new(&[Transport::WebSocket]),
            context: Context::new(index, handler, options),
            mailbox,
            outbox: Outbox::new(peers.len()),
            peers,
            stopping: false,
            cut_off_at_ms: None,
            hurry: false,
            shortage: Shortage::default(),
            pressure: Pressure::default(),
            newest: Newest::default(),
            readable: VecDeque::new(),
            trim_at_ms: 0,
            touched: Vec::new(),
            completions: Vec::new(),
            fired: Vec::new(),
            due: Vec::new(),
            delayed: VecDeque::new(),
            receivers: Vec::new(),
        }
    }

    /// Turns until the mailbox says stop and the last connection is closed.
    ///
    /// # Errors
    ///
    /// What the kernel says of the ring itself.
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn()? == Status::Running {}
        Ok(())
    }

    /// One turn of the loop.
    ///
    /// # Errors
    ///
    /// What the kernel says of the ring itself.
    pub fn turn(&mut self) -> io::Result<Status> {
        self.settle_acceptor();
        self.fill_readable();
        let wait_ms = self.wait_ms();
        let expected_ms = wait_ms.map(|wait_ms| self.context.now_ms + wait_ms);
        let mut completions = mem::take(&mut self.completions);
        self.driver.turn(wait_ms, &mut completions)?;
        self.context.begin_turn(self.driver.now_ms(), expected_ms);
        self.go_on_with_yielded();
        for completion in completions.drain(..) {
            self.dispatch(completion);
            self.apply_commands();
        }
        self.completions = completions;
        // A wake that got lost for want of memory in the kernel is made up for here.
        if self.mailbox.has_news() {
            self.handle_woken();
        }
        self.expire();
        self.end_turn();
        self.trim();
        self.settle_touched();
        // What this turn has queued was offered to its sockets by now: what still waits, waits for a peer.
        self.relieve();
        // What the handler has gathered since it ended its turn must not wait.
        self.hurry |= mem::take(&mut self.context.was_called);
        self.mailbox.show_connections(self.connections.len());
        self.context.counters.copied_bytes = self.context.pool.copied_bytes();
        let done = self.is_cut_off() || self.stopping && self.is_at_rest();
        Ok(if done { Status::Stopped } else { Status::Running })
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.context.counters
    }

    /// How many connections are open, opening or closing.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Whether it is to stop at once, and all are gone or had their time for that.
    fn is_cut_off(&mut self) -> bool {
        let now_ms = self.context.now_ms;
        let Some(at_ms) = self.cut_off_at_ms else {
            if self.mailbox.is_aborted() {
                self.cut_off_at_ms = Some(now_ms + CUT_OFF_MS);
                self.cut_off();
            }
            return false;
        };
        now_ms >= at_ms || self.connections.is_empty() && self.acceptor.is_idle()
    }

    /// Whether nothing is left that has to come to its end.
    fn is_at_rest(&self) -> bool {
        self.connections.is_empty() && self.acceptor.is_idle() && !self.outbox.is_backed_up()
    }

    fn dispatch(&mut self, completion: Completion) {
        match completion {
            Completion::Received { key, lease } => self.handle_received(key, lease),
            Completion::Sent { key, payload, result } => self.handle_sent(key, payload, result),
            Completion::Readable { key } => self.handle_readable(key),
            Completion::Filled { key, block, result } => self.handle_filled(key, block, result),
            Completion::ReceiveEnded { key, end } => self.handle_receive_ended(key, end),
            Completion::Accepted { slot, listener } => self.handle_accepted(slot, listener),
            Completion::AcceptEnded { listener, errno } => self.handle_accept_ended(listener, errno),
            Completion::Closed { key } => self.handle_closed(key),
            Completion::Woken => self.handle_woken(),
        }
    }

    /// How long the next turn may wait: until a deadline, be it the handler's, or the end of a pause in accepting.
    fn wait_ms(&mut self) -> Option<u64> {
        let hurry = mem::take(&mut self.hurry);
        if hurry
            || !self.touched.is_empty()
            || self.shortage.is_on()
            || !self.context.yielded.is_empty()
            || !self.readable.is_empty()
            || !self.delayed.is_empty()
        {
            return Some(0);
        }
        let now_ms = self.context.now_ms;
        let deadline = self.deadlines.next_ms(now_ms);
        let accept = self.acceptor.resume_at_ms().map(|at| at.saturating_sub(now_ms));
        let pool = (self.context.pool.retained_bytes() > 0).then_some(self.trim_at_ms);
        let compression = self.context.compression.trim_at_ms().map(|at_ms| at_ms.max(self.trim_at_ms));
        let table = (!self.connections.is_trim() || !self.deadlines.is_trim()).then_some(self.trim_at_ms);
        let spare = self.context.has_spare().then_some(self.trim_at_ms);
        let trim = pool
            .into_iter()
            .chain(compression)
            .chain(table)
            .chain(spare)
            .min()
            .map(|at_ms| at_ms.saturating_sub(now_ms));
        let cut_off = self.cut_off_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms));
        let ending = self.acceptor.is_ending().then_some(CANCEL_AGAIN_MS);
        let handler = self.context.handler.poll_timeout(now_ms).map(|at_ms| at_ms.saturating_sub(now_ms));
        let post = self.outbox.is_backed_up().then_some(POST_AGAIN_MS);
        deadline.into_iter().chain(accept).chain(trim).chain(ending).chain(cut_off).chain(handler).chain(post).min()
    }

    fn trim(&mut self) {
        if self.context.now_ms >= self.trim_at_ms {
            self.context.pool.trim();
            self.context.compression.trim(self.context.now_ms);
            self.context.trim_spare();
            self.connections.trim();
            self.deadlines.trim();
            // Of those that came up for a look together, there may have been very many.
            self.delayed.shrink_to(self.delayed.len().max(LOOKS_KEPT));
            self.due.shrink_to(LOOKS_KEPT);
            self.fired.shrink_to(LOOKS_KEPT);
            // A message to very many leaves room for as many commands.
            self.context.commands.list.shrink_to(LOOKS_KEPT);
            self.context.commands.heads.shrink_to(HEADS_KEPT);
            self.context.commands.list.shrink_to(LOOKS_KEPT);
            self.context.commands.heads.shrink_to(HEAD_BYTES_KEPT);
            self.outbox.trim();
            self.trim_at_ms = self.context.now_ms + TRIM_INTERVAL_MS;
        }
    }
}
