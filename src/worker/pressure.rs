//! What a worker does when the server's memory runs short: accept nobody, then part with some.

use std::cmp::Reverse;
use std::collections::VecDeque;

use crate::handler::{CloseCause, Handler};
use crate::proto::ws::CloseCode;
use crate::ring::Driver;
use crate::slab::Key;
use crate::sys::memory;
use crate::worker::Worker;
use crate::worker::connection::Phase;

/// How short the server's memory is.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Pressure {
    /// There is room.
    #[default]
    Calm,
    /// Nobody is accepted any more.
    Tight,
    /// Connections are closed, too: those for which most waits to be sent, and the newest.
    Short {
        /// How many bytes this worker is to part with, as far as they wait for peers.
        bytes: u64,
    },
}

/// Which part of its connections a worker parts with when it is told, and how many at most.
const SHED_SHARE: usize = 64;
const SHED_MAX: usize = 512;

/// The connections that were accepted last, the newest at the end.
#[derive(Debug, Default)]
pub(super) struct Newest(VecDeque<Key>);

impl Newest {
    pub(super) fn push(&mut self, key: Key) {
        if self.0.len() == SHED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(key);
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Does what the last word about memory calls for, once for each word.
    pub(super) fn relieve(&mut self) {
        let Some(pressure) = self.mailbox.take_pressure() else { return };
        self.pressure = pressure;
        if pressure == Pressure::Calm {
            return;
        }
        if let Pressure::Short { bytes } = pressure {
            self.shed(bytes);
            self.apply_commands();
            self.settle_touched();
        }
        self.context.pool.give_up();
        memory::give_back();
    }

    /// Parts with the slowest, whose memory is free at once: with a share of all connections at least, and with
    /// more while what waits for them is less than `bytes`. If there are not so many, with the newest.
    fn shed(&mut self, bytes: u64) {
        // Those that were told and are on their way count: what they free is yet to be seen.
        let is_leaving = |phase| matches!(phase, Phase::Closing | Phase::Finishing | Phase::Dying);
        let leaving = self.connections.iter().filter(|(_, connection)| is_leaving(connection.phase)).count();
        let share = (self.connections.len() - leaving).div_ceil(SHED_SHARE).min(SHED_MAX);
        let mut left = share.saturating_sub(leaving);
        let queued = self.connections.iter().map(|(key, connection)| (connection.refused_bytes() as u64, key));
        let mut slow: Vec<(u64, Key)> = queued.filter(|(bytes, _)| *bytes > 0).collect();
        slow.sort_unstable_by_key(|&(bytes, _)| Reverse(bytes));
        let mut freed = 0;
        for (bytes_of, key) in slow {
            if left == 0 && freed >= bytes {
                return;
            }
            freed += bytes_of;
            left = left.saturating_sub(usize::from(self.let_go(key)));
        }
        while left > 0
            && let Some(key) = self.newest.0.pop_back()
        {
            left -= usize::from(self.let_go(key));
        }
        // Those are gone, and nobody came since: the kernel gives low slots out first.
        if left > 0 {
            let keys: Vec<Key> = self.connections.keys().collect();
            for key in keys.into_iter().rev() {
                if left == 0 {
                    return;
                }
                left -= usize::from(self.let_go(key));
            }
        }
    }

    /// Ends a connection for want of memory: one that would only make more wait for it at once, others with
    /// a Close. Says whether there was anything to end.
    fn let_go(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        match connection.phase {
            Phase::Open if connection.refused_bytes() == 0 => {
                self.close_connection(key, CloseCode::TRY_AGAIN_LATER, "out of memory", CloseCause::Overload);
            }
            // It was told already, and goes by itself.
            Phase::Closing | Phase::Finishing if connection.refused_bytes() == 0 => return false,
            Phase::Upgrading | Phase::Open | Phase::Closing | Phase::Finishing => {
                connection.die(key, CloseCause::Overload, &mut self.context);
                self.touch(key);
            }
            Phase::Dying => return false,
        }
        self.context.counters.shed += 1;
        true
    }
}
