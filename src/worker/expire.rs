//! Deadlines: setting them, and what happens when they pass.

use std::mem;

use crate::handler::{CloseCause, Handler};
use crate::proto::ws::ProtocolError;
use crate::ring::Driver;
use crate::slab::Key;
use crate::worker::Worker;
use crate::worker::connection::Phase;
use crate::worker::heartbeat::Look;

/// How many close timeouts the sending of what waits may take in all.
const PROLONGED_TIMES_MAX: u64 = 12;
/// When the operations of a connection that dies are cancelled again, if they have not ended.
const CANCEL_AGAIN_MS: u64 = 1_000;
/// After so many pings of a turn what has come meanwhile is looked at first: each costs the kernel the whole
/// way through the network, and the wheel may bring up hundreds in a tick.
const PINGS_PER_TURN_MAX: u64 = 32;
/// Of those that were put off this share gets its ping in a turn.
const DELAYED_SHARE: usize = 32;

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Sets the deadline that the state of a connection calls for.
    ///
    /// Phases set theirs once, at their beginning. Within `Open`, deadlines come and go with each
    /// message in pieces, so the wheel is left alone while an entry is in it that comes up in time:
    /// when it does, the deadlines are looked at again. A later entry, such as that of the
    /// handshake, gives way.
    pub(super) fn settle_deadline(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let options = &self.context.options;
        let now_ms = self.context.now_ms;
        let phase = connection.phase;
        let entered = connection.deadline_of.replace(phase) != Some(phase);
        match phase {
            Phase::Upgrading if entered => self.deadlines.arm(key.slot, now_ms + options.handshake_timeout_ms),
            Phase::Closing | Phase::Finishing if entered => {
                if let Some(active) = &mut connection.active {
                    active.closing_since_ms.get_or_insert(now_ms);
                }
                self.deadlines.arm(key.slot, now_ms + options.close_timeout_ms);
            }
            Phase::Open => {
                let active = connection.active.as_ref();
                let due = active
                    .and_then(|active| active.assembly_deadline_ms.into_iter().chain(active.stall_deadline_ms).min());
                // Activity leaves the wheel alone: an entry for the next look is not moved by it.
                let look = if connection.is_scheduled { None } else { connection.next_look_ms(&self.context) };
                connection.is_scheduled |= look.is_some();
                if let Some(due) = due.into_iter().chain(look).min()
                    && !self.deadlines.fires_by(key.slot, due)
                {
                    self.deadlines.arm(key.slot, due);
                }
            }
            // Nothing is waited for but the kernel.
            Phase::Dying if entered => self.deadlines.arm(key.slot, now_ms + CANCEL_AGAIN_MS),
            _ => {}
        }
    }

    /// Moves the deadline of a connection that closes, since it has just taken some of what waits for
    /// it: a slow peer gets all of its answers, one that takes a byte now and then does not.
    pub(super) fn prolong_closing(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(active) = connection.active.as_ref().filter(|_| connection.phase != Phase::Dying) else { return };
        let Some(since_ms) = active.closing_since_ms else { return };
        let timeout_ms = self.context.options.close_timeout_ms;
        let latest_ms = since_ms + timeout_ms * PROLONGED_TIMES_MAX;
        self.deadlines.arm(key.slot, (self.context.now_ms + timeout_ms).min(latest_ms));
    }

    /// Acts on the deadlines that have passed, last on that of the handler.
    pub(super) fn expire(&mut self) {
        let now_ms = self.context.now_ms;
        self.deadlines.expire(now_ms, &mut self.fired);
        // All keys first: connections that were quiet are not in the cache, and these reads don't wait for
        // each other.
        let mut due = mem::take(&mut self.due);
        due.extend(self.fired.drain(..).filter_map(|slot| self.connections.key_of(slot)));
        // With more of them in turns that take long, so that none is put off for long.
        let share = self.delayed.len() / DELAYED_SHARE;
        let enough = self.context.counters.pings + PINGS_PER_TURN_MAX.max(share as u64);
        self.look_at_delayed(enough);
        for key in due.drain(..) {
            if self.context.counters.pings >= enough && self.is_quiet(key) {
                self.delayed.push_back(key);
                continue;
            }
            self.handle_deadline(key);
            self.apply_commands();
        }
        self.due = due;
        if self.context.handler.poll_timeout(now_ms).is_some_and(|at_ms| at_ms <= now_ms) {
            self.context.call_alone(H::on_timeout);
            self.apply_commands();
        }
    }

    /// Acts on deadlines of open connections that an earlier turn had no time for.
    fn look_at_delayed(&mut self, enough: u64) {
        while self.context.counters.pings < enough
            && let Some(key) = self.delayed.pop_front()
        {
            // One that has begun to close has another deadline, which is in the wheel.
            if self.is_open(key) {
                self.handle_deadline(key);
                self.apply_commands();
            }
        }
    }

    /// Whether what has come up for a connection is most likely its ping.
    fn is_quiet(&mut self, key: Key) -> bool {
        self.connections.get_mut(key).is_some_and(|connection| connection.is_idle() && !connection.was_asked)
    }

    fn is_open(&mut self, key: Key) -> bool {
        self.connections.get_mut(key).is_some_and(|connection| connection.phase == Phase::Open)
    }

    fn handle_deadline(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        // The entry may be of an earlier phase: bytes of this very turn have moved the connection on,
        // and settling has yet to set the deadline of the phase that it is in now.
        if connection.deadline_of != Some(connection.phase) {
            self.touch(key);
            return;
        }
        let counters = &mut self.context.counters;
        let now_ms = self.context.now_ms;
        match connection.phase {
            Phase::Upgrading => {
                counters.handshake_timeouts += 1;
                connection.die(key, CloseCause::Lost, &mut self.context);
            }
            Phase::Open => {
                connection.is_scheduled = false;
                let is_due = |deadline: Option<u64>| deadline.is_some_and(|at| at <= now_ms);
                let Some(mut active) = connection.active.take() else {
                    match self.look_at(key) {
                        Look::Again { at_ms } => self.deadlines.arm(key.slot, at_ms),
                        Look::Settle => self.touch(key),
                    }
                    return;
                };
                let (stalled, late) = (is_due(active.stall_deadline_ms), is_due(active.assembly_deadline_ms));
                if late && !stalled {
                    connection.fail(key, &mut active, ProtocolError::AssemblyTimeout, &mut self.context);
                }
                connection.active = Some(active);
                if stalled {
                    self.context.counters.stalled += 1;
                    connection.die(key, CloseCause::Stalled, &mut self.context);
                }
            }
            Phase::Closing | Phase::Finishing => {
                counters.close_timeouts += 1;
                connection.die(key, CloseCause::Stalled, &mut self.context);
            }
            // An operation that the kernel was about to look at is where a cancel does not look.
            Phase::Dying if !connection.close_sent => {
                connection.cancelled = false;
                self.deadlines.arm(key.slot, now_ms + CANCEL_AGAIN_MS);
            }
            Phase::Dying => {}
        }
        self.touch(key);
    }
}
