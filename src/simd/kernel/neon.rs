//! NEON: 16 bytes at a time. Every AArch64 CPU has it.

use std::arch::aarch64::{uint8x16_t, vdupq_n_u32, veorq_u8, vmaxvq_u8, vorrq_u8, vreinterpretq_u8_u32};
use std::mem;
use std::mem::MaybeUninit;

use crate::simd::kernel::Kernel;
use crate::simd::kernel::loops::LANES;
use crate::simd::mask::{Key, rotate};

type Vector = uint8x16_t;

const LEN: usize = 16;

const TURN: usize = 4;

loops!(#[target_feature(enable = "neon")] name: "neon", shorter: portable);

#[target_feature(enable = "neon")]
#[inline]
fn vector(bytes: [u8; LEN]) -> Vector {
    // SAFETY: both types are 16 bytes without padding, and any 16 bytes are a vector.
    unsafe { mem::transmute::<[u8; LEN], Vector>(bytes) }
}

#[target_feature(enable = "neon")]
#[inline]
fn array(vector: Vector) -> [u8; LEN] {
    // SAFETY: both types are 16 bytes without padding, and any 16 bytes are an array.
    unsafe { mem::transmute::<Vector, [u8; LEN]>(vector) }
}

#[target_feature(enable = "neon")]
#[inline]
fn splat(key: Key) -> Vector {
    vreinterpretq_u8_u32(vdupq_n_u32(u32::from_ne_bytes(key)))
}

#[target_feature(enable = "neon")]
#[inline]
fn xor(a: Vector, b: Vector) -> Vector {
    veorq_u8(a, b)
}

#[target_feature(enable = "neon")]
#[inline]
fn or(a: Vector, b: Vector) -> Vector {
    vorrq_u8(a, b)
}

#[target_feature(enable = "neon")]
#[inline]
fn is_ascii(bytes: Vector) -> bool {
    vmaxvq_u8(bytes) < 0x80
}
