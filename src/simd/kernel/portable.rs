//! No instruction set: 8 bytes at a time as a number, which the compiler makes vectors of where it
//! can.

use std::mem::MaybeUninit;

use crate::simd::kernel::Kernel;
use crate::simd::kernel::loops::LANES;
use crate::simd::mask::{Key, rotate};

type Vector = u64;

const LEN: usize = 8;

/// What becomes of numbers is up to the compiler. It finds vectors in the plainest loop only.
const TURN: usize = 1;

loops!(name: "portable", shorter: tiny);

#[inline]
fn vector(bytes: [u8; LEN]) -> Vector {
    Vector::from_ne_bytes(bytes)
}

#[inline]
fn array(vector: Vector) -> [u8; LEN] {
    vector.to_ne_bytes()
}

#[inline]
fn splat(key: Key) -> Vector {
    u64::from(u32::from_ne_bytes(key)) * 0x1_0000_0001
}

#[inline]
fn xor(a: Vector, b: Vector) -> Vector {
    a ^ b
}

#[inline]
fn or(a: Vector, b: Vector) -> Vector {
    a | b
}

#[inline]
fn is_ascii(bytes: Vector) -> bool {
    bytes & 0x8080_8080_8080_8080 == 0
}
