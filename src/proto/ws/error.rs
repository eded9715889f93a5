//! The rules that a peer can break.

use crate::proto::ws::CloseCode;

/// A rule of RFC 6455, or a limit of ours, that the peer broke. It ends the session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ProtocolError {
    /// A reserved bit is set and no extension gave it a meaning (section 5.2).
    ReservedBit,
    /// An opcode that is not defined (section 5.2).
    UnknownOpcode,
    /// A control frame with FIN clear (section 5.5).
    FragmentedControl,
    /// A control frame with more than 125 bytes of payload (section 5.5).
    OversizedControl,
    /// A frame from a client without a mask (section 5.1).
    UnmaskedFrame,
    /// A frame from a server with a mask (section 5.1).
    MaskedFrame,
    /// A length in more bytes than it needs (section 5.2).
    NonMinimalLength,
    /// A 64-bit length with its top bit set (section 5.2).
    LengthTopBit,
    /// A continuation frame outside a fragmented message (section 5.4).
    UnexpectedContinuation,
    /// A new data frame inside a fragmented message (section 5.4).
    InterleavedMessage,
    /// A Close frame with a payload of one byte (section 5.5.1).
    TruncatedCloseCode,
    /// A Close frame with a code that may not be sent (section 7.4).
    InvalidCloseCode,
    /// Text, or the reason of a Close, that is not UTF-8 (sections 8.1 and 5.5.1).
    InvalidUtf8,
    /// A compressed message that is not DEFLATE data (RFC 7692 section 7.2.2).
    InvalidDeflate,
    /// A message longer than the limit, inflated.
    MessageTooBig,
    /// A message in more fragments than the limit.
    TooManyFragments,
    /// More fragments without a byte in a row than the limit.
    TooManyEmptyFragments,
    /// More work for the decompressor in a second than the limit.
    InflateBudget,
    /// A fragmented message that took longer than its deadline.
    AssemblyTimeout,
}

impl ProtocolError {
    /// The code for our Close frame: the only place where an error becomes a wire value.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBit
            | Self::UnknownOpcode
            | Self::FragmentedControl
            | Self::OversizedControl
            | Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::NonMinimalLength
            | Self::LengthTopBit
            | Self::UnexpectedContinuation
            | Self::InterleavedMessage
            | Self::TruncatedCloseCode
            | Self::InvalidCloseCode => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 | Self::InvalidDeflate => CloseCode::INVALID_PAYLOAD,
            Self::TooManyFragments | Self::TooManyEmptyFragments | Self::InflateBudget | Self::AssemblyTimeout => {
                CloseCode::POLICY_VIOLATION
            }
            Self::MessageTooBig => CloseCode::MESSAGE_TOO_BIG,
        }
    }

    /// The reason for our Close frame: what the peer's author has to mend. At most 123 bytes.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBit => "reserved bit set that means nothing here",
            Self::UnknownOpcode => "unknown opcode",
            Self::FragmentedControl => "fragmented control frame",
            Self::OversizedControl => "control frame over 125 bytes",
            Self::UnmaskedFrame => "client frame without mask",
            Self::MaskedFrame => "server frame with mask",
            Self::NonMinimalLength => "length not in its shortest form",
            Self::LengthTopBit => "top bit of the length set",
            Self::UnexpectedContinuation => "continuation without a message",
            Self::InterleavedMessage => "new message inside a fragmented one",
            Self::TruncatedCloseCode => "close code of one byte",
            Self::InvalidCloseCode => "close code not allowed",
            Self::InvalidUtf8 => "text is not UTF-8",
            Self::InvalidDeflate => "compressed data are invalid",
            Self::MessageTooBig => "message over the limit",
            Self::TooManyFragments => "too many fragments",
            Self::TooManyEmptyFragments => "too many empty fragments",
            Self::InflateBudget => "too much to inflate",
            Self::AssemblyTimeout => "fragments took too long",
        }
    }
}
