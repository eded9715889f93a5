//! Every kernel of this machine against its scalar twin.

use super::*;
use crate::simd::mask::rotate;

/// Lengths up to this one are all tried: several turns of the widest kernel and every remainder.
const EVERY_LEN_MAX: usize = 300;
/// The widest vector, and the length of a cache line.
const ALIGN: usize = 64;

const KEY: Key = [0x11, 0x82, 0xf3, 0x44];

const SCALAR: Kernel = Kernel { name: "scalar", apply: scalar::apply, copy: scalar::copy };

/// A buffer in which a payload may begin at any distance from a cache line.
struct Buffer {
    bytes: Vec<u8>,
    line: usize,
}

impl Buffer {
    fn new(len_max: usize) -> Self {
        let bytes = vec![0xaa; len_max + 3 * ALIGN];
        let line = bytes.as_ptr().align_offset(ALIGN);
        Self { bytes, line }
    }

    /// Runs `kernel` over `payload` put `offset` bytes behind a line, in place and as a copy.
    #[track_caller]
    fn check(&mut self, kernel: Kernel, payload: &[u8], key: Key, offset: usize, expect: (&[u8], bool)) {
        let (start, end) = (self.line + offset, self.line + offset + payload.len());
        let place = || format!("{} over {} bytes at {offset} with {key:x?}", kernel.name(), payload.len());

        self.bytes[start..end].copy_from_slice(payload);
        let is_ascii = kernel.apply(&mut self.bytes[start..end], key);
        assert_eq!((&self.bytes[start..end], is_ascii), expect, "{}, in place", place());
        assert!(self.bytes[..start].iter().all(|byte| *byte == 0xaa), "{} wrote in front", place());
        assert!(self.bytes[end..].iter().all(|byte| *byte == 0xaa), "{} wrote behind", place());

        // The memory has room, so it stays where it is.
        let mut out = std::mem::take(&mut self.bytes);
        out.truncate(start);
        let is_ascii = kernel.append(&mut out, payload, key);
        assert_eq!((&out[start..], is_ascii), expect, "{}, appended", place());
        assert!(out[..start].iter().all(|byte| *byte == 0xaa), "{} changed what was there", place());
        out.truncate(start);
        out.resize(out.capacity(), 0xaa);
        self.bytes = out;
    }
}

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i * 31 % 251).expect("below 251")).collect()
}

fn scalar_twin(payload: &[u8], key: Key) -> (Vec<u8>, bool) {
    let mut bytes = payload.to_vec();
    let is_ascii = scalar::apply(&mut bytes, key);
    (bytes, is_ascii)
}

#[test]
fn the_scalar_twin_is_the_definition() {
    let payload = sample(EVERY_LEN_MAX);
    let plain: Vec<u8> = payload.iter().enumerate().map(|(i, byte)| byte ^ KEY[i % 4]).collect();
    Buffer::new(EVERY_LEN_MAX).check(SCALAR, &payload, KEY, 0, (&plain, false));
    Buffer::new(EVERY_LEN_MAX).check(SCALAR, b"Hello", [0; 4], 0, (b"Hello", true));
}

#[test]
fn every_length_alignment_and_phase_equals_the_scalar_twin() {
    let mut buffer = Buffer::new(EVERY_LEN_MAX);
    for len in 0..=EVERY_LEN_MAX {
        let payload = sample(len);
        for key in [0, 1, 2, 3].map(|phase| rotate(KEY, phase)) {
            let (plain, is_ascii) = scalar_twin(&payload, key);
            for kernel in Kernel::available().into_iter().chain([Kernel::TINY, SCALAR]) {
                for offset in 0..ALIGN {
                    buffer.check(kernel, &payload, key, offset, (&plain, is_ascii));
                }
            }
        }
    }
}

#[test]
fn large_payloads_equal_the_scalar_twin() {
    for len in [1_023, 1_024, 4_095, 16_384 + 64, 65_537, (1 << 20) + 13] {
        let mut buffer = Buffer::new(len);
        let payload = sample(len);
        let (plain, is_ascii) = scalar_twin(&payload, KEY);
        for kernel in Kernel::available() {
            for offset in [0, 1, 14, 63] {
                buffer.check(kernel, &payload, KEY, offset, (&plain, is_ascii));
            }
        }
    }
}

#[test]
fn one_byte_that_is_not_ascii_is_seen_wherever_it_is() {
    let lens = (0..=EVERY_LEN_MAX).chain([1_000, 2_000]);
    for len in lens {
        let mut buffer = Buffer::new(len);
        let text: Vec<u8> = (0..len).map(|i| u8::try_from(i % 128).expect("below 128")).collect();
        let (masked, _) = scalar_twin(&text, KEY);
        for kernel in Kernel::available() {
            buffer.check(kernel, &masked, KEY, len % ALIGN, (&text, true));
            for index in 0..len {
                let (mut text, mut masked) = (text.clone(), masked.clone());
                text[index] ^= 0x80;
                masked[index] ^= 0x80;
                buffer.check(kernel, &masked, KEY, index % ALIGN, (&text, false));
            }
        }
    }
}

#[test]
fn the_best_kernel_is_the_first_of_those_available() {
    let available = Kernel::available();
    assert_eq!(Kernel::best().name(), available[0].name());
    assert!(available.iter().any(|kernel| kernel.name() == Kernel::BASELINE.name()));
    assert_eq!(available.last().map(Kernel::name), Some("portable"));
}
