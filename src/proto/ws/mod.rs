//! The WebSocket protocol of RFC 6455 after the handshake, for either role.
//!
//! ```text
//!  bytes ─► header ─► session ─► Event: Message, Ping, Pong, Close
//!                        │
//!  bytes ◄─ encoder ◄── replies, messages, close
//! ```
//!
//! [`Session::receive`] consumes a receive buffer frame by frame. A message that lies whole in it
//! is unmasked in place and handed out as a view; one that spans buffers is gathered in a block of
//! the caller's [`Pool`](crate::buf::Pool). A rule that the peer breaks is a [`ProtocolError`],
//! raised at the frame header wherever the header shows it, and it ends the session.

mod assembly;
mod close;
pub mod deflate;
pub mod encoder;
mod error;
mod event;
mod header;
mod session;

pub use close::CloseCode;
pub use error::ProtocolError;
pub use event::{Compressed, Event, Message, MessageKind, Payload};
pub use header::{FrameHeader, HEADER_LEN_MAX, Opcode, ReservedBits};
pub use session::{Adoption, Limits, Role, Session};

/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_PAYLOAD_LEN_MAX: usize = 125;
