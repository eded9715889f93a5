//! One thread of the load: a loop around one ring and its connections.
//!
//! ```text
//! turn: stage       open some, begin, send what is due, stop, close: see `stage`
//!       settle      one send for each connection touched, stamped with the clock
//!       enter       submit everything and wait: the only system call of the turn
//!       read the clock, dispatch what completed
//! ```
//!
//! The clock is read twice a turn, before and after its system call. A message counts as sent when
//! its turn's sends are handed to the kernel, and as answered when the call returns that brought
//! the reply. So a latency contains our own share of a turn: it is never too low, and exact for a
//! connection that is alone. Where a message is due at a time of its own, it counts from then.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::buf::Payload;
use crate::load::board::Standing;
use crate::load::clock::Clock;
use crate::load::connection::{Connection, FLOOD_LEN, Phase, SentAt};
use crate::load::connector::Connector;
use crate::load::context::{Context, Totals};
use crate::load::fault::{Fault, Faults};
use crate::load::part::Part;
use crate::load::recorder::Latencies;
use crate::load::rendezvous::Rendezvous;
use crate::load::schedule::Schedule;
use crate::load::share::Share;
use crate::load::stage::Stage;
use crate::load::url::Transport;
use crate::proto::http::HandshakeError;
use crate::ring::{Completion, Driver, Lease, ReceiveEnd, RingDriver, SendMode, Waits};
use crate::slab::{GENERATION_MAX, Key};
use crate::timer::Wheel;

/// A slow reader has this many messages under way at most, and writes this many at once.
const FLOOD_DEPTH: usize = 1024;
const FLOOD_BATCH: usize = 4;
const _: () = assert!(FLOOD_BATCH * FLOOD_LEN as usize <= 64 << 10);

pub(super) struct Client {
    pub(super) share: Share,
    pub(super) driver: RingDriver,
    pub(super) connections: Vec<Connection>,
    pub(super) context: Context,
    pub(super) clock: Clock,
    pub(super) connector: Connector,
    pub(super) rendezvous: Arc<Rendezvous>,
    pub(super) stage: Stage,
    pub(super) schedule: Option<Schedule>,
    /// The slots of the connections that send by the schedule, and whose turn it is.
    pub(super) senders: Vec<u32>,
    pub(super) next_sender: usize,
    /// The slots of the idle connections that are still to be verified, and when that is.
    pub(super) sampled: Vec<u32>,
    pub(super) sampling: Option<Schedule>,
    /// When closing began.
    pub(super) closing_since_ns: Option<u64>,
    /// How many sockets were begun, for the choice of source addresses.
    pub(super) sockets: u32,
    /// The slots of connections that something was awaited of, which are looked at for time-outs, and
    /// when that is next.
    pub(super) watched: Vec<u32>,
    pub(super) sweep_at_ns: u64,
    /// What the board says of this thread.
    told: Standing,
    /// Pauses of slow readers.
    pub(super) pauses: Wheel,
    /// Something has to follow a send that is done when the next turn returns.
    hurry: bool,
    touched: Vec<u32>,
    fired: Vec<u32>,
    completions: Vec<Completion>,
}

/// What a thread has come to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) totals: Totals,
    pub(super) faults: Faults,
    /// What verifying idle connections took.
    pub(super) verified: Option<Latencies>,
    /// When it began to close its connections, and when it had.
    pub(super) closing_ns: Option<(u64, u64)>,
}

impl Client {
    pub(super) fn new(
        share: Share,
        driver: RingDriver,
        connections: Vec<Connection>,
        context: Context,
        clock: Clock,
        connector: Connector,
        rendezvous: Arc<Rendezvous>,
    ) -> Self {
        Self {
            share,
            driver,
            connections,
            context,
            clock,
            connector,
            rendezvous,
            stage: Stage::Opening { next: 0 },
            schedule: None,
            senders: Vec::new(),
            next_sender: 0,
            sampled: Vec::new(),
            sampling: None,
            closing_since_ns: None,
            sockets: share.index,
            watched: Vec::new(),
            sweep_at_ns: 0,
            told: Standing::default(),
            pauses: Wheel::default(),
            hurry: false,
            touched: Vec::new(),
            fired: Vec::new(),
            completions: Vec::new(),
        }
    }

    /// Turns until the run is over.
    pub(super) fn run(mut self) -> io::Result<Outcome> {
        while self.stage != Stage::Done && !self.rendezvous.is_abandoned() {
            self.turn()?;
        }
        let verified = self.context.recorder.finish();
        let closing_ns = self.closing_since_ns.map(|since_ns| (since_ns, self.context.now_ns));
        Ok(Outcome { totals: self.context.totals, faults: self.context.faults, verified, closing_ns })
    }

    /// Has the connection of `slot` settled in this turn.
    pub(super) fn touch(&mut self, slot: u32) {
        if !mem::replace(&mut self.connections[slot as usize].touched, true) {
            self.touched.push(slot);
        }
    }

    /// Opens the connection of a free slot.
    pub(super) fn open(&mut self, slot: u32) {
        let turn = self.sockets;
        self.sockets = turn.wrapping_add(self.share.threads);
        let connection = &mut self.connections[slot as usize];
        let socket = self.connector.connect(turn, connection.part.pace());
        match socket.and_then(|socket| self.driver.attach(slot, socket)) {
            Ok(()) => {
                connection.begin(&mut self.context);
                self.touch(slot);
            }
            Err(error) => {
                connection.retired = true;
                self.context.count_failed();
                self.context.faults.add(Fault::of_errno(error.raw_os_error().unwrap_or(libc::EIO)), 1);
            }
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        self.advance_stage();
        self.resume_readers();
        self.settle_touched();
        let wait = if mem::take(&mut self.hurry) { Duration::ZERO } else { self.wait() };
        let mut completions = mem::take(&mut self.completions);
        self.driver.turn_within(Some(wait), &mut completions)?;
        self.context.now_ns = self.clock.now_ns();
        self.context.recorder.advance(self.context.now_ns);
        for completion in completions.drain(..) {
            self.dispatch(completion);
        }
        self.completions = completions;
        self.answer_complete();
        self.rendezvous.board.tell(&mut self.told, self.context.standing());
        Ok(())
    }

    fn dispatch(&mut self, completion: Completion) {
        match completion {
            Completion::Received { key, lease } => self.handle_received(key, lease),
            Completion::Sent { key, payload, result } => self.handle_sent(key, payload, result),
            Completion::ReceiveEnded { key, end } => self.handle_receive_ended(key, end),
            Completion::Closed { key } => self.handle_closed(key),
            // Nobody connects to us or wakes us, and replies come through buffers.
            Completion::Readable { .. }
            | Completion::Filled { .. }
            | Completion::Accepted { .. }
            | Completion::AcceptEnded { .. }
            | Completion::Woken => {}
        }
    }

    fn handle_received(&mut self, key: Key, mut lease: Lease) {
        if let Some(connection) = live(&mut self.connections, key) {
            connection.receive(self.driver.bytes_mut(&mut lease), &mut self.context);
            if connection.part == Part::SlowReader && connection.phase == Phase::Open && !connection.pausing {
                connection.pausing = true;
                let pause = self.context.plan.read_delay;
                let until_ns = self.context.now_ns.saturating_add(super::clock::nanoseconds(pause));
                self.pauses.arm(key.slot, until_ns / 1_000_000);
            }
            self.touch(key.slot);
        }
        self.driver.give_back(lease);
    }

    fn handle_sent(&mut self, key: Key, mut payload: Payload, result: Result<usize, i32>) {
        let connection = live(&mut self.connections, key).expect("a slot is freed only after its last completion");
        if let Ok(count) = result {
            payload.advance(count);
        }
        let blocked = matches!(result, Ok(_) | Err(libc::EAGAIN | libc::EINTR)) && payload.remaining() > 0;
        if blocked && connection.phase != Phase::Dying {
            self.driver.send(key, payload, SendMode::Wait);
            return;
        }
        connection.sending = false;
        payload.give_back(&mut self.context.pool);
        if let Err(errno) = result {
            if connection.phase == Phase::Closing {
                connection.die(&mut self.context);
            } else {
                connection.fail(Fault::of_errno(errno), &mut self.context);
            }
        }
        self.touch(key.slot);
    }

    fn handle_receive_ended(&mut self, key: Key, end: ReceiveEnd) {
        let Some(connection) = live(&mut self.connections, key) else { return };
        connection.receiving = false;
        connection.receive_cancelled = false;
        let fault = match (end, connection.phase) {
            // Settling asks again, if there is still something to be received.
            (ReceiveEnd::Cancelled | ReceiveEnd::Exhausted | ReceiveEnd::Drained | ReceiveEnd::NoBuffers, _) => None,
            (_, Phase::Closing) => {
                connection.die(&mut self.context);
                None
            }
            (ReceiveEnd::Eof, Phase::Opening) if self.context.plan.url.transport() == Transport::WebSocket => {
                Some(Fault::Handshake(HandshakeError::TruncatedHead))
            }
            (ReceiveEnd::Eof, _) => Some(Fault::Lost),
            (ReceiveEnd::Failed(errno), _) => Some(Fault::of_errno(errno)),
        };
        if let Some(fault) = fault {
            connection.fail(fault, &mut self.context);
        }
        self.touch(key.slot);
    }

    fn handle_closed(&mut self, key: Key) {
        let Some(connection) = live(&mut self.connections, key) else { return };
        connection.phase = Phase::Free;
        connection.generation = if key.generation == GENERATION_MAX { 0 } else { key.generation + 1 };
        self.context.alive -= 1;
        self.pauses.disarm(key.slot);
        if connection.part == Part::Storm && !connection.retired && self.context.going {
            self.open(key.slot);
        }
    }

    /// Has publishers of STOMP send again whose messages have arrived. Their numbers are their slots, since all
    /// of them are on one thread.
    fn answer_complete(&mut self) {
        while let Some(slot) = self.context.flow.take_freed() {
            let connection = &mut self.connections[slot as usize];
            if connection.handle_complete(&mut self.context) && self.context.answers_replies() {
                connection.request(SentAt::Flush, &mut self.context);
            }
            self.touch(slot);
        }
    }

    fn settle_touched(&mut self) {
        if self.touched.is_empty() {
            return;
        }
        let flush_ns = self.clock.now_ns();
        let mut touched = mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            self.settle(slot, flush_ns);
        }
        self.touched = touched;
    }

    /// Asks for whatever the state of a connection calls for and is not under way.
    fn settle(&mut self, slot: u32, flush_ns: u64) {
        let connection = &mut self.connections[slot as usize];
        let key = Key { slot, generation: connection.generation };
        connection.touched = false;
        if connection.part == Part::SlowReader && connection.phase == Phase::Open && self.context.going {
            flood(connection, &mut self.context);
        }
        connection.stamp(flush_ns);
        match connection.phase {
            Phase::Free => return,
            Phase::Dying => {
                settle_death(connection, key, &mut self.driver);
                return;
            }
            Phase::Opening | Phase::Greeting | Phase::Open | Phase::Closing => {}
        }
        if !connection.sending
            && let Some(active) = &mut connection.active
            && let Some(payload) = active.queue.take(&mut self.context.pool)
        {
            connection.sending = true;
            // The first send waits for the connection.
            let mode = if connection.phase == Phase::Opening { SendMode::Wait } else { SendMode::Now };
            self.driver.send(key, payload, mode);
        }
        self.hurry |= connection.sending && !connection.has_sent_all();
        let wanted = connection.wants_receive();
        if wanted && !connection.receiving {
            connection.receiving = true;
            self.driver.receive(key, connection.part.receive_mode());
        } else if !wanted && connection.receiving && !mem::replace(&mut connection.receive_cancelled, true) {
            self.driver.cancel_receive(key);
        }
        if !connection.watched && connection.awaits().is_some() {
            connection.watched = true;
            self.watch(slot);
        } else {
            connection.rest(&mut self.context);
        }
    }

    fn resume_readers(&mut self) {
        if self.pauses.is_empty() {
            return;
        }
        let mut fired = mem::take(&mut self.fired);
        self.pauses.expire(self.context.now_ns / 1_000_000, &mut fired);
        for slot in fired.drain(..) {
            self.connections[slot as usize].pausing = false;
            self.touch(slot);
        }
        self.fired = fired;
    }
}

/// The connection that `key` names, unless that life of its slot is over.
fn live(connections: &mut [Connection], key: Key) -> Option<&mut Connection> {
    connections.get_mut(key.slot as usize).filter(|connection| connection.generation == key.generation)
}

/// Keeps a slow reader's side of the flood going.
fn flood(connection: &mut Connection, context: &mut Context) {
    if connection.has_sent_all() {
        let room = FLOOD_DEPTH.saturating_sub(connection.expected_count()).min(FLOOD_BATCH);
        (0..room).for_each(|_| connection.request(SentAt::Flush, context));
    }
}

/// Ends what is under way, then closes: a slot may not be used again before its last operation has
/// completed.
fn settle_death(connection: &mut Connection, key: Key, driver: &mut RingDriver) {
    if connection.receiving || connection.sending {
        if !mem::replace(&mut connection.cancelled, true) {
            driver.cancel(key, connection.receiving.then_some(Waits::Receive));
        }
    } else if !mem::replace(&mut connection.close_sent, true) {
        driver.close(key);
    }
}
