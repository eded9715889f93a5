//! The broker, sans-IO: what becomes of messages between those who send and those who subscribe.
//!
//! It knows names, numbers and bytes, no frames and no connections, and is told the time.
//!
//! ```text
//!  SEND ─► Destination ─┬─ topic ─► Topics: every subscription whose pattern the name matches
//!             │         └─ queue ─► Queue: one consumer, until it has acknowledged
//!             └─ within a transaction ─► Transactions: kept until COMMIT
//! ```

mod destination;
mod nodes;
pub mod queue;
mod seats;
mod slots;
mod topics;
pub mod transaction;

pub use destination::{Destination, DestinationError, NAME_BYTES_MAX, Name, Pattern, SEGMENTS_MAX, STAR_SEGMENTS_MAX};
pub use topics::{Subscription, Topics};
