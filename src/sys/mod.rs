//! The system calls that are not io_uring's: listening and connecting sockets, processor affinity,
//! limits, and what the machine says of itself, of a process, and of the room for connections.

#![expect(unsafe_code, reason = "system calls take addresses")]

pub mod affinity;
pub mod capacity;
pub mod connector;
pub mod limits;
pub mod listener;
pub mod machine;
pub mod memory;
pub mod process;
pub mod supply;
