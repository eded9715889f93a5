//! The other ends of simulated connections.

use std::collections::VecDeque;

/// What a peer does when it has sent all it has to say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// Waits for the server's FIN, then closes.
    WaitForServer,
    /// Sends FIN at once and goes on reading.
    Fin,
    /// Breaks the connection.
    Reset,
    /// Stays, and says nothing any more.
    Silent,
}

/// The other end of a connection.
pub(crate) struct Peer {
    /// The index of the listener that it calls.
    pub(crate) listener: u8,
    /// What it will send.
    pub(crate) outbox: VecDeque<u8>,
    pub(crate) ending: Ending,
    /// Whether it ever reads.
    pub(crate) reads: bool,
    /// What it has read.
    pub(crate) received: Vec<u8>,
    /// It has read the server's FIN.
    pub(crate) saw_fin: bool,
    /// The connection was broken, by either side.
    pub(crate) reset: bool,
    /// Sent by the server and not read yet.
    pub(super) in_flight: VecDeque<u8>,
    pub(super) in_flight_fin: bool,
    pub(super) sent_fin: bool,
    /// How much is left to be sent when it rests for a while, in falling order.
    pub(super) rests: VecDeque<usize>,
    /// It says nothing until then.
    pub(super) rests_until_ms: u64,
    pub(super) state: PeerState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PeerState {
    /// Has not called yet.
    Away,
    /// Waits to be accepted.
    Calling,
    Connected,
    /// Has closed its side.
    Closed,
    /// Was not let in.
    TurnedAway,
}

impl Peer {
    pub(crate) fn new(outbox: Vec<u8>, ending: Ending, reads: bool) -> Self {
        Self {
            listener: 0,
            outbox: outbox.into(),
            ending,
            reads,
            received: Vec::new(),
            saw_fin: false,
            reset: false,
            in_flight: VecDeque::new(),
            in_flight_fin: false,
            sent_fin: false,
            rests: VecDeque::new(),
            rests_until_ms: 0,
            state: PeerState::Away,
        }
    }

    /// The same peer, which calls another listener.
    pub(crate) fn calling(self, listener: u8) -> Self {
        Self { listener, ..self }
    }

    /// The same peer, which rests whenever so much is left to be sent, in falling order.
    pub(crate) fn with_rests(self, rests: VecDeque<usize>) -> Self {
        Self { rests, ..self }
    }

    /// Whether the server ever let it in: one that is full does not, while nobody leaves.
    pub(crate) fn was_accepted(&self) -> bool {
        matches!(self.state, PeerState::Connected | PeerState::Closed)
    }
}
