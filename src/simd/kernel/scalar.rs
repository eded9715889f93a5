//! One byte at a time: what the other kernels compute, said as plainly as possible.

use std::mem::MaybeUninit;

use crate::simd::mask::{Key, rotate};

/// Unmasks `bytes` in place and says whether all of them are ASCII then.
#[inline]
pub(super) fn apply(bytes: &mut [u8], mut key: Key) -> bool {
    let mut seen = 0;
    for byte in bytes {
        *byte ^= key[0];
        seen |= *byte;
        key = rotate(key, 1);
    }
    seen.is_ascii()
}

/// Unmasks `bytes` into `out`, of the same length, all of which is initialised then, and says
/// whether all of them are ASCII.
#[inline]
pub(super) fn copy(out: &mut [MaybeUninit<u8>], bytes: &[u8], mut key: Key) -> bool {
    assert!(out.len() == bytes.len(), "the caller cut the memory to this length");
    let mut seen = 0;
    for (to, byte) in out.iter_mut().zip(bytes) {
        seen |= *to.write(byte ^ key[0]);
        key = rotate(key, 1);
    }
    seen.is_ascii()
}
