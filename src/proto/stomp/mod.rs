//! STOMP 1.0, 1.1 and 1.2: frames in, frames out, for either role.
//!
//! ```text
//!  bytes ─► decoder ─► Frame: command, headers as they were written, body
//!                        │
//!  bytes ◄─ encoder ◄────┘    escaped for the version of whoever reads them
//! ```
//!
//! [`Decoder::receive`] consumes bytes frame by frame, wherever they were cut: at a TCP segment, at a
//! WebSocket message or within a character. A frame that lies whole in its input is handed out as a view of it;
//! one that does not is gathered in a block of the caller's [`Pool`](crate::buf::Pool). The rule that a peer
//! breaks is a [`StompError`], raised as soon as a byte breaks it, and what it announced is never buffered
//! past the [`Limits`].
//!
//! A [`Session`] is a server's end of a connection: it agrees on a version and on heart-beats, turns frames into
//! [`Request`]s by the rules of that version, and says when something is due. What ends it is a [`Failure`], which
//! writes the ERROR frame.

mod command;
mod decoder;
pub mod encoder;
mod error;
mod fault;
mod frame;
mod head;
mod heart_beat;
mod request;
mod session;
mod version;

pub use command::Command;
pub use decoder::{Decoder, Limits};
pub use error::StompError;
pub use fault::{Failure, Fault};
pub use frame::{Frame, Header, Headers};
pub use heart_beat::{HeartBeat, InvalidHeartBeat, Periods};
pub use request::{AckMode, Action, Publication, Request, Settlement, Subscription, SubscriptionName};
pub use session::{Incoming, Login, Session, SessionOptions};
pub use version::{SUBPROTOCOLS, Version};

/// The longest command that there is, and more: one that is longer is not waited for.
pub const COMMAND_LEN_MAX: usize = 32;

#[cfg(test)]
mod tests;
