//! A message on its way in: the pieces that arrived, in one block.

use crate::buf::{Block, Pool};
use crate::proto::ws::event::{MessageKind, event_of};
use crate::proto::ws::session::Limits;
use crate::proto::ws::{Event, HEADER_LEN_MAX, Payload, ProtocolError};
use crate::simd::mask;
use crate::simd::mask::Key;
use crate::simd::utf8::Validator;

/// The first block of a message that is announced longer than its first piece.
const FIRST_BLOCK_LEN: usize = 16 << 10;
/// How many times as long as what has arrived a free block may be.
const READY_FACTOR: usize = 4;
/// Less room than this for what is to come is not worth an operation of its own.
const ROOM_MIN: usize = 4 << 10;

/// The fragments of a message, unmasked, and validated as far as they arrived unless they are compressed.
#[derive(Debug)]
pub(super) struct Assembly {
    kind: MessageKind,
    compressed: bool,
    /// `None` while it is lent, see [`Assembly::lend`].
    block: Option<Block>,
    /// Where the message begins in the block.
    start: usize,
    text: Validator,
    fragments: u32,
    empty_run: u32,
}

impl Assembly {
    pub(super) fn new(kind: MessageKind, compressed: bool, pool: &mut Pool) -> Self {
        Self {
            kind,
            compressed,
            block: Some(pool.take(0)),
            start: 0,
            text: Validator::default(),
            fragments: 0,
            empty_run: 0,
        }
    }

    /// Begins with a block in which the message stands from `start` on, as far as it has arrived.
    pub(super) fn adopt(
        &mut self,
        block: Block,
        start: usize,
        key: Option<Key>,
        pool: &mut Pool,
    ) -> Result<Option<Key>, ProtocolError> {
        if let Some(empty) = self.block.take() {
            pool.give(empty);
        }
        self.start = start;
        self.restore(block, start, key)
    }

    pub(super) const fn compressed(&self) -> bool {
        self.compressed
    }

    /// Whether its bytes are validated as they arrive.
    pub(super) fn is_plain_text(&self) -> bool {
        self.kind == MessageKind::Text && !self.compressed
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
        pool.count_copy(piece.len());
        let is_text = self.is_plain_text();
        let (block, text) = self.reserve(piece.len(), to_come, pool);
        let next = match key {
            Some(key) if is_text => text.append(block, piece, key).map(Some),
            Some(key) => Ok(Some(mask::append(block, piece, key))),
            None => {
                block.extend_from_slice(piece);
                if is_text { text.push(piece).map(|()| None) } else { Ok(None) }
            }
        };
        next.map_err(|_| ProtocolError::InvalidUtf8)
    }

    /// Lends the block, with room for some of the `to_come` bytes that are announced, for all of them
    /// if that makes no more than `trusted`.
    pub(super) fn lend(&mut self, to_come: usize, trusted: usize, pool: &mut Pool) -> Block {
        let len = if self.len() + to_come <= trusted { to_come } else { to_come.min(ROOM_MIN) };
        self.reserve(len, to_come - len, pool);
        self.block.take().expect("a block that is lent is not lent again")
    }

    /// Takes the block back; what it holds from `start` on has just arrived in it.
    pub(super) fn restore(
        &mut self,
        mut block: Block,
        start: usize,
        key: Option<Key>,
    ) -> Result<Option<Key>, ProtocolError> {
        let piece = &mut block[start..];
        let is_text = self.kind == MessageKind::Text && !self.compressed;
        let next = match key {
            Some(key) if is_text => self.text.apply(piece, key).map(Some),
            Some(key) => Ok(Some(mask::apply(piece, key))),
            None if is_text => self.text.push(piece).map(|()| None),
            None => Ok(None),
        };
        self.block = Some(block);
        next.map_err(|_| ProtocolError::InvalidUtf8)
    }

    /// Ends the message.
    pub(super) fn finish<'b>(self, pool: &mut Pool) -> Result<Event<'b>, ProtocolError> {
        if self.is_plain_text() && self.text.finish().is_err() {
            self.give_back(pool);
            return Err(ProtocolError::InvalidUtf8);
        }
        let block = self.block.expect("a message whose end has arrived has its block");
        let payload = Payload::Block { block, start: self.start };
        Ok(event_of(self.kind, self.compressed, payload))
    }

    pub(super) fn give_back(self, pool: &mut Pool) {
        if let Some(block) = self.block {
            pool.give(block);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.len() - self.start)
    }

    /// Makes room for `len` bytes, and for some of the `to_come` bytes that are announced after them.
    ///
    /// A length that was only announced is never allocated, or a peer could pin memory with
    /// headers alone: a new block is the smallest that holds what has arrived. A free block of the
    /// pool is memory that we have already, so it may be a few times as long, and in steady state a
    /// message is copied little more than once.
    fn reserve(&mut self, len: usize, to_come: usize, pool: &mut Pool) -> (&mut Block, &mut Validator) {
        let block = self.block.as_mut().expect("nothing is appended to a block that is lent");
        if len <= block.capacity() - block.len() {
            return (block, &mut self.text);
        }
        let held = &block[self.start..];
        let needed = held.len() + len;
        let whole = needed.saturating_add(to_come);
        let ready_len = whole.min(needed.saturating_mul(READY_FACTOR)).saturating_add(HEADER_LEN_MAX);
        let mut longer = pool.take_ready(ready_len).unwrap_or_else(|| {
            // Blocks come in powers of two: asking for twice the length could give four times.
            let grown = needed.max(FIRST_BLOCK_LEN).next_power_of_two();
            pool.take(grown.min(whole) + HEADER_LEN_MAX)
        });
        // Room for the header of the frame in which the message may be sent on.
        longer.resize(HEADER_LEN_MAX, 0);
        self.start = HEADER_LEN_MAX;
        longer.extend_from_slice(held);
        pool.count_copy(held.len());
        pool.give(std::mem::replace(block, longer));
        (block, &mut self.text)
    }
}
