//! Where the threads of a run wait for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::load::board::Board;

/// Shared by all threads of a run.
#[derive(Debug, Default)]
pub(super) struct Rendezvous {
    /// How far all are.
    pub(super) board: Board,
    /// Threads that have opened what they could, and when the last of them had.
    ready: AtomicU32,
    ready_ns: AtomicU64,
    /// When the load begins; 0 until it is known.
    start_ns: AtomicU64,
    /// The run is given up.
    abandoned: AtomicBool,
    /// Threads that publish nothing more, and what they have published in all.
    silent: AtomicU32,
    published: AtomicU64,
}

/// A thread's part in a run. If it ends early, by an error or a panic, the run is given up: the
/// others would wait for it for ever.
#[derive(Debug)]
pub(super) struct Attendance {
    rendezvous: Arc<Rendezvous>,
    is_complete: bool,
}

impl Attendance {
    pub(super) fn new(rendezvous: Arc<Rendezvous>) -> Self {
        Self { rendezvous, is_complete: false }
    }

    /// The thread has gone through the whole run.
    pub(super) fn complete(mut self) {
        self.is_complete = true;
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        if !self.is_complete {
            self.rendezvous.abandon();
        }
    }
}

impl Rendezvous {
    pub(super) fn arrive(&self, now_ns: u64) {
        self.ready_ns.fetch_max(now_ns, Ordering::AcqRel);
        self.ready.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn arrived(&self) -> u32 {
        self.ready.load(Ordering::Acquire)
    }

    /// When the last thread so far arrived.
    pub(super) fn arrived_ns(&self) -> u64 {
        self.ready_ns.load(Ordering::Acquire)
    }

    pub(super) fn start_at(&self, at_ns: u64) {
        self.start_ns.store(at_ns.max(1), Ordering::Release);
    }

    pub(super) fn start_ns(&self) -> Option<u64> {
        Some(self.start_ns.load(Ordering::Acquire)).filter(|&at| at != 0)
    }

    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// A thread has published its last message, `count` in all.
    pub(super) fn fall_silent(&self, count: u64) {
        self.published.fetch_add(count, Ordering::AcqRel);
        self.silent.fetch_add(1, Ordering::AcqRel);
    }

    /// How many messages everybody must have seen, once `threads` have published their last.
    pub(super) fn published(&self, threads: u32) -> Option<u64> {
        (self.silent.load(Ordering::Acquire) == threads).then(|| self.published.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_published_is_known_when_the_last_thread_is_silent() {
        let rendezvous = Rendezvous::default();
        rendezvous.fall_silent(3);
        assert_eq!(rendezvous.published(2), None);
        rendezvous.fall_silent(4);
        assert_eq!(rendezvous.published(2), Some(7));
    }

    #[test]
    fn a_thread_that_ends_early_ends_the_run() {
        let rendezvous = Arc::new(Rendezvous::default());
        Attendance::new(rendezvous.clone()).complete();
        assert!(!rendezvous.is_abandoned());
        let panicking = rendezvous.clone();
        let thread = std::thread::spawn(move || {
            let _attendance = Attendance::new(panicking);
            std::panic::resume_unwind(Box::new("a bug"));
        });
        thread.join().expect_err("it has panicked");
        assert!(rendezvous.is_abandoned());
    }

    #[test]
    fn the_start_is_unknown_until_it_is_set() {
        let rendezvous = Rendezvous::default();
        assert_eq!(rendezvous.start_ns(), None);
        rendezvous.start_at(0);
        assert_eq!(rendezvous.start_ns(), Some(1));
    }
}
