//! What a session reports: messages, control frames, the peer's close.

use std::ops::Deref;

use crate::buf::{Block, Pool};
use crate::proto::ws::{CloseCode, Opcode};

/// Something that the peer did.
#[derive(Debug)]
pub enum Event<'b> {
    /// A whole text or binary message.
    Message(Message<'b>),
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
