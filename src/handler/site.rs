//! The handler of `ringsock serve`: the echo on its paths, the broker on its own.

use crate::handler::stomp::Stomp;
use crate::handler::{Accept, CloseCause, ConnectionId, Echo, Effects, Handler, Page, Parcel, Transport};
use crate::proto::http::{Refusal, Request, Upgrade};
use crate::proto::ws::Message;

/// An [`Echo`] and a [`Stomp`] side by side: a request goes to the one whose path it names, bytes over a stream are
/// STOMP.
#[derive(Debug)]
pub struct Site {
    echo: Echo,
    stomp: Stomp,
    /// The connection that opens next is a client of the broker's.
    is_of_broker: bool,
}

impl Site {
    /// A site of an echo, which shows the page, and a broker.
    #[must_use]
    pub fn new(echo: Echo, stomp: Stomp) -> Self {
        Self { echo, stomp, is_of_broker: false }
    }
}

impl Handler for Site {
    fn on_start(&mut self, worker: u16, workers: u16) {
        self.stomp.on_start(worker, workers);
    }

    fn on_upgrade(
        &mut self,
        connection: ConnectionId,
        request: &Request<'_>,
        upgrade: &Upgrade<'_>,
    ) -> Result<Accept, Refusal> {
        self.is_of_broker = request.path() == self.stomp.path();
        if self.is_of_broker {
            self.stomp.on_upgrade(connection, request, upgrade)
        } else {
            self.echo.on_upgrade(connection, request, upgrade)
        }
    }

    fn on_get(&mut self, request: &Request<'_>) -> Result<Page, Refusal> {
        if request.path() == self.stomp.path() { Err(Refusal::UpgradeRequired) } else { self.echo.on_get(request) }
    }

    fn on_open(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        if effects.transport() == Transport::Stream || self.is_of_broker {
            self.stomp.on_open(connection, effects);
        } else {
            self.echo.on_open(connection, effects);
        }
    }

    fn on_message(&mut self, connection: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        if self.stomp.has(connection) {
            self.stomp.on_message(connection, message, effects);
        } else {
            self.echo.on_message(connection, message, effects);
        }
    }

    fn on_bytes(&mut self, connection: ConnectionId, bytes: &[u8], effects: &mut Effects<'_>) {
        self.stomp.on_bytes(connection, bytes, effects);
    }

    fn on_full(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        self.stomp.on_full(connection, effects);
    }

    fn on_drain(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        self.stomp.on_drain(connection, effects);
    }

    fn on_close(&mut self, connection: ConnectionId, cause: CloseCause, effects: &mut Effects<'_>) {
        self.stomp.on_close(connection, cause, effects);
    }

    fn on_parcel(&mut self, parcel: Parcel, effects: &mut Effects<'_>) {
        self.stomp.on_parcel(parcel, effects);
    }

    fn poll_timeout(&mut self, now_ms: u64) -> Option<u64> {
        self.stomp.poll_timeout(now_ms)
    }

    fn on_timeout(&mut self, effects: &mut Effects<'_>) {
        self.stomp.on_timeout(effects);
    }

    fn on_turn_end(&mut self, effects: &mut Effects<'_>) {
        self.stomp.on_turn_end(effects);
    }
}
