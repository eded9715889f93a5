//! AVX-512 (F and BW): 64 bytes at a time, a whole cache line.

use std::arch::x86_64::{__m512i, _mm512_movepi8_mask, _mm512_or_si512, _mm512_set1_epi32, _mm512_xor_si512};
use std::mem;
use std::mem::MaybeUninit;

use crate::simd::kernel::Kernel;
use crate::simd::kernel::loops::LANES;
use crate::simd::mask::{Key, rotate};

type Vector = __m512i;

const LEN: usize = 64;

/// More gain nothing: one vector is stored in a cycle at best, and so many keep up with it.
const TURN: usize = 4;

loops!(#[target_feature(enable = "avx512f,avx512bw")] name: "avx512", shorter: avx2);

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn vector(bytes: [u8; LEN]) -> Vector {
    // SAFETY: both types are 64 bytes without padding, and any 64 bytes are a vector.
    unsafe { mem::transmute::<[u8; LEN], Vector>(bytes) }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn array(vector: Vector) -> [u8; LEN] {
    // SAFETY: both types are 64 bytes without padding, and any 64 bytes are an array.
    unsafe { mem::transmute::<Vector, [u8; LEN]>(vector) }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn splat(key: Key) -> Vector {
    _mm512_set1_epi32(i32::from_ne_bytes(key))
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn xor(a: Vector, b: Vector) -> Vector {
    _mm512_xor_si512(a, b)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn or(a: Vector, b: Vector) -> Vector {
    _mm512_or_si512(a, b)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn is_ascii(bytes: Vector) -> bool {
    _mm512_movepi8_mask(bytes) == 0
}
