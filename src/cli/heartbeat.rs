//! Heartbeats on the command line.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::bench::parse_time;
use crate::config::Options;
use crate::server::Error;
use crate::worker::Beat;

/// Who asks a quiet peer for a sign of life.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Heartbeat {
    /// The server, by WebSocket pings
    Ping,
    /// The kernel, by TCP keepalive: about a quarter of the cost, but proxies may close connections that look idle.
    /// It asks in bursts of 2 s: set net.core.netdev_max_backlog to a tenth of the connections or more
    Tcp,
    /// The kernel, and the server less often, so that proxies see something
    Both,
    /// Nobody: connections stay until they end
    Off,
}

#[derive(Debug, Args)]
pub(super) struct HeartbeatArguments {
    /// Who asks quiet peers for a sign of life
    #[arg(long, value_enum, default_value_t = Heartbeat::Ping, env = "RINGSOCK_HEARTBEAT")]
    heartbeat: Heartbeat,
    /// After how long without one
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = a_while, env = "RINGSOCK_HEARTBEAT_INTERVAL")]
    heartbeat_interval: Duration,
    /// How much later a peer that does not answer is given up
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = a_while, env = "RINGSOCK_HEARTBEAT_TIMEOUT")]
    heartbeat_timeout: Duration,
    /// After how long without a message or pong the server pings, with --heartbeat both [default: 50s]
    #[arg(long, value_name = "TIME", value_parser = a_while, env = "RINGSOCK_PING_INTERVAL")]
    ping_interval: Option<Duration>,
}

/// How often pings go out that only keep proxies open.
const PING_INTERVAL: Duration = Duration::from_secs(50);
/// The kernel counts keepalive in seconds, up to so many.
const TIME_MIN: Duration = Duration::from_secs(1);
const TIME_MAX: Duration = Duration::from_secs(32_767);

impl HeartbeatArguments {
    /// Sets who asks, and when.
    ///
    /// # Errors
    ///
    /// An interval for pings beside something else where there is nothing else.
    pub(super) fn apply(&self, options: &mut Options) -> Result<(), Error> {
        if let Some(value) = self.ping_interval.filter(|_| !matches!(self.heartbeat, Heartbeat::Both)) {
            let advice =
                "leave it out, or give --heartbeat both: otherwise --heartbeat-interval says when pings go out";
            return Err(Error::Option { name: "ping-interval", value: format!("{value:?}"), advice });
        }
        let beat = |interval: Duration| Beat {
            interval_ms: milliseconds(interval),
            timeout_ms: milliseconds(self.heartbeat_timeout),
        };
        let usual = beat(self.heartbeat_interval);
        let (ping, keepalive) = match self.heartbeat {
            Heartbeat::Ping => (Some(usual), None),
            Heartbeat::Tcp => (None, Some(usual)),
            Heartbeat::Both => (Some(beat(self.ping_interval.unwrap_or(PING_INTERVAL))), Some(usual)),
            Heartbeat::Off => (None, None),
        };
        options.worker.ping = ping;
        options.keepalive = keepalive;
        Ok(())
    }
}

/// How a server asks quiet peers for a sign of life, in words.
pub(super) fn describe(options: &Options) -> String {
    let times = |beat: Beat| {
        let [interval, timeout] = [beat.interval_ms, beat.timeout_ms].map(|ms| ms as f64 / 1e3);
        format!("after {interval} s, given up {timeout} s later")
    };
    match (options.worker.ping, options.keepalive) {
        (Some(ping), None) => format!("ping {}", times(ping)),
        (None, Some(keepalive)) => format!("TCP keepalive {}", times(keepalive)),
        (Some(ping), Some(keepalive)) => format!("TCP keepalive {}; ping {}", times(keepalive), times(ping)),
        (None, None) => String::from("off"),
    }
}

fn a_while(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if (TIME_MIN..=TIME_MAX).contains(&time) { Ok(time) } else { Err(String::from("give 1s to 32767s")) }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: HeartbeatArguments,
    }

    fn options(words: &str) -> Options {
        let line = Line::try_parse_from(["ringsock"].into_iter().chain(words.split_whitespace())).expect("it can be");
        let mut options = Options::default();
        line.arguments.apply(&mut options).expect("they go together");
        options
    }

    #[test]
    fn each_kind_asks_in_its_own_way() {
        let beat = |interval_ms, timeout_ms| Some(Beat { interval_ms, timeout_ms });
        for (words, ping, keepalive, description) in [
            ("", beat(25_000, 20_000), None, "ping after 25 s, given up 20 s later"),
            (
                "--heartbeat tcp --heartbeat-interval 2m",
                None,
                beat(120_000, 20_000),
                "TCP keepalive after 120 s, given up 20 s later",
            ),
            (
                "--heartbeat both --heartbeat-timeout 7s",
                beat(50_000, 7_000),
                beat(25_000, 7_000),
                "TCP keepalive after 25 s, given up 7 s later; ping after 50 s, given up 7 s later",
            ),
            ("--heartbeat off", None, None, "off"),
        ] {
            let options = options(words);
            assert_eq!((options.worker.ping, options.keepalive), (ping, keepalive), "{words}");
            assert_eq!(describe(&options), description);
        }
    }

    #[test]
    fn times_that_can_not_be_are_refused() {
        for time in ["0s", "999ms", "10h"] {
            assert!(Line::try_parse_from(["ringsock", "--heartbeat-interval", time]).is_err(), "{time}");
        }
    }

    #[test]
    fn an_interval_for_pings_beside_nothing_is_refused() {
        for heartbeat in ["ping", "tcp", "off"] {
            let words = ["ringsock", "--heartbeat", heartbeat, "--ping-interval", "4s"];
            let line = Line::try_parse_from(words).expect("each is right by itself");
            let error = line.arguments.apply(&mut Options::default()).expect_err("they don't go together");
            assert!(error.to_string().contains("give --heartbeat both"), "{error}");
        }
    }
}
