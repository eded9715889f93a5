//! The server's memory against its budget.

use crate::sys::process::Process;
use crate::worker::Pressure;

/// What an idle connection takes in the kernel, measured: socket, inode, file and poll.
const CONNECTION_KERNEL_BYTES: u64 = 4_100;
/// From these percentages of the budget on nobody is accepted, and connections are closed.
const TIGHT: u64 = 90;
const SHORT: u64 = 95;
/// Pressure eases only this far below, so that it does not come and go.
const SLACK: u64 = 3;

/// Compares what the server takes with what it may take.
#[derive(Debug)]
pub(super) struct Memory {
    budget: u64,
    level: Level,
    /// How much more is used than leaves room for others.
    excess: u64,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Level {
    Calm,
    Tight,
    Short,
}

/// How many bytes of a budget may be taken before nobody is accepted any more.
pub(crate) fn accepts_up_to(budget: u64) -> u64 {
    budget / 100 * TIGHT
}

impl Memory {
    pub(super) fn new(budget: u64) -> Self {
        Self { budget, level: Level::Calm, excess: 0 }
    }

    /// Looks again; `connections` is how many there are. What is too much is the worker's share of `workers`.
    pub(super) fn look(&mut self, connections: u64, workers: u64) -> Pressure {
        // What can't be read says nothing; the last word stands.
        if let Ok(resident) = Process::Own.resident_bytes() {
            let used = resident + connections * CONNECTION_KERNEL_BYTES;
            let level = judge(used, self.budget, self.level);
            if level != self.level {
                let (used, budget) = (used >> 20, self.budget >> 20);
                match level {
                    Level::Calm => tracing::info!("memory: {used} of {budget} MiB; connections are accepted again"),
                    Level::Tight => {
                        tracing::warn!("memory: {used} of {budget} MiB; nobody is accepted until it falls");
                    }
                    Level::Short => {
                        tracing::warn!("memory: {used} of {budget} MiB; the slowest and newest are closed");
                    }
                }
            }
            self.level = level;
            self.excess = used.saturating_sub(accepts_up_to(self.budget));
        }
        match self.level {
            Level::Calm => Pressure::Calm,
            Level::Tight => Pressure::Tight,
            Level::Short => Pressure::Short { bytes: self.excess / workers.max(1) },
        }
    }
}

fn judge(used: u64, budget: u64, before: Level) -> Level {
    let percent = |used: u64| used.saturating_mul(100) / budget.max(1);
    let of = |percent| match percent {
        SHORT.. => Level::Short,
        TIGHT.. => Level::Tight,
        _ => Level::Calm,
    };
    let now = of(percent(used));
    if now < before { before.min(of(percent(used) + SLACK)) } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_grows_at_once_and_eases_late() {
        let mut before = Level::Calm;
        for (used, expect) in [
            (899, Level::Calm),
            (900, Level::Tight),
            (950, Level::Short),
            (2_000, Level::Short),
            (920, Level::Short),
            (919, Level::Tight),
            (870, Level::Tight),
            (869, Level::Calm),
            (899, Level::Calm),
        ] {
            before = judge(used, 1_000, before);
            assert_eq!(before, expect, "{used} of 1,000");
        }
    }
}
