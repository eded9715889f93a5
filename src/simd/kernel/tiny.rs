//! For payloads of 4 to 7 bytes, as numbers of 4 bytes.

use std::mem::MaybeUninit;

use crate::simd::kernel::Kernel;
use crate::simd::kernel::loops::LANES;
use crate::simd::mask::{Key, rotate};

type Vector = u32;

const LEN: usize = 4;

const TURN: usize = 1;

loops!(name: "tiny", shorter: scalar);

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
    u32::from_ne_bytes(key)
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
    bytes & 0x8080_8080 == 0
}
