//! The protocols, sans-IO: bytes in, events and bytes out, no socket, thread or clock.
//!
//! Whatever way the input is cut, the events are the same.

pub mod http;
pub mod stomp;
pub mod ws;
