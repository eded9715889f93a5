//! Which workers may have subscribers for a topic: what a publisher asks before it tells them.

use std::hash::{DefaultHasher, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::broker::Pattern;

/// How many counters a worker has for names: names share them by hash.
const COUNTERS: usize = 4 << 10;

/// Where a subscription was counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter(u16);

/// In place of the counter of a name: that of all patterns.
const PATTERNS: u16 = u16::MAX;

const _: () = assert!(COUNTERS < PATTERNS as usize);

/// The topics that a worker has subscribers for, as far as others need to know.
///
/// It may say yes where there is nobody, never no where there is somebody: the subscriber has added to it before
/// it was told that the subscription is active.
#[derive(Debug)]
struct Interest {
    names: Box<[AtomicU32]>,
    /// Subscriptions with wildcards, which are asked about each message.
    patterns: AtomicU32,
}

/// The interests of all workers of a server.
#[derive(Debug, Default)]
pub(super) struct Interests(OnceLock<Box<[Interest]>>);

impl Interests {
    /// Makes room for so many workers, which all of them say.
    pub(super) fn begin(&self, workers: u16) {
        let new =
            || Interest { names: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect(), patterns: AtomicU32::new(0) };
        self.0.get_or_init(|| (0..workers).map(|_| new()).collect());
    }

    /// Notes a subscription of a worker; returns what ends it.
    pub(super) fn add(&self, worker: u16, pattern: Pattern<'_>) -> Counter {
        let counter = Counter(if pattern.has_wildcard() { PATTERNS } else { index_of(pattern.as_str()) });
        self.count(worker, counter).fetch_add(1, Ordering::SeqCst);
        counter
    }

    /// Forgets a subscription.
    pub(super) fn take(&self, worker: u16, counter: Counter) {
        self.count(worker, counter).fetch_sub(1, Ordering::SeqCst);
    }

    /// The workers that may have subscribers for the topic of this name.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = u16> {
        let index = index_of(name);
        let workers = (0..).zip(self.workers());
        let wants = move |interest: &Interest| {
            interest.names[usize::from(index)].load(Ordering::SeqCst) > 0
                || interest.patterns.load(Ordering::SeqCst) > 0
        };
        workers.filter(move |(_, interest)| wants(interest)).map(|(worker, _)| worker)
    }

    /// Whether no worker has a subscription.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let counters = self.workers().iter().flat_map(|interest| interest.names.iter().chain([&interest.patterns]));
        counters.into_iter().all(|counter| counter.load(Ordering::SeqCst) == 0)
    }

    fn count(&self, worker: u16, Counter(index): Counter) -> &AtomicU32 {
        let interest = &self.workers()[usize::from(worker)];
        if index == PATTERNS { &interest.patterns } else { &interest.names[usize::from(index)] }
    }

    fn workers(&self) -> &[Interest] {
        self.0.get().map_or(&[], |workers| workers)
    }
}

/// A number that a name has on each worker.
pub(super) fn hash_of(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name.as_bytes());
    hasher.finish()
}

fn index_of(name: &str) -> u16 {
    u16::try_from(hash_of(name) % COUNTERS as u64).expect("few")
}
