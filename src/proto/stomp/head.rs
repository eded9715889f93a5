//! The command and headers of a frame: where they end, and whether they keep the rules.

use memchr::{memchr, memchr2_iter};

use crate::proto::stomp::{COMMAND_LEN_MAX, Command, Limits, StompError, Version};
use crate::simd::utf8;

/// More digits than any length has.
const DIGITS_MAX: usize = 17;

/// How far the head of a frame has been looked through.
///
/// What it finds wrong it finds in the order of the bytes, so that the first fault is the same wherever the
/// input is cut.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScan {
    /// What the frame is, once its first line has ended.
    command: Option<Command>,
    /// How long the first line is with its end.
    command_line_len: usize,
    header_count: usize,
    /// How many bytes of the line under way were in earlier inputs, and the last of them.
    line_len: usize,
    last: u8,
    /// The command, where it is cut by the end of an input.
    cut: [u8; COMMAND_LEN_MAX],
}

impl HeadScan {
    /// Looks on: returns how many bytes of `input` belong to the head, if it ends in them.
    pub(super) fn advance(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, StompError> {
        let mut start = 0;
        for at in memchr2_iter(b'\n', 0, input) {
            let line = &input[start..at];
            self.check_len(line.len(), limits)?;
            if input[at] == 0 {
                return Err(StompError::NulInHead);
            }
            start = at + 1;
            if self.end_line(line, limits)? {
                return Ok(Some(start));
            }
        }
        let line = &input[start..];
        self.check_len(line.len(), limits)?;
        if self.command.is_none() {
            let room = self.cut.iter_mut().skip(self.line_len);
            room.zip(line).for_each(|(to, from)| *to = *from);
        }
        self.line_len += line.len();
        self.last = line.last().copied().unwrap_or(self.last);
        Ok(None)
    }

    /// The command, of a head that was found to be whole.
    pub(super) fn command(&self) -> Command {
        self.command.expect("a head ends after its command")
    }

    /// How long the first line is, with its end.
    pub(super) fn command_line_len(&self) -> usize {
        self.command_line_len
    }

    /// Takes the last part of a line without its LF; returns whether it is the blank one that ends the head.
    fn end_line(&mut self, line: &[u8], limits: &Limits) -> Result<bool, StompError> {
        let len = self.line_len + line.len();
        let ends_with_cr = len > 0 && line.last().copied().unwrap_or(self.last) == b'\r';
        let text_len = len - usize::from(ends_with_cr);
        let is_first = self.command.is_none();
        if text_len > line_len_max(is_first, limits) {
            return Err(too_long(is_first));
        }
        let cut = self.line_len;
        (self.line_len, self.last) = (0, 0);
        if is_first {
            self.command_line_len = len + 1;
            let command = if cut == 0 {
                Command::parse(&line[..text_len])
            } else {
                self.cut.iter_mut().skip(cut).zip(line).for_each(|(to, from)| *to = *from);
                Command::parse(&self.cut[..text_len])
            };
            self.command = Some(command.ok_or(StompError::UnknownCommand)?);
            return Ok(false);
        }
        if text_len == 0 {
            return Ok(true);
        }
        self.header_count += 1;
        if self.header_count > limits.headers_max { Err(StompError::TooManyHeaders) } else { Ok(false) }
    }

    /// Checks a line that has not ended, or was not looked at as a whole. The last byte may be a CR.
    fn check_len(&self, more: usize, limits: &Limits) -> Result<(), StompError> {
        let is_first = self.command.is_none();
        if self.line_len + more > line_len_max(is_first, limits).saturating_add(1) {
            Err(too_long(is_first))
        } else {
            Ok(())
        }
    }
}

fn line_len_max(is_first: bool, limits: &Limits) -> usize {
    if is_first { COMMAND_LEN_MAX } else { limits.header_bytes_max }
}

fn too_long(is_first: bool) -> StompError {
    if is_first { StompError::CommandTooLong } else { StompError::HeaderTooLong }
}

/// How headers are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Writing {
    /// The version whose escapes backslashes begin; none where a backslash is one.
    pub(super) escapes: Option<Version>,
    /// Blanks around a value don't belong to it.
    pub(super) padded: bool,
    /// A CR within a line is a fault, and not a part of it.
    refuses_cr: bool,
}

impl Writing {
    /// How a frame of this command has its headers in this version, or before one is agreed on.
    pub(super) fn of(command: Command, version: Option<Version>) -> Self {
        let spoken = version.filter(|_| !command.is_of_handshake());
        Self {
            escapes: spoken.filter(|version| *version > Version::V1_0),
            padded: spoken == Some(Version::V1_0),
            refuses_cr: spoken.is_none_or(|version| version == Version::V1_2),
        }
    }
}

/// Checks the header lines of a whole head; returns the `content-length`, if there is one.
pub(super) fn check_headers(head: &[u8], writing: Writing) -> Result<Option<usize>, StompError> {
    let Some(head) = utf8::text(head) else { return Err(StompError::InvalidUtf8) };
    let may_have_cr = writing.refuses_cr && memchr(b'\r', head.as_bytes()).is_some();
    let escapes = writing.escapes.filter(|_| memchr(b'\\', head.as_bytes()).is_some());
    let mut content_length = None;
    for line in Lines::of(head) {
        match memchr(b':', line.as_bytes()) {
            None => return Err(StompError::HeaderWithoutColon),
            Some(0) => return Err(StompError::EmptyHeaderName),
            Some(colon) if content_length.is_none() && &line[..colon] == "content-length" => {
                content_length = Some(length(trimmed(&line[colon + 1..], writing))?);
            }
            Some(_) => {}
        }
        if may_have_cr && line.contains('\r') {
            return Err(StompError::StrayCarriageReturn);
        }
        if let Some(version) = escapes
            && !is_escaped(line, version)
        {
            return Err(StompError::InvalidEscape);
        }
    }
    Ok(content_length)
}

/// The header lines of a whole head without its command line, each without its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines<'h>(&'h str);

impl<'h> Lines<'h> {
    pub(super) fn of(head: &'h str) -> Self {
        Self(head)
    }
}

impl<'h> Iterator for Lines<'h> {
    type Item = &'h str;

    fn next(&mut self) -> Option<&'h str> {
        let end = memchr(b'\n', self.0.as_bytes())?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        // The last one is the blank line that ends the head.
        (!self.0.is_empty()).then(|| line.strip_suffix('\r').unwrap_or(line))
    }
}

/// A value as it is meant.
pub(super) fn trimmed(value: &str, writing: Writing) -> &str {
    if writing.padded { value.trim_matches([' ', '\t']) } else { value }
}

/// What stands for an escape's second character.
pub(super) fn unescaped(escape: u8, version: Version) -> Option<char> {
    match escape {
        b'n' => Some('\n'),
        b'c' => Some(':'),
        b'\\' => Some('\\'),
        b'r' if version == Version::V1_2 => Some('\r'),
        _ => None,
    }
}

fn is_escaped(line: &str, version: Version) -> bool {
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && bytes.next().and_then(|escape| unescaped(escape, version)).is_none() {
            return false;
        }
    }
    true
}

fn length(digits: &str) -> Result<usize, StompError> {
    let is_number = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }.ok_or(StompError::InvalidContentLength)
}
