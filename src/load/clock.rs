//! The clock that all threads of a run read.

use std::time::{Duration, Instant};

/// Nanoseconds since the run began, the same on every thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    epoch: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "measuring time is what a load generator is for")]
    pub(super) fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    pub(super) fn now_ns(self) -> u64 {
        nanoseconds(self.epoch.elapsed())
    }
}

/// A duration as nanoseconds. Plans are bounded to days, 64 bits hold centuries.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}
