//! Bytes on their way to many connections at once.

use std::ops::Deref;
use std::sync::Arc;

/// An encoded frame that any number of send queues, on any worker, refer to without copying it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SharedFrame(Arc<[u8]>);

impl SharedFrame {
    /// Takes the bytes of a whole encoded frame.
    #[must_use]
    pub fn new(frame: &[u8]) -> Self {
        Self(Arc::from(frame))
    }
}

impl Deref for SharedFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
