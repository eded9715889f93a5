//! What connections share while they work: everything of a worker but its table and its driver.

use std::collections::VecDeque;

use crate::buf::SharedFrame;
use crate::buf::{Pool, SendQueue};
use crate::handler::{Commands, ConnectionId, Effects, Handler, OwnClose, Transport};
use crate::proto::ws::MessageKind;
use crate::proto::ws::ReservedBits;
use crate::slab::Key;
use crate::timer::TICK_MS;
use crate::worker::Options;
use crate::worker::active::Active;
use crate::worker::compression::{Agreement, Compression};
use crate::worker::counters::Counters;
use crate::worker::heartbeat::Pacer;

/// Working state of connections that is kept for the next one that needs it.
const SPARE_MAX: usize = 1024;

/// The connection of which there is none, where a handler is called without one at hand.
const NOBODY: Key = Key { slot: u32::MAX, generation: 0 };

/// Where what is sent to a connection goes.
pub(super) struct Outlet<'q> {
    pub(super) queue: &'q mut SendQueue,
    /// What was sent and not taken by the socket yet.
    pub(super) blocked_bytes: usize,
    pub(super) agreement: Option<Agreement>,
    pub(super) transport: Transport,
}

pub(super) struct Context<H> {
    pub(super) index: u16,
    pub(super) handler: H,
    pub(super) options: Options,
    pub(super) pool: Pool,
    pub(super) compression: Compression,
    pub(super) counters: Counters,
    pub(super) pacer: Pacer,
    /// What handlers asked for and the worker has not done yet.
    pub(super) commands: Commands,
    /// Connections whose queues have come to be over their bounds, of which the handler is not told yet.
    pub(super) full: VecDeque<Key>,
    /// Connections that handlers want to go on, when their commands were applied.
    pub(super) resumed: VecDeque<Key>,
    /// Parcels wait for room in another worker's mailbox.
    pub(super) is_backed_up: bool,
    /// The handler was called since it was last told that a turn ends.
    pub(super) was_called: bool,
    /// Connections that have used up this turn's frames and have more to process in the next.
    pub(super) yielded: Vec<Key>,
    /// The number of this turn.
    pub(super) turn: u64,
    /// The time of this turn.
    pub(super) now_ms: u64,
    /// The worker was held up, and has yet to hear what came meanwhile: nobody is silent until then.
    pub(super) deaf_until_ms: u64,
    /// The tick of the wheel at that time, its low bits.
    pub(super) tick: u32,
    #[expect(clippy::vec_box, reason = "they come from and go back to connections, which hold boxes")]
    spare: Vec<Box<Active>>,
    /// The fewest that were spare since the last trim: so many nobody needed.
    spare_idle: usize,
}

impl<H: Handler> Context<H> {
    pub(super) fn new(index: u16, handler: H, options: Options) -> Self {
        Self {
            index,
            handler,
            compression: Compression::new(options.compression),
            options,
            pool: Pool::default(),
            counters: Counters::default(),
            pacer: Pacer::default(),
            commands: Commands::default(),
            full: VecDeque::new(),
            resumed: VecDeque::new(),
            is_backed_up: false,
            was_called: false,
            yielded: Vec::new(),
            turn: 0,
            now_ms: 0,
            deaf_until_ms: 0,
            tick: 0,
            spare: Vec::new(),
            spare_idle: 0,
        }
    }

    /// Begins a turn that ends its waiting at `now_ms`, and was to end it at `expected_ms` at the latest.
    pub(super) fn begin_turn(&mut self, now_ms: u64, expected_ms: Option<u64>) {
        if expected_ms.is_some_and(|expected_ms| now_ms > expected_ms + LATE_MS) {
            self.deaf_until_ms = now_ms + LATE_MS;
        }
        self.now_ms = now_ms;
        self.tick = tick_of(now_ms);
        self.turn = self.turn.wrapping_add(1);
        self.compression.set_time(now_ms);
    }

    /// The number of this turn as connections keep it: its low bits.
    pub(super) fn turn_mark(&self) -> u32 {
        low_bits(self.turn)
    }

    /// The number of the turn that a mark stands for, if that was not too long ago.
    pub(super) fn turn_of(&self, mark: u32) -> u64 {
        self.turn.saturating_sub(self.turn_mark().wrapping_sub(mark).into())
    }

    pub(super) fn id(&self, key: Key) -> ConnectionId {
        ConnectionId { worker: self.index, key }
    }

    /// Calls the handler with effects that write to `outlet`; returns how it closed the connection, if it did, and
    /// whether it paused it.
    pub(super) fn call(
        &mut self,
        key: Key,
        outlet: Outlet<'_>,
        call: impl FnOnce(&mut H, ConnectionId, &mut Effects<'_>),
    ) -> (Option<OwnClose>, bool) {
        self.was_called = true;
        self.with_effects(key, outlet, call)
    }

    /// Calls the handler without a connection at hand.
    pub(super) fn call_alone(&mut self, call: impl FnOnce(&mut H, &mut Effects<'_>)) {
        let mut nowhere = SendQueue::default();
        self.call(NOBODY, Outlet::nowhere(&mut nowhere, Transport::default()), |handler, _, effects| {
            call(handler, effects);
        });
        nowhere.clear(&mut self.pool);
    }

    /// Writes a message in two parts to `outlet`.
    pub(super) fn deliver(&mut self, key: Key, outlet: Outlet<'_>, kind: MessageKind, head: &[u8], tail: &SharedFrame) {
        self.with_effects(key, outlet, |_, id, effects| effects.deliver(id, kind, head, tail));
    }

    fn with_effects(
        &mut self,
        key: Key,
        Outlet { queue, blocked_bytes, agreement, transport }: Outlet<'_>,
        call: impl FnOnce(&mut H, ConnectionId, &mut Effects<'_>),
    ) -> (Option<OwnClose>, bool) {
        let id = self.id(key);
        let skipped = &mut self.counters.deflates_skipped;
        let outgoing = agreement.map(|agreement| self.compression.outgoing(key, agreement, skipped));
        let mut effects = Effects::new(id, queue, blocked_bytes, &mut self.pool, &mut self.commands)
            .with_transport(transport, self.now_ms)
            .with_backlog(self.is_backed_up)
            .with_bound(self.options.send_queue_bytes_max)
            .with_compression(outgoing);
        call(&mut self.handler, id, &mut effects);
        let outcome = effects.into_outcome();
        if let Some(agreement) = agreement {
            self.compression.sent(key, agreement, self.now_ms);
        }
        outcome
    }

    /// Working state for a connection that was at rest: the one used last, still in the cache.
    pub(super) fn take_active(&mut self, agreement: Option<Agreement>) -> Box<Active> {
        let mut active = self.spare.pop().unwrap_or_else(|| Box::new(Active::new(self.options.messages)));
        self.spare_idle = self.spare_idle.min(self.spare.len());
        active.session.set_reserved_bits(agreement.map_or(ReservedBits::Unused, |_| ReservedBits::Deflate));
        active
    }

    /// Keeps working state that holds nothing any more.
    pub(super) fn give_active(&mut self, active: Box<Active>) {
        debug_assert!(active.is_at_rest(), "only a connection at rest gives its state away");
        if self.spare.len() < SPARE_MAX {
            self.spare.push(active);
        }
    }

    /// Whether there is working state that nobody uses now.
    pub(super) fn has_spare(&self) -> bool {
        !self.spare.is_empty()
    }

    /// Lets go of half of the working state that nobody has needed since the last call.
    pub(super) fn trim_spare(&mut self) {
        self.spare.drain(..self.spare_idle.div_ceil(2));
        self.spare_idle = self.spare.len();
    }

    /// Takes working state of a connection that is gone.
    pub(super) fn retire(&mut self, mut active: Box<Active>) {
        active.clear(self);
    }
}

impl<'q> Outlet<'q> {
    /// For a connection to which nothing can be sent any more.
    pub(super) fn nowhere(queue: &'q mut SendQueue, transport: Transport) -> Self {
        Self { queue, blocked_bytes: 0, agreement: None, transport }
    }
}

/// A turn that begins so much late tells that the worker was held up; then it listens for as long.
const LATE_MS: u64 = 1_000;

/// The tick of the wheel at a time, its low bits.
pub(super) fn tick_of(now_ms: u64) -> u32 {
    low_bits(now_ms / TICK_MS)
}

fn low_bits(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).expect("half of the bits")
}
