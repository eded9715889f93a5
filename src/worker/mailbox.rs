//! What other threads may ask of a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::buf::SharedFrame;
use crate::handler::Parcel;
use crate::proto::ws::CloseCode;
use crate::ring::RingHandle;
use crate::slab::Key;
use crate::worker::Pressure;

/// How much may wait for a worker. A full mailbox refuses, and the sender counts it.
const CAPACITY: usize = 8192;
/// How much of it messages may fill. The rest is for closes: who sheds load must get through.
const MESSAGES_MAX: usize = CAPACITY / 2;

/// How many bytes of parcels may wait in it. One of any size fits an empty one.
const PARCEL_BYTES_MAX: usize = 16 << 20;

/// There is nothing new about memory.
const NO_WORD: u8 = 0;
const CALM: u8 = 1;
const TIGHT: u8 = 2;
const SHORT: u8 = 3;

const RUNNING: u8 = 0;
const STOPPING: u8 = 1;
const ABORTED: u8 = 2;
const ENDED: u8 = 3;

/// Something for a worker.
#[derive(Debug)]
pub enum Mail {
    /// Send a frame to a connection.
    Send {
        /// The receiver.
        to: Key,
        /// The frame.
        frame: SharedFrame,
    },
    /// Send a frame to every open connection.
    Broadcast {
        /// The frame.
        frame: SharedFrame,
    },
    /// Begin the close handshake of a connection.
    Close {
        /// The connection.
        key: Key,
        /// The status code.
        code: CloseCode,
        /// The reason.
        reason: Box<str>,
    },
    /// Something for the handler.
    Parcel(Parcel),
}

/// A worker as the other threads see it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where to leave something for it.
    pub mailbox: Arc<Mailbox>,
    /// How to wake it.
    pub ring: RingHandle,
}

/// A bounded queue into a worker, and its orders to stop, which no full queue can hold up.
///
/// ```
/// use ringsock::worker::{Mail, Mailbox};
/// use ringsock::proto::ws::{MessageKind, encoder};
///
/// let mailbox = Mailbox::default();
/// let mail = || Mail::Broadcast { frame: encoder::shared(MessageKind::Text, b"hi") };
/// assert_eq!(mailbox.post(mail()).ok(), Some(true), "the worker must be woken");
/// assert_eq!(mailbox.post(mail()).ok(), Some(false), "it was woken already");
/// ```
#[derive(Debug)]
pub struct Mailbox {
    queue: ArrayQueue<Mail>,
    /// Somebody has woken the worker since it last looked.
    rung: AtomicBool,
    /// How many bytes of parcels are in the queue.
    parcel_bytes: AtomicUsize,
    order: AtomicU8,
    /// The last word about memory that the worker has not seen.
    pressure: AtomicU8,
    /// How much it is to part with, if memory is short.
    excess_bytes: AtomicU64,
    /// How many connections the worker has.
    connections: AtomicU32,
}

impl Mailbox {
    /// Leaves something; `true` asks the caller to wake the worker.
    ///
    /// # Errors
    ///
    /// The mail, if the mailbox is full. Closes find room where messages find none.
    pub fn post(&self, mail: Mail) -> Result<bool, Mail> {
        if self.queue.len() >= MESSAGES_MAX && !matches!(mail, Mail::Close { .. }) {
            return Err(mail);
        }
        let parcel_bytes = if let Mail::Parcel(parcel) = &mail { parcel.bytes } else { 0 };
        if parcel_bytes > 0 && !self.reserve(parcel_bytes) {
            return Err(mail);
        }
        self.queue.push(mail).inspect_err(|_| self.release(parcel_bytes))?;
        Ok(!self.rung.swap(true, Ordering::AcqRel))
    }

    /// Orders the worker to close its connections and stop. Wake it afterwards.
    pub fn stop(&self) {
        self.order.fetch_max(STOPPING, Ordering::AcqRel);
    }

    /// Orders the worker to stop at once. Wake it afterwards.
    pub fn abort(&self) {
        self.order.fetch_max(ABORTED, Ordering::AcqRel);
    }

    /// Tells how short memory is. Wake the worker afterwards.
    pub fn press(&self, pressure: Pressure) {
        let word = match pressure {
            Pressure::Calm => CALM,
            Pressure::Tight => TIGHT,
            Pressure::Short { bytes } => {
                self.excess_bytes.store(bytes, Ordering::Relaxed);
                SHORT
            }
        };
        self.pressure.store(word, Ordering::Release);
    }

    /// How many connections the worker had after its last turn.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Takes what was said about memory since the last call.
    pub(super) fn take_pressure(&self) -> Option<Pressure> {
        // Most turns only read.
        if self.pressure.load(Ordering::Relaxed) == NO_WORD {
            return None;
        }
        match self.pressure.swap(NO_WORD, Ordering::AcqRel) {
            CALM => Some(Pressure::Calm),
            TIGHT => Some(Pressure::Tight),
            SHORT => Some(Pressure::Short { bytes: self.excess_bytes.load(Ordering::Relaxed) }),
            _ => None,
        }
    }

    pub(super) fn show_connections(&self, count: usize) {
        self.connections.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Says that the worker has ended and never looks again.
    pub fn end(&self) {
        self.order.fetch_max(ENDED, Ordering::AcqRel);
    }

    /// Whether the worker has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.order.load(Ordering::Acquire) == ENDED
    }

    /// Begins a look into the mailbox: what is posted from now on asks for another wake.
    pub(super) fn open(&self) {
        self.rung.swap(false, Ordering::AcqRel);
    }

    /// Takes back that the worker was woken, when waking it has failed.
    pub(super) fn unring(&self) {
        self.rung.store(false, Ordering::Release);
    }

    /// Whether there is something to be looked at, even if the wake for it was lost.
    pub(super) fn has_news(&self) -> bool {
        self.rung.load(Ordering::Acquire) || self.is_stopping()
    }

    pub(super) fn take(&self) -> Option<Mail> {
        let mail = self.queue.pop();
        if let Some(Mail::Parcel(parcel)) = &mail {
            self.release(parcel.bytes);
        }
        mail
    }

    /// Makes room for a parcel, unless there is none.
    fn reserve(&self, bytes: usize) -> bool {
        let grow = |held: usize| match held.checked_add(bytes) {
            Some(sum) if held == 0 || sum <= PARCEL_BYTES_MAX => Some(sum),
            _ => None,
        };
        self.parcel_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, grow).is_ok()
    }

    fn release(&self, parcel_bytes: usize) {
        if parcel_bytes > 0 {
            self.parcel_bytes.fetch_sub(parcel_bytes, Ordering::AcqRel);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.order.load(Ordering::Acquire) >= STOPPING
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.order.load(Ordering::Acquire) >= ABORTED
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            queue: ArrayQueue::new(CAPACITY),
            rung: AtomicBool::new(false),
            parcel_bytes: AtomicUsize::new(0),
            order: AtomicU8::new(RUNNING),
            pressure: AtomicU8::new(NO_WORD),
            excess_bytes: AtomicU64::new(0),
            connections: AtomicU32::new(0),
        }
    }
}
