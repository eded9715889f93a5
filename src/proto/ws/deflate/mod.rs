//! Compression of messages: permessage-deflate (RFC 7692).
//!
//! ```text
//!  offers ─► negotiate ─► Parameters ─► one Context for each direction of a connection
//!                                            │
//!  RSV1 payload ─► Inflater ─► message       │   what the next message may refer to
//!  message ─► Deflater ─► RSV1 payload     ◄─┘
//! ```
//!
//! **Who owns what.** A compressor of zlib's kind needs hundreds of kilobytes to work, a
//! decompressor nearly fifty. Between two messages nearly all of it is worthless: a message ends at
//! the border of a block, and all that the next one can refer to is the text of the last 512 bytes
//! to 32 KiB, the sliding window. So a worker has one [`Inflater`] and one [`Deflater`], and a
//! connection has a [`Context`] for each direction, which holds that text, or for sending its last
//! four kilobytes, and not more than has been sent. Without context takeover it holds nothing. The
//! price is that a message is begun with a copy of the window, and for the compressor with hashing
//! it, but for the few connections that it remembers: `cargo bench --bench deflate` says what that
//! costs.
//!
//! A message whose frames come with others' between them needs an [`Inflater`] until it is whole, or
//! its payload is gathered first.
//!
//! **Secrets.** Who can mix text of his own with a secret in one window can guess the secret from
//! the length of what is sent (section 8 of the RFC, CRIME and BREACH). Therefore compression is
//! off unless a route asks for it, and a message that carries a secret is better sent as it is.
//! What other connections say never shows; but how busy they are may, since it decides whether a
//! [`Deflater`] still remembers this one, and so how far back its messages refer.

mod context;
mod deflater;
mod engines;
mod inflater;
mod negotiation;
mod offer;
mod outgoing;
mod parameters;
#[cfg(test)]
mod tests;

pub use context::{Context, SENT_LEN_MAX, Takeover};
pub use deflater::{Deflater, ENGINE_WORK, Level, Outcome, RESET_WORK};
pub(super) use inflater::PROMISED_LEN_MIN;
pub use inflater::{InflateError, Inflater, Work};
pub use negotiation::{Policy, negotiate};
pub use offer::{AnswerError, Offer};
pub use outgoing::{Outgoing, Thrift};
pub use parameters::{HEADER_VALUE_LEN_MAX, HeaderValue, Parameters, WindowBits};

/// The name of the extension in a handshake.
pub const EXTENSION_NAME: &str = "permessage-deflate";
