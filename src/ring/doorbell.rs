//! Waking a worker from any thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use io_uring::IoUring;

use crate::ring::operation::Operation;

/// Another worker's ring, to be woken: an open descriptor, shared.
#[derive(Clone, Debug)]
pub struct RingHandle(Arc<OwnedFd>);

impl RingHandle {
    pub(super) fn new(ring: &IoUring) -> io::Result<Self> {
        // SAFETY: the ring's descriptor is open for as long as the ring is borrowed, here.
        let descriptor = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        Ok(Self(Arc::new(descriptor.try_clone_to_owned()?)))
    }

    /// A handle of no ring, for a test whose driver does not use it.
    #[cfg(test)]
    pub(crate) fn of_nothing() -> Self {
        let nothing = std::fs::File::open("/dev/null").expect("it is always there");
        Self(Arc::new(nothing.into()))
    }

    pub(super) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A small ring for threads that have none: it wakes workers by a message to their rings.
#[derive(Clone)]
pub struct Doorbell(Arc<Mutex<IoUring>>);

impl Doorbell {
    /// Makes a doorbell for any number of threads.
    ///
    /// # Errors
    ///
    /// What `io_uring_setup(2)` says.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(IoUring::new(8)?))))
    }

    /// Wakes the worker of `target`.
    ///
    /// # Errors
    ///
    /// What `io_uring_enter(2)` says.
    pub fn ring(&self, target: &RingHandle) -> io::Result<()> {
        // A panic of another thread can't leave the queues half-written: they are synced per call.
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Operation::Wake { ring: target.raw() }.entry();
        // SAFETY: the operation carries no memory, and its descriptor is open while `target` lives,
        // which the submission below doesn't outlast.
        let pushed = unsafe { ring.submission().push(&entry) };
        pushed.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        loop {
            match ring.submit() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.map(drop)?,
            }
        }
        // Only failures complete. A worker that has ended can't be woken and need not be.
        let failures: Vec<i32> = ring.completion().map(|entry| -entry.result()).collect();
        match failures.into_iter().find(|errno| ![libc::EBADFD, libc::EOWNERDEAD, libc::ECANCELED].contains(errno)) {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Doorbell")
    }
}
