//! What the kernel reads to send from several places at once.

use std::{mem, ptr};

use crate::buf::SEGMENTS_PER_SEND_MAX;

/// A `msghdr` and what it points to. Boxed, since the kernel reads it by address.
pub(super) struct Message {
    pub(super) header: libc::msghdr,
    pub(super) pieces: [libc::iovec; SEGMENTS_PER_SEND_MAX],
}

impl Message {
    pub(super) fn new() -> Box<Self> {
        // SAFETY: `msghdr` is integers and pointers, for which all zeros is a value.
        let header = unsafe { mem::zeroed() };
        let empty = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Box::new(Self { header, pieces: [empty; SEGMENTS_PER_SEND_MAX] })
    }
}
