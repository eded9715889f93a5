//! `ringsock bench`: the load generator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::{print, print_error, stomp};
use crate::load::{self, Deflate, Mode, Plan, Progress, Report, Sizes, Url, Validation};
use crate::proto::ws::MessageKind;

/// The exit code when the server, or the way there, showed errors.
const EXIT_CODE_FAULTS: u8 = 1;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The server: ws://host:port/path, or with --stomp also tcp://host:port
    url: Url,
    /// What connections do [default: rate with --rate, pipeline with --depth, else ping-pong]
    #[arg(long, short, value_enum)]
    mode: Option<Mode>,
    /// Connections over all threads; subscribers in broadcast mode [default: 64]
    #[arg(long, short, value_name = "COUNT")]
    connections: Option<u32>,
    /// Threads, each with a ring of its own [default: 1, or as many as the limit on open files calls for]
    #[arg(long, short, value_name = "COUNT")]
    threads: Option<u16>,
    /// Processors to pin the threads to, in turn, such as 1,3 or 4-7
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus)]
    pin: Option<Cpus>,
    /// Bytes of a message, or a mix with weights such as 16:70,1024:25,65536:5 [default: 125]
    #[arg(long, short, value_name = "BYTES")]
    size: Option<Sizes>,
    /// Send text, in ASCII [default: binary; text with --stomp]
    #[arg(long, conflicts_with = "binary")]
    text: bool,
    /// Send binary messages
    #[arg(long)]
    binary: bool,
    /// Offer permessage-deflate, and send messages that can be compressed: records in JSON. Without a value,
    /// messages may refer to those before them (takeover)
    #[arg(long, value_name = "OFFER", num_args = 0..=1, require_equals = true, default_missing_value = "takeover")]
    deflate: Option<Deflate>,
    /// Frames of a message
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    fragments: u32,
    /// Messages under way on each connection at most [default: 16 in pipeline mode, 64 in rate and idle mode, else 1]
    #[arg(long, short = 'n', value_name = "COUNT")]
    depth: Option<u32>,
    /// Messages a second over all connections, publishers or active ones [default in idle mode: 10 for each]
    #[arg(long, short, value_name = "COUNT")]
    rate: Option<u64>,
    /// How many of the connections carry echoes in idle mode [default: 100, or all if there are fewer]
    #[arg(long, value_name = "COUNT")]
    active: Option<u32>,
    /// Publishers in broadcast mode and with --stomp, beside those who receive
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    publishers: u32,
    /// How many of the connections read slowly in slow mode [default: one in eight]
    #[arg(long, value_name = "COUNT")]
    slow_readers: Option<u32>,
    /// How long a slow reader waits between two reads
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_time)]
    read_delay: Duration,
    /// How long a thread looks for replies before it sleeps, in microseconds
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    spin_us: u32,
    /// How long to measure
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    duration: Duration,
    /// How long to run the load before
    #[arg(long, short, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    warmup: Duration,
    /// How long a connection may take to open, a reply to come, and a connection to close
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    timeout: Duration,
    /// Compare what comes back with what was sent, byte for byte and in order (the default)
    #[arg(long, conflicts_with = "no_validate")]
    validate: bool,
    /// Only count what comes back
    #[arg(long)]
    no_validate: bool,
    /// Process of the server, to measure its CPU time and memory
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Write everything that was measured to a file as JSON ('-' for standard output, in place of the table)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw throughput and latency over time
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Where the random numbers begin: sizes, content and masks
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    stomp: stomp::Arguments,
}

/// Processors, by number.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Cpus(Vec<usize>);

pub(super) fn run(arguments: Arguments) -> ExitCode {
    let (json, plot) = (arguments.json.clone(), arguments.plot.clone());
    let report = match load::run(&arguments.into_plan()) {
        Ok(report) => report,
        Err(error) => {
            print_error(&format!("ringsock bench: {error}"));
            return ExitCode::from(error.exit_code());
        }
    };
    match deliver(&report, json.as_deref(), plot.as_deref()) {
        Err(sentence) => {
            print_error(&format!("ringsock bench: {sentence}"));
            ExitCode::from(EXIT_CODE_FAULTS)
        }
        Ok(()) if report.faults.count() > 0 => ExitCode::from(EXIT_CODE_FAULTS),
        Ok(()) => ExitCode::SUCCESS,
    }
}

impl Arguments {
    fn into_plan(self) -> Plan {
        let mode = self.stomp.mode().or(self.mode).unwrap_or(match (self.rate, self.depth) {
            (Some(_), _) => Mode::Rate,
            (None, Some(2..)) => Mode::Pipeline,
            (None, _) => Mode::PingPong,
        });
        let usual = Plan::new(self.url, mode);
        // At a fixed rate the depth only matters when the server is behind.
        let depth = if mode.is_stomp() && self.rate.is_some() { usual.depth.max(64) } else { usual.depth };
        let connections = self.connections.unwrap_or(usual.connections);
        let slow_readers = self.slow_readers.unwrap_or((connections / 8).max(1));
        let kind = match (self.text, self.binary) {
            (true, _) => MessageKind::Text,
            (_, true) => MessageKind::Binary,
            _ => usual.kind,
        };
        Plan {
            connections,
            publishers: if usual.publishers > 0 { self.publishers } else { 0 },
            slow_readers: if mode == Mode::Slow { slow_readers } else { 0 },
            read_delay: self.read_delay,
            active: self.active,
            threads: self.threads,
            cpus: self.pin.map_or_else(Vec::new, |cpus| cpus.0),
            sizes: self.size.unwrap_or_else(|| usual.sizes.clone()),
            kind,
            deflate: self.deflate,
            fragments: self.fragments,
            depth: self.depth.unwrap_or(depth),
            rate: self.rate,
            spin_us: self.spin_us,
            duration: self.duration,
            warmup: self.warmup,
            timeout: self.timeout,
            validation: if self.no_validate { Validation::Off } else { Validation::Full },
            server_pid: self.server_pid,
            stomp: self.stomp.into_options(mode),
            seed: self.seed,
            progress: Progress::Shown,
            ..usual
        }
    }
}

/// Prints and writes what was asked for, or says which of it failed.
fn deliver(report: &Report, json: Option<&Path>, plot: Option<&Path>) -> Result<(), String> {
    match json {
        Some(path) if path == Path::new("-") => print(&format!("{:#}", report.to_json())),
        Some(path) => {
            print(report.to_string().trim_end());
            fs::write(path, format!("{:#}\n", report.to_json())).map_err(|error| {
                format!("{}: {error} -> name a file with --json that can be written", path.display())
            })?;
        }
        None => print(report.to_string().trim_end()),
    }
    plot.map_or(Ok(()), |path| load::draw(report, path).map_err(|error| error.to_string()))
}

/// Reads `500ms`, `10s`, `2m`, `1h` or a plain number of seconds.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let advice = || format!("'{text}' is not a time: write 500ms, 10s, 2m or 1h");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(advice()),
    };
    let value: f64 = digits.parse().map_err(|_| advice())?;
    Duration::try_from_secs_f64(value * unit).map_err(|_| advice())
}

/// Reads processors such as `1,3` or `4-7`.
fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&cpu| cpu < CPUS_MAX);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
            _ => return Err(format!("'{part}' is no processor: write numbers such as 1,3 or 4-7")),
        }
    }
    Ok(Cpus(cpus))
}

/// What a set of processors of the system holds.
const CPUS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::StompOptions;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[track_caller]
    fn plan(line: &str) -> Plan {
        let words = ["bench", "ws://h:1/"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map_err(|error| error.to_string()).expect("the line is right").arguments.into_plan()
    }

    #[test]
    fn the_mode_follows_from_what_is_asked_for() {
        assert_eq!((plan("").mode, plan("").depth), (Mode::PingPong, 1));
        assert_eq!(plan("--depth 16").mode, Mode::Pipeline);
        assert_eq!((plan("--rate 100").mode, plan("--rate 100").depth), (Mode::Rate, 64));
        assert_eq!(plan("--mode broadcast --rate 5 --publishers 3").publishers, 3);
        assert_eq!((plan("--publishers 3").publishers, plan("--slow-readers 3").slow_readers), (0, 0));
        assert_eq!(plan("--mode slow -c 80").slow_readers, 10);
        assert_eq!((plan("").threads, plan("-m idle").active_count()), (None, 64));
        let idle = plan("-m idle -c 1000 --active 7 --rate 50");
        assert_eq!((idle.active_count(), idle.fixed_rate(), idle.depth), (7, Some(50), 64));
    }

    #[test]
    fn every_option_reaches_the_plan() {
        let plan = plan(
            "-m pipeline -c 7 -t 2 --pin 0,2-3 -s 1:2,3:4 --text --fragments 3 -n 5 -d 1.5s -w 0 --timeout 2m \
             --no-validate --server-pid 9 --seed 8 --spin-us 50",
        );
        let expect = Plan {
            connections: 7,
            threads: Some(2),
            cpus: vec![0, 2, 3],
            sizes: "1:2,3:4".parse().unwrap(),
            kind: MessageKind::Text,
            fragments: 3,
            depth: 5,
            spin_us: 50,
            duration: Duration::from_millis(1500),
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(120),
            validation: Validation::Off,
            server_pid: Some(9),
            seed: 8,
            progress: Progress::Shown,
            ..Plan::new("ws://h:1/".parse().unwrap(), Mode::Pipeline)
        };
        assert_eq!(plan, expect);
    }

    #[test]
    fn stomp_has_usual_numbers_and_options_of_its_own() {
        let topic = plan("--stomp");
        assert_eq!((topic.mode, topic.connections, topic.publishers, topic.depth), (Mode::StompTopic, 1_000, 1, 4));
        assert_eq!((topic.sizes.max(), topic.kind, plan("--stomp --rate 5").depth), (256, MessageKind::Text, 64));
        let queue = plan("--stomp=queue --login a --passcode b --destination /queue/c --queues 3 --prefetch 7");
        let expect = StompOptions {
            login: Some("a".into()),
            passcode: Some("b".into()),
            destination: Some("/queue/c".into()),
            queues: 3,
            prefetch: 7,
            quorum: 100,
        };
        assert_eq!((queue.mode, queue.connections, queue.stomp), (Mode::StompQueue, 10, Some(expect)));
        assert_eq!((plan("").stomp, plan("--stomp --binary").kind), (None, MessageKind::Binary));
    }

    #[test]
    fn times_and_processors_that_are_none_are_named() {
        for text in ["", "x", "1x", "-1s", "ms", "nan", "inf"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        for text in ["", "a", "1-", "3-1", "0-99999999"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }
}
