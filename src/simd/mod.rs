//! Kernels for the two loops that touch every payload byte: masking and UTF-8 validation.
//!
//! Everything here is a function of bytes, with no state beyond what the caller passes from one
//! piece of a payload to the next, so a payload may be handed over in pieces of any length.
//!
//! - [`mask`] unmasks, in place or while copying, and can say in the same pass whether it saw ASCII.
//! - [`utf8`] builds on that: text is validated as it is unmasked, and only what is not ASCII is
//!   looked at a second time.
//! - [`kernel`] holds the loops for each instruction set and chooses among them once.

#![expect(unsafe_code, reason = "vector instructions need a CPU that has them")]

pub mod kernel;
pub mod mask;
pub mod utf8;
