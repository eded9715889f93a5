//! The opening handshake: HTTP/1.1 as far as a WebSocket needs it (RFC 6455 section 4), sans-IO.
//!
//! ```text
//!  bytes ─► HeadScanner ─► Request::parse ─► Request::upgrade ─► write_switching_protocols ─► 101
//!               │                │                 │ no Upgrade header: write_page ────────► 200
//!               └──── Refusal ───┴──── Refusal ────┴─► write_refusal ───────────────────► 4xx, 5xx
//! ```
//!
//! [`HeadScanner`] passes over every byte once, as it arrives, and stops at the first one that breaks a
//! rule or a limit. Once it has found the end of the head, [`Request::parse`] reads that head a
//! second and last time. Whatever way the bytes are cut, a peer cannot make the two do more work
//! than twice what it sent.
//!
//! A broken rule is a [`Refusal`], which knows its status and its text. Every answer but the 101
//! says `Connection: close`, and no answer repeats a byte of the request: the subprotocol that a
//! 101 names is taken from the server's own list. Bytes after the head belong to the caller: frames
//! after a 101, nothing at all after a refusal.
//!
//! The client's half, for the load generator and for tests, is [`write_upgrade_request`] and
//! [`Accepted`].
//!
//! ```
//! use ringsock::proto::http::{HeadLimits, HeadScanner, Request, write_switching_protocols};
//!
//! # fn main() -> Result<(), ringsock::proto::http::Refusal> {
//! let input = b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\
//!     Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
//!     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
//! let limits = HeadLimits::default();
//! let mut output = Vec::new();
//! if let Some(head_len) = HeadScanner::new().scan(input, &limits)? {
//!     let request = Request::parse(&input[..head_len], &limits)?;
//!     assert_eq!(request.path(), "/chat");
//!     if let Some(upgrade) = request.upgrade()? {
//!         write_switching_protocols(&mut output, &upgrade.accept_key(), None, None);
//!     }
//! }
//! assert!(output.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
//! # Ok(())
//! # }
//! ```

mod accept;
mod authority;
mod client;
mod extension;
mod fields;
mod head;
mod octet;
mod refusal;
mod request;
mod response;
mod subprotocol;
mod upgrade;

#[cfg(test)]
mod tests;

pub use accept::{ACCEPT_KEY_LEN, accept_key};
pub use client::{Accepted, ClientRequest, HandshakeError, write_upgrade_request};
pub use extension::{Extension, OFFERS_EXAMINED_MAX};
pub use fields::HEADER_COUNT_MAX;
pub use head::{HeadLimits, HeadScanner};
pub use refusal::Refusal;
pub use request::Request;
pub use response::{write_page, write_refusal, write_switching_protocols};
pub use upgrade::Upgrade;
