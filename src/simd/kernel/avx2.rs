//! AVX2: 32 bytes at a time.

use std::arch::x86_64::{__m256i, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi32, _mm256_xor_si256};
use std::mem;
use std::mem::MaybeUninit;

use crate::simd::kernel::Kernel;
use crate::simd::kernel::loops::LANES;
use crate::simd::mask::{Key, rotate};

type Vector = __m256i;

const LEN: usize = 32;

/// With half as many, 16 KiB take a fifth longer in place.
const TURN: usize = 8;

loops!(#[target_feature(enable = "avx2")] name: "avx2", shorter: sse2);

#[target_feature(enable = "avx2")]
#[inline]
fn vector(bytes: [u8; LEN]) -> Vector {
    // SAFETY: both types are 32 bytes without padding, and any 32 bytes are a vector.
    unsafe { mem::transmute::<[u8; LEN], Vector>(bytes) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn array(vector: Vector) -> [u8; LEN] {
    // SAFETY: both types are 32 bytes without padding, and any 32 bytes are an array.
    unsafe { mem::transmute::<Vector, [u8; LEN]>(vector) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn splat(key: Key) -> Vector {
    _mm256_set1_epi32(i32::from_ne_bytes(key))
}

#[target_feature(enable = "avx2")]
#[inline]
fn xor(a: Vector, b: Vector) -> Vector {
    _mm256_xor_si256(a, b)
}

#[target_feature(enable = "avx2")]
#[inline]
fn or(a: Vector, b: Vector) -> Vector {
    _mm256_or_si256(a, b)
}

#[target_feature(enable = "avx2")]
#[inline]
fn is_ascii(bytes: Vector) -> bool {
    _mm256_movemask_epi8(bytes) == 0
}
