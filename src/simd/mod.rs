//! Kernels for the two loops that touch every payload byte: masking and UTF-8 validation.
//!
//! Everything here is a function of bytes, with no state beyond what the caller passes from one
//! piece of a payload to the next, so a payload may be handed over in pieces of any length.

pub mod mask;
pub mod utf8;
