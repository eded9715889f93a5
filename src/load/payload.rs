//! What messages contain: pieces of one random block, so that nothing has to be kept of a message
//! under way but where its piece begins and how long it is.

use crate::load::random::Random;
use crate::proto::ws::MessageKind;

/// How many places a message may begin at. Small, so that the block stays in the cache; and any
/// two messages of 16 bytes differ but for one pair in this many.
const OFFSETS: u32 = 64 << 10;
/// Records begin at fewer places, as far apart, so that their compressed forms can be kept; and so that two
/// messages on a connection are seldom so near to each other that the one is found in the other.
const RECORD_PLACES: u32 = 4 << 10;
const RECORD_STEP: usize = 1 << 10;
/// The characters of text: each byte is one, so that any piece of the block is valid UTF-8.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What records are about, and how long one is at the most.
const SYMBOLS: [&str; 8] = ["AAPL", "AMZN", "GOOG", "INTC", "META", "MSFT", "NVDA", "TSLA"];
const RECORD_LEN_MAX: usize = 128;

/// The shared block.
#[derive(Debug)]
pub(super) struct Content {
    kind: MessageKind,
    records: bool,
    bytes: Box<[u8]>,
}

/// The content of one message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Piece {
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// How what came back differs from what was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Mismatch {
    /// Text for binary or the other way round.
    #[error("the reply to a {sent} message has the other kind")]
    Kind {
        /// What was sent.
        sent: &'static str,
    },
    /// Another length.
    #[error("{sent} bytes were sent, {received} came back")]
    Length {
        /// Bytes sent.
        sent: usize,
        /// Bytes received.
        received: usize,
    },
    /// Another byte.
    #[error("byte {at} of {len} was sent as {sent:#04x} and came back as {received:#04x}")]
    Byte {
        /// The index of the first byte that differs.
        at: usize,
        /// The length of the message.
        len: usize,
        /// What was sent.
        sent: u8,
        /// What was received.
        received: u8,
    },
}

impl Content {
    /// Makes a block for messages of up to `size_max` bytes: of records that can be compressed, or of
    /// bytes that can't.
    pub(super) fn new(kind: MessageKind, size_max: u32, records: bool, random: &mut Random) -> Self {
        if records {
            let len = size_max as usize + RECORD_PLACES as usize * RECORD_STEP;
            let mut bytes = Vec::with_capacity(len + RECORD_LEN_MAX);
            while bytes.len() < len {
                append_record(&mut bytes, random);
            }
            bytes.truncate(len);
            return Self { kind, records, bytes: bytes.into() };
        }
        let len = size_max as usize + OFFSETS as usize;
        let letter = |byte: u8| ALPHABET[usize::from(byte % 64)];
        let words = std::iter::repeat_with(|| random.next().to_le_bytes()).flatten();
        let bytes = words.map(|byte| if kind == MessageKind::Text { letter(byte) } else { byte });
        Self { kind, records, bytes: bytes.take(len).collect() }
    }

    pub(super) fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Chooses the content of a message of `len` bytes.
    pub(super) fn pick(len: u32, random: &mut Random) -> Piece {
        Piece { offset: random.below(OFFSETS), len }
    }

    /// The content that a pair of numbers stands for, the same on every connection.
    pub(super) fn derive(len: u32, a: u32, b: u32) -> Piece {
        let mut random = Random::new(u64::from(a) << 32 | u64::from(b));
        Self::pick(len, &mut random)
    }

    pub(super) fn bytes(&self, piece: Piece) -> &[u8] {
        &self.bytes[self.start(piece)..][..piece.len as usize]
    }

    /// Where a piece begins.
    pub(super) fn start(&self, piece: Piece) -> usize {
        if self.records { (piece.offset % RECORD_PLACES) as usize * RECORD_STEP } else { piece.offset as usize }
    }

    /// Compares an echo with what was sent.
    pub(super) fn check(&self, piece: Piece, kind: MessageKind, received: &[u8]) -> Result<(), Mismatch> {
        let sent = self.bytes(piece);
        if kind == self.kind && sent == received {
            return Ok(());
        }
        let at = sent.iter().zip(received).position(|(sent, received)| sent != received);
        Err(match at {
            _ if sent.len() != received.len() => Mismatch::Length { sent: sent.len(), received: received.len() },
            Some(at) => Mismatch::Byte { at, len: sent.len(), sent: sent[at], received: received[at] },
            None => Mismatch::Kind { sent: name_of(self.kind) },
        })
    }
}

/// Appends a line such as a market's feed is made of.
fn append_record(out: &mut Vec<u8>, random: &mut Random) {
    let id = random.below(1 << 20);
    let symbol = SYMBOLS[random.below(16) as usize % SYMBOLS.len()];
    let (price, cents, size) = (random.below(1_000), random.below(100), random.below(500));
    let side = if random.below(2) == 0 { "buy" } else { "sell" };
    let line = format!(r#"{{"id":{id},"symbol":"{symbol}","price":{price}.{cents:02},"size":{size},"side":"{side}"}}"#);
    out.extend_from_slice(line.as_bytes());
    out.push(b'\n');
}

/// The word for a kind of message.
pub(super) const fn name_of(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Text => "text",
        MessageKind::Binary => "binary",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_of_text_is_text() {
        let content = Content::new(MessageKind::Text, 100, false, &mut Random::new(3));
        for offset in 0..1_000 {
            assert!(str::from_utf8(content.bytes(Piece { offset, len: 100 })).is_ok());
        }
        assert_eq!(content.bytes(Piece { offset: OFFSETS - 1, len: 100 }).len(), 100, "the last piece is whole");
    }

    #[test]
    fn every_piece_of_records_is_there_and_is_found_by_its_beginning() {
        let content = Content::new(MessageKind::Text, 300, true, &mut Random::new(3));
        let piece = |offset| Piece { offset, len: 300 };
        assert_eq!(content.bytes(piece(0)), content.bytes(piece(RECORD_PLACES)));
        assert_eq!(content.start(piece(RECORD_PLACES + 1)), content.start(piece(1)));
        for offset in 0..RECORD_PLACES {
            assert_eq!(content.bytes(piece(offset)).len(), 300);
        }
    }

    #[test]
    fn a_comparison_names_the_first_difference() {
        let content = Content::new(MessageKind::Binary, 64, false, &mut Random::new(3));
        let piece = Piece { offset: 5, len: 20 };
        let mut echo = content.bytes(piece).to_vec();
        assert_eq!(content.check(piece, MessageKind::Binary, &echo), Ok(()));
        assert_eq!(content.check(piece, MessageKind::Text, &echo), Err(Mismatch::Kind { sent: "binary" }));
        assert_eq!(
            content.check(piece, MessageKind::Binary, &echo[..19]),
            Err(Mismatch::Length { sent: 20, received: 19 })
        );
        let (sent, received) = (echo[7], echo[7] ^ 1);
        echo[7] = received;
        let expect = Mismatch::Byte { at: 7, len: 20, sent, received };
        assert_eq!(content.check(piece, MessageKind::Binary, &echo), Err(expect));
    }

    #[test]
    fn numbers_stand_for_the_same_piece_everywhere() {
        assert_eq!(Content::derive(9, 1, 2), Content::derive(9, 1, 2));
        assert_ne!(Content::derive(9, 1, 2), Content::derive(9, 2, 1));
    }
}
