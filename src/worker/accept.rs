//! Accepting connections, and pausing when there is no room for more.

use std::mem;

use crate::handler::{Handler, Transport};
use crate::ring::Driver;
use crate::slab::Key;
use crate::worker::connection::{Connection, Phase};
use crate::worker::{Pressure, Worker};

/// How long accepting pauses for want of descriptors or memory: asking again at once would spin.
const PAUSE_MS: u64 = 100;

/// How many connections a turn accepts at most: when thousands come at once, those that are open get their
/// turns in between.
const ACCEPTS_PER_TURN_MAX: usize = 32;

/// Whether connections are being accepted.
#[derive(Debug)]
pub(super) struct Acceptor {
    listeners: Vec<Listener>,
    resume_at_ms: Option<u64>,
    /// Nobody is accepted for now.
    pauses: bool,
    /// A listener has no accept, since others have all that there may be: those are to end, and be shared anew.
    shares_anew: bool,
}

/// What is accepted by one listening socket.
#[derive(Debug)]
struct Listener {
    transport: Transport,
    /// How many accepts are under way; each is for one connection.
    armed: usize,
}

impl Acceptor {
    /// Accepts by as many listeners, for each of which it is said how bytes come and go.
    pub(super) fn new(transports: &[Transport]) -> Self {
        let listener = |&transport: &Transport| Listener { transport, armed: 0 };
        let listeners = transports.iter().map(listener).collect();
        Self { listeners, resume_at_ms: None, pauses: false, shares_anew: false }
    }

    pub(super) fn resume_at_ms(&self) -> Option<u64> {
        self.resume_at_ms
    }

    /// Whether accepts are to end, and some have not.
    pub(super) fn is_ending(&self) -> bool {
        (self.pauses || self.shares_anew) && !self.is_idle()
    }

    /// Whether the kernel accepts nothing more for us.
    pub(super) fn is_idle(&self) -> bool {
        self.armed() == 0
    }

    fn armed(&self) -> usize {
        self.listeners.iter().map(|listener| listener.armed).sum()
    }

    /// How many of `wanted` accepts each listener gets. If there are not enough for all, the first ones get them.
    fn shares(&self, wanted: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.listeners.len().max(1);
        (0..count).map(move |index| wanted / count + usize::from(index < wanted % count))
    }

    /// Whether all that is `wanted` is under way, and a listener has none of it that should have some.
    fn is_uneven(&self, wanted: usize) -> bool {
        let is_left_out = |(listener, share): (&Listener, usize)| listener.armed == 0 && share > 0;
        self.armed() >= wanted && self.listeners.iter().zip(self.shares(wanted)).any(is_left_out)
    }

    fn end_one(&mut self, listener: u8) -> Transport {
        let Listener { transport, armed } =
            self.listeners.get_mut(usize::from(listener)).expect("what ends was asked for by a listener");
        *armed = armed.checked_sub(1).expect("what ends was asked for");
        *transport
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Has it accept by as many listeners as there are `transports`, whose connections are what each says. Without
    /// this call it is one for WebSockets. To be called before the first turn.
    #[must_use]
    pub fn with_listeners(self, transports: &[Transport]) -> Self {
        Self { acceptor: Acceptor::new(transports), ..self }
    }

    pub(super) fn handle_accepted(&mut self, slot: u32, listener: u8) {
        let transport = self.acceptor.end_one(listener);
        // Some kernels (before 6.16) may report an accept before the close that freed its slot. The
        // close's own completion comes too late then and is known by its generation.
        if let Some(closed) = self.connections.key_of(slot) {
            self.handle_closed(closed);
        }
        let hibernates = self.context.options.hibernate_after_ms.is_some();
        let key = self.connections.insert(slot, Connection::new(self.context.turn_mark(), hibernates));
        let key = key.expect("the slot was free, or has just been freed");
        self.context.counters.accepted += 1;
        self.newest.push(key);
        self.touch(key);
        let Some(connection) = self.connections.get_mut(key) else { return };
        if self.stopping {
            connection.phase = Phase::Dying;
        } else if transport == Transport::Stream {
            connection.open_stream(key, &mut self.context);
        }
    }

    pub(super) fn handle_accept_ended(&mut self, listener: u8, errno: Option<i32>) {
        self.acceptor.end_one(listener);
        // A peer that left before it was accepted is its own trouble, other errors are ours.
        if errno.is_some_and(|errno| errno != libc::ECONNABORTED && errno != libc::EINTR) {
            self.acceptor.resume_at_ms = Some(self.context.now_ms + PAUSE_MS);
        }
    }

    pub(super) fn handle_closed(&mut self, key: Key) {
        let Some(mut connection) = self.connections.remove(key) else { return };
        assert!(connection.close_sent, "a slot is freed by our close alone");
        self.deadlines.disarm(key.slot);
        self.context.counters.closed += 1;
        if let Some(active) = connection.active.take() {
            self.context.retire(active);
        }
    }

    /// Asks for what is missing: accepts while there is room, none otherwise.
    pub(super) fn settle_acceptor(&mut self) {
        let room = (self.context.options.connections_max as usize).saturating_sub(self.connections.len());
        let now_ms = self.context.now_ms;
        let acceptor = &mut self.acceptor;
        // A pause that is over must not go on bounding the wait, or the loop would spin while there
        // is no room.
        acceptor.resume_at_ms.take_if(|at| *at <= now_ms);
        let may = acceptor.resume_at_ms.is_none() && self.pressure == Pressure::Calm && !self.stopping;
        let wanted = if may { room.min(ACCEPTS_PER_TURN_MAX) } else { 0 };
        let paused = mem::replace(&mut acceptor.pauses, wanted == 0);
        acceptor.shares_anew = acceptor.is_uneven(wanted);
        self.context.counters.accept_pauses += u64::from(acceptor.pauses && !paused && !self.stopping);
        // Said each turn until all have ended: an accept that is about to run is where a cancel does not look.
        if acceptor.is_ending() {
            self.driver.cancel_accepts();
        }
        let mut left = wanted.saturating_sub(acceptor.armed());
        let shares = acceptor.shares(wanted);
        for (index, (listener, share)) in (0..).zip(acceptor.listeners.iter_mut().zip(shares)) {
            while left > 0 && listener.armed < share {
                left -= 1;
                listener.armed += 1;
                self.driver.accept(index);
            }
        }
    }
}
