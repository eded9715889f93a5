//! The ring driver: io_uring as a few typed operations and their completions.
//!
//! A [`Driver`] takes operations on connections named by [`Key`] and gives
//! back [`Completion`]s. It owns the memory that the kernel reads and writes while an operation is
//! under way: receive buffers are lent to the worker as a [`Lease`], payloads to be sent are
//! handed over and come back. So nothing outside this module can free what the kernel still uses.
//!
//! [`RingDriver`] is the real one. Its set-up was chosen by measurement: `SINGLE_ISSUER`,
//! `DEFER_TASKRUN`, `TASKRUN_FLAG` and `SUBMIT_ALL`; direct descriptors whose index is the
//! connection's slot; multishot receive, and accepts by the dozen, so that a storm comes in parts;
//! a ring of large receive buffers that the kernel fills incrementally (Linux 6.12, else smaller
//! ones, each used once); and one `io_uring_enter` a turn, which submits everything and waits.

#![expect(unsafe_code, reason = "the kernel shares memory with the process by address")]

mod buffer_ring;
mod completion;
mod core_share;
mod doorbell;
mod driver;
mod error;
mod low_water;
mod mapping;
mod message;
mod operation;
mod probe;
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
pub(crate) mod sim;
mod token;

use std::io;

use crate::buf::{Block, Payload};
use crate::slab::Key;

pub use buffer_ring::{BufferMode, Lease};
pub use completion::{Completion, ReceiveEnd};
pub use core_share::CoreShare;
pub use doorbell::{Doorbell, RingHandle};
pub use driver::{Options, RingDriver};
pub use error::{EXIT_CODE, StartError};
pub use probe::{Features, probe};

/// How a send deals with a socket buffer that is full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendMode {
    /// Send what fits, at once: the bytes are gone when the turn's system call returns.
    Now,
    /// Wait until the socket takes more, then send what fits.
    Wait,
}

/// What a connection waits for, to be cancelled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waits {
    /// A receive: [`Driver::receive`].
    Receive,
    /// A poll: [`Driver::poll`].
    Poll,
    /// A receive into a block: [`Driver::fill`].
    Fill,
}

/// How much a receive takes before it ends by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReceiveMode {
    /// Everything that arrives, until it is cancelled: the cheapest way for a peer that keeps pace.
    Series,
    /// A buffer's worth at the most: the way for a peer that would take all buffers in one turn.
    Bounded,
    /// The first bytes that come, a buffer's worth at the most.
    Once,
    /// What is there already, a buffer's worth at the most: the way for one that was polled. It ends at once,
    /// with [`ReceiveEnd::Drained`] if nothing was left.
    Now,
}

/// What a worker needs of a kernel: operations in, completions out.
///
/// No operation fails when it is asked for; its completion tells. Operations are submitted, in
/// their order, by the next [`Driver::turn`] at the latest.
pub trait Driver {
    /// Milliseconds on a clock that never goes back.
    fn now_ms(&mut self) -> u64;

    /// Accepts a connection by one of the listeners, when one comes: [`Completion::Accepted`] or
    /// [`Completion::AcceptEnded`].
    fn accept(&mut self, listener: u8);

    /// Ends the accepts that wait, of all listeners. The kernel may miss some that it is about to look at: what has not ended with the
    /// next turn is to be cancelled again.
    fn cancel_accepts(&mut self);

    /// Receives from a connection until [`Completion::ReceiveEnded`].
    ///
    /// A reset that comes right behind data, before the kernel got to receiving that, is not reported
    /// by a series (seen on Linux 6.18): it waits for a further event, and there is none. A FIN is. So a
    /// connection that nothing is sent to needs a deadline of its own.
    fn receive(&mut self, key: Key, mode: ReceiveMode);

    /// Waits until there is something to receive: `bytes` bytes, or about as many, where the kernel can wait
    /// for more than one (Linux 6.7); or the end. Gives one [`Completion::Readable`]. It costs the kernel
    /// less memory than a receive, and us none. No receive may be under way.
    fn poll(&mut self, key: Key, bytes: usize);

    /// Receives straight into `block`, behind what it holds and within its capacity: what has arrived,
    /// `len` bytes at the most. Gives one [`Completion::Filled`]. No other receive may be under way.
    fn fill(&mut self, key: Key, block: Block, len: usize);

    /// Stops receiving. What arrived before is still delivered.
    fn cancel_receive(&mut self, key: Key);

    /// Sends the rest of `payload`. Gives one [`Completion::Sent`].
    fn send(&mut self, key: Key, payload: Payload, mode: SendMode);

    /// Ends what a connection waits for early, and its send; each still gives its last completion.
    fn cancel(&mut self, key: Key, waits: Option<Waits>);

    /// Sends FIN after what was sent before; receiving goes on. Gives no completion.
    fn shutdown(&mut self, key: Key);

    /// Closes a connection that has no operation under way. Gives one [`Completion::Closed`].
    fn close(&mut self, key: Key);

    /// Wakes the worker of another ring, which sees [`Completion::Woken`].
    fn wake(&mut self, target: &RingHandle);

    /// Submits everything, waits for completions, at most `wait_ms` milliseconds (for ever on
    /// `None`), and appends them to `completions`.
    ///
    /// # Errors
    ///
    /// What the kernel says of the ring itself: the driver can't be used any more.
    fn turn(&mut self, wait_ms: Option<u64>, completions: &mut Vec<Completion>) -> io::Result<()>;

    /// The bytes that a lease stands for.
    fn bytes_mut(&mut self, lease: &mut Lease) -> &mut [u8];

    /// Returns receive memory.
    fn give_back(&mut self, lease: Lease);
}
