//! Streaming UTF-8 validation (RFC 3629) that fails at the first byte that can't be right.
//!
//! `simdutf8` does the work. What is ours: the carry of a character cut by the end of a piece, and
//! that text is validated as it is unmasked. The pass that unmasks it says whether it is ASCII, which
//! needs no second look; most text on the wire is.

use crate::simd::mask;
use crate::simd::mask::Key;

/// The bytes seen are not the beginning of any UTF-8 text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidUtf8;

/// Whether `bytes` are UTF-8 text as a whole.
#[must_use]
pub fn is_valid(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

/// The text that `bytes` are as a whole, if they are UTF-8.
#[must_use]
pub fn text(bytes: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(bytes).ok()
}

/// Unmasks a whole text in place and says whether it is UTF-8.
///
/// ```
/// let mut hello = [0x7f, 0x9f, 0x4d, 0x51, 0x58]; // RFC 6455 section 5.7
/// assert!(ringsock::simd::utf8::apply(&mut hello, [0x37, 0xfa, 0x21, 0x3d]));
/// assert_eq!(&hello, b"Hello");
/// ```
#[inline]
#[must_use]
pub fn apply(bytes: &mut [u8], key: Key) -> bool {
    let (_, is_ascii) = mask::apply_ascii(bytes, key);
    is_ascii || is_valid(bytes)
}

/// A validator of text that comes in pieces: four bytes of state.
///
/// ```
/// use ringsock::simd::utf8::Validator;
///
/// let mut validator = Validator::default();
/// validator.push(b"caf\xc3").expect("a character may be cut");
/// validator.push(b"\xa9").expect("and completed later");
/// assert!(validator.finish().is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Validator {
    /// The first bytes of a character whose rest has not arrived.
    carry: [u8; 3],
    carry_len: u8,
}

impl Validator {
    /// Takes the next piece of the text.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] as soon as no continuation could make the text valid, even inside a
    /// character: `F4 90` fails at its second byte.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), InvalidUtf8> {
        while self.carry_len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            self.complete_carry(byte)?;
            bytes = rest;
        }
        let (whole, cut) = bytes.split_at(bytes.len() - cut_len(bytes));
        if !is_valid(whole) {
            return Err(InvalidUtf8);
        }
        self.begin_carry(cut)
    }

    /// Unmasks the next piece of the text in place, as [`mask::apply`] does, and takes it.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn apply(&mut self, bytes: &mut [u8], key: Key) -> Result<Key, InvalidUtf8> {
        let (key, is_ascii) = mask::apply_ascii(bytes, key);
        if !is_ascii || self.carry_len > 0 {
            self.push(bytes)?;
        }
        Ok(key)
    }

    /// Appends the next piece of the text, unmasked, to `out`, as [`mask::append`] does, and takes it.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn append(&mut self, out: &mut Vec<u8>, bytes: &[u8], key: Key) -> Result<Key, InvalidUtf8> {
        let start = out.len();
        let (key, is_ascii) = mask::append_ascii(out, bytes, key);
        if !is_ascii || self.carry_len > 0 {
            self.push(&out[start..])?;
        }
        Ok(key)
    }

    /// Ends the text.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if the last character is incomplete.
    pub fn finish(self) -> Result<(), InvalidUtf8> {
        if self.carry_len == 0 { Ok(()) } else { Err(InvalidUtf8) }
    }

    fn complete_carry(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let len = usize::from(self.carry_len);
        let mut character = [0; 4];
        character[..len].copy_from_slice(&self.carry[..len]);
        character[len] = byte;
        self.carry_len = 0;
        self.begin_carry(&character[..=len])
    }

    /// Takes at most one character. If it is cut, its bytes are kept.
    fn begin_carry(&mut self, character: &[u8]) -> Result<(), InvalidUtf8> {
        match std::str::from_utf8(character) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(_) => {
                self.keep(character);
                Ok(())
            }
        }
    }

    /// Keeps an incomplete character: one to three bytes, as the validator just reported.
    fn keep(&mut self, bytes: &[u8]) {
        self.carry[..bytes.len()].copy_from_slice(bytes);
        self.carry_len = u8::try_from(bytes.len()).expect("an incomplete character has at most three bytes");
    }
}

/// How many bytes of a character that is longer than what is there of it stand at the end.
///
/// Only the first byte of the character is looked at.
fn cut_len(bytes: &[u8]) -> usize {
    for (index, byte) in bytes.iter().rev().take(3).enumerate() {
        let len = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            _ => 1,
        };
        return if index + 1 < len { index + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offset of the first byte at which the text is known to be bad, by the standard library.
    fn naive(bytes: &[u8]) -> Option<usize> {
        (1..=bytes.len()).find(|&len| matches!(std::str::from_utf8(&bytes[..len]), Err(e) if e.error_len().is_some()))
    }

    #[track_caller]
    fn check(bytes: &[u8], valid: bool) {
        assert_eq!(is_valid(bytes), valid, "{bytes:x?} as a whole");
        let bad_at = naive(bytes);
        for split in 0..=bytes.len() {
            let mut validator = Validator::default();
            let pushed = validator.push(&bytes[..split]).and_then(|()| validator.push(&bytes[split..]));
            assert_eq!(pushed.is_err(), bad_at.is_some(), "{bytes:x?} split at {split}");
            assert_eq!(pushed.and_then(|()| validator.finish()).is_ok(), valid, "{bytes:x?} split at {split}");
        }
        let mut validator = Validator::default();
        let failed = bytes.iter().position(|byte| validator.push(&[*byte]).is_err());
        assert_eq!(failed.map(|index| index + 1), bad_at, "{bytes:x?} byte by byte");
    }

    #[test]
    fn valid_texts_pass_however_they_are_cut() {
        check(b"", true);
        check(b"plain ASCII that is longer than one vector register of sixty-four bytes, surely", true);
        check("κόσμε".as_bytes(), true);
        check("\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes(), true);
    }

    #[test]
    fn cut_characters_are_invalid_only_at_the_end() {
        check(b"\xc3", false);
        check(b"abc\xe2\x82", false);
        check(b"\xf0\x9f\x92", false);
    }

    #[test]
    fn overlong_surrogate_and_out_of_range_fail_at_their_first_bad_byte() {
        check(b"\xc0\xaf", false);
        check(b"\xe0\x80\xaf", false);
        check(b"\xed\xa0\x80", false);
        check(b"\xf4\x90\x80\x80", false);
        check(b"\xf8\x88\x80\x80\x80", false);
        check(b"ok\xff", false);
        check(b"ok\x80ok", false);
        check(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", false);
    }

    #[test]
    fn every_four_bytes_of_those_at_a_boundary_are_judged_as_by_the_standard_library() {
        let bytes =
            [0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xe0, 0xe1, 0xed, 0xf0, 0xf3, 0xf4, 0xf5];
        for a in bytes {
            for (b, c) in bytes.iter().flat_map(|b| bytes.map(|c| (*b, c))) {
                bytes.iter().map(|d| [a, b, c, *d]).for_each(|four| check(&four, std::str::from_utf8(&four).is_ok()));
            }
        }
    }

    /// Checks that unmasking and validating at once is unmasking, then validating.
    #[track_caller]
    fn check_unmasking(bytes: &[u8]) {
        let key = [0x91, 0x02, 0x73, 0xc4];
        let mut masked = bytes.to_vec();
        mask::apply(&mut masked, key);
        let mut whole = masked.clone();
        assert_eq!(apply(&mut whole, key), std::str::from_utf8(bytes).is_ok(), "{bytes:x?} as a whole");
        assert_eq!(whole, bytes);
        for split in 0..=bytes.len() {
            let (mut in_place, mut appended) = (Validator::default(), Validator::default());
            let (mut piece, mut out) = (masked.clone(), b"\xff before".to_vec());
            let (head, tail) = piece.split_at_mut(split);
            let in_place = in_place.apply(head, key).and_then(|next| {
                in_place.apply(tail, next)?;
                in_place.finish()
            });
            let appended = appended.append(&mut out, &masked[..split], key).and_then(|next| {
                appended.append(&mut out, &masked[split..], next)?;
                appended.finish()
            });
            let expect = std::str::from_utf8(bytes).map(drop).map_err(|_| InvalidUtf8);
            assert_eq!((in_place, appended), (expect, expect), "{bytes:x?} split at {split}");
            if expect.is_ok() {
                assert_eq!((&piece[..], &out[8..]), (bytes, bytes), "split at {split}");
            }
        }
    }

    #[test]
    fn text_is_validated_as_it_is_unmasked() {
        check_unmasking(b"");
        check_unmasking(&[b'x'; 200]);
        check_unmasking("κόσμε, 世界, 🌍: ".repeat(12).as_bytes());
        check_unmasking(&["x".repeat(130).as_bytes(), "é".as_bytes(), &[b'x'; 70]].concat());
        check_unmasking(&[&[b'x'; 130][..], b"\xed\xa0\x80", &[b'x'; 70]].concat());
        check_unmasking(b"ends inside \xf0\x9f\x92");
        check_unmasking(b"\xc3 is cut by ASCII");
    }

    #[test]
    fn unmasked_byte_by_byte_text_fails_at_its_first_bad_byte() {
        for bytes in [&b"ok\xff"[..], b"ok\xf4\x90\x80\x80", b"\xe2\x82(", b"\xed\xa0\x80", b"\xc3\xa9\xc1\xbf"] {
            let (mut validator, mut out, mut key) = (Validator::default(), Vec::new(), [0; 4]);
            let failed = bytes.iter().position(|byte| match validator.append(&mut out, &[*byte], key) {
                Ok(next) => {
                    key = next;
                    false
                }
                Err(InvalidUtf8) => true,
            });
            assert_eq!(failed.map(|index| index + 1), naive(bytes), "{bytes:x?}");
        }
    }
}
