//! What the server does with messages: the [`Handler`] trait and the built-in handlers.
//!
//! A handler is plain state and functions. It is told what happened and answers through
//! [`Effects`]; it never sees a socket, a thread or a clock, so the same handler runs on the real
//! ring and in a simulation. Each worker owns one handler of its own: nothing in it is shared, so
//! nothing needs a lock.

mod cause;
mod echo;
mod effects;
mod site;
pub mod stomp;

use crate::proto::http::{Refusal, Request, Upgrade};
use crate::proto::ws::deflate::Policy;
use crate::proto::ws::{CloseCode, Message};
use crate::slab::Key;

pub use cause::CloseCause;
pub use echo::Echo;
pub use effects::{Command, Commands, Effects, OwnClose, Parcel};
pub use site::Site;

/// A connection, over all workers of a server and all its lifetime.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId {
    /// The index of the worker that owns the connection.
    pub worker: u16,
    /// The slot and its generation in that worker's table.
    pub key: Key,
}

/// How bytes of a connection come and go.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Transport {
    /// In messages, after an upgrade.
    #[default]
    WebSocket,
    /// As they are, from the first one on.
    Stream,
}

/// How an upgrade is accepted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Accept {
    /// The subprotocol to name in the response, from the server's own list: see
    /// [`Upgrade::choose_subprotocol`]. One that the client did not offer is left out.
    pub subprotocol: Option<&'static str>,
    /// Whether messages may be compressed, if the client offers that. They are not by default.
    pub compression: Policy,
}

/// A short document for a plain GET.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Page {
    /// The media type.
    pub content_type: &'static str,
    /// The document.
    pub body: &'static str,
}

/// The application: one value for each worker, called for the connections of that worker.
///
/// A handler that blocks holds up its whole worker; one that panics ends the server.
///
/// The calls for a connection come in this order: `on_upgrade`, `on_open`, then any number of
/// `on_message`, `on_full` and `on_drain`, and `on_close` exactly once if `on_open` was called. Over a
/// [`Transport::Stream`] they begin with `on_open`, and `on_bytes` stands in the place of `on_message`.
///
/// ```
/// use ringsock::{ConnectionId, Effects, Handler, Message};
///
/// /// Tells each peer how long its messages are.
/// struct Lengths;
///
/// impl Handler for Lengths {
///     fn on_message(&mut self, _: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
///         effects.send_text(&format!("{} bytes", message.bytes().len()));
///     }
/// }
/// ```
pub trait Handler {
    /// The worker begins, one of `workers`.
    fn on_start(&mut self, worker: u16, workers: u16) {
        let _ = (worker, workers);
    }

    /// Decides about a request to upgrade. By default every path is accepted, without a subprotocol.
    ///
    /// If it is accepted, `on_open` follows at once, with the same `connection`: what the request said
    /// can be kept under that id. If it is refused, nothing follows, and the id never comes back.
    ///
    /// # Errors
    ///
    /// The refusal that the peer gets as an HTTP response.
    fn on_upgrade(
        &mut self,
        connection: ConnectionId,
        request: &Request<'_>,
        upgrade: &Upgrade<'_>,
    ) -> Result<Accept, Refusal> {
        let _ = (connection, request, upgrade);
        Ok(Accept::default())
    }

    /// Answers a plain GET. By default it is told to upgrade (426).
    ///
    /// # Errors
    ///
    /// The refusal that the peer gets as an HTTP response.
    fn on_get(&mut self, request: &Request<'_>) -> Result<Page, Refusal> {
        let _ = request;
        Err(Refusal::UpgradeRequired)
    }

    /// A connection has opened.
    fn on_open(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        let _ = (connection, effects);
    }

    /// A message has arrived. It is the handler's for the duration of the call; text is valid UTF-8.
    fn on_message(&mut self, connection: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>);

    /// Bytes have arrived on a connection over a [`Transport::Stream`]. By default it is closed.
    fn on_bytes(&mut self, connection: ConnectionId, bytes: &[u8], effects: &mut Effects<'_>) {
        let _ = (connection, bytes);
        effects.close(CloseCode::POLICY_VIOLATION, "");
    }

    /// The send queue of a connection has come to be over its bound.
    fn on_full(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        let _ = (connection, effects);
    }

    /// The send queue of a connection, which had been over its bound, has drained to half of it.
    /// While it was over, no message of this connection was delivered.
    fn on_drain(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        let _ = (connection, effects);
    }

    /// A connection has ended. What is sent to it now goes nowhere; its id will not come back.
    fn on_close(&mut self, connection: ConnectionId, cause: CloseCause, effects: &mut Effects<'_>) {
        let _ = (connection, cause, effects);
    }

    /// Something has come from the handler of another worker, or by [`Handle::post`](crate::Handle::post). No
    /// connection is at hand.
    fn on_parcel(&mut self, parcel: Parcel, effects: &mut Effects<'_>) {
        let _ = (parcel, effects);
    }

    /// When [`Handler::on_timeout`] is to be called, in milliseconds on the worker's clock, or a little later.
    fn poll_timeout(&mut self, now_ms: u64) -> Option<u64> {
        let _ = now_ms;
        None
    }

    /// The time has come. No connection is at hand.
    fn on_timeout(&mut self, effects: &mut Effects<'_>) {
        let _ = effects;
    }

    /// The turn ends: whatever was gathered for other workers is to be posted now. No connection is at hand.
    fn on_turn_end(&mut self, effects: &mut Effects<'_>) {
        let _ = effects;
    }
}
