//! STOMP in the role of the client: publishers that send to a topic or to queues, and those who receive it.
//!
//! ```text
//! upgrade (or TCP) ─► CONNECT ─► CONNECTED ─► SUBSCRIBE ─► RECEIPT ─► open
//!
//! publisher ─ SEND ─► server ─ MESSAGE ─► subscribers (each message to all)     the topic
//!                                    └──► one of the consumers, ACK ─► server   the queues
//! ```
//!
//! Messages carry the marks of broadcast mode: who sent them, their number and the time. [`Client`] is the
//! protocol, [`Flow`] counts what is under way on all connections, and `dialogue` is what a connection does with
//! both. All of them are on one thread: a publisher's next message waits for what others receive.

mod client;
mod dialogue;
mod excerpt;
mod flow;
mod options;

pub(super) use client::{Client, SUBPROTOCOL};
pub use excerpt::Excerpt;
pub(super) use flow::Flow;
pub use options::StompOptions;
