//! How far all threads are, for whoever watches the run.

use std::sync::atomic::{AtomicU64, Ordering};

/// The sums over all threads.
#[derive(Debug, Default)]
pub(super) struct Board {
    opened: AtomicU64,
    open: AtomicU64,
    alive: AtomicU64,
    pings: AtomicU64,
}

/// Where a thread stands, or all of them together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Standing {
    /// Connections upgraded so far.
    pub(super) opened: u64,
    /// Connections that are open.
    pub(super) open: u64,
    /// Connections that have a socket.
    pub(super) alive: u64,
    /// Pings answered.
    pub(super) pings: u64,
}

impl Board {
    /// Adds what has changed on a thread since it `told` last. Nothing is written where nothing has.
    pub(super) fn tell(&self, told: &mut Standing, now: Standing) {
        if *told == now {
            return;
        }
        for (sum, before, after) in [
            (&self.opened, told.opened, now.opened),
            (&self.open, told.open, now.open),
            (&self.alive, told.alive, now.alive),
            (&self.pings, told.pings, now.pings),
        ] {
            if before != after {
                // Modulo 2^64, so that a count may also fall.
                sum.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
            }
        }
        *told = now;
    }

    pub(super) fn read(&self) -> Standing {
        let [opened, open, alive, pings] =
            [&self.opened, &self.open, &self.alive, &self.pings].map(|sum| sum.load(Ordering::Relaxed));
        Standing { opened, open, alive, pings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_threads_add_up_also_when_they_fall() {
        let (board, mut one, mut other) = (Board::default(), Standing::default(), Standing::default());
        board.tell(&mut one, Standing { opened: 5, open: 5, alive: 6, pings: 0 });
        board.tell(&mut other, Standing { opened: 2, open: 2, alive: 2, pings: 9 });
        board.tell(&mut one, Standing { opened: 5, open: 1, alive: 1, pings: 3 });
        assert_eq!(board.read(), Standing { opened: 7, open: 3, alive: 3, pings: 12 });
    }
}
