//! What a run does: the mode and its numbers, checked against each other once.

use std::time::Duration;

use crate::load::broadcast::MARK_LEN;
use crate::load::{Sizes, Url};
use crate::proto::ws::MessageKind;

/// What connections do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Mode {
    /// Each connection sends a message when the last one has come back
    PingPong,
    /// Each connection keeps --depth messages under way
    Pipeline,
    /// --rate messages a second over all connections, whatever the replies do; latency counts from the time at which a message was due
    Rate,
    /// --publishers send, everybody receives: for servers that send each message to all
    Broadcast,
    /// Connect, upgrade, close, again
    Connect,
    /// Hold the connections open, then verify a sample of them by an echo
    Idle,
    /// Some readers are slow while the server is flooded through them; the others are measured
    Slow,
}

/// What is offered of permessage-deflate.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Deflate {
    /// What browsers offer: messages may refer to those before them
    Takeover,
    /// Every message stands alone, in both directions
    NoTakeover,
}

/// Whether what comes back is compared with what was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Validation {
    /// Byte for byte, in order.
    Full,
    /// Messages are only counted.
    Off,
}

/// Whether a bar on the terminal shows how far the run is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// On standard error, if that is a terminal.
    Shown,
    /// Nowhere.
    Hidden,
}

/// A run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// The server.
    pub url: Url,
    /// What connections do.
    pub mode: Mode,
    /// Connections over all threads; in broadcast mode the subscribers.
    pub connections: u32,
    /// Connections that publish, beside the subscribers, in broadcast mode.
    pub publishers: u32,
    /// How many of the connections read slowly in slow mode.
    pub slow_readers: u32,
    /// How long a slow reader waits between two reads.
    pub read_delay: Duration,
    /// Threads, each with a ring of its own.
    pub threads: u16,
    /// Processors that the threads are pinned to, in turn; none for no pinning.
    pub cpus: Vec<usize>,
    /// Lengths of messages.
    pub sizes: Sizes,
    /// Text or binary.
    pub kind: MessageKind,
    /// What is offered of compression, which is used for messages that it makes shorter.
    pub deflate: Option<Deflate>,
    /// Frames a message.
    pub fragments: u32,
    /// Messages under way on each connection at most.
    pub depth: u32,
    /// Messages a second over all connections, in rate mode and, if wanted, in broadcast mode.
    pub rate: Option<u64>,
    /// How long a thread looks for replies before it sleeps, in microseconds. A load that sleeps adds the
    /// time that it takes to wake up to every latency.
    pub spin_us: u32,
    /// How long is measured.
    pub duration: Duration,
    /// How long the load runs before that.
    pub warmup: Duration,
    /// How long a connection may take to open, and a reply to come.
    pub timeout: Duration,
    /// Whether echoes are compared.
    pub validation: Validation,
    /// The server's process, to read what it consumes.
    pub server_pid: Option<u32>,
    /// Where the random numbers begin.
    pub seed: u64,
    /// Whether progress is shown.
    pub progress: Progress,
}

/// A number of a plan that can't be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("--{option} {value} is not possible -> {advice}")]
pub struct PlanError {
    /// The option.
    pub option: &'static str,
    /// Its value.
    pub value: String,
    /// What to do.
    pub advice: String,
}

/// The bounds of a plan.
const CONNECTIONS_MAX: u32 = 1 << 24;
const THREADS_MAX: u16 = 1024;
const SPIN_US_MAX: u32 = 10_000;
const DEPTH_MAX: u32 = 1 << 16;
const FRAGMENTS_MAX: u32 = 1 << 16;
const RATE_MAX: u64 = 1_000_000_000;
const PUBLISHERS_MAX: u32 = 1024;
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Below this, no interval of the window could be told from the next.
const DURATION_MIN: Duration = Duration::from_millis(10);
/// What may be under way in bytes over all connections, since all of it may lie in our memory.
const UNDER_WAY_BYTES_MAX: u64 = 8 << 30;

impl Plan {
    /// A plan for `url` with usual numbers for `mode`.
    #[must_use]
    pub fn new(url: Url, mode: Mode) -> Self {
        Self {
            url,
            mode,
            connections: 64,
            publishers: if mode == Mode::Broadcast { 1 } else { 0 },
            slow_readers: if mode == Mode::Slow { 8 } else { 0 },
            read_delay: Duration::from_millis(100),
            threads: 1,
            cpus: Vec::new(),
            sizes: "125".parse().expect("a number is a length"),
            kind: MessageKind::Binary,
            deflate: None,
            fragments: 1,
            depth: match mode {
                Mode::Pipeline => 16,
                Mode::Rate => 64,
                Mode::PingPong | Mode::Broadcast | Mode::Connect | Mode::Idle | Mode::Slow => 1,
            },
            rate: None,
            spin_us: 0,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            validation: Validation::Full,
            server_pid: None,
            seed: 1,
            progress: Progress::Hidden,
        }
    }

    /// All connections: in broadcast mode subscribers and publishers.
    #[must_use]
    pub const fn connection_count(&self) -> u32 {
        self.connections.saturating_add(self.publishers)
    }

    /// Checks every number against its bounds and the others.
    ///
    /// # Errors
    ///
    /// The first number that can't be.
    pub fn check(&self) -> Result<(), PlanError> {
        within("connections", self.connections, 1, CONNECTIONS_MAX)?;
        within("threads", self.threads, 1, THREADS_MAX)?;
        within("fragments", self.fragments, 1, FRAGMENTS_MAX)?;
        within("depth", self.depth, 1, DEPTH_MAX)?;
        within("duration", self.duration.as_secs_f64(), DURATION_MIN.as_secs_f64(), DURATION_MAX.as_secs_f64())?;
        within("warmup", self.warmup.as_secs_f64(), 0.0, DURATION_MAX.as_secs_f64())?;
        within("spin-us", self.spin_us, 0, SPIN_US_MAX)?;
        within("timeout", self.timeout.as_secs_f64(), 0.001, 3600.0)?;
        within("read-delay", self.read_delay.as_secs_f64(), 0.0, 3600.0)?;
        if let Some(rate) = self.rate {
            within("rate", rate, 1, RATE_MAX)?;
        }
        self.check_mode()?;
        let under_way = u64::from(self.connection_count()) * u64::from(self.depth) * u64::from(self.sizes.max());
        if under_way > UNDER_WAY_BYTES_MAX {
            let advice = format!(
                "{} connections with messages of {} bytes would have {} GiB under way; use a smaller depth",
                self.connection_count(),
                self.sizes.max(),
                under_way >> 30
            );
            return Err(PlanError { option: "depth", value: self.depth.to_string(), advice });
        }
        Ok(())
    }

    fn check_mode(&self) -> Result<(), PlanError> {
        let fail = |option, value: &dyn ToString, advice: &str| {
            Err(PlanError { option, value: value.to_string(), advice: advice.into() })
        };
        match (self.mode, self.rate) {
            (Mode::Rate, None) => return fail("mode", &"rate", "say how many messages a second with --rate"),
            (Mode::Rate | Mode::Broadcast, _) | (_, None) => {}
            (_, Some(rate)) => return fail("rate", &rate, "it needs --mode rate or broadcast"),
        }
        if self.mode == Mode::PingPong && self.depth != 1 {
            return fail("depth", &self.depth, "more than one message under way needs --mode pipeline");
        }
        match self.mode {
            Mode::Broadcast => {
                within("publishers", self.publishers, 1, PUBLISHERS_MAX)?;
                if self.sizes.min() < MARK_LEN {
                    return fail(
                        "size",
                        &self.sizes,
                        "a broadcast message carries a mark of 34 bytes; use at least 34",
                    );
                }
            }
            Mode::Slow if self.connections < 2 => {
                return fail(
                    "connections",
                    &self.connections,
                    "slow mode needs a slow reader and another; use 2 or more",
                );
            }
            Mode::Slow => within("slow-readers", self.slow_readers, 1, self.connections.saturating_sub(1))?,
            _ => {}
        }
        Ok(())
    }
}

fn within<T: PartialOrd + ToString>(option: &'static str, value: T, min: T, max: T) -> Result<(), PlanError> {
    if (&min..=&max).contains(&&value) {
        return Ok(());
    }
    let advice = format!("use a number from {} to {}", min.to_string(), max.to_string());
    Err(PlanError { option, value: value.to_string(), advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mode: Mode) -> Plan {
        Plan::new("ws://localhost:9001/".parse().unwrap(), mode)
    }

    #[track_caller]
    fn check(plan: &Plan, option: &str) {
        let error = plan.check().expect_err("it can't be");
        assert_eq!(error.option, option, "{error}");
    }

    #[test]
    fn every_mode_runs_with_its_usual_numbers() {
        for mode in [Mode::PingPong, Mode::Pipeline, Mode::Broadcast, Mode::Connect, Mode::Idle, Mode::Slow] {
            assert_eq!(plan(mode).check(), Ok(()), "{mode:?}");
        }
        assert_eq!(Plan { rate: Some(1), ..plan(Mode::Rate) }.check(), Ok(()));
    }

    #[test]
    fn numbers_that_can_not_be_are_named() {
        check(&Plan { connections: 0, ..plan(Mode::PingPong) }, "connections");
        check(&Plan { threads: 0, ..plan(Mode::PingPong) }, "threads");
        check(&Plan { depth: 2, ..plan(Mode::PingPong) }, "depth");
        check(&Plan { duration: Duration::ZERO, ..plan(Mode::PingPong) }, "duration");
        check(&plan(Mode::Rate), "mode");
        check(&Plan { rate: Some(5), ..plan(Mode::PingPong) }, "rate");
        check(&Plan { slow_readers: 64, ..plan(Mode::Slow) }, "slow-readers");
        check(&Plan { connections: 1, ..plan(Mode::Slow) }, "connections");
        check(&Plan { publishers: 0, ..plan(Mode::Broadcast) }, "publishers");
        check(&Plan { sizes: "33".parse().unwrap(), ..plan(Mode::Broadcast) }, "size");
        check(&Plan { sizes: "67108864".parse().unwrap(), ..plan(Mode::Pipeline) }, "depth");
    }
}
