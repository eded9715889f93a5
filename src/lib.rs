//! ringsock
pub mod buf;
pub mod cli;
pub mod config;
pub mod control;
pub mod handler;
pub mod proto;
pub mod ring;
pub mod server;
pub mod simd;
pub mod slab;
pub mod sys;
pub mod timer;
pub mod worker;

pub use config::Options;
pub use handler::{CloseCause, ConnectionId, Effects, Handler};
pub use proto::ws::{CloseCode, Message, MessageKind, encoder};
pub use server::{Error, Server};
