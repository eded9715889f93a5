//! What both sides agreed on, and how it is written in a handshake (RFC 7692 section 7.1).

use std::fmt;
use std::fmt::{Display, Write};
use std::str;

use crate::proto::http::Extension;
use crate::proto::ws::deflate::EXTENSION_NAME;
use crate::proto::ws::deflate::context::{Context, Takeover};

/// The agreement of a handshake. It shows as the server's answer: `permessage-deflate; …`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Parameters {
    /// The server's messages do not refer to those before.
    pub server_no_context_takeover: bool,
    /// The client's messages do not refer to those before.
    pub client_no_context_takeover: bool,
    /// How far back the server's messages refer; 15 if it isn't said.
    pub server_max_window_bits: Option<WindowBits>,
    /// How far back the client's messages refer; 15 if it isn't said.
    pub client_max_window_bits: Option<WindowBits>,
}

impl Parameters {
    /// The context for the messages of the server.
    #[must_use]
    pub fn server_context(&self) -> Context {
        context(self.server_max_window_bits, self.server_no_context_takeover)
    }

    /// The context for the messages of the client.
    #[must_use]
    pub fn client_context(&self) -> Context {
        context(self.client_max_window_bits, self.client_no_context_takeover)
    }

    /// The bytes that both contexts of a connection may come to hold in the server.
    #[must_use]
    pub fn memory_max(&self) -> usize {
        self.server_context().sent_memory_max() + self.client_context().memory_max()
    }

    /// The answer to the client, for the header `Sec-WebSocket-Extensions`.
    ///
    /// It consists of the server's own words: nothing that the client sent is repeated.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::new(self)
    }
}

impl Display for Parameters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(EXTENSION_NAME)?;
        if self.server_no_context_takeover {
            write!(out, "; {SERVER_NO_CONTEXT_TAKEOVER}")?;
        }
        if self.client_no_context_takeover {
            write!(out, "; {CLIENT_NO_CONTEXT_TAKEOVER}")?;
        }
        if let Some(WindowBits(bits)) = self.server_max_window_bits {
            write!(out, "; {SERVER_MAX_WINDOW_BITS}={bits}")?;
        }
        if let Some(WindowBits(bits)) = self.client_max_window_bits {
            write!(out, "; {CLIENT_MAX_WINDOW_BITS}={bits}")?;
        }
        Ok(())
    }
}

fn context(window_bits: Option<WindowBits>, no_takeover: bool) -> Context {
    Context::new(window_bits.unwrap_or(WindowBits::MAX), if no_takeover { Takeover::No } else { Takeover::Yes })
}

/// The size of a sliding window as a power of two: 8 to 15.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WindowBits(u8);

impl WindowBits {
    /// The smallest window that the RFC knows: 256 bytes.
    pub const MIN: Self = Self(8);
    /// The largest window, and the one that is meant if none is named: 32 KiB.
    pub const MAX: Self = Self(15);

    /// A window of 2^`bits` bytes, or `None` if the RFC knows no such window.
    #[must_use]
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= Self::MIN.0 && bits <= Self::MAX.0 { Some(Self(bits)) } else { None }
    }

    /// The power of two.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The bytes of the window.
    #[must_use]
    pub const fn window_len(self) -> usize {
        1 << self.0
    }

    /// A decimal number without leading zeros (section 7.1.2).
    fn parse(value: &str) -> Option<Self> {
        let bits = match value.as_bytes() {
            [one @ b'8'..=b'9'] => one - b'0',
            [b'1', one @ b'0'..=b'5'] => 10 + (one - b'0'),
            _ => return None,
        };
        Self::new(bits)
    }
}

/// A value of `Sec-WebSocket-Extensions`, without allocation.
#[derive(Clone, Copy, Debug)]
pub struct HeaderValue {
    bytes: [u8; HEADER_VALUE_LEN_MAX],
    len: usize,
}

impl HeaderValue {
    pub(super) fn new(words: &dyn Display) -> Self {
        let mut value = Self { bytes: [0; HEADER_VALUE_LEN_MAX], len: 0 };
        write!(value, "{words}").expect("all words together fit");
        value
    }

    /// The value as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).expect("whole strings were written")
    }
}

impl Write for HeaderValue {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// The parameters of one offer or answer as they stand there, each at most once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Words {
    pub(super) server_no_context_takeover: bool,
    pub(super) client_no_context_takeover: bool,
    pub(super) server_max_window_bits: Option<WindowBits>,
    /// An offer may name it without a value: then `None` is inside.
    pub(super) client_max_window_bits: Option<Option<WindowBits>>,
}

/// Parameters that the RFC does not know (section 7.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Invalid;

impl Words {
    pub(super) fn parse(extension: &Extension<'_>) -> Result<Self, Invalid> {
        let mut words = Self::default();
        for (name, value) in extension.params() {
            words.add(name, value.as_deref())?;
        }
        Ok(words)
    }

    fn add(&mut self, name: &str, value: Option<&str>) -> Result<(), Invalid> {
        let bits = value.map(|value| WindowBits::parse(value).ok_or(Invalid)).transpose();
        match (name, value) {
            (SERVER_NO_CONTEXT_TAKEOVER, None) => raise(&mut self.server_no_context_takeover),
            (CLIENT_NO_CONTEXT_TAKEOVER, None) => raise(&mut self.client_no_context_takeover),
            (SERVER_MAX_WINDOW_BITS, Some(_)) => fill(&mut self.server_max_window_bits, bits?.ok_or(Invalid)?),
            (CLIENT_MAX_WINDOW_BITS, _) => fill(&mut self.client_max_window_bits, bits?),
            _ => Err(Invalid),
        }
    }
}

fn raise(flag: &mut bool) -> Result<(), Invalid> {
    if std::mem::replace(flag, true) { Err(Invalid) } else { Ok(()) }
}

fn fill<T>(slot: &mut Option<T>, value: T) -> Result<(), Invalid> {
    if slot.replace(value).is_some() { Err(Invalid) } else { Ok(()) }
}

pub(super) const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
pub(super) const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
pub(super) const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
pub(super) const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The length of an offer or answer with all parameters.
pub const HEADER_VALUE_LEN_MAX: usize = EXTENSION_NAME.len()
    + "; ".len()
    + SERVER_NO_CONTEXT_TAKEOVER.len()
    + "; ".len()
    + CLIENT_NO_CONTEXT_TAKEOVER.len()
    + "; =15".len()
    + SERVER_MAX_WINDOW_BITS.len()
    + "; =15".len()
    + CLIENT_MAX_WINDOW_BITS.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_header_value_fits() {
        let parameters = Parameters {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: Some(WindowBits::MAX),
            client_max_window_bits: Some(WindowBits::MAX),
        };
        assert_eq!(
            parameters.header_value().as_str(),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=15; client_max_window_bits=15"
        );
        assert_eq!(parameters.header_value().as_str().len(), HEADER_VALUE_LEN_MAX);
    }

    #[test]
    fn window_bits_are_8_to_15_without_a_leading_zero() {
        let valid = ["8", "9", "10", "11", "12", "13", "14", "15"];
        let parsed: Vec<_> = valid.iter().map(|value| WindowBits::parse(value).unwrap().get()).collect();
        assert_eq!(parsed, [8, 9, 10, 11, 12, 13, 14, 15]);
        for value in ["", "0", "7", "16", "08", "015", "0x9", "+9", "-9", "9.0", "1e1", "99", "150", " 9", "9 ", "x"] {
            assert_eq!(WindowBits::parse(value), None, "{value:?}");
        }
        assert_eq!((WindowBits::new(7), WindowBits::new(16)), (None, None));
    }

    #[test]
    fn contexts_and_their_memory_follow_the_parameters() {
        let check = |server_no, client_no, server: Option<u8>, client: Option<u8>, expect: usize| {
            let parameters = Parameters {
                server_no_context_takeover: server_no,
                client_no_context_takeover: client_no,
                server_max_window_bits: server.and_then(WindowBits::new),
                client_max_window_bits: client.and_then(WindowBits::new),
            };
            assert_eq!(parameters.memory_max(), expect);
        };
        check(false, false, None, None, 4_096 + 32_768);
        check(true, true, None, None, 0);
        check(true, false, Some(9), Some(9), 512);
        check(false, true, Some(10), None, 1_024);
        check(false, true, None, None, 4_096);
        check(false, false, Some(12), Some(12), 8_192);
    }
}
