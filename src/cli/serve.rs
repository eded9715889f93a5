//! `ringsock serve`: the server itself.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;

use clap::Args;

use crate::cli::bench::parse_time;
use crate::cli::{heartbeat, print, print_error};
use crate::config::{DEVELOPMENT_ADDRESS, DEVELOPMENT_STOMP_ADDRESS, Options};
use crate::control::Signals;
use crate::handler::stomp::{self, Stomp};
use crate::handler::{Echo, Site};
use crate::proto::ws::deflate::{Policy, WindowBits};
use crate::ring::BufferMode;
use crate::server::{Error, Server};
use crate::sys::capacity::{Limit, grouped};
use crate::worker::Counters;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address and port to listen on [default: 127.0.0.1:9001]
    #[arg(long, value_name = "ADDRESS", env = "RINGSOCK_LISTEN", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Address and port for STOMP over TCP, or off; over WebSocket it is at /stomp
    /// [default: 127.0.0.1:61613, or off if --listen is given]
    #[arg(long, value_name = "ADDRESS", env = "RINGSOCK_STOMP", value_parser = stomp_address)]
    stomp: Option<StompAddress>,
    /// Number of workers [default: one on each processor]
    #[arg(long, value_name = "COUNT", env = "RINGSOCK_WORKERS")]
    workers: Option<u16>,
    /// Most connections of each worker [default: what the limit on open files allows]
    #[arg(long, value_name = "COUNT", env = "RINGSOCK_CONNECTIONS")]
    connections: Option<u32>,
    /// How long an idle worker looks for work before it sleeps: quicker answers for processor time
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0, env = "RINGSOCK_SPIN_US",
        value_parser = clap::value_parser!(u32).range(..=SPIN_US_MAX))]
    spin_us: u32,
    /// Compression of messages, with clients that offer it: off, shared (no memory for a connection),
    /// dedicated (windows of 32 KiB), or dedicated:BITS (windows of 2^BITS bytes, 9 to 15)
    #[arg(long, value_name = "POLICY", default_value = "off", env = "RINGSOCK_DEFLATE", value_parser = policy)]
    deflate: Policy,
    /// Memory that the server may take, its connections' share of the kernel's included, such as 512M or 8G.
    /// From 90 % on nobody is accepted, from 95 % on the slowest and newest are closed
    /// [default: what there is when it starts]
    #[arg(long, value_name = "BYTES", env = "RINGSOCK_MEMORY", value_parser = bytes)]
    memory: Option<u64>,
    /// After how long without messages a connection is polled instead of received from, which spares the
    /// kernel 600 bytes, or off
    #[arg(long, value_name = "TIME", default_value = "10s", env = "RINGSOCK_HIBERNATE_AFTER", value_parser = hibernation)]
    hibernate_after: Hibernation,
    #[command(flatten)]
    heartbeat: heartbeat::HeartbeatArguments,
}

/// Where STOMP over TCP is listened for, if anywhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct StompAddress(Option<SocketAddr>);

/// After how many milliseconds connections hibernate, if ever.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Hibernation(Option<u64>);

/// More than this is more than any wake-up takes.
const SPIN_US_MAX: i64 = 10_000;
/// With a smaller window nearly nothing is compressed.
const WINDOW_BITS_MIN: u8 = 9;

pub(super) fn run(arguments: Arguments) -> ExitCode {
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("ringsock: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// An address and port; a name stands for the first address that it has.
fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| format!("give an address and a port, such as {DEVELOPMENT_ADDRESS} or [::]:9001"))
}

fn stomp_address(text: &str) -> Result<StompAddress, String> {
    if text == "off" { Ok(StompAddress(None)) } else { address(text).map(|address| StompAddress(Some(address))) }
}

fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    let bytes = digits.parse().ok().and_then(|count: u64| count.checked_mul(1 << shift));
    bytes.ok_or_else(|| String::from("give a number of bytes, or one with K, M or G, such as 512M"))
}

fn hibernation(text: &str) -> Result<Hibernation, String> {
    if text == "off" {
        return Ok(Hibernation(None));
    }
    let time = parse_time(text)?;
    let ms = u64::try_from(time.as_millis()).ok().filter(|&ms| ms > 0);
    ms.map(|ms| Hibernation(Some(ms))).ok_or_else(|| String::from("give at least 1ms, or off"))
}

fn policy(text: &str) -> Result<Policy, String> {
    let bits = |bits: &str| bits.parse().ok().filter(|bits| *bits >= WINDOW_BITS_MIN).and_then(WindowBits::new);
    let policy = match text.split_once(':') {
        None if text == "off" => Some(Policy::Off),
        None if text == "shared" => Some(Policy::Shared),
        None if text == "dedicated" => Some(Policy::Dedicated { window_bits: WindowBits::MAX }),
        Some(("dedicated", text)) => bits(text).map(|window_bits| Policy::Dedicated { window_bits }),
        _ => None,
    };
    policy.ok_or_else(|| String::from("give off, shared, dedicated, or dedicated:BITS with 9 to 15 bits"))
}

fn serve(arguments: &Arguments) -> Result<(), Error> {
    let mut options = Options::development();
    // Who says where to listen is not surprised by one more open port.
    let stomp_default = arguments.listen.is_none().then_some(DEVELOPMENT_STOMP_ADDRESS);
    options.listen = arguments.listen.unwrap_or(DEVELOPMENT_ADDRESS);
    options.stomp = arguments.stomp.map_or(stomp_default, |StompAddress(address)| address);
    options.workers = arguments.workers;
    options.connections_max = arguments.connections;
    options.spin_us = arguments.spin_us;
    options.signals = Signals::Handled;
    options.memory_max = arguments.memory;
    options.worker.hibernate_after_ms = arguments.hibernate_after.0;
    arguments.heartbeat.apply(&mut options)?;
    let compression = arguments.deflate;
    let heartbeat = heartbeat::describe(&options);
    let shared = stomp::Shared::default();
    let of_workers = shared.clone();
    let make_handler = move |_| Site::new(Echo { compression }, Stomp::new(stomp_options(compression), &of_workers));
    let server = Server::start(options, make_handler)?;
    print_banner(&server, compression, &heartbeat);
    let addresses = [Some(server.address()), server.stomp_address()];
    for address in addresses.into_iter().flatten().filter(|address| !address.ip().is_loopback()) {
        tracing::warn!("{address} can be reached from other machines, by anybody: there is no TLS and no login yet");
    }
    let counters = server.join()?;
    print_farewell(&counters);
    print_broker_farewell(&shared.counters());
    Ok(())
}

/// The broker of the development profile: messages may be as long as over a plain WebSocket.
fn stomp_options(compression: Policy) -> stomp::Options {
    let mut options = stomp::Options { compression, ..stomp::Options::default() };
    options.session.frames.body_bytes_max = 64 << 20;
    options.queues.bytes_max = 256 << 20;
    options.backlog_max.1 = 128 << 20;
    options.topic_queues.bytes_max = 128 << 20;
    options
}

fn print_banner(server: &Server, compression: Policy, heartbeat: &str) {
    let address = server.address();
    let stomp = server.stomp_address().map(|address| format!(" and tcp://{address}")).unwrap_or_default();
    let capacity = server.capacity();
    let features = server.features();
    let buffers = match features.buffer_mode {
        BufferMode::Incremental => "incremental receive buffers",
        BufferMode::Once => "receive buffers used once (incremental ones need Linux 6.12)",
    };
    let count = server.cpus().len();
    // With more workers than processors they come again.
    let cpus: BTreeSet<usize> = server.cpus().iter().copied().collect();
    let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    let deflate = match compression {
        Policy::Off => "off".to_owned(),
        Policy::Shared => "shared: each message stands alone".to_owned(),
        Policy::Dedicated { window_bits } => format!("dedicated: windows of {} bytes", window_bits.window_len()),
    };
    print(&format!(
        "ringsock {version} (development profile)
  echo      ws://{address}/  also on /ws and /echo
  stomp     ws://{address}/stomp{stomp}
  page      http://{address}/
  kernel    {kernel}: multishot receive, direct descriptors, {buffers}
  deflate   {deflate}
  heartbeat {heartbeat}
  workers   {count}, on processor {cpus}; up to {connections_max} connections each
  capacity  {capacity}{busy}
Ctrl-C closes all connections and stops.",
        version = env!("CARGO_PKG_VERSION"),
        kernel = features.machine.kernel,
        cpus = cpus.join(", "),
        connections_max = server.connections_max(),
        busy = capacity.binding_when_busy().map(busy).unwrap_or_default(),
    ));
}

/// A line on connections that are not idle.
fn busy(Limit { name, found, connections, remedy, .. }: &Limit) -> String {
    let raise = remedy.as_ref().map(|remedy| format!(" -> {remedy}")).unwrap_or_default();
    format!("\n            of these {} may have data queued at one time: {name}={found}{raise}", grouped(*connections))
}

fn print_farewell(counters: &[Counters]) {
    let sum = |count: fn(&Counters) -> u64| counters.iter().map(count).sum::<u64>();
    print(&format!(
        "stopped: {} connections, {} messages, {} refused requests, {} protocol errors, {} pings, {} connections silent",
        sum(|worker| worker.accepted),
        sum(|worker| worker.messages),
        sum(|worker| worker.refused),
        sum(|worker| worker.protocol_errors),
        sum(|worker| worker.pings),
        sum(|worker| worker.silent),
    ));
}

fn print_broker_farewell(counters: &stomp::Counters) {
    if counters.sessions > 0 {
        print(&format!(
            "stomp: {} sessions, {} messages in, {} out, {} dropped for slow clients, {} dead, {} errors",
            counters.sessions, counters.published, counters.delivered, counters.dropped, counters.dead, counters.errors
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read() {
        for (text, expect) in [("4096", 4096), ("1K", 1 << 10), ("512M", 512 << 20), ("8G", 8 << 30)] {
            assert_eq!(bytes(text), Ok(expect));
        }
        for text in ["", "G", "-1M", "1T", "99999999999G"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(hibernation("off"), Ok(Hibernation(None)));
        assert_eq!(hibernation("2s"), Ok(Hibernation(Some(2_000))));
        assert!(hibernation("0s").is_err());
    }
}
