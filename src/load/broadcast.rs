//! Messages that a server sends on to others: they say themselves who sent them and when.
//!
//! A message begins with a mark of 34 ASCII characters: `#`, the publisher, its sequence number
//! and the time in nanoseconds, in hexadecimal, then `;`. What follows is the piece of the shared
//! block that publisher and sequence number stand for. A server may put a little of its own in
//! front, such as the name of the sender.

use crate::load::payload::{Content, Piece};
use crate::load::stomp;

/// The length of a mark: also the shortest message.
pub(super) const MARK_LEN: u32 = 34;
/// How far into a message its mark may begin.
const PREFIX_LEN_MAX: usize = 64;

/// What a message says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Mark {
    pub(super) publisher: u32,
    pub(super) sequence: u32,
    pub(super) sent_ns: u64,
}

impl Mark {
    pub(super) fn to_bytes(self) -> [u8; MARK_LEN as usize] {
        let mut bytes = [0; MARK_LEN as usize];
        bytes[0] = b'#';
        write_hex(&mut bytes[1..9], u64::from(self.publisher));
        write_hex(&mut bytes[9..17], u64::from(self.sequence));
        write_hex(&mut bytes[17..33], self.sent_ns);
        bytes[33] = b';';
        bytes
    }

    /// Finds the mark of a message: it, and what follows it.
    pub(super) fn find(message: &[u8]) -> Option<(Self, &[u8])> {
        let window = &message[..message.len().min(PREFIX_LEN_MAX)];
        let starts = window.iter().enumerate().filter(|(_, byte)| **byte == b'#');
        starts.filter_map(|(start, _)| Self::parse(&message[start..])).next()
    }

    /// What follows the mark in a message of `len` bytes.
    pub(super) fn piece(self, len: u32) -> Piece {
        Content::derive(len, self.publisher, self.sequence)
    }

    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (mark, rest) = bytes.split_at_checked(MARK_LEN as usize)?;
        if mark[33] != b';' {
            return None;
        }
        let publisher = u32::try_from(read_hex(&mark[1..9])?).ok()?;
        let sequence = u32::try_from(read_hex(&mark[9..17])?).ok()?;
        Some((Self { publisher, sequence, sent_ns: read_hex(&mark[17..33])? }, rest))
    }
}

/// The messages that a connection has published and received.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Its number, if it publishes.
    pub(super) publisher: u32,
    published: u32,
    /// Messages of publishers that have arrived.
    pub(super) delivered: u64,
    /// The sequence number that each publisher's next message must have.
    pub(super) next_sequences: Box<[u32]>,
    /// Its session, if it speaks STOMP.
    pub(super) stomp: Option<Box<stomp::Client>>,
}

impl Ledger {
    pub(super) fn new(publisher: u32, publishers: u32) -> Self {
        let next_sequences = vec![0; publishers as usize].into();
        Self { publisher, published: 0, delivered: 0, next_sequences, stomp: None }
    }

    /// The mark of its next message.
    pub(super) fn publish(&mut self, at_ns: u64) -> Mark {
        let mark = Mark { publisher: self.publisher, sequence: self.published, sent_ns: at_ns };
        self.published = self.published.wrapping_add(1);
        mark
    }
}

fn write_hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value % 16) as usize];
        value /= 16;
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | u64::from(char::from(digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { publisher: 0xab, sequence: u32::MAX, sent_ns: 0x1234_5678_9abc };

    #[test]
    fn a_mark_is_found_behind_a_prefix_and_gives_the_rest() {
        let bytes = MARK.to_bytes();
        assert_eq!(&bytes, b"#000000abffffffff0000123456789abc;");
        assert_eq!(Mark::find(&bytes), Some((MARK, &b""[..])));
        let message = [b"#7 says: ", &bytes[..], b"rest"].concat();
        assert_eq!(Mark::find(&message), Some((MARK, &b"rest"[..])));
    }

    #[test]
    fn what_has_no_mark_gives_none() {
        let bytes = MARK.to_bytes();
        assert_eq!(Mark::find(b""), None);
        assert_eq!(Mark::find(&bytes[..33]), None);
        assert_eq!(Mark::find(&[&b"#########"[..], &[b'x'; 64]].concat()), None);
        assert_eq!(Mark::find(&[&[b'x'; PREFIX_LEN_MAX][..], &bytes].concat()), None);
    }
}
