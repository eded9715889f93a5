//! Frames into bytes, for the version of whoever reads them.
//!
//! A header that a version cannot express is left out rather than written so that it reads as something else:
//! a line feed of a 1.2 header would be a header of its own to a 1.0 client.

use memchr::{memchr, memchr3};

use crate::proto::stomp::{Command, Version};

/// The digits of the largest number.
const DIGITS_MAX: usize = 20;

/// Writes one frame.
///
/// ```
/// use ringsock::proto::stomp::{Command, Version, encoder};
///
/// let mut out = Vec::new();
/// let mut frame = encoder::begin(&mut out, Version::V1_1, Command::Message);
/// frame.header("subscription", "1").header("note", "a:b");
/// frame.finish(b"hello");
/// assert_eq!(out, b"MESSAGE\nsubscription:1\nnote:a\\cb\ncontent-length:5\n\nhello\0");
/// ```
#[derive(Debug)]
#[must_use = "a frame ends by `finish`"]
pub struct FrameWriter<'o> {
    out: &'o mut Vec<u8>,
    version: Version,
    /// Whether names and values are escaped.
    escapes: bool,
}

/// Begins a frame of `command` behind what `out` holds, for a peer that speaks `version`. Before one is agreed on,
/// 1.0 is what everybody can read.
pub fn begin(out: &mut Vec<u8>, version: Version, command: Command) -> FrameWriter<'_> {
    out.extend_from_slice(command.name().as_bytes());
    out.push(b'\n');
    FrameWriter { out, version, escapes: version > Version::V1_0 && !command.is_of_handshake() }
}

/// Writes a heart-beat.
pub fn heart_beat(out: &mut Vec<u8>) {
    out.push(b'\n');
}

impl FrameWriter<'_> {
    /// Writes a header. One that this version cannot express is left out: with an empty name, a NUL, a line feed
    /// or carriage return where there is no escape for it, or a colon in the name likewise.
    pub fn header(&mut self, name: &str, value: &str) -> &mut Self {
        if self.can_express(name, value) {
            self.write(name);
            self.out.push(b':');
            self.write(value);
            self.out.push(b'\n');
        }
        self
    }

    /// Writes a header whose value is a number.
    pub fn number(&mut self, name: &'static str, value: u64) -> &mut Self {
        self.numbers(name, &[value])
    }

    /// Writes a header whose value is numbers with hyphens between them, as in ids that nobody has to escape.
    pub fn numbers(&mut self, name: &'static str, values: &[u64]) -> &mut Self {
        self.out.extend_from_slice(name.as_bytes());
        let mut separator = b':';
        for &value in values {
            self.out.push(separator);
            self.digits(value);
            separator = b'-';
        }
        self.out.push(b'\n');
        self
    }

    fn digits(&mut self, value: u64) {
        let mut digits = [0; DIGITS_MAX];
        let (mut start, mut rest) = (digits.len(), value);
        loop {
            start -= 1;
            digits[start] = b'0' + u8::try_from(rest % 10).expect("a digit");
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[start..]);
    }

    /// Ends the frame with its body and, if there is one, the `content-length`.
    pub fn finish(mut self, body: &[u8]) {
        if !body.is_empty() {
            self.number("content-length", body.len() as u64);
        }
        self.out.reserve(body.len() + 2);
        self.out.push(b'\n');
        self.out.extend_from_slice(body);
        self.out.push(0);
    }

    fn can_express(&self, name: &str, value: &str) -> bool {
        let controls = |text: &str| memchr3(b'\n', b'\r', 0, text.as_bytes()).is_some();
        if name.is_empty() || !self.escapes && memchr(b':', name.as_bytes()).is_some() {
            return false;
        }
        !controls(name) && !controls(value) || self.can_express_controls(&[name, value].concat())
    }

    #[cold]
    fn can_express_controls(&self, text: &str) -> bool {
        !text.contains('\0')
            && match self.version {
                _ if !self.escapes => !text.contains(['\n', '\r']),
                // It has no escape for CR, and a bare one before the end of the line would be a part of that.
                Version::V1_0 | Version::V1_1 => !text.contains('\r'),
                Version::V1_2 => true,
            }
    }

    fn write(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while self.escapes
            && let Some(at) = first_special(rest)
        {
            self.out.extend_from_slice(&rest[..at]);
            self.out.extend_from_slice(match rest[at] {
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b':' => b"\\c",
                _ => b"\\\\",
            });
            rest = &rest[at + 1..];
        }
        self.out.extend_from_slice(rest);
    }
}

fn first_special(bytes: &[u8]) -> Option<usize> {
    let some = memchr3(b'\n', b':', b'\\', bytes);
    memchr(b'\r', &bytes[..some.unwrap_or(bytes.len())]).or(some)
}
