//! What brokers count, and how others see it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a worker's part of the broker has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Sessions that were opened.
    pub sessions: u64,
    /// Messages that clients have sent.
    pub published: u64,
    /// Messages that were written to clients.
    pub delivered: u64,
    /// Messages for slow subscribers that were dropped.
    pub dropped: u64,
    /// Clients that were closed for being slow.
    pub slow_consumers: u64,
    /// Sessions that ended with an ERROR.
    pub errors: u64,
    /// Messages that will not be delivered: to the dead letter queue, or nowhere.
    pub dead: u64,
    /// Messages for temporary queues that were gone.
    pub lost_replies: u64,
}

/// How many there are.
const COUNT: usize = 8;

impl Counters {
    fn to_array(self) -> [u64; COUNT] {
        let Self { sessions, published, delivered, dropped, slow_consumers, errors, dead, lost_replies } = self;
        [sessions, published, delivered, dropped, slow_consumers, errors, dead, lost_replies]
    }

    fn from_array(values: [u64; COUNT]) -> Self {
        let [sessions, published, delivered, dropped, slow_consumers, errors, dead, lost_replies] = values;
        Self { sessions, published, delivered, dropped, slow_consumers, errors, dead, lost_replies }
    }
}

/// The counters of all workers of a server, which each of them writes at the end of a turn.
#[derive(Debug, Default)]
pub(super) struct Slate(OnceLock<Box<[[AtomicU64; COUNT]]>>);

impl Slate {
    /// Makes room for so many workers, which all of them say.
    pub(super) fn begin(&self, workers: u16) {
        self.0.get_or_init(|| (0..workers).map(|_| Default::default()).collect());
    }

    pub(super) fn write(&self, worker: u16, counters: Counters) {
        let Some(row) = self.0.get().and_then(|rows| rows.get(usize::from(worker))) else { return };
        for (value, counter) in counters.to_array().into_iter().zip(row) {
            counter.store(value, Ordering::Relaxed);
        }
    }

    /// The sums of all workers.
    pub(super) fn sum(&self) -> Counters {
        let mut sums = [0; COUNT];
        for row in self.0.get().map_or(&[][..], |rows| rows) {
            sums.iter_mut().zip(row).for_each(|(sum, counter)| *sum += counter.load(Ordering::Relaxed));
        }
        Counters::from_array(sums)
    }
}
