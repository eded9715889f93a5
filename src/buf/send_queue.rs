//! What waits to be sent to one peer, in order, and the part of it that one send takes.

use std::collections::VecDeque;

use crate::buf::{Block, Pool, SharedFrame};

/// How many segments one send gathers at most.
pub const SEGMENTS_PER_SEND_MAX: usize = 16;
/// Shared frames up to this length are gathered by copy: a copy is cheaper than one more segment.
const GATHER_LEN_MAX: usize = 2048;
/// A queue that outgrows its first block asks for blocks this many times as large each time.
const GROWTH: usize = 4;
const GROWN_LEN_MAX: usize = 256 << 10;
/// What is expected is not had for long: no more than this is made ready for it.
const EXPECTED_LEN_MAX: usize = 64 << 10;

/// A run of bytes in a send queue.
#[derive(Debug)]
pub enum Segment {
    /// Bytes of this connection alone: what a block holds from `start` on.
    Block {
        /// The block.
        block: Block,
        /// Where the bytes begin.
        start: usize,
    },
    /// A frame that other connections may be sending too.
    Shared(SharedFrame),
    /// A frame that is part of the program, such as a ping without content.
    Static(&'static [u8]),
}

impl Segment {
    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Block { block, start } => &block[*start..],
            Self::Shared(frame) => frame,
            Self::Static(frame) => frame,
        }
    }

    pub(super) fn give_back(self, pool: &mut Pool) {
        if let Self::Block { block, .. } = self {
            pool.give(block);
        }
    }
}

/// The outgoing bytes of one connection.
///
/// It never refuses bytes: the owner compares [`SendQueue::bytes`] with its bound and stops
/// whatever produces more.
#[derive(Debug, Default)]
pub struct SendQueue {
    segments: VecDeque<Segment>,
    bytes: usize,
    /// How much is expected to be written.
    expected: usize,
}

impl SendQueue {
    /// Says that about `len` bytes are going to be written, such as the answers to as many. If they fit
    /// one block, the send is a plain one.
    pub fn expect(&mut self, len: usize) {
        self.expected = len.min(EXPECTED_LEN_MAX);
    }

    /// Appends what `write` puts at the end of the given buffer, which has room for `len` bytes;
    /// nothing if `len` is zero.
    pub fn write(&mut self, pool: &mut Pool, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if len == 0 {
            return;
        }
        let block = self.tail(pool, len);
        let before = block.len();
        write(block);
        let written = block.len() - before;
        self.bytes += written;
        pool.count_copy(written);
    }

    /// Appends what a block holds from `start` on, without copying it.
    pub fn push_block(&mut self, pool: &mut Pool, block: Block, start: usize) {
        if block.len() <= start {
            pool.give(block);
            return;
        }
        self.bytes += block.len() - start;
        self.segments.push_back(Segment::Block { block, start });
    }

    /// Appends a shared frame: a small one by copy, a large one by reference.
    pub fn push_shared(&mut self, pool: &mut Pool, frame: &SharedFrame) {
        if frame.len() <= GATHER_LEN_MAX {
            self.write(pool, frame.len(), |out| out.extend_from_slice(frame));
        } else {
            self.bytes += frame.len();
            self.segments.push_back(Segment::Shared(frame.clone()));
        }
    }

    /// Appends a frame that is part of the program, without copying it.
    pub fn push_static(&mut self, frame: &'static [u8]) {
        self.bytes += frame.len();
        self.segments.push_back(Segment::Static(frame));
    }

    /// Takes the front of the queue, as much as one send may carry.
    pub fn take(&mut self, pool: &mut Pool) -> Option<Payload> {
        let first = self.segments.pop_front()?;
        let mut len = first.bytes().len();
        let count = self.segments.len().min(SEGMENTS_PER_SEND_MAX - 1);
        // Most sends have a single segment, and need no list.
        let mut rest = if count > 0 { pool.take_list() } else { Vec::new() };
        rest.extend(self.segments.drain(..count));
        len += rest.iter().map(|segment| segment.bytes().len()).sum::<usize>();
        self.bytes -= len;
        Some(Payload { first, rest, sent: 0, len })
    }

    /// Drops everything that waits.
    pub fn clear(&mut self, pool: &mut Pool) {
        self.bytes = 0;
        for segment in self.segments.drain(..) {
            segment.give_back(pool);
        }
    }

    /// How many bytes wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The last block, if it has room for `len` more bytes, or a new one.
    fn tail(&mut self, pool: &mut Pool, len: usize) -> &mut Block {
        let (fits, last_len) = match self.segments.back() {
            Some(Segment::Block { block, .. }) => (block.capacity() - block.len() >= len, block.capacity()),
            _ => (false, 0),
        };
        if !fits {
            let grown = (last_len * GROWTH).min(GROWN_LEN_MAX);
            let block = pool.take(len.max(grown).max(self.expected));
            self.segments.push_back(Segment::Block { block, start: 0 });
        }
        match self.segments.back_mut() {
            Some(Segment::Block { block, .. }) => block,
            _ => unreachable!("the last segment is a block with room, or was just pushed"),
        }
    }
}

/// The bytes of one send operation. It owns them until the kernel is done with them.
#[derive(Debug)]
pub struct Payload {
    first: Segment,
    rest: Vec<Segment>,
    sent: usize,
    len: usize,
}

impl Payload {
    /// A payload of one block.
    #[must_use]
    pub fn from_block(block: Block) -> Self {
        let len = block.len();
        Self { first: Segment::Block { block, start: 0 }, rest: Vec::new(), sent: 0, len }
    }

    /// Marks `count` more bytes as sent.
    ///
    /// # Panics
    ///
    /// If that is more than was left: the kernel can't send what it was not given.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "a send completed with more bytes than it was given");
        self.sent += count;
    }

    /// How many bytes are still to be sent.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.len - self.sent
    }

    /// The pieces that are still to be sent, in order; none of them is empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.sent;
        std::iter::once(&self.first).chain(&self.rest).filter_map(move |segment| {
            let bytes = segment.bytes();
            let cut = skip.min(bytes.len());
            skip -= cut;
            (cut < bytes.len()).then(|| &bytes[cut..])
        })
    }

    /// Returns the memory to the pool.
    pub fn give_back(self, pool: &mut Pool) {
        self.first.give_back(pool);
        pool.give_list(self.rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut SendQueue, pool: &mut Pool, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(mut payload) = queue.take(pool) {
            while payload.remaining() > 0 {
                let piece: Vec<u8> = payload.pieces().flatten().copied().take(step).collect();
                payload.advance(piece.len());
                out.extend(piece);
            }
            payload.give_back(pool);
        }
        out
    }

    #[test]
    fn bytes_leave_in_the_order_they_came_whatever_the_sends_take() {
        for step in [1, 7, 1024, 1 << 20] {
            let (mut pool, mut queue, mut expect) = (Pool::default(), SendQueue::default(), Vec::new());
            for i in 0..200_usize {
                let fill = u8::try_from(i).expect("below 200");
                let bytes = vec![fill; i * 37 % 5000];
                expect.extend_from_slice(&bytes);
                match i % 3 {
                    0 => queue.write(&mut pool, bytes.len(), |out| out.extend_from_slice(&bytes)),
                    1 => queue.push_shared(&mut pool, &SharedFrame::new(&bytes)),
                    _ => {
                        let mut block = pool.take(bytes.len());
                        block.extend_from_slice(&bytes);
                        queue.push_block(&mut pool, block, 0);
                    }
                }
                assert_eq!(queue.bytes(), expect.len());
            }
            assert_eq!(drain(&mut queue, &mut pool, step), expect);
            assert_eq!((queue.bytes(), pool.lent()), (0, 0));
        }
    }

    #[test]
    fn small_writes_share_one_segment() {
        let (mut pool, mut queue) = (Pool::default(), SendQueue::default());
        for _ in 0..100 {
            queue.write(&mut pool, 10, |out| out.extend_from_slice(b"0123456789"));
        }
        let payload = queue.take(&mut pool).expect("bytes wait");
        assert_eq!((payload.pieces().count(), payload.remaining()), (1, 1000));
        assert!(queue.is_empty());
        payload.give_back(&mut pool);
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn large_shared_frames_are_not_copied() {
        let (mut pool, mut queue) = (Pool::default(), SendQueue::default());
        let frame = SharedFrame::new(&[9; GATHER_LEN_MAX + 1]);
        queue.push_shared(&mut pool, &frame);
        let payload = queue.take(&mut pool).expect("bytes wait");
        assert_eq!(payload.pieces().next().map(<[u8]>::as_ptr), Some(frame.as_ptr()));
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn clearing_returns_every_block() {
        let (mut pool, mut queue) = (Pool::default(), SendQueue::default());
        queue.write(&mut pool, 4, |out| out.extend_from_slice(b"abcd"));
        queue.push_shared(&mut pool, &SharedFrame::new(&[1; 4000]));
        queue.clear(&mut pool);
        assert_eq!((queue.bytes(), pool.lent()), (0, 0));
        assert!(queue.take(&mut pool).is_none());
    }
}
