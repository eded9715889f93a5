//! Memory that payloads live in: pooled blocks, frames shared by many connections, send queues.

mod pool;
mod send_queue;
mod shared;

pub use pool::{Block, Pool};
pub use send_queue::{Payload, SEGMENTS_PER_SEND_MAX, Segment, SendQueue};
pub use shared::SharedFrame;
