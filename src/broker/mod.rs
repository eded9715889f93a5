//! What STOMP routes by, sans-IO: ids and bytes only, no socket, thread or clock.

mod destination;
mod nodes;
mod seats;
mod slots;
mod topics;

pub use destination::{Destination, DestinationError, NAME_BYTES_MAX, Name, Pattern, SEGMENTS_MAX, STAR_SEGMENTS_MAX};
pub use topics::{Subscription, Topics};
