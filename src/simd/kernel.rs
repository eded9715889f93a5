//! The loops over payload bytes, one pair for each instruction set, and the choice among them.
//!
//! Every kernel does the same two things, in one pass over the bytes: it unmasks them, in place or
//! into fresh memory, and says whether all of them are ASCII. The answer costs next to nothing,
//! because the bytes pass through the registers anyway.
//!
//! [`scalar`] is the definition of both, byte by byte. The tests compare every kernel with it.

#[macro_use]
mod loops;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod sse2;
mod tiny;

use std::mem::MaybeUninit;
use std::sync::OnceLock;

use crate::simd::mask::Key;

#[cfg(target_arch = "aarch64")]
use neon as baseline;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use portable as baseline;
#[cfg(target_arch = "x86_64")]
use sse2 as baseline;

/// The loops of one instruction set. To have one is the proof that this machine can run it.
///
/// Public for measurements; to unmask, use [`mask`](crate::simd::mask).
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    name: &'static str,
    /// Unmasks the bytes in place and says whether all of them are ASCII then.
    apply: unsafe fn(&mut [u8], Key) -> bool,
    /// Unmasks the bytes into memory of the same length, all of which is initialised then, and says
    /// whether all of them are ASCII.
    copy: unsafe fn(&mut [MaybeUninit<u8>], &[u8], Key) -> bool,
}

impl Kernel {
    /// The kernel that every CPU of the architecture can run, and need not be asked for.
    pub const BASELINE: Self = baseline::KERNEL;
    /// A kernel for less than any vector, so small that it is inlined.
    pub(super) const TINY: Self = tiny::KERNEL;

    /// The fastest kernel of this machine, chosen at the first call.
    #[inline]
    #[must_use]
    pub fn best() -> &'static Self {
        BEST.get().unwrap_or_else(choose)
    }

    /// The kernels that this machine can run, the fastest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                kernels.push(avx512::KERNEL);
            }
            if is_x86_feature_detected!("avx2") {
                kernels.push(avx2::KERNEL);
            }
        }
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        kernels.push(Self::BASELINE);
        kernels.push(portable::KERNEL);
        kernels
    }

    /// The name of the instruction set.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Unmasks `bytes` in place and says whether all of them are ASCII then.
    #[inline]
    #[must_use]
    pub fn apply(&self, bytes: &mut [u8], key: Key) -> bool {
        // SAFETY: a kernel asks for nothing but its CPU features. Those of `BASELINE`, `TINY` and
        // `portable` belong to the architecture, and `available` gives the others out only where
        // it has detected theirs.
        unsafe { (self.apply)(bytes, key) }
    }

    /// Appends the unmasked `bytes` to `out` and says whether all of them are ASCII.
    #[inline]
    #[must_use]
    pub fn append(&self, out: &mut Vec<u8>, bytes: &[u8], key: Key) -> bool {
        let end = out.len() + bytes.len();
        out.reserve(bytes.len());
        let room = &mut out.spare_capacity_mut()[..bytes.len()];
        // SAFETY: as in `apply`, the CPU features of this kernel are there.
        let is_ascii = unsafe { (self.copy)(room, bytes, key) };
        // SAFETY:
        // - within the capacity: `room`, which ends at `end`, was just cut out of it;
        // - initialised: up to the old length before, and `copy` has written all of `room`.
        unsafe { out.set_len(end) };
        is_ascii
    }
}

#[cold]
fn choose() -> &'static Kernel {
    BEST.get_or_init(|| Kernel::available()[0])
}

static BEST: OnceLock<Kernel> = OnceLock::new();

#[cfg(test)]
mod tests;
