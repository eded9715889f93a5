//! The rules that a peer can break.

/// A rule of STOMP, or a limit of ours, that the peer's bytes broke. It ends the session: nothing that follows
/// can be read with certainty.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StompError {
    /// A command that is none of the protocol's, or not in capitals.
    UnknownCommand,
    /// A header line without a colon.
    HeaderWithoutColon,
    /// A header line that begins with its colon.
    EmptyHeaderName,
    /// A backslash with what is no escape in this version (1.1, 1.2: "undefined escape sequences").
    InvalidEscape,
    /// A CR that is not part of the end of a line.
    StrayCarriageReturn,
    /// A NUL before the end of the headers.
    NulInHead,
    /// A command or header that is not UTF-8.
    InvalidUtf8,
    /// A `content-length` that is not a decimal number.
    InvalidContentLength,
    /// The body that was announced is not followed by a NUL.
    MissingNul,
    /// A body in a frame that may have none.
    UnexpectedBody,
    /// A command longer than any.
    CommandTooLong,
    /// More headers than the limit.
    TooManyHeaders,
    /// A header line longer than the limit.
    HeaderTooLong,
    /// A body longer than the limit.
    BodyTooBig,
}

impl StompError {
    /// The text for the header `message` of an ERROR frame: what the peer's author has to mend. It has no octet
    /// that any version would have to escape.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::UnknownCommand => "unknown command",
            Self::HeaderWithoutColon => "header without a colon",
            Self::EmptyHeaderName => "header without a name",
            Self::InvalidEscape => "escape sequence that this version does not have",
            Self::StrayCarriageReturn => "carriage return without a line feed",
            Self::NulInHead => "NUL before the end of the headers",
            Self::InvalidUtf8 => "headers are not UTF-8",
            Self::InvalidContentLength => "content-length is not a decimal number",
            Self::MissingNul => "no NUL after the announced body",
            Self::UnexpectedBody => "frame of this command has no body",
            Self::CommandTooLong => "command is too long",
            Self::TooManyHeaders => "too many headers",
            Self::HeaderTooLong => "header is too long",
            Self::BodyTooBig => "body is too big",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_can_be_written_without_escapes_in_every_version() {
        let all = [
            StompError::UnknownCommand,
            StompError::HeaderWithoutColon,
            StompError::EmptyHeaderName,
            StompError::InvalidEscape,
            StompError::StrayCarriageReturn,
            StompError::NulInHead,
            StompError::InvalidUtf8,
            StompError::InvalidContentLength,
            StompError::MissingNul,
            StompError::UnexpectedBody,
            StompError::CommandTooLong,
            StompError::TooManyHeaders,
            StompError::HeaderTooLong,
            StompError::BodyTooBig,
        ];
        for error in all {
            let message = error.message();
            assert!(message.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{message:?}");
            assert!(!message.contains([':', '\\']), "{message:?}");
        }
    }
}
