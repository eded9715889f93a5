//! Bytes on their way to many connections at once.

use std::ops::Deref;
use std::sync::Arc;

/// An encoded frame that any number of send queues, on any worker, refer to without copying it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SharedFrame {
    bytes: Arc<[u8]>,
    may_compress: bool,
}

impl SharedFrame {
    /// Takes the bytes of a whole encoded frame.
    #[must_use]
    pub fn new(frame: &[u8]) -> Self {
        Self { bytes: Arc::from(frame), may_compress: true }
    }

    /// The same frame, never to be compressed: for messages that hold a secret.
    #[must_use]
    pub fn uncompressed(self) -> Self {
        Self { may_compress: false, ..self }
    }

    /// Whether it may be compressed for receivers with whom that was agreed.
    #[must_use]
    pub fn may_compress(&self) -> bool {
        self.may_compress
    }

    /// Whether both are one frame, in the same memory.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes) && self.may_compress == other.may_compress
    }
}

impl Deref for SharedFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
