//! Masking of payloads (RFC 6455 section 5.3): byte `i` is exclusive-ored with key byte `i % 4`.
//!
//! Masking and unmasking are the same operation. Short payloads are done by instructions that every
//! CPU of the architecture has, the shortest inline: to ask for a better kernel would take as long.

use crate::simd::kernel::Kernel;

/// The masking key of a frame, rotated to the position that the next payload byte has in it.
pub type Key = [u8; 4];

/// Payloads from this length on are worth a call.
const TINY_LEN: usize = 8;
/// Payloads from this length on fill a vector of any kernel.
const SHORT_LEN: usize = 64;

/// Masks or unmasks `bytes` in place and returns the key for the byte that follows them.
///
/// Masking twice with the same key restores the input.
///
/// ```
/// let mut hello = [0x7f, 0x9f, 0x4d, 0x51, 0x58]; // RFC 6455 section 5.7
/// ringsock::simd::mask::apply(&mut hello, [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(&hello, b"Hello");
/// ```
#[inline]
pub fn apply(bytes: &mut [u8], key: Key) -> Key {
    apply_ascii(bytes, key).0
}

/// Appends the unmasked `bytes` to `out` and returns the key for the byte that follows them.
#[inline]
pub fn append(out: &mut Vec<u8>, bytes: &[u8], key: Key) -> Key {
    append_ascii(out, bytes, key).0
}

/// [`apply`], which also says whether all bytes are ASCII once unmasked.
///
/// ```
/// let mut hello = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
/// let (_, is_ascii) = ringsock::simd::mask::apply_ascii(&mut hello, [0x37, 0xfa, 0x21, 0x3d]);
/// assert!(is_ascii);
/// ```
#[inline]
pub fn apply_ascii(bytes: &mut [u8], key: Key) -> (Key, bool) {
    let len = bytes.len();
    let is_ascii = match len {
        ..TINY_LEN => Kernel::TINY.apply(bytes, key),
        TINY_LEN..SHORT_LEN => Kernel::BASELINE.apply(bytes, key),
        _ => apply_long(bytes, key),
    };
    (rotate(key, len), is_ascii)
}

/// [`append`], which also says whether all bytes are ASCII once unmasked.
#[inline]
pub fn append_ascii(out: &mut Vec<u8>, bytes: &[u8], key: Key) -> (Key, bool) {
    let len = bytes.len();
    let is_ascii = match len {
        ..TINY_LEN => Kernel::TINY.append(out, bytes, key),
        TINY_LEN..SHORT_LEN => Kernel::BASELINE.append(out, bytes, key),
        _ => append_long(out, bytes, key),
    };
    (rotate(key, len), is_ascii)
}

// Not inlined, lest short payloads save registers for a call that they don't make.
#[inline(never)]
fn apply_long(bytes: &mut [u8], key: Key) -> bool {
    Kernel::best().apply(bytes, key)
}

#[inline(never)]
fn append_long(out: &mut Vec<u8>, bytes: &[u8], key: Key) -> bool {
    Kernel::best().append(out, bytes, key)
}

/// The key as it stands `len` payload bytes later.
#[inline]
pub(super) fn rotate(key: Key, len: usize) -> Key {
    // As a number: rotating the array compiles to calls of `memmove`. Whole turns change nothing.
    let [len, ..] = len.to_le_bytes();
    u32::from_le_bytes(key).rotate_right(8 * u32::from(len)).to_le_bytes()
}
#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &[u8], key: Key) -> Vec<u8> {
        bytes.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect()
    }

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i * 31 % 251).expect("below 251")).collect()
    }

    #[test]
    fn every_length_and_alignment_equals_the_naive_loop() {
        let key = [0x11, 0x82, 0xf3, 0x44];
        for len in 0..=300 {
            for offset in 0..8 {
                let mut buffer = sample(offset + len);
                let expect = naive(&buffer[offset..], key);
                apply(&mut buffer[offset..], key);
                assert_eq!(&buffer[offset..], expect, "len {len}, offset {offset}");
                assert_eq!(&buffer[..offset], &sample(offset), "bytes before the payload stay");
            }
        }
    }

    #[test]
    fn every_split_carries_the_key_phase_over() {
        let key = [1, 2, 3, 4];
        let input = sample(150);
        let expect = naive(&input, key);
        for split in 0..=input.len() {
            let mut head = input[..split].to_vec();
            let next = apply(&mut head, key);
            append(&mut head, &input[split..], next);
            assert_eq!(head, expect, "split at {split}");
        }
    }

    #[test]
    fn each_form_gives_the_plain_bytes_the_next_key_and_whether_they_are_ascii() {
        let key = [0x91, 0x02, 0x73, 0xc4];
        for len in 0..=300 {
            let text: Vec<u8> = (0..len).map(|i| u8::try_from(i % 128).expect("below 128")).collect();
            let check = |plain: &[u8], is_ascii: bool| {
                let masked = naive(plain, key);
                let next = rotate(key, len);
                let (mut once, mut twice) = (masked.clone(), masked.clone());
                assert_eq!((apply(&mut once, key), apply_ascii(&mut twice, key)), (next, (next, is_ascii)));
                assert_eq!((&once[..], &twice[..]), (plain, plain), "{len} bytes in place");
                let (mut once, mut twice) = (b"before".to_vec(), b"before".to_vec());
                assert_eq!(append(&mut once, &masked, key), next);
                assert_eq!(append_ascii(&mut twice, &masked, key), (next, is_ascii));
                let expect = [b"before", plain].concat();
                assert_eq!((&once, &twice), (&expect, &expect), "{len} bytes appended");
            };
            check(&text, true);
            for index in 0..len {
                let mut text = text.clone();
                text[index] |= 0x80;
                check(&text, false);
            }
        }
    }

    #[test]
    fn the_key_turns_with_each_byte() {
        let keys = [0, 1, 2, 3, 4, 255, 256, 1_021].map(|len| rotate([1, 2, 3, 4], len));
        let [a, b, c, d] = [[1, 2, 3, 4], [2, 3, 4, 1], [3, 4, 1, 2], [4, 1, 2, 3]];
        assert_eq!(keys, [a, b, c, d, a, d, a, b]);
    }
}
