//! A report as a table for people.

use std::fmt;

use crate::load::payload::name_of;
use crate::load::report::name_on_command_line;
use crate::load::{Consumption, Mode, Report, Totals};
use crate::sys::capacity::grouped;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        writeln!(
            f,
            "{} to {} ({}), {}",
            name_on_command_line(&plan.mode),
            plan.url,
            self.target,
            self.describe_load()
        )?;
        match plan.mode {
            Mode::Idle => self.write_life(f)?,
            _ => self.write_throughput(f)?,
        }
        self.write_deflate(f)?;
        self.write_latency(f)?;
        self.write_connections(f)?;
        self.write_mode(f)?;
        if let Some(server) = &self.server {
            self.write_consumption(f, "server CPU", server)?;
        }
        self.write_consumption(f, "client CPU", &self.client)?;
        if self.is_client_busy() {
            // STOMP has but one thread.
            let advice = if plan.mode.is_stomp() { "compare the server's CPU" } else { "use more --threads" };
            writeln!(f, "note          the load itself was at its limit: a server may do more -> {advice}")?;
        }
        self.write_faults(f)
    }
}

impl Report {
    fn write_throughput(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.window.as_secs_f64();
        writeln!(f, "{:<13} {} in {seconds} s", self.operation(), grouped(self.operations))?;
        write!(f, "throughput    {}/s", count(self.operations_per_s()))?;
        if self.bytes > 0 {
            let way = if self.plan.mode.is_stomp() { "received" } else { "each way" };
            write!(f, ", {:.2} MB/s {way}", self.bytes_per_s() / 1e6)?;
        }
        writeln!(f)
    }

    /// The life of idle connections from beginning to end, and what the active ones of them did.
    fn write_life(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        let [opened, held, pings] = [totals.opened, totals.held, totals.pings].map(grouped);
        let opens_per_s = self.opens_per_s().map_or_else(String::new, |per_s| format!(", {}/s", count(per_s)));
        let seconds = self.window.as_secs_f64();
        writeln!(f, "opened        {opened} in {:.2} s{opens_per_s}", self.opening.as_secs_f64())?;
        writeln!(f, "held          {held} to the end of {seconds} s, {pings} pings answered")?;
        writeln!(f, "closed        in {:.2} s", self.closing.as_secs_f64())?;
        let active = u64::from(self.plan.active_count());
        if active > 0 {
            let [active, echoes] = [active, self.operations].map(grouped);
            writeln!(f, "active        {active} of them, {echoes} echoes in {seconds} s")?;
        }
        Ok(())
    }

    fn write_deflate(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { compressed_bytes, inflated_bytes, received_bytes, .. } = self.totals;
        if self.plan.deflate.is_some() && received_bytes > 0 {
            let share = |part: u64, whole: u64| part as f64 / whole as f64 * 100.0;
            let all = share(inflated_bytes, received_bytes);
            if inflated_bytes > 0 {
                let rest = share(compressed_bytes, inflated_bytes);
                writeln!(f, "deflate       {all:.1} % of what came was compressed, to {rest:.1} % of its length")?;
            } else {
                writeln!(
                    f,
                    "deflate       nothing that came was compressed -> many servers leave short messages: --size 1024"
                )?;
            }
        }
        Ok(())
    }

    fn write_latency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = &self.latency;
        if latency.count > 0 {
            writeln!(f, "latency       {:>9} {:>9} {:>9} {:>9} {:>9}", "p50", "p90", "p99", "p99.9", "max")?;
            let [p50, p90, p99] = [latency.p50, latency.p90, latency.p99].map(time);
            let [p99_9, max] = [latency.p99_9, latency.max].map(time);
            writeln!(f, "              {p50:>9} {p90:>9} {p99:>9} {p99_9:>9} {max:>9}")?;
        }
        Ok(())
    }

    fn describe_load(&self) -> String {
        let plan = &self.plan;
        let threads = if self.threads == 1 { String::new() } else { format!(" on {} threads", self.threads) };
        let connections = format!("{} connections{threads}", grouped(u64::from(plan.connections)));
        let depth = if plan.depth > 1 { format!(", depth {}", plan.depth) } else { String::new() };
        let rate = plan.fixed_rate().map_or_else(String::new, |rate| format!(", {}/s", grouped(rate)));
        let fragments = if plan.fragments > 1 { format!(" in {} frames", plan.fragments) } else { String::new() };
        let deflate =
            plan.deflate.map_or_else(String::new, |offer| format!(", deflate {}", name_on_command_line(&offer)));
        let content = format!("{} B {}{fragments}{deflate}{rate}", plan.sizes, name_of(plan.kind));
        let messages = format!("{content}{depth}");
        match plan.mode {
            Mode::Connect => connections,
            // The depth only matters when the server is behind.
            Mode::Idle => {
                format!("{connections}, {} active, {content}", grouped(plan.active_count().into()))
            }
            Mode::Broadcast => {
                format!("{connections}, {} publishing, {messages}", grouped(plan.publishers.into()))
            }
            Mode::StompTopic | Mode::StompQueue => self.describe_stomp(&messages),
            _ => format!("{connections}, {messages}"),
        }
    }

    fn describe_stomp(&self, messages: &str) -> String {
        let (plan, stomp) = (&self.plan, self.plan.stomp.clone().unwrap_or_default());
        let [publishers, receivers] = [plan.publishers, plan.connections].map(|count| grouped(count.into()));
        if plan.mode == Mode::StompTopic {
            let quorum =
                if stomp.quorum < 100 { format!(", of which {} % count", stomp.quorum) } else { String::new() };
            return format!("{publishers} to {receivers} subscribers{quorum}, {messages}");
        }
        let queues = if stomp.queues > 1 { format!(" of {} queues", stomp.queues) } else { String::new() };
        format!("{publishers} to {receivers} consumers{queues} with prefetch {}, {messages}", stomp.prefetch)
    }

    /// Says that fewer connections were opened than asked for, where that is so.
    fn write_connections(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wanted, opened) = (u64::from(self.plan.connection_count()), self.totals.opened);
        // A storm opens each many times.
        if self.plan.mode == Mode::Connect || opened >= wanted {
            return Ok(());
        }
        let untried = wanted.saturating_sub(opened + self.totals.failed);
        let rest = if untried > 0 { format!(", {} not tried after that", grouped(untried)) } else { String::new() };
        let [wanted, opened, failed] = [wanted, opened, self.totals.failed].map(grouped);
        writeln!(f, "connections   {opened} of {wanted} opened, {failed} failed{rest}")
    }

    /// What matters in one mode only.
    fn write_mode(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        if let Some(rate) = self.plan.fixed_rate() {
            let behind = if totals.unsent > 0 {
                let unsent = grouped(totals.unsent);
                format!("; {unsent} messages were due and not sent: the server, or the load, is too slow")
            } else {
                String::new()
            };
            let lateness = time(totals.lateness_ns_max);
            writeln!(f, "rate          {}/s asked for, sent at most {lateness} late{behind}", grouped(rate))?;
        }
        match self.plan.mode {
            Mode::Idle if self.verified.count > 0 => {
                let [p50, p99] = [self.verified.p50, self.verified.p99].map(time);
                let count = grouped(self.verified.count);
                writeln!(f, "sample        {count} others answered at the end: p50 {p50}, p99 {p99}")
            }
            Mode::Slow => writeln!(
                f,
                "slow readers  {}: sent {}, read {} messages; the server has cut {}",
                self.plan.slow_readers,
                grouped(totals.flood_sent),
                grouped(totals.flood_received),
                totals.slow_readers_cut
            ),
            _ => Ok(()),
        }
    }

    fn write_consumption(&self, f: &mut fmt::Formatter<'_>, name: &str, used: &Consumption) -> fmt::Result {
        let share = self.processors_used(used) * 100.0;
        let decimals = usize::from(share < 10.0) * 2;
        // The echoes of a few are not what idle connections cost.
        let each = self.cpu_us_per_operation(used).filter(|_| self.plan.mode != Mode::Idle);
        let each = each.map_or_else(String::new, |each| format!("{each:.3} µs each, "));
        let memory = used.resident_bytes as f64 / f64::from(1 << 20);
        writeln!(f, "{name:<13} {each}{share:.decimals$} % of a processor, {memory:.1} MiB resident")
    }

    fn write_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.faults.by_kind();
        if kinds.is_empty() {
            return writeln!(f, "errors        none");
        }
        for (fault, count) in kinds {
            writeln!(f, "error         {} x {}: {fault} -> {}", grouped(count), fault.name(), fault.fix())?;
        }
        Ok(())
    }
}

/// A count in three or four digits.
pub(super) fn count(value: f64) -> String {
    match value {
        ..1e3 => format!("{value:.1}"),
        ..1e6 => format!("{:.1} k", value / 1e3),
        ..1e9 => format!("{:.3} M", value / 1e6),
        _ => format!("{:.3} G", value / 1e9),
    }
}

/// A time in three digits or so.
pub(super) fn time(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..10_000 => format!("{:.2} µs", value / 1e3),
        10_000..1_000_000 => format!("{:.0} µs", value / 1e3),
        1_000_000..10_000_000 => format!("{:.2} ms", value / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::tests::report;
    use crate::load::{Faults, Plan, StompOptions, Totals};
    use crate::proto::ws::MessageKind;
    use std::time::Duration;

    #[test]
    fn the_table_says_what_was_measured_and_what_went_wrong() {
        let text = report(Mode::PingPong).to_string();
        let expect = "\
ping-pong to ws://localhost:9001/ (127.0.0.1:9001), 64 connections, 125 B binary
messages      200,000 in 2 s
throughput    100.0 k/s, 12.50 MB/s each way
latency             p50       p90       p99     p99.9       max
                  60 µs     80 µs   1.20 ms   2.00 ms    3.50 s
server CPU    5.000 µs each, 50 % of a processor, 6.0 MiB resident
client CPU    2.500 µs each, 25 % of a processor, 5.0 MiB resident
error         3 x refused: the connection was refused -> start the server, or correct host and port in the URL \
('ss -ltn' lists who listens)
";
        assert_eq!(text, expect);
    }

    #[test]
    fn a_load_at_its_limit_says_so() {
        let mut report = report(Mode::PingPong);
        report.client.cpu = Duration::from_millis(1_950);
        assert!(report.to_string().contains("\nnote          the load itself was at its limit"));
        report.threads = 2;
        assert!(!report.to_string().contains("limit"), "one thread would have been enough");
    }

    #[test]
    fn the_load_is_described() {
        let plan = Plan { kind: MessageKind::Text, fragments: 3, rate: Some(5_000), ..report(Mode::Broadcast).plan };
        let text = Report { plan, ..report(Mode::Broadcast) }.to_string();
        let (line, _) = text.split_once('\n').expect("a line");
        assert!(line.ends_with(", 64 connections, 1 publishing, 125 B text in 3 frames, 5,000/s"), "{line}");
    }

    #[track_caller]
    fn check_stomp(plan: Plan, expect: &str) {
        let text = Report { plan, ..report(Mode::StompTopic) }.to_string();
        assert!(text.contains(expect) && text.contains("deliveries    200,000 in 2 s\n"), "{text}");
        assert!(text.contains(", 12.50 MB/s received\n"), "{text}");
    }

    #[test]
    fn loads_of_stomp_are_described() {
        let topic = report(Mode::StompTopic).plan;
        check_stomp(topic.clone(), "), 1 to 1,000 subscribers, 256 B text, depth 4\n");
        let stomp = Some(StompOptions { quorum: 90, ..StompOptions::default() });
        check_stomp(Plan { stomp, ..topic }, " subscribers, of which 90 % count, ");
        let stomp = Some(StompOptions { queues: 3, ..StompOptions::default() });
        let queue = Plan { stomp, publishers: 4, ..report(Mode::StompQueue).plan };
        check_stomp(queue, "), 4 to 10 consumers of 3 queues with prefetch 100, 256 B text, depth 64\n");
    }

    #[test]
    fn idle_connections_have_their_life_told() {
        let mut report = Report { faults: Faults::default(), server: None, threads: 6, ..report(Mode::Idle) };
        report.plan.connections = 100;
        report.plan.active = Some(64);
        report.totals.opened = 100;
        let expect = "\
idle to ws://localhost:9001/ (127.0.0.1:9001), 100 connections on 6 threads, 64 active, 125 B binary, 640/s
opened        100 in 0.01 s, 20.0 k/s
held          64 to the end of 2 s, 128 pings answered
closed        in 0.04 s
active        64 of them, 200,000 echoes in 2 s
latency             p50       p90       p99     p99.9       max
                  60 µs     80 µs   1.20 ms   2.00 ms    3.50 s
rate          640/s asked for, sent at most 0.00 µs late
sample        36 others answered at the end: p50 70 µs, p99 90 µs
client CPU    25 % of a processor, 5.0 MiB resident
errors        none
";
        assert_eq!(report.to_string(), expect);
        report.plan.active = Some(0);
        report.latency.count = 0;
        let text = report.to_string();
        assert!(text.contains("connections on 6 threads, 0 active, 125 B binary\n"), "{text}");
        assert!(!text.contains("echoes") && !text.contains("latency") && !text.contains("rate"), "{text}");
    }

    #[test]
    fn connections_that_were_not_opened_are_told() {
        let mut report = report(Mode::Idle);
        report.totals = Totals { opened: 10, failed: 4, ..Totals::default() };
        assert!(report.to_string().contains("\nconnections   10 of 64 opened, 4 failed, 50 not tried after that\n"));
        report.totals.failed = 54;
        assert!(report.to_string().contains("\nconnections   10 of 64 opened, 54 failed\n"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 999.0, 1_000.0, 12_345.0, 1_234_567.0].map(count),
            ["0.0", "999.0", "1.0 k", "12.3 k", "1.235 M"]
        );
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1_500, 25_000, 2_500_000, 1_500_000_000].map(time), ["1.50 µs", "25 µs", "2.50 ms", "1.50 s"]);
    }
}
