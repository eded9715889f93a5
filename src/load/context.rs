//! What the connections of a thread share.

use std::sync::Arc;

use crate::buf::Pool;
use crate::load::active::Active;
use crate::load::board::Standing;
use crate::load::deflate;
use crate::load::fault::Faults;
use crate::load::part::Part;
use crate::load::payload::Content;
use crate::load::random::Random;
use crate::load::recorder::Recorder;
use crate::load::stomp::Flow;
use crate::load::{Mode, Plan};
use crate::proto::ws::ReservedBits;

/// Everything of a thread but its ring and its connections.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) plan: Arc<Plan>,
    pub(super) content: Arc<Content>,
    pub(super) pool: Pool,
    pub(super) deflate: deflate::Tools,
    pub(super) random: Random,
    pub(super) recorder: Recorder,
    pub(super) faults: Faults,
    pub(super) totals: Totals,
    /// What STOMP's publishers have under way, and how many receive it.
    pub(super) flow: Flow,
    pub(super) receivers: u32,
    /// Where a STOMP frame, and the message in it, are put together.
    pub(super) frame: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// The time of this turn.
    pub(super) now_ns: u64,
    /// Replies may be followed by further requests.
    pub(super) going: bool,
    /// Messages are due at times of their own.
    pub(super) is_scheduled: bool,
    /// Messages of measured connections that wait for their reply.
    pub(super) under_way: u64,
    /// Messages that verify idle connections and wait for their reply.
    pub(super) verifying: u64,
    /// Connections that wait for their upgrade.
    pub(super) opening: u32,
    /// Connections that could not be opened since the last that could.
    pub(super) failed_in_a_row: u32,
    /// Connections that are open.
    pub(super) open: u32,
    /// Connections that wait for their end after a Close.
    pub(super) closing: u32,
    /// Connections that have a socket.
    pub(super) alive: u32,
    #[expect(clippy::vec_box, reason = "they come from and go back to connections, which hold boxes")]
    spare: Vec<Box<Active>>,
}

/// Working state of idle connections that is kept for the next one that needs it. In the other modes all
/// of them may need it, again and again.
const SPARE_MAX_IDLE: usize = 1024;

/// What a thread has done in all, the warm-up included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Connections upgraded.
    pub opened: u64,
    /// Connections that could not be.
    pub failed: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages received: echoes or deliveries.
    pub received: u64,
    /// Bytes of the messages received.
    pub received_bytes: u64,
    /// Bytes of the compressed messages received, as they came.
    pub compressed_bytes: u64,
    /// Bytes of the same messages, inflated.
    pub inflated_bytes: u64,
    /// Messages that slow readers have sent; they count nowhere else.
    pub flood_sent: u64,
    /// Messages that slow readers have received.
    pub flood_received: u64,
    /// Slow readers that the server has cut.
    pub slow_readers_cut: u64,
    /// Messages that were due before the end and never sent, since the server was too far behind.
    pub unsent: u64,
    /// The longest time in nanoseconds from when a message was due to when it was sent.
    pub lateness_ns_max: u64,
    /// Connections open when the load ended.
    pub held: u64,
    /// Pings answered.
    pub pings: u64,
}

impl Totals {
    pub(super) fn merge(&mut self, other: &Self) {
        self.opened += other.opened;
        self.failed += other.failed;
        self.sent += other.sent;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.compressed_bytes += other.compressed_bytes;
        self.inflated_bytes += other.inflated_bytes;
        self.flood_sent += other.flood_sent;
        self.flood_received += other.flood_received;
        self.slow_readers_cut += other.slow_readers_cut;
        self.unsent += other.unsent;
        self.lateness_ns_max = self.lateness_ns_max.max(other.lateness_ns_max);
        self.held += other.held;
        self.pings += other.pings;
    }
}

impl Context {
    pub(super) fn new(plan: Arc<Plan>, content: Arc<Content>, random: Random, recorder: Recorder) -> Self {
        Self {
            is_scheduled: plan.fixed_rate().is_some(),
            flow: Flow::new(plan.publishers),
            receivers: 0,
            frame: Vec::new(),
            body: Vec::new(),
            plan,
            content,
            pool: Pool::default(),
            deflate: deflate::Tools::new(),
            random,
            recorder,
            faults: Faults::default(),
            totals: Totals::default(),
            now_ns: 0,
            going: false,
            under_way: 0,
            verifying: 0,
            opening: 0,
            failed_in_a_row: 0,
            open: 0,
            closing: 0,
            alive: 0,
            spare: Vec::new(),
        }
    }

    /// Working state for a connection that was at rest: what was given back last, still in the cache.
    pub(super) fn take_active(&mut self, reserved: ReservedBits) -> Box<Active> {
        let mut active = self.spare.pop().unwrap_or_else(|| Box::new(Active::new(&self.plan)));
        active.session.set_reserved_bits(reserved);
        active
    }

    /// Keeps working state in which nothing is under way any more.
    pub(super) fn give_active(&mut self, active: Box<Active>) {
        if self.plan.mode != Mode::Idle || self.spare.len() < SPARE_MAX_IDLE {
            self.spare.push(active);
        }
    }

    /// Takes the working state of a connection that is gone.
    pub(super) fn retire(&mut self, mut active: Box<Active>) {
        active.clear(&self.plan, &mut self.pool);
        self.give_active(active);
    }

    /// How many replies are awaited by connections with this part.
    pub(super) fn awaited(&mut self, part: Part) -> &mut u64 {
        if part == Part::Idle { &mut self.verifying } else { &mut self.under_way }
    }

    /// Says how many receive what is published, which is all that count when a message is complete.
    pub(super) fn set_receivers(&mut self, count: u32) {
        self.receivers = count;
        if let Some(stomp) = self.plan.stomp.as_ref().filter(|_| self.plan.mode == Mode::StompTopic) {
            self.flow.set_needed(stomp.quorum_of(count));
        }
    }

    /// One of those who receive is gone: nobody need wait for it.
    pub(super) fn lose_receiver(&mut self) {
        self.set_receivers(self.receivers.saturating_sub(1));
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            opened: self.totals.opened,
            open: self.open.into(),
            alive: self.alive.into(),
            pings: self.totals.pings,
        }
    }

    /// Counts a connection that could not be opened.
    pub(super) fn count_failed(&mut self) {
        self.totals.failed += 1;
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
    }

    /// Records an operation of `bytes` that was sent, or due, at `at_ns` and ends now.
    ///
    /// Throughput is what ends in the window. Latencies are those of what ends in it or is still
    /// awaited at its end; at a fixed rate, of what was due in it, however late.
    pub(super) fn record(&mut self, at_ns: u64, bytes: usize) {
        self.recorder.count(bytes);
        if self.is_scheduled {
            self.recorder.measure_due(at_ns, self.now_ns, 1);
        } else {
            self.recorder.measure(self.now_ns.saturating_sub(at_ns));
        }
    }

    /// Whether a reply is followed by the next request at once.
    pub(super) fn answers_replies(&self) -> bool {
        self.going && !self.is_scheduled
    }
}
