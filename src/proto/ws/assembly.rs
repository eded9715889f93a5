//! A message on its way in: the pieces that arrived, in one block.

use crate::buf::{Block, Pool};
use crate::proto::ws::event::MessageKind;
use crate::proto::ws::session::Limits;
use crate::proto::ws::{Message, Payload, ProtocolError};
use crate::simd::mask;
use crate::simd::mask::Key;
use crate::simd::utf8::{InvalidUtf8, Validator};

/// The first block of a message that is announced longer than its first piece.
const FIRST_BLOCK_LEN: usize = 16 << 10;
/// How many times as long as what has arrived a free block may be.
const READY_FACTOR: usize = 4;

/// The fragments of a message, unmasked, validated as far as they arrived.
#[derive(Debug)]
pub(super) struct Assembly {
    kind: MessageKind,
    block: Block,
    text: Validator,
    fragments: u32,
    empty_run: u32,
}

impl Assembly {
    pub(super) fn new(kind: MessageKind, pool: &mut Pool) -> Self {
        Self { kind, block: pool.take(0), text: Validator::default(), fragments: 0, empty_run: 0 }
    }

    /// Counts a further fragment of `payload_len` bytes.
    pub(super) fn begin_fragment(&mut self, payload_len: u64, limits: &Limits) -> Result<(), ProtocolError> {
        self.fragments += 1;
        if self.fragments > limits.fragments_max {
            return Err(ProtocolError::TooManyFragments);
        }
        self.empty_run = if payload_len == 0 { self.empty_run + 1 } else { 0 };
        if self.empty_run > limits.empty_fragments_max {
            return Err(ProtocolError::TooManyEmptyFragments);
        }
        Ok(())
    }

    /// Appends the next piece of the current frame, of which `to_come` more bytes are announced.
    pub(super) fn append(
        &mut self,
        piece: &[u8],
        key: Option<Key>,
        to_come: usize,
        pool: &mut Pool,
    ) -> Result<Option<Key>, ProtocolError> {
        self.reserve(piece.len(), to_come, pool);
        if self.kind == MessageKind::Text {
            return self.append_text(piece, key).map_err(|_| ProtocolError::InvalidUtf8);
        }
        let Some(key) = key else {
            self.block.extend_from_slice(piece);
            return Ok(None);
        };
        Ok(Some(mask::append(&mut self.block, piece, key)))
    }

    /// Ends the message.
    pub(super) fn finish<'b>(self, pool: &mut Pool) -> Result<Message<'b>, ProtocolError> {
        if self.kind == MessageKind::Text && self.text.finish().is_err() {
            self.give_back(pool);
            return Err(ProtocolError::InvalidUtf8);
        }
        Ok(Message { kind: self.kind, payload: Payload::Block(self.block) })
    }

    pub(super) fn give_back(self, pool: &mut Pool) {
        pool.give(self.block);
    }

    pub(super) fn len(&self) -> usize {
        self.block.len()
    }

    fn append_text(&mut self, piece: &[u8], key: Option<Key>) -> Result<Option<Key>, InvalidUtf8> {
        let Some(key) = key else {
            self.block.extend_from_slice(piece);
            return self.text.push(piece).map(|()| None);
        };
        self.text.append(&mut self.block, piece, key).map(Some)
    }

    /// Makes room for `len` bytes, and for some of the `to_come` bytes that are announced.
    ///
    /// A length that was only announced is never allocated, or a peer could pin memory with
    /// headers alone: a new block is the smallest that holds what has arrived. A free block of the
    /// pool is memory that we have already, so it may be a few times as long, and in steady state a
    /// message is copied little more than once.
    fn reserve(&mut self, len: usize, to_come: usize, pool: &mut Pool) {
        let needed = self.block.len() + len;
        if needed <= self.block.capacity() {
            return;
        }
        let whole = needed.saturating_add(to_come);
        let mut block = pool.take_ready(whole.min(needed.saturating_mul(READY_FACTOR))).unwrap_or_else(|| {
            // Blocks come in powers of two: asking for twice the length could give four times.
            let grown = needed.max(FIRST_BLOCK_LEN).next_power_of_two();
            pool.take(grown.min(whole))
        });
        block.extend_from_slice(&self.block);
        pool.give(std::mem::replace(&mut self.block, block));
    }
}
