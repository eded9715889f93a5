//! What the kernel reads to send from several places at once.

use std::{mem, ptr};

use crate::buf::{Payload, SEGMENTS_PER_SEND_MAX};

/// What one operation sends or receives at most (`MAX_RW_COUNT`). The kernel cuts longer ones and calls
/// that success.
pub(super) const TRANSFER_LEN_MAX: u32 = 0x7fff_f000;

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

    /// Points at the pieces of a payload and returns how many bytes they have.
    pub(super) fn point_at(&mut self, payload: &Payload) -> usize {
        let (mut count, mut len) = (0, 0);
        for (piece, target) in payload.pieces().zip(&mut self.pieces) {
            let piece_len = piece.len().min(TRANSFER_LEN_MAX as usize - len);
            *target = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece_len };
            count += 1;
            len += piece_len;
        }
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = count;
        len
    }
}
