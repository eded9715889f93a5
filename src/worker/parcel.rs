//! What handlers of different workers tell each other, and the end of a turn, by which they have done so.

use std::collections::VecDeque;
use std::mem;

use crate::handler::{Handler, Parcel};
use crate::ring::Driver;
use crate::worker::{Mail, Worker};

/// How many parcels that a handler has posted to itself are handled in a turn; more of them wait for the next.
const OWN_PER_TURN_MAX: usize = 4096;
/// Room for so many parcels is kept.
const ROOM_KEPT: usize = 1024;
/// When parcels that found no room are posted again.
pub(super) const POST_AGAIN_MS: u64 = 1;

/// Parcels that are not where they are to go yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// From this worker to itself.
    own: VecDeque<Parcel>,
    /// By worker: what found no room in its mailbox, and all that was posted since.
    waiting: Vec<VecDeque<Parcel>>,
    /// How many wait in all.
    waiting_count: usize,
}

impl Outbox {
    pub(super) fn new(peer_count: usize) -> Self {
        Self { waiting: (0..peer_count).map(|_| VecDeque::new()).collect(), ..Self::default() }
    }

    /// Gives room back that was needed once.
    pub(super) fn trim(&mut self) {
        for parcels in self.waiting.iter_mut().chain([&mut self.own]) {
            parcels.shrink_to(parcels.len().max(ROOM_KEPT));
        }
    }

    /// Whether parcels wait for room in another worker's mailbox.
    pub(super) fn is_backed_up(&self) -> bool {
        self.waiting_count > 0
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Has a handler get something. What was posted before it comes first.
    pub(super) fn post_parcel(&mut self, worker: u16, parcel: Parcel) {
        if worker == self.context.index {
            return self.outbox.own.push_back(parcel);
        }
        let Some(waiting) = self.outbox.waiting.get_mut(usize::from(worker)) else { return };
        waiting.push_back(parcel);
        self.outbox.waiting_count += 1;
        // Behind others it would find no room either.
        if waiting.len() == 1 {
            self.post_waiting(worker);
        }
        self.context.is_backed_up = self.outbox.is_backed_up();
    }

    /// Lets the handler have a parcel.
    pub(super) fn handle_parcel(&mut self, parcel: Parcel) {
        self.context.call_alone(|handler, effects| handler.on_parcel(parcel, effects));
        self.apply_commands();
    }

    /// Has the handler end its turn, and sees to all that it has posted.
    pub(super) fn end_turn(&mut self) {
        self.handle_own_parcels();
        self.context.call_alone(H::on_turn_end);
        self.context.was_called = false;
        self.apply_commands();
        self.handle_own_parcels();
        if self.outbox.is_backed_up() {
            for worker in (0..).take(self.peers.len()) {
                self.post_waiting(worker);
            }
            self.context.is_backed_up = self.outbox.is_backed_up();
            // Whoever waits for that is to hear of it.
            self.hurry |= !self.context.is_backed_up;
        }
    }

    fn handle_own_parcels(&mut self) {
        for _ in 0..OWN_PER_TURN_MAX {
            let Some(parcel) = self.outbox.own.pop_front() else { return };
            self.handle_parcel(parcel);
        }
        self.hurry |= !self.outbox.own.is_empty();
    }

    /// Posts what waits for another worker, in order, as far as there is room.
    fn post_waiting(&mut self, worker: u16) {
        let index = usize::from(worker);
        let (Some(peer), Some(waiting)) = (self.peers.get(index), self.outbox.waiting.get_mut(index)) else { return };
        if peer.mailbox.has_ended() {
            // Nobody will ever look at them.
            self.outbox.waiting_count -= mem::take(waiting).len();
            return;
        }
        let mut wakes = false;
        while let Some(parcel) = waiting.pop_front() {
            match peer.mailbox.post(Mail::Parcel(parcel)) {
                Ok(is_first) => {
                    self.outbox.waiting_count -= 1;
                    wakes |= is_first;
                }
                Err(Mail::Parcel(parcel)) => {
                    waiting.push_front(parcel);
                    break;
                }
                Err(_) => unreachable!("what comes back is what was posted"),
            }
        }
        if wakes {
            self.driver.wake(&peer.ring);
        }
    }
}
