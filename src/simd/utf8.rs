//! Streaming UTF-8 validation (RFC 3629) that fails at the first byte that can't be right.
//!
//! `simdutf8` does the work; what is ours is the carry of a character cut by the end of a piece.

/// The bytes seen are not the beginning of any UTF-8 text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidUtf8;

/// Whether `bytes` are UTF-8 text as a whole.
#[must_use]
pub fn is_valid(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
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
        match simdutf8::compat::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(error) => {
                self.keep(&bytes[error.valid_up_to()..]);
                Ok(())
            }
        }
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
        match std::str::from_utf8(&character[..=len]) {
            Ok(_) => self.carry_len = 0,
            Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
            Err(_) => self.keep(&character[..=len]),
        }
        Ok(())
    }

    /// Keeps an incomplete character: one to three bytes, as the validator just reported.
    fn keep(&mut self, bytes: &[u8]) {
        self.carry[..bytes.len()].copy_from_slice(bytes);
        self.carry_len = u8::try_from(bytes.len()).expect("an incomplete character has at most three bytes");
    }
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
}
