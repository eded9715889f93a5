//! Sockets on their way to the server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use crate::load::{Mode, Plan};
use crate::sys::connector;

/// Connections from one address to one target: fewer than the usual range of ports has, because
/// the kernel searches long for the last of them.
const CONNECTIONS_PER_SOURCE: u32 = 20_000;
/// Up to this many, no source address is chosen.
const CONNECTIONS_WITHOUT_SOURCE: u32 = 25_000;
/// Source addresses of a storm: a port that was closed is not free again at once.
const STORM_SOURCES: u32 = 64;
/// The receive buffer of a slow reader; the kernel doubles it.
const SLOW_BUFFER_BYTES: usize = 4096;

/// Opens sockets to one target.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    target: SocketAddr,
    /// How many source addresses take turns; 0 leaves the choice to the kernel.
    sources: u32,
}

/// How a connection reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pace {
    Full,
    Slow,
}

impl Connector {
    pub(super) fn new(target: SocketAddr, plan: &Plan) -> Self {
        let is_loopback = matches!(target.ip(), IpAddr::V4(address) if address.is_loopback());
        let count = plan.connection_count();
        let sources = match plan.mode {
            _ if !is_loopback => 0,
            Mode::Connect => STORM_SOURCES.max(count.div_ceil(CONNECTIONS_PER_SOURCE)),
            _ if count <= CONNECTIONS_WITHOUT_SOURCE => 0,
            _ => count.div_ceil(CONNECTIONS_PER_SOURCE),
        };
        Self { target, sources }
    }

    /// Begins to connect. `turn` counts the calls over all threads, near enough.
    pub(super) fn connect(&self, turn: u32, pace: Pace) -> io::Result<OwnedFd> {
        let buffer = (pace == Pace::Slow).then_some(SLOW_BUFFER_BYTES);
        connector::connect(self.target, self.source(turn), buffer)
    }

    /// The source address: one of 127.0.0.0/8 from 127.0.1.1 on.
    fn source(&self, turn: u32) -> Option<IpAddr> {
        let index = turn.checked_rem(self.sources)?;
        let [_, b, c, d] = (index / 250 * 256 + index % 250 + 257).to_be_bytes();
        Some(IpAddr::from([127, b, c, d]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn connector(target: &str, mode: Mode, connections: u32) -> Connector {
        let plan = Plan { connections, ..Plan::new("ws://localhost/".parse().unwrap(), mode) };
        Connector::new(target.parse().unwrap(), &plan)
    }

    #[test]
    fn many_connections_on_loopback_come_from_many_addresses() {
        let connector = connector("127.0.0.1:9001", Mode::Idle, 1_000_000);
        let sources: BTreeSet<_> = (0..1_000_000).map(|turn| connector.source(turn)).collect();
        assert_eq!(sources.len(), 50);
        assert!(sources.contains(&Some(IpAddr::from([127, 0, 1, 1]))));
    }

    #[test]
    fn others_leave_the_choice_to_the_kernel() {
        assert_eq!(connector("127.0.0.1:9001", Mode::Idle, 25_000).source(7), None);
        assert_eq!(connector("10.0.0.1:9001", Mode::Idle, 1_000_000).source(7), None);
        assert_eq!(connector("[::1]:9001", Mode::Connect, 64).source(7), None);
        assert_ne!(connector("127.0.0.1:9001", Mode::Connect, 64).source(7), None);
    }
}
