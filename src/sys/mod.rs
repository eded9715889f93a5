//! The system calls that are not io_uring's: listening sockets, processor affinity, limits, and
//! what the machine says of itself.

#![expect(unsafe_code, reason = "system calls take addresses")]

pub mod affinity;
pub mod limits;
pub mod listener;
pub mod machine;
