//! What an operation came to.

use crate::buf::{Block, Payload};
use crate::ring::Lease;
use crate::slab::Key;

/// The outcome of an operation, or a part of it for those that complete many times.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted into `slot`.
    Accepted {
        /// The index of its direct descriptor.
        slot: u32,
        /// The index of the listener that it came by.
        listener: u8,
    },
    /// Accepting has ended and must be asked for again.
    AcceptEnded {
        /// The index of the listener.
        listener: u8,
        /// The error number, `None` if the kernel just ended the series or was told to.
        errno: Option<i32>,
    },
    /// Bytes arrived.
    Received {
        /// The connection.
        key: Key,
        /// The bytes, to be given back.
        lease: Lease,
    },
    /// There is something to receive, or an end to be seen, or the poll was cancelled.
    Readable {
        /// The connection.
        key: Key,
    },
    /// Bytes arrived straight in a block, or receiving into it has failed.
    Filled {
        /// The connection.
        key: Key,
        /// The block, with what arrived at its end.
        block: Block,
        /// How many bytes that is, zero if the peer sent FIN, or the error number.
        result: Result<usize, i32>,
    },
    /// Receiving has ended.
    ReceiveEnded {
        /// The connection.
        key: Key,
        /// Why.
        end: ReceiveEnd,
    },
    /// A send has ended.
    Sent {
        /// The connection.
        key: Key,
        /// What was to be sent, not yet advanced by `result`.
        payload: Payload,
        /// How many bytes went out, or the error number.
        result: Result<usize, i32>,
    },
    /// The connection is closed, its slot may be accepted into again.
    Closed {
        /// The connection.
        key: Key,
    },
    /// Another thread has left something in the mailbox.
    Woken,
}

/// Why a series of receives has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReceiveEnd {
    /// The peer sent FIN.
    Eof,
    /// No receive buffer was free; nothing is lost, ask again once some were given back.
    NoBuffers,
    /// It was cancelled.
    Cancelled,
    /// It took as much as it was to take, or the kernel ended the series for reasons of its own; ask again.
    Exhausted,
    /// It took all that there was.
    Drained,
    /// The connection failed with this error number.
    Failed(i32),
}
