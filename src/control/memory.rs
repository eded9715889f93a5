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
    pressure: Pressure,
}

impl Memory {
    pub(super) fn new(budget: u64) -> Self {
        Self { budget, pressure: Pressure::Calm }
    }

    /// Looks again; `connections` is how many there are.
    pub(super) fn look(&mut self, connections: u64) -> Pressure {
        // What can't be read says nothing; the last word stands.
        if let Ok(resident) = Process::Own.resident_bytes() {
            let used = resident + connections * CONNECTION_KERNEL_BYTES;
            let pressure = judge(used, self.budget, self.pressure);
            if pressure != self.pressure {
                let (used, budget) = (used >> 20, self.budget >> 20);
                match pressure {
                    Pressure::Calm => tracing::info!("memory: {used} of {budget} MiB; connections are accepted again"),
                    Pressure::Tight => {
                        tracing::warn!("memory: {used} of {budget} MiB; nobody is accepted until it falls");
                    }
                    Pressure::Short => {
                        tracing::warn!("memory: {used} of {budget} MiB; the slowest and newest are closed");
                    }
                }
            }
            self.pressure = pressure;
        }
        self.pressure
    }
}

fn judge(used: u64, budget: u64, before: Pressure) -> Pressure {
    let percent = |used: u64| used.saturating_mul(100) / budget.max(1);
    let of = |percent| match percent {
        SHORT.. => Pressure::Short,
        TIGHT.. => Pressure::Tight,
        _ => Pressure::Calm,
    };
    let now = of(percent(used));
    if now < before { before.min(of(percent(used) + SLACK)) } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_grows_at_once_and_eases_late() {
        let mut before = Pressure::Calm;
        for (used, expect) in [
            (899, Pressure::Calm),
            (900, Pressure::Tight),
            (950, Pressure::Short),
            (2_000, Pressure::Short),
            (920, Pressure::Short),
            (919, Pressure::Tight),
            (870, Pressure::Tight),
            (869, Pressure::Calm),
            (899, Pressure::Calm),
        ] {
            before = judge(used, 1_000, before);
            assert_eq!(before, expect, "{used} of 1,000");
        }
    }
}
