//! What a session reports: messages, control frames, the peer's close.

use std::ops::Deref;

use crate::buf::{Block, Pool};
use crate::proto::ws::deflate::{Context, InflateError, Inflater, PROMISED_LEN_MIN};
use crate::proto::ws::{CloseCode, HEADER_LEN_MAX, Opcode, ProtocolError};
use crate::simd::utf8;

/// How many times as long as its compressed form a message mostly is.
const USUAL_RATIO: usize = 4;

/// Something that the peer did.
#[derive(Debug)]
pub enum Event<'b> {
    /// A whole text or binary message.
    Message(Message<'b>),
    /// A whole compressed message.
    Compressed(Compressed<'b>),
    /// A Ping: it wants a Pong with the same payload (section 5.5.2).
    Ping(Payload<'b>),
    /// A Pong, asked for or not (section 5.5.3).
    Pong(Payload<'b>),
    /// The peer's Close. Nothing comes after it.
    Close {
        /// The status code, `None` if the frame was empty (other libraries report that as 1005).
        code: Option<CloseCode>,
        /// The reason, UTF-8, at most 123 bytes.
        reason: Payload<'b>,
    },
}

impl Event<'_> {
    /// Returns the memory of the payload, if it has its own, to the pool that it came from.
    pub fn give_back(self, pool: &mut Pool) {
        match self {
            Self::Message(message) => message.payload.give_back(pool),
            Self::Compressed(message) => message.payload.give_back(pool),
            Self::Ping(payload) | Self::Pong(payload) | Self::Close { reason: payload, .. } => payload.give_back(pool),
        }
    }
}

/// Whether a message is text or binary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MessageKind {
    /// UTF-8 text, validated.
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    /// The opcode of the first frame of such a message.
    #[must_use]
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// A whole message, unmasked.
#[derive(Debug)]
pub struct Message<'b> {
    /// Text or binary.
    pub kind: MessageKind,
    /// The content.
    pub payload: Payload<'b>,
}

impl Message<'_> {
    /// The text of a text message.
    ///
    /// It was validated on arrival; it is looked at once more here because that costs little
    /// (tens of gigabytes a second) and keeps this a safe function.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self.kind {
            MessageKind::Text => simdutf8::basic::from_utf8(&self.payload).ok(),
            MessageKind::Binary => None,
        }
    }

    /// The content as bytes, whatever its kind.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.payload
    }
}

/// A whole message, unmasked, in the form in which it was sent (RFC 7692 section 7.2.2).
#[derive(Debug)]
pub struct Compressed<'b> {
    /// Text or binary. Text is not validated yet.
    pub kind: MessageKind,
    /// What stands in the frames.
    pub payload: Payload<'b>,
}

impl Compressed<'_> {
    /// Inflates it to a message of at most `len_max` bytes, in a block of `pool`, and validates text.
    /// `context` is that of the peer's messages.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::InvalidDeflate`], [`ProtocolError::MessageTooBig`] or
    /// [`ProtocolError::InvalidUtf8`]. The session has to be ended then.
    pub fn inflate(
        self,
        inflater: &mut Inflater,
        context: &mut Context,
        len_max: usize,
        pool: &mut Pool,
    ) -> Result<Message<'static>, ProtocolError> {
        // Room for the header of the frame in which the message may be sent on.
        let start = HEADER_LEN_MAX;
        let mut block = pool.take(start + self.payload.len().saturating_mul(USUAL_RATIO).min(len_max));
        block.resize(start, 0);
        let inflated = inflater.inflate(&self.payload, context, len_max, &mut block);
        self.payload.give_back(pool);
        if block.len() >= PROMISED_LEN_MIN && block.capacity() / 2 > block.len() {
            block.shrink_to_fit();
        }
        let error = match inflated {
            Ok(()) if self.kind == MessageKind::Binary || utf8::is_valid(&block[start..]) => {
                return Ok(Message { kind: self.kind, payload: Payload::Block { block, start } });
            }
            Ok(()) => ProtocolError::InvalidUtf8,
            Err(InflateError::Corrupt) => ProtocolError::InvalidDeflate,
            Err(InflateError::TooBig) => ProtocolError::MessageTooBig,
        };
        pool.give(block);
        Err(error)
    }
}

/// The event that a whole message is.
pub(super) fn event_of<'b>(kind: MessageKind, compressed: bool, payload: Payload<'b>) -> Event<'b> {
    if compressed { Event::Compressed(Compressed { kind, payload }) } else { Event::Message(Message { kind, payload }) }
}

/// The bytes of a message or control frame: where they arrived, or a block if they came in pieces.
#[derive(Debug)]
pub enum Payload<'b> {
    /// Unmasked in place, in the receive buffer.
    View(&'b [u8]),
    /// In a block of the pool, which goes back there: what it holds from `start` on.
    Block {
        /// The block.
        block: Block,
        /// Where the payload begins. Before it may stand the header that it came with.
        start: usize,
    },
}

impl Payload<'_> {
    /// Drops the first `len` bytes.
    pub(super) fn skip(self, len: usize) -> Self {
        match self {
            Self::View(bytes) => Self::View(&bytes[len..]),
            Self::Block { block, start } => Self::Block { block, start: start + len },
        }
    }

    /// Returns the memory, if it has its own, to the pool that it came from.
    pub fn give_back(self, pool: &mut Pool) {
        if let Self::Block { block, .. } = self {
            pool.give(block);
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::View(bytes) => bytes,
            Self::Block { block, start } => &block[*start..],
        }
    }
}
