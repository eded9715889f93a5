//! Close codes and the payload of a Close frame (RFC 6455 sections 5.5.1 and 7.4).

use crate::proto::ws::ProtocolError;
use crate::simd::utf8;

/// A status code of a Close frame.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: a server goes down, or a page is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1007: payload that contradicts its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a policy was violated and no other code fits.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message too big to process.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1011: the server met a condition that it did not expect.
    pub const INTERNAL_ERROR: Self = Self(1011);

    /// 1013: the server is overloaded; the peer may try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// Takes a code that may stand in a Close frame, or `None`.
    ///
    /// Allowed are the codes registered for the wire (1000 to 1003 and 1007 to 1014), those of
    /// libraries and frameworks (3000 to 3999) and private ones (4000 to 4999). The codes 1004,
    /// 1005, 1006 and 1015 are reserved for reporting and never sent.
    ///
    /// ```
    /// use ringsock::proto::ws::CloseCode;
    ///
    /// assert_eq!(CloseCode::new(1000), Some(CloseCode::NORMAL));
    /// assert_eq!(CloseCode::new(1005), None);
    /// ```
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Reads the unmasked payload of a Close frame: the code, if there is one. The reason is what
/// follows its two bytes.
pub(super) fn parse_payload(payload: &[u8]) -> Result<Option<CloseCode>, ProtocolError> {
    match payload {
        [] => Ok(None),
        [_] => Err(ProtocolError::TruncatedCloseCode),
        [high, low, reason @ ..] => {
            let code = CloseCode::new(u16::from_be_bytes([*high, *low])).ok_or(ProtocolError::InvalidCloseCode)?;
            if !utf8::is_valid(reason) {
                return Err(ProtocolError::InvalidUtf8);
            }
            Ok(Some(code))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_for_the_wire_are_taken() {
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|&code| CloseCode::new(code).is_some()).collect();
        let expect: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(allowed, expect);
    }

    #[track_caller]
    fn check(payload: &[u8], expect: Result<Option<u16>, ProtocolError>) {
        assert_eq!(parse_payload(payload).map(|code| code.map(CloseCode::get)), expect);
    }

    #[test]
    fn a_close_payload_is_nothing_or_a_code_and_a_reason() {
        check(b"", Ok(None));
        check(b"\x03", Err(ProtocolError::TruncatedCloseCode));
        check(b"\x03\xe8", Ok(Some(1000)));
        check(b"\x0f\xa0bye", Ok(Some(4000)));
        check(b"\x03\xed", Err(ProtocolError::InvalidCloseCode));
        check(b"\x03\xe8\xce", Err(ProtocolError::InvalidUtf8));
    }
}
