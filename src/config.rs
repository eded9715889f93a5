//! What a server is told before it starts.

use std::net::{Ipv4Addr, SocketAddr};

use crate::control::Signals;
use crate::worker;
use crate::worker::Beat;

/// The address of the development profile.
pub const DEVELOPMENT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9001);

/// The address for STOMP over TCP in the development profile.
pub const DEVELOPMENT_STOMP_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 61613);

/// The options of a server.
///
/// The defaults suit a server in production; [`Options::development`] is what `ringsock serve`
/// starts without being told anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Where to listen. Port 0 has the kernel choose one.
    pub listen: SocketAddr,
    /// Where to listen for STOMP over plain TCP, or whatever else the handler speaks over a
    /// [`Transport::Stream`](crate::Transport::Stream); `None` for nowhere. Port 0 has the kernel choose one.
    pub stomp: Option<SocketAddr>,
    /// How many workers; `None` for one on each processor that the process may use.
    pub workers: Option<u16>,
    /// How many connections each worker holds; `None` for as many as the system lets it.
    pub connections_max: Option<u32>,
    /// How long a worker with nothing to do looks for work before it sleeps, in microseconds. That
    /// spares few connections the time to wake up, and costs the processor as much time.
    pub spin_us: u32,
    /// When the kernel asks a peer of which nothing came for a sign of life, and when it gives it up; `None` for
    /// never. It finds peers that are gone for about a quarter of what pings cost, but keeps no proxy on the way open,
    /// and says nothing of whether the peer's program still runs: see `worker.ping` for that. The kernel's timers
    /// are coarse: all that come due within 2 s ask at once, and what exceeds `net.core.netdev_max_backlog` (1,000
    /// by default) is dropped on its way. With a million connections and that default nearly all were given up.
    pub keepalive: Option<Beat>,
    /// How many bytes the server may take, its connections' share of the kernel's memory included; `None` for
    /// what there is when it starts. From 90 % of it on nobody is accepted, from 95 % on the slowest and newest
    /// connections are closed with 1013.
    pub memory_max: Option<u64>,
    /// Who handles SIGINT and SIGTERM.
    pub signals: Signals,
    /// Limits and deadlines of connections.
    pub worker: worker::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: DEVELOPMENT_ADDRESS,
            stomp: None,
            workers: None,
            connections_max: None,
            spin_us: 0,
            keepalive: None,
            memory_max: None,
            signals: Signals::default(),
            worker: worker::Options::default(),
        }
    }
}

impl Options {
    /// The development profile: loopback only, limits wide enough for every test suite.
    #[must_use]
    pub fn development() -> Self {
        let mut options = Self::default();
        options.worker.messages.message_bytes_max = 64 << 20;
        options.worker.messages.fragments_max = 1 << 20;
        options.worker.compression.memory_max = 1 << 30;
        options.worker.compression.inflate_work_max = u64::MAX;
        options.worker.compression.deflate_work_max = u64::MAX;
        options.worker.assembly_timeout_ms = 120_000;
        options.worker.handshake_timeout_ms = 30_000;
        options
    }
}
