//! Sockets on their way to the server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use crate::load::{Mode, Plan};
use crate::sys::connector;

/// Connections from one address to one target. The usual range has 28,232 ports, and the kernel tries
/// those of one parity first: once half of them are taken, each connect searches in vain through all
/// of that half, at a seventh of the speed. Far below that, it finds one at once.
const CONNECTIONS_PER_SOURCE: u32 = 4_096;
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
            _ if count <= CONNECTIONS_PER_SOURCE => 0,
            _ => count.div_ceil(CONNECTIONS_PER_SOURCE),
        };
        Self { target, sources }
    }

    /// Begins to connect. `turn` counts the calls over all threads, near enough: so sources take turns.
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
    use std::collections::BTreeMap;

    fn connector(target: &str, mode: Mode, connections: u32) -> Connector {
        let plan = Plan { connections, ..Plan::new("ws://localhost/".parse().unwrap(), mode) };
        Connector::new(target.parse().unwrap(), &plan)
    }

    #[test]
    fn many_connections_on_loopback_come_from_many_addresses() {
        let connector = connector("127.0.0.1:9001", Mode::Idle, 2_000_000);
        let mut counts = BTreeMap::new();
        (0..2_000_000).for_each(|turn| *counts.entry(connector.source(turn)).or_insert(0) += 1);
        assert_eq!(counts.len(), 489);
        assert!(counts.values().all(|count| (4_089..=4_090).contains(count)), "{counts:?}");
        assert!(counts.contains_key(&Some(IpAddr::from([127, 0, 1, 1]))));
        let is_ours = |source: &Option<IpAddr>| source.is_some_and(|source| source > IpAddr::from([127, 0, 0, 255]));
        assert!(counts.keys().all(is_ours), "{counts:?}");
    }

    #[test]
    fn threads_take_turns_on_the_same_addresses() {
        let connector = connector("127.0.0.1:9001", Mode::Idle, 1_000_000);
        // As many connections of each of 56 threads, at any time.
        for count in [100, 5_000] {
            let mut counts = BTreeMap::new();
            for turn in (0..56).flat_map(|thread| (0..count).map(move |index| thread + 56 * index)) {
                *counts.entry(connector.source(turn)).or_insert(0_u32) += 1;
            }
            let (least, most) = (counts.values().min(), counts.values().max());
            assert!(
                counts.len() == 245 && least.zip(most).is_some_and(|(least, most)| most - least <= 1),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn others_leave_the_choice_to_the_kernel() {
        assert_eq!(connector("127.0.0.1:9001", Mode::Idle, 4_096).source(7), None);
        assert_eq!(connector("10.0.0.1:9001", Mode::Idle, 1_000_000).source(7), None);
        assert_eq!(connector("[::1]:9001", Mode::Connect, 64).source(7), None);
        assert_ne!(connector("127.0.0.1:9001", Mode::Connect, 64).source(7), None);
    }
}
