//! The frame header (RFC 6455 section 5.2) and the rules that it alone can break.

use crate::proto::ws::session::Role;
use crate::proto::ws::{CONTROL_PAYLOAD_LEN_MAX, ProtocolError};
use crate::simd::mask::Key;

/// The longest frame header: two bytes, a 64-bit length and a masking key.
pub const HEADER_LEN_MAX: usize = 14;

const FIN: u8 = 0x80;
/// RSV1: the message is compressed, if that was agreed (RFC 7692 section 6).
pub(super) const COMPRESSED: u8 = 0x40;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASK: u8 = 0x80;
const LEN_16: u8 = 126;
const LEN_64: u8 = 127;

/// What a frame carries (section 11.8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0x0,
    /// A text message, or its first fragment.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// The close handshake.
    Close = 0x8,
    /// A ping.
    Ping = 0x9,
    /// A pong.
    Pong = 0xA,
}

impl Opcode {
    /// Whether frames of this kind may come between the fragments of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 >= Self::Close as u8
    }

    const fn new(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }
}

/// What the reserved bits of a frame mean, as the handshake left it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ReservedBits {
    /// Nothing: none may be set.
    #[default]
    Unused,
    /// RSV1 marks the first frame of a compressed message (RFC 7692 section 6).
    Deflate,
}

/// A frame header that is right by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHeader {
    /// Whether this frame ends its message.
    pub fin: bool,
    /// Whether the message that begins with this frame is compressed.
    pub compressed: bool,
    /// What the frame carries.
    pub opcode: Opcode,
    /// The length of the payload in bytes.
    pub payload_len: u64,
    /// The masking key, `None` for an unmasked frame.
    pub key: Option<Key>,
    /// The length of the header itself in bytes.
    pub len: usize,
}

impl FrameHeader {
    /// Reads the frame header at the front of `input`, as a peer of a `role` reads it, or `None`
    /// until all of it has arrived. `reserved` says what was agreed on.
    ///
    /// Nothing is consumed, so the call may be repeated when more bytes come. The bytes are judged
    /// in their order: a header that is cut anywhere breaks the same rule as a whole one.
    ///
    /// ```
    /// use ringsock::proto::ws::{FrameHeader, Opcode, ReservedBits, Role};
    ///
    /// let parse = |bytes| FrameHeader::parse(bytes, Role::Server, ReservedBits::Unused);
    /// let header = parse(&[0x81, 0x85, 1, 2, 3, 4])?.expect("it is whole");
    /// assert_eq!((header.opcode, header.payload_len, header.key), (Opcode::Text, 5, Some([1, 2, 3, 4])));
    /// assert_eq!(parse(&[0x81])?, None);
    /// # Ok::<(), ringsock::proto::ws::ProtocolError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first rule of section 5.2 or 5.5 that the header breaks.
    pub fn parse(input: &[u8], role: Role, reserved: ReservedBits) -> Result<Option<Self>, ProtocolError> {
        let [first, rest @ ..] = input else { return Ok(None) };
        let fin = first & FIN != 0;
        let compressed = first & COMPRESSED != 0;
        let opcode = first_byte(*first, fin, reserved)?;
        let [second, rest @ ..] = rest else { return Ok(None) };
        let short_len = second_byte(*second, opcode, role)?;
        let (payload_len, rest) = match (short_len, rest) {
            (LEN_16, [a, b, rest @ ..]) => (long_len(u64::from(u16::from_be_bytes([*a, *b])), 125)?, rest),
            (LEN_64, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                let len = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                (long_len(len, u64::from(u16::MAX))?, rest)
            }
            (LEN_16 | LEN_64, _) => return Ok(None),
            (len, rest) => (u64::from(len), rest),
        };
        let (key, rest) = match (second & MASK != 0, rest) {
            (true, [a, b, c, d, rest @ ..]) => (Some([*a, *b, *c, *d]), rest),
            (true, _) => return Ok(None),
            (false, rest) => (None, rest),
        };
        Ok(Some(Self { fin, compressed, opcode, payload_len, key, len: input.len() - rest.len() }))
    }
}

fn first_byte(byte: u8, fin: bool, reserved: ReservedBits) -> Result<Opcode, ProtocolError> {
    // Only the frame that begins a message says whether it is compressed.
    let begins = matches!(byte & OPCODE, 0x1 | 0x2);
    let allowed = if reserved == ReservedBits::Deflate && begins { COMPRESSED } else { 0 };
    if byte & RESERVED & !allowed != 0 {
        return Err(ProtocolError::ReservedBit);
    }
    let opcode = Opcode::new(byte & OPCODE).ok_or(ProtocolError::UnknownOpcode)?;
    if opcode.is_control() && !fin {
        return Err(ProtocolError::FragmentedControl);
    }
    Ok(opcode)
}

fn second_byte(byte: u8, opcode: Opcode, role: Role) -> Result<u8, ProtocolError> {
    match role {
        Role::Server if byte & MASK == 0 => return Err(ProtocolError::UnmaskedFrame),
        Role::Client if byte & MASK != 0 => return Err(ProtocolError::MaskedFrame),
        Role::Server | Role::Client => {}
    }
    let short_len = byte & !MASK;
    if opcode.is_control() && usize::from(short_len) > CONTROL_PAYLOAD_LEN_MAX {
        return Err(ProtocolError::OversizedControl);
    }
    Ok(short_len)
}

/// Checks a length of 16 or 64 bits, which must be above what the next shorter form can hold.
fn long_len(len: u64, shorter_max: u64) -> Result<u64, ProtocolError> {
    if len > i64::MAX.unsigned_abs() {
        return Err(ProtocolError::LengthTopBit);
    }
    if len <= shorter_max {
        return Err(ProtocolError::NonMinimalLength);
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &[u8], role: Role, expect: Result<(u64, usize), ProtocolError>) {
        let whole = FrameHeader::parse(input, role, ReservedBits::Unused);
        assert_eq!(whole.map(|header| header.map(|header| (header.payload_len, header.len))), expect.map(Some));
        for cut in 0..input.len() {
            match (FrameHeader::parse(&input[..cut], role, ReservedBits::Unused), expect) {
                (Ok(None), _) => {}
                (cut_result, expect) => assert_eq!(cut_result.err(), expect.err(), "cut at {cut}"),
            }
        }
    }

    #[test]
    fn every_form_of_length_is_read() {
        check(&[0x82, 0x80, 0, 0, 0, 0], Role::Server, Ok((0, 6)));
        check(&[0x82, 0xfd, 0, 0, 0, 0], Role::Server, Ok((125, 6)));
        check(&[0x82, 126, 0, 126], Role::Client, Ok((126, 4)));
        check(&[0x82, 126, 0xff, 0xff], Role::Client, Ok((65_535, 4)));
        check(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], Role::Client, Ok((65_536, 10)));
        check(
            &[0x02, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4],
            Role::Server,
            Ok((u64::MAX >> 1, 14)),
        );
    }

    #[test]
    fn lengths_that_are_not_minimal_are_refused() {
        check(&[0x82, 126, 0, 125], Role::Client, Err(ProtocolError::NonMinimalLength));
        check(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Role::Client, Err(ProtocolError::NonMinimalLength));
        check(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], Role::Client, Err(ProtocolError::LengthTopBit));
    }

    #[test]
    fn the_role_decides_about_the_mask() {
        check(&[0x81, 0x00], Role::Server, Err(ProtocolError::UnmaskedFrame));
        check(&[0x81, 0x80, 1, 2, 3, 4], Role::Client, Err(ProtocolError::MaskedFrame));
    }

    #[test]
    fn control_frames_are_whole_and_short() {
        check(&[0x09, 0x80, 1, 2, 3, 4], Role::Server, Err(ProtocolError::FragmentedControl));
        check(&[0x88, 126, 0, 126], Role::Client, Err(ProtocolError::OversizedControl));
        check(&[0x8a, 127, 0, 0, 0, 0, 0, 1, 0, 0], Role::Client, Err(ProtocolError::OversizedControl));
    }

    #[test]
    fn one_reserved_bit_marks_a_compressed_message_where_that_was_agreed() {
        let parse = |first: u8| FrameHeader::parse(&[first, 0], Role::Client, ReservedBits::Deflate);
        for first in [0xc1, 0x41, 0xc2, 0x42] {
            assert!(parse(first).expect("agreed").expect("whole").compressed);
        }
        assert!(!parse(0x81).expect("it may be left as it is").expect("whole").compressed);
        for first in [0xc0, 0x40, 0xc8, 0xc9, 0xca, 0xa1, 0x91, 0xe1, 0xd1, 0xf1] {
            assert_eq!(parse(first), Err(ProtocolError::ReservedBit), "{first:#x}");
        }
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused_at_the_first_byte() {
        for bits in [0xc1, 0xa1, 0x91, 0xf1] {
            check(&[bits], Role::Server, Err(ProtocolError::ReservedBit));
        }
        for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            check(&[0x80 | opcode], Role::Server, Err(ProtocolError::UnknownOpcode));
        }
    }
}
