//! A frame as it was received.

use std::borrow::Cow;

use memchr::memchr;

use crate::proto::stomp::head::{Lines, Writing, trimmed, unescaped};
use crate::proto::stomp::{Command, Version};

/// A whole frame, a view of the bytes that it came in.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'f> {
    command: Command,
    headers: Headers<'f>,
    body: &'f [u8],
}

impl<'f> Frame<'f> {
    pub(super) fn new(command: Command, head: &'f str, writing: Writing, body: &'f [u8]) -> Self {
        Self { command, headers: Headers { lines: Lines::of(head), writing }, body }
    }

    /// What the frame asks for or tells.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command
    }

    /// Its headers, in their order.
    #[must_use]
    pub fn headers(&self) -> Headers<'f> {
        self.headers
    }

    /// The value of the first header of this name: later ones don't count (1.2, "Repeated Header Entries"). The name
    /// is one that is written without escapes.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'f, str>> {
        self.headers().find(|header| header.name == name).map(|header| header.value())
    }

    /// Its body, without the NUL.
    #[must_use]
    pub fn body(&self) -> &'f [u8] {
        self.body
    }

    /// The same frame with blanks around values taken away, if `version` is 1.0, whose examples have them: for
    /// a CONNECT, of which that is known only when it has been read.
    #[must_use]
    pub fn in_version(mut self, version: Version) -> Self {
        self.headers.writing.padded |= version == Version::V1_0;
        self
    }
}

/// The headers of a frame, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'f> {
    lines: Lines<'f>,
    writing: Writing,
}

impl<'f> Iterator for Headers<'f> {
    type Item = Header<'f>;

    fn next(&mut self) -> Option<Header<'f>> {
        self.lines.next().map(|line| Header::read(line, self.writing))
    }
}

/// A header as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Header<'f> {
    name: &'f str,
    value: &'f str,
    escapes: Option<Version>,
}

impl<'f> Header<'f> {
    fn read(line: &'f str, writing: Writing) -> Self {
        let colon = memchr(b':', line.as_bytes()).unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(':').unwrap_or(value);
        Self { name, value: trimmed(value, writing), escapes: writing.escapes }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> Cow<'f, str> {
        self.read_text(self.name)
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> Cow<'f, str> {
        self.read_text(self.value)
    }

    fn read_text(&self, written: &'f str) -> Cow<'f, str> {
        match self.escapes {
            Some(version) if memchr(b'\\', written.as_bytes()).is_some() => Cow::Owned(unescape(written, version)),
            _ => Cow::Borrowed(written),
        }
    }
}

fn unescape(written: &str, version: Version) -> String {
    let mut text = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(at) = memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).and_then(|&escape| unescaped(escape, version));
        text.push(escape.expect("escapes were checked when the head was whole"));
        rest = &rest[at + 2..];
    }
    text.push_str(rest);
    text
}
