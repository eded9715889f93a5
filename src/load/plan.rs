//! What a run does: the mode and its numbers, checked against each other once.

use std::time::Duration;

use crate::load::broadcast::MARK_LEN;
use crate::load::report::name_on_command_line;
use crate::load::{Sizes, StompOptions, Transport, Url};
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
    /// Hold the connections and answer pings, while --active of them carry echoes; then verify a sample of the others
    Idle,
    /// Some readers are slow while the server is flooded through them; the others are measured
    Slow,
    /// STOMP: --publishers send to a topic, everybody else has subscribed to it
    #[value(hide = true)]
    StompTopic,
    /// STOMP: --publishers send to queues, the others consume and acknowledge
    #[value(hide = true)]
    StompQueue,
}

impl Mode {
    /// Whether the connections speak STOMP.
    #[must_use]
    pub const fn is_stomp(self) -> bool {
        matches!(self, Self::StompTopic | Self::StompQueue)
    }

    /// Whether some connections send to others.
    const fn publishes(self) -> bool {
        matches!(self, Self::Broadcast | Self::StompTopic | Self::StompQueue)
    }
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
    /// Connections over all threads; in broadcast mode and with STOMP those who receive.
    pub connections: u32,
    /// Connections that publish, beside those who receive, in broadcast mode and with STOMP.
    pub publishers: u32,
    /// How many of the connections read slowly in slow mode.
    pub slow_readers: u32,
    /// How long a slow reader waits between two reads.
    pub read_delay: Duration,
    /// How many of the connections carry echoes in idle mode, if not the usual number.
    pub active: Option<u32>,
    /// Threads, each with a ring of its own, if not 1 or as many as the limit on open files calls for.
    pub threads: Option<u16>,
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
    /// Messages under way on each connection at most, with STOMP from each publisher.
    pub depth: u32,
    /// Messages a second over all connections, in rate mode and, if wanted, in broadcast and idle mode and with
    /// STOMP.
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
    /// What STOMP needs, in its modes.
    pub stomp: Option<StompOptions>,
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
pub(super) const THREADS_MAX: u16 = 1024;
const SPIN_US_MAX: u32 = 10_000;
const DEPTH_MAX: u32 = 1 << 16;
const FRAGMENTS_MAX: u32 = 1 << 16;
const RATE_MAX: u64 = 1_000_000_000;
const PUBLISHERS_MAX: u32 = 1024;
const PREFETCH_MAX: u32 = 65_535;
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Below this, no interval of the window could be told from the next.
const DURATION_MIN: Duration = Duration::from_millis(10);
/// How many connections are active in idle mode, and how many messages a second each of them sends.
const ACTIVE: u32 = 100;
const ACTIVE_RATE: u64 = 10;
/// What may be under way in bytes over all connections, since all of it may lie in our memory.
const UNDER_WAY_BYTES_MAX: u64 = 8 << 30;

impl Plan {
    /// A plan for `url` with usual numbers for `mode`.
    #[must_use]
    pub fn new(url: Url, mode: Mode) -> Self {
        Self {
            url,
            mode,
            connections: match mode {
                Mode::StompTopic => 1_000,
                Mode::StompQueue => 10,
                _ => 64,
            },
            publishers: if mode.publishes() { 1 } else { 0 },
            slow_readers: if mode == Mode::Slow { 8 } else { 0 },
            read_delay: Duration::from_millis(100),
            active: None,
            threads: None,
            cpus: Vec::new(),
            sizes: if mode.is_stomp() { "256" } else { "125" }.parse().expect("a number is a length"),
            kind: if mode.is_stomp() { MessageKind::Text } else { MessageKind::Binary },
            deflate: None,
            fragments: 1,
            depth: match mode {
                Mode::Pipeline => 16,
                Mode::Rate | Mode::Idle | Mode::StompQueue => 64,
                Mode::StompTopic => 4,
                Mode::PingPong | Mode::Broadcast | Mode::Connect | Mode::Slow => 1,
            },
            rate: None,
            spin_us: 0,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            validation: Validation::Full,
            server_pid: None,
            stomp: mode.is_stomp().then(StompOptions::default),
            seed: 1,
            progress: Progress::Hidden,
        }
    }

    /// All connections: in broadcast mode subscribers and publishers.
    #[must_use]
    pub const fn connection_count(&self) -> u32 {
        self.connections.saturating_add(self.publishers)
    }

    /// How many connections carry echoes in idle mode; none in another.
    #[must_use]
    pub fn active_count(&self) -> u32 {
        match (self.mode, self.active) {
            (Mode::Idle, Some(active)) => active,
            (Mode::Idle, None) => self.connections.min(ACTIVE),
            _ => 0,
        }
    }

    /// How many connections send.
    #[must_use]
    pub fn sender_count(&self) -> u32 {
        match self.mode {
            Mode::Broadcast | Mode::StompTopic | Mode::StompQueue => self.publishers,
            Mode::Idle => self.active_count(),
            Mode::PingPong | Mode::Pipeline | Mode::Rate | Mode::Connect | Mode::Slow => self.connections,
        }
    }

    /// Messages a second over all connections, if that is fixed.
    #[must_use]
    pub fn fixed_rate(&self) -> Option<u64> {
        match self.active_count() {
            0 => self.rate.filter(|_| self.mode != Mode::Idle),
            active => Some(self.rate.unwrap_or(u64::from(active) * ACTIVE_RATE)),
        }
    }

    /// Checks every number against its bounds and the others.
    ///
    /// # Errors
    ///
    /// The first number that can't be.
    pub fn check(&self) -> Result<(), PlanError> {
        within("connections", self.connections, 1, CONNECTIONS_MAX)?;
        if let Some(threads) = self.threads {
            within("threads", threads, 1, THREADS_MAX)?;
        }
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
        let busy = if self.mode == Mode::Idle { self.active_count() } else { self.connection_count() };
        let under_way = u64::from(busy) * u64::from(self.depth) * u64::from(self.sizes.max());
        if under_way > UNDER_WAY_BYTES_MAX {
            let advice = format!(
                "{} connections with messages of {} bytes would have {} GiB under way; use a smaller depth",
                busy,
                self.sizes.max(),
                under_way >> 30
            );
            return Err(PlanError { option: "depth", value: self.depth.to_string(), advice });
        }
        Ok(())
    }

    fn check_mode(&self) -> Result<(), PlanError> {
        match (self.mode, self.rate) {
            (Mode::Rate, None) => return fail("mode", &"rate", "say how many messages a second with --rate"),
            (Mode::Idle, Some(rate)) if self.active_count() == 0 => {
                return fail("rate", &rate, "somebody has to send; use --active 1 or more");
            }
            (Mode::Rate | Mode::Broadcast | Mode::Idle | Mode::StompTopic | Mode::StompQueue, _) | (_, None) => {}
            (_, Some(rate)) => return fail("rate", &rate, "it needs --mode rate, broadcast or idle, or --stomp"),
        }
        match (self.mode, self.active) {
            (Mode::Idle, Some(active)) => within("active", active, 0, self.connections)?,
            (_, Some(active)) => return fail("active", &active, "it needs --mode idle"),
            (_, None) => {}
        }
        if self.mode == Mode::PingPong && self.depth != 1 {
            return fail("depth", &self.depth, "more than one message under way needs --mode pipeline");
        }
        if self.mode.publishes() {
            within("publishers", self.publishers, 1, PUBLISHERS_MAX)?;
            if self.sizes.min() < MARK_LEN {
                return fail("size", &self.sizes, "a broadcast message carries a mark of 34 bytes; use at least 34");
            }
        }
        match self.mode {
            Mode::StompTopic | Mode::StompQueue => self.check_stomp()?,
            _ if self.url.transport() == Transport::Tcp => {
                return fail("mode", &name_on_command_line(&self.mode), "without WebSocket there is only --stomp");
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

    fn check_stomp(&self) -> Result<(), PlanError> {
        let Some(stomp) = &self.stomp else { return fail("stomp", &"", "its options are missing") };
        if let Some(threads) = self.threads.filter(|&threads| threads > 1) {
            return fail("threads", &threads, "what is sent with STOMP waits for what is received, on one thread");
        }
        if let Some(offer) = self.deflate {
            return fail(
                "deflate",
                &name_on_command_line(&offer),
                "STOMP is measured without compression; leave it out",
            );
        }
        if self.url.transport() == Transport::Tcp && self.fragments > 1 {
            return fail("fragments", &self.fragments, "only WebSocket has frames of a message");
        }
        within("quorum", stomp.quorum, 1, 100)?;
        within("prefetch", stomp.prefetch, 1, PREFETCH_MAX)?;
        // Nobody would consume from one queue, or produce for it.
        within("queues", stomp.queues, 1, self.connections.min(self.publishers))
    }
}

fn fail(option: &'static str, value: &dyn ToString, advice: &str) -> Result<(), PlanError> {
    Err(PlanError { option, value: value.to_string(), advice: advice.into() })
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
        let modes = [Mode::PingPong, Mode::Pipeline, Mode::Broadcast, Mode::Connect, Mode::Idle, Mode::Slow];
        for mode in modes.into_iter().chain([Mode::StompTopic, Mode::StompQueue]) {
            assert_eq!(plan(mode).check(), Ok(()), "{mode:?}");
        }
        assert_eq!(Plan { rate: Some(1), ..plan(Mode::Rate) }.check(), Ok(()));
    }

    #[test]
    fn numbers_that_can_not_be_are_named() {
        check(&Plan { connections: 0, ..plan(Mode::PingPong) }, "connections");
        check(&Plan { threads: Some(0), ..plan(Mode::PingPong) }, "threads");
        check(&Plan { depth: 2, ..plan(Mode::PingPong) }, "depth");
        check(&Plan { duration: Duration::ZERO, ..plan(Mode::PingPong) }, "duration");
        check(&plan(Mode::Rate), "mode");
        check(&Plan { rate: Some(5), ..plan(Mode::PingPong) }, "rate");
        check(&Plan { rate: Some(5), active: Some(0), ..plan(Mode::Idle) }, "rate");
        check(&Plan { active: Some(65), ..plan(Mode::Idle) }, "active");
        check(&Plan { active: Some(1), ..plan(Mode::Rate) }, "mode");
        check(&Plan { active: Some(1), ..plan(Mode::Slow) }, "active");
        check(&Plan { slow_readers: 64, ..plan(Mode::Slow) }, "slow-readers");
        check(&Plan { connections: 1, ..plan(Mode::Slow) }, "connections");
        check(&Plan { publishers: 0, ..plan(Mode::Broadcast) }, "publishers");
        check(&Plan { sizes: "33".parse().unwrap(), ..plan(Mode::Broadcast) }, "size");
        check(&Plan { sizes: "67108864".parse().unwrap(), ..plan(Mode::Pipeline) }, "depth");
    }

    #[test]
    fn numbers_of_stomp_that_can_not_be_are_named() {
        let with = |stomp| Plan { stomp: Some(stomp), ..plan(Mode::StompQueue) };
        check(&with(StompOptions { queues: 2, ..StompOptions::default() }), "queues");
        check(&with(StompOptions { prefetch: 0, ..StompOptions::default() }), "prefetch");
        check(&with(StompOptions { quorum: 101, ..StompOptions::default() }), "quorum");
        check(&Plan { threads: Some(2), ..plan(Mode::StompTopic) }, "threads");
        check(&Plan { deflate: Some(Deflate::Takeover), ..plan(Mode::StompTopic) }, "deflate");
        check(&Plan { sizes: "33".parse().unwrap(), ..plan(Mode::StompTopic) }, "size");
        let tcp = |mode| Plan { fragments: 2, ..Plan::new("tcp://localhost".parse().unwrap(), mode) };
        check(&tcp(Mode::StompTopic), "fragments");
        check(&tcp(Mode::PingPong), "mode");
    }

    #[test]
    fn some_idle_connections_are_active_at_ten_messages_a_second_each() {
        let idle = |connections, active, rate| {
            let plan = Plan { connections, active, rate, ..plan(Mode::Idle) };
            assert_eq!(plan.check(), Ok(()));
            (plan.active_count(), plan.sender_count(), plan.fixed_rate())
        };
        assert_eq!(idle(1_000_000, None, None), (100, 100, Some(1_000)));
        assert_eq!(idle(30, None, None), (30, 30, Some(300)));
        assert_eq!(idle(30, Some(5), Some(7)), (5, 5, Some(7)));
        assert_eq!(idle(30, Some(0), None), (0, 0, None));
        assert_eq!((plan(Mode::Rate).active_count(), plan(Mode::Rate).sender_count()), (0, 64));
        assert_eq!(Plan { rate: Some(9), ..plan(Mode::Broadcast) }.fixed_rate(), Some(9));
    }
}
