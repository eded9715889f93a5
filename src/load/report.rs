//! What a run came to, and its form as JSON.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::context::Totals;
use crate::load::fault::Faults;
use crate::load::payload::name_of;
use crate::load::run::Measured;
use crate::load::series::{Latency, Point};
use crate::load::{Mode, Plan, StompOptions, Validation};

/// What a process used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Consumption {
    /// Processor time in user space and in the kernel.
    pub cpu: Duration,
    /// Memory that was resident at the end.
    pub resident_bytes: u64,
}

/// What a run measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What was asked for.
    pub plan: Plan,
    /// Threads, each with a ring of its own.
    pub threads: u16,
    /// The address behind the URL.
    pub target: SocketAddr,
    /// The kernel's release.
    pub kernel: String,
    /// How long was measured.
    pub window: Duration,
    /// How long it took to open the connections.
    pub opening: Duration,
    /// How long it took to close them.
    pub closing: Duration,
    /// Echoes, deliveries or upgrades within the window.
    pub operations: u64,
    /// Bytes of messages received within the window.
    pub bytes: u64,
    /// Latencies of the operations.
    pub latency: Latency,
    /// Latencies of the messages by which idle connections were verified at the end.
    pub verified: Latency,
    /// Counts over the whole run.
    pub totals: Totals,
    /// What went wrong.
    pub faults: Faults,
    /// What this process used within the window.
    pub client: Consumption,
    /// What the server used within the window.
    pub server: Option<Consumption>,
    /// The window by intervals.
    pub series: Vec<Point>,
}

/// What a process had used up to some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) at_ns: u64,
    pub(super) used: Consumption,
}

/// A thread that is used for more than this share of the time is at its limit.
const BUSY_SHARE: f64 = 0.95;

impl Consumption {
    /// The processor time used in a window of `window_ns`, and the memory at its end.
    ///
    /// The readings are taken when their time has come, or later where processors are busy. So the
    /// part of the window is taken of what was used between them.
    pub(super) fn between(before: Option<Reading>, after: Option<Reading>, window_ns: u64) -> Option<Self> {
        let (before, after) = (before?, after?);
        let cpu = after.used.cpu.saturating_sub(before.used.cpu);
        let span_ns = after.at_ns.saturating_sub(before.at_ns);
        let part = if span_ns > window_ns { window_ns as f64 / span_ns as f64 } else { 1.0 };
        Some(Self { cpu: cpu.mul_f64(part), resident_bytes: after.used.resident_bytes })
    }
}

impl Report {
    pub(super) fn new(plan: &Plan, threads: u16, target: SocketAddr, kernel: String, measured: Measured) -> Self {
        let Measured { window, series, totals, faults, client, server, verified, opening_ns, closing_ns } = measured;
        let (operations, bytes, latency) = series.sum();
        Self {
            plan: plan.clone(),
            threads,
            target,
            kernel,
            window: plan.duration,
            opening: Duration::from_nanos(opening_ns),
            closing: Duration::from_nanos(closing_ns),
            operations,
            bytes,
            latency,
            verified,
            totals,
            faults,
            client,
            server,
            series: series.points(window),
        }
    }

    /// The word for what was counted.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        match self.plan.mode {
            Mode::Connect => "upgrades",
            Mode::Broadcast | Mode::StompTopic | Mode::StompQueue => "deliveries",
            Mode::PingPong | Mode::Pipeline | Mode::Rate | Mode::Idle | Mode::Slow => "messages",
        }
    }

    /// Operations a second.
    #[must_use]
    pub fn operations_per_s(&self) -> f64 {
        self.operations as f64 / self.window.as_secs_f64()
    }

    /// Connections opened a second, where they are opened before anything else is done.
    #[must_use]
    pub fn opens_per_s(&self) -> Option<f64> {
        let is_first = self.plan.mode != Mode::Connect && !self.opening.is_zero();
        is_first.then(|| self.totals.opened as f64 / self.opening.as_secs_f64())
    }

    /// Bytes of messages a second, one way.
    #[must_use]
    pub fn bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.window.as_secs_f64()
    }

    /// The processor time of an operation in microseconds.
    #[must_use]
    pub fn cpu_us_per_operation(&self, consumption: &Consumption) -> Option<f64> {
        (self.operations > 0).then(|| consumption.cpu.as_secs_f64() * 1e6 / self.operations as f64)
    }

    /// How many processors it kept busy.
    #[must_use]
    pub fn processors_used(&self, consumption: &Consumption) -> f64 {
        consumption.cpu.as_secs_f64() / self.window.as_secs_f64()
    }

    /// Whether the load had no processor time to spare: then its own speed was measured, or that of
    /// both.
    #[must_use]
    pub fn is_client_busy(&self) -> bool {
        self.processors_used(&self.client) > BUSY_SHARE * f64::from(self.threads)
    }

    /// All of it as JSON. Latencies are in microseconds.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "ringsock": env!("CARGO_PKG_VERSION"),
            "kernel": self.kernel,
            "target": self.target.to_string(),
            "options": self.options(),
            "opening_s": self.opening.as_secs_f64(),
            "opens_per_s": self.opens_per_s(),
            "closing_s": self.closing.as_secs_f64(),
            "window_s": self.window.as_secs_f64(),
            "operation": self.operation(),
            "operations": self.operations,
            "operations_per_s": self.operations_per_s(),
            "bytes": self.bytes,
            "mb_per_s": self.bytes_per_s() / 1e6,
            "latency_us": latency(&self.latency),
            "verified_latency_us": latency(&self.verified),
            "totals": {
                "opened": self.totals.opened,
                "failed": self.totals.failed,
                "held": self.totals.held,
                "pings": self.totals.pings,
                "sent": self.totals.sent,
                "received": self.totals.received,
                "received_bytes": self.totals.received_bytes,
                "compressed_bytes": self.totals.compressed_bytes,
                "inflated_bytes": self.totals.inflated_bytes,
                "flood_sent": self.totals.flood_sent,
                "flood_received": self.totals.flood_received,
                "slow_readers_cut": self.totals.slow_readers_cut,
                "unsent": self.totals.unsent,
                "lateness_max_us": self.totals.lateness_ns_max as f64 / 1e3,
            },
            "client": self.consumption(&self.client),
            "client_is_busy": self.is_client_busy(),
            "server": self.server.as_ref().map(|server| self.consumption(server)),
            "error_count": self.faults.count(),
            "errors": self.faults.by_kind().iter().map(|(fault, count)| json!({
                "name": fault.name(),
                "count": count,
                "example": fault.to_string(),
                "fix": fault.fix(),
            })).collect::<Vec<_>>(),
            "series": self.series.iter().map(|point| json!({
                "at_s": point.at_s,
                "operations_per_s": point.operations_per_s,
                "mb_per_s": point.bytes_per_s / 1e6,
                "latency_us": latency(&point.latency),
            })).collect::<Vec<_>>(),
        })
    }

    fn options(&self) -> Value {
        let plan = &self.plan;
        json!({
            "url": plan.url.to_string(),
            "mode": name_on_command_line(&plan.mode),
            "connections": plan.connections,
            "publishers": plan.publishers,
            "slow_readers": plan.slow_readers,
            "read_delay_s": plan.read_delay.as_secs_f64(),
            "active": plan.active_count(),
            "threads": self.threads,
            "pin": plan.cpus,
            "size": plan.sizes.to_string(),
            "kind": name_of(plan.kind),
            "fragments": plan.fragments,
            "deflate": plan.deflate.as_ref().map(name_on_command_line),
            "depth": plan.depth,
            "rate": plan.fixed_rate(),
            "duration_s": plan.duration.as_secs_f64(),
            "warmup_s": plan.warmup.as_secs_f64(),
            "timeout_s": plan.timeout.as_secs_f64(),
            "validate": plan.validation == Validation::Full,
            "server_pid": plan.server_pid,
            "stomp": plan.stomp.as_ref().map(|stomp| stomp_options(plan, stomp)),
            "seed": plan.seed,
        })
    }

    fn consumption(&self, consumption: &Consumption) -> Value {
        json!({
            "cpu_s": consumption.cpu.as_secs_f64(),
            "cpu_share": self.processors_used(consumption),
            "cpu_us_per_operation": self.cpu_us_per_operation(consumption),
            "resident_bytes": consumption.resident_bytes,
        })
    }
}

/// The login and what goes with it stay out.
fn stomp_options(plan: &Plan, stomp: &StompOptions) -> Value {
    json!({
        "destination": stomp.destination(plan.mode, 0),
        "queues": stomp.queues,
        "prefetch": stomp.prefetch,
        "quorum": stomp.quorum,
    })
}

/// The name of a mode, or of another choice, on the command line.
pub(super) fn name_on_command_line(choice: &impl clap::ValueEnum) -> String {
    let value = choice.to_possible_value().expect("no choice is hidden");
    value.get_name().to_owned()
}

fn latency(latency: &Latency) -> Value {
    json!({
        "count": latency.count,
        "mean": latency.mean / 1e3,
        "p50": microseconds(latency.p50),
        "p90": microseconds(latency.p90),
        "p99": microseconds(latency.p99),
        "p99.9": microseconds(latency.p99_9),
        "max": microseconds(latency.max),
    })
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::load::fault::Fault;

    pub(in crate::load) fn report(mode: Mode) -> Report {
        let mut faults = Faults::default();
        faults.add(Fault::Refused, 3);
        let latency = Latency {
            count: 200_000,
            mean: 61_000.0,
            p50: 60_000,
            p90: 80_000,
            p99: 1_200_000,
            p99_9: 2_000_000,
            max: 3_500_000_000,
        };
        let point = |second: u32| Point {
            at_s: f64::from(second),
            operations_per_s: 100_000.0,
            bytes_per_s: 12_500_000.0,
            latency,
        };
        Report {
            plan: Plan::new("ws://localhost:9001/".parse().unwrap(), mode),
            threads: 1,
            target: "127.0.0.1:9001".parse().unwrap(),
            kernel: "6.12.0".into(),
            window: Duration::from_secs(2),
            opening: Duration::from_millis(5),
            closing: Duration::from_millis(40),
            operations: 200_000,
            bytes: 25_000_000,
            latency,
            verified: Latency { count: 36, p50: 70_000, p99: 90_000, ..Latency::default() },
            totals: Totals { opened: 64, sent: 220_000, received: 220_000, held: 64, pings: 128, ..Totals::default() },
            faults,
            client: Consumption { cpu: Duration::from_millis(500), resident_bytes: 5 << 20 },
            server: Some(Consumption { cpu: Duration::from_secs(1), resident_bytes: 6 << 20 }),
            series: vec![point(1), point(2)],
        }
    }

    #[test]
    fn json_says_everything_in_plain_units() {
        let json = report(Mode::PingPong).to_json();
        assert_eq!(json["operations_per_s"], 100_000.0);
        assert_eq!(json["mb_per_s"], 12.5);
        assert_eq!(json["latency_us"]["p99"], 1_200.0);
        assert_eq!(json["server"]["cpu_us_per_operation"], 5.0);
        assert_eq!(json["client"]["cpu_share"], 0.25);
        assert_eq!((&json["opens_per_s"], &json["closing_s"]), (&json!(12_800.0), &json!(0.04)));
        assert_eq!((&json["totals"]["pings"], &json["verified_latency_us"]["count"]), (&json!(128), &json!(36)));
        assert_eq!(json["options"]["mode"], "ping-pong");
        assert_eq!(json["errors"][0]["name"], "refused");
        assert_eq!((&json["error_count"], &json["totals"]["sent"]), (&json!(3), &json!(220_000)));
        assert_eq!(json["series"].as_array().map(Vec::len), Some(2));
        assert_eq!((&json["options"]["rate"], &json["options"]["active"]), (&Value::Null, &json!(0)));
        let idle = report(Mode::Idle).to_json();
        assert_eq!((&idle["options"]["rate"], &idle["options"]["active"]), (&json!(640), &json!(64)));
        assert_eq!(report(Mode::Connect).to_json()["opens_per_s"], Value::Null);
    }

    #[test]
    fn consumption_is_what_was_used_between_two_readings() {
        let at = |ms, at_ns| {
            Some(Reading { at_ns, used: Consumption { cpu: Duration::from_millis(ms), resident_bytes: ms } })
        };
        let used = |ms| Some(Consumption { cpu: Duration::from_millis(ms), resident_bytes: 30 });
        assert_eq!(Consumption::between(at(10, 100), at(30, 200), 100), used(20));
        assert_eq!(Consumption::between(at(10, 110), at(30, 510), 100), used(5), "read late");
        assert_eq!(Consumption::between(at(10, 100), at(30, 150), 100), used(20), "ended early");
        assert_eq!(Consumption::between(None, at(30, 200), 100), None);
    }
}
