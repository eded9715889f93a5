//! A worker's pool of blocks, by power-of-two size.
//!
//! Fresh memory costs a page fault for every 4 KiB (nine times slower at 1 MiB), so blocks are
//! kept and the one given back last is handed out first, while it is still in the cache. What was
//! not needed for a while is let go, see [`Pool::trim`].

use std::ops::{Deref, DerefMut};

use crate::buf::send_queue::Segment;

/// The smallest block: the replies of a turn to a quiet connection fit.
const CLASS_LEN_MIN: usize = 1 << 10;
/// The largest block that is kept. Larger ones go back to the allocator.
const CLASS_LEN_MAX: usize = 1 << 20;
const CLASS_COUNT: usize = (CLASS_LEN_MAX.ilog2() - CLASS_LEN_MIN.ilog2() + 1) as usize;
/// Room beside a payload of exactly a class's size, for the frame header.
const SLACK: usize = 64;
/// How many empty lists are kept: as many sends may be under way at a time that gather segments.
const LISTS_MAX: usize = 1024;
/// What a pool keeps for later by default.
const RETAINED_BYTES_MAX: usize = 32 << 20;

/// A growable piece of memory that belongs to a [`Pool`]: a `Vec<u8>` that is counted.
#[derive(Debug)]
pub struct Block(Vec<u8>);

impl Deref for Block {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

/// Lends [`Block`]s and takes them back.
///
/// ```
/// use ringsock::buf::Pool;
///
/// let mut pool = Pool::default();
/// let block = pool.take(1_000_000);
/// assert!(block.capacity() >= 1_000_000 && block.is_empty());
/// pool.give(block);
/// assert_eq!(pool.lent(), 0);
/// ```
#[derive(Debug)]
pub struct Pool {
    free: [Class; CLASS_COUNT],
    retained_bytes: usize,
    retained_bytes_max: usize,
    lent: usize,
    copied_bytes: u64,
    /// Empty lists for sends that gather several segments.
    lists: Vec<Vec<Segment>>,
}

/// The free blocks of one size.
#[derive(Debug, Default)]
struct Class {
    blocks: Vec<Block>,
    /// The fewest that were free since the last trim: so many nobody needed.
    idle: usize,
}

impl Class {
    fn pop(&mut self) -> Option<Block> {
        let block = self.blocks.pop();
        self.idle = self.idle.min(self.blocks.len());
        block
    }
}

impl Pool {
    /// Makes an empty pool that keeps at most `retained_bytes_max` bytes of free blocks.
    #[must_use]
    pub fn new(retained_bytes_max: usize) -> Self {
        Self {
            free: Default::default(),
            retained_bytes: 0,
            retained_bytes_max,
            lent: 0,
            copied_bytes: 0,
            lists: Vec::new(),
        }
    }

    /// Lends an empty block with room for at least `len` bytes.
    pub fn take(&mut self, len: usize) -> Block {
        self.take_ready(len).unwrap_or_else(|| {
            self.lent += 1;
            let class_len = class_len(len).unwrap_or(usize::MAX);
            // Past the largest class nothing is kept, so rounding up would only waste.
            Block(Vec::with_capacity(if class_len > CLASS_LEN_MAX { len } else { class_len } + SLACK))
        })
    }

    /// Lends a block with room for `len` bytes only if a free one is at hand, which costs no new
    /// memory: the caller may ask for what a peer merely announced.
    pub fn take_ready(&mut self, len: usize) -> Option<Block> {
        let block = self.free[class_of(len)?].pop()?;
        self.retained_bytes -= block.capacity();
        self.lent += 1;
        Some(block)
    }

    /// Takes a block back. Its content is dropped.
    pub fn give(&mut self, mut block: Block) {
        self.lent -= 1;
        let capacity = block.capacity();
        if capacity > CLASS_LEN_MAX + SLACK || self.retained_bytes + capacity > self.retained_bytes_max {
            return;
        }
        // A block that grew past its class serves the class below its capacity.
        let class = (capacity - SLACK).ilog2() - CLASS_LEN_MIN.ilog2();
        block.clear();
        self.retained_bytes += capacity;
        self.free[class as usize].blocks.push(block);
    }

    /// Lets go of half of the free blocks that nobody has needed since the last call. Called now and
    /// then, it returns the memory of a rush that is over and leaves a steady load alone.
    pub fn trim(&mut self) {
        for class in &mut self.free {
            // The bottom of the stack has been there for longest.
            for block in class.blocks.drain(..class.idle.div_ceil(2)) {
                self.retained_bytes -= block.capacity();
            }
            class.idle = class.blocks.len();
        }
    }

    /// Lets go of all free blocks.
    pub fn give_up(&mut self) {
        for class in &mut self.free {
            *class = Class::default();
        }
        self.retained_bytes = 0;
    }

    /// Counts `len` bytes that were copied into a block of this pool.
    pub fn count_copy(&mut self, len: usize) {
        self.copied_bytes += len as u64;
    }

    /// How many bytes were copied into blocks of this pool, as far as they were counted.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }

    /// An empty list of segments.
    pub(super) fn take_list(&mut self) -> Vec<Segment> {
        self.lists.pop().unwrap_or_default()
    }

    /// Keeps a list for later, and gives back what is in it.
    pub(super) fn give_list(&mut self, mut list: Vec<Segment>) {
        for segment in list.drain(..) {
            segment.give_back(self);
        }
        // One that never held anything has no memory.
        if list.capacity() > 0 && self.lists.len() < LISTS_MAX {
            self.lists.push(list);
        }
    }

    /// How many blocks are out.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent
    }

    /// How many bytes of free blocks are kept.
    #[must_use]
    pub fn retained_bytes(&self) -> usize {
        self.retained_bytes
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(RETAINED_BYTES_MAX)
    }
}

/// The class whose blocks hold `len` bytes, or `None` past the largest.
fn class_of(len: usize) -> Option<usize> {
    let class_len = class_len(len)?;
    (class_len <= CLASS_LEN_MAX).then(|| (class_len.ilog2() - CLASS_LEN_MIN.ilog2()) as usize)
}

/// The power of two that, with the slack, is enough for `len` bytes.
fn class_len(len: usize) -> Option<usize> {
    len.saturating_sub(SLACK).max(CLASS_LEN_MIN).checked_next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_given_back_is_lent_again_for_any_length_of_its_class() {
        let mut pool = Pool::default();
        let block = pool.take(3000);
        let address = block.as_ptr();
        pool.give(block);
        let block = pool.take(4096);
        assert_eq!(block.as_ptr(), address);
        assert_eq!(pool.lent(), 1);
        pool.give(block);
        assert_eq!((pool.lent(), pool.retained_bytes()), (0, 4096 + SLACK));
    }

    #[test]
    fn a_frame_header_does_not_take_a_payload_to_the_next_class() {
        let mut pool = Pool::default();
        let block = pool.take(4096 + 14);
        assert_eq!(block.capacity(), 4096 + SLACK);
        let longer = pool.take(4096 + SLACK + 1);
        assert_eq!(longer.capacity(), 8192 + SLACK);
        pool.give(longer);
        pool.give(block);
        assert!(pool.take_ready(4096 + SLACK + 1).is_some_and(|block| block.capacity() > 8192));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut pool = Pool::new(3 << 20);
        let blocks: Vec<Block> = (0..8).map(|_| pool.take(1 << 20)).collect();
        let huge = pool.take(5 << 20);
        for block in blocks {
            pool.give(block);
        }
        pool.give(huge);
        assert_eq!((pool.lent(), pool.retained_bytes()), (0, 2 * ((1 << 20) + SLACK)));
    }

    #[test]
    fn a_grown_block_still_serves_every_length_of_the_class_it_returns_to() {
        let mut pool = Pool::default();
        let mut block = pool.take(1024);
        block.resize(5000, 7);
        pool.give(block);
        let block = pool.take_ready(4096).expect("the grown block is kept");
        assert!(block.capacity() >= 4096 && block.is_empty());
        pool.give(block);
    }

    #[test]
    fn trimming_lets_go_of_what_was_not_needed_and_of_nothing_else() {
        let mut pool = Pool::default();
        let blocks: Vec<Block> = (0..8).map(|_| pool.take(1024)).collect();
        for block in blocks {
            pool.give(block);
        }
        let free_bytes = |count| count * (1024 + SLACK);
        pool.trim();
        assert_eq!(pool.retained_bytes(), free_bytes(8), "they have just been in use");
        let (first, second) = (pool.take(1024), pool.take(1024));
        pool.give(first);
        pool.give(second);
        pool.trim();
        assert_eq!(pool.retained_bytes(), free_bytes(5), "half of the six that stayed");
        for _ in 0..8 {
            pool.trim();
        }
        assert_eq!(pool.retained_bytes(), 0);
    }

    #[test]
    fn only_free_blocks_are_ready() {
        let mut pool = Pool::default();
        assert!(pool.take_ready(1 << 20).is_none());
        assert!(pool.take_ready(usize::MAX).is_none());
        assert_eq!(pool.lent(), 0);
    }
}
