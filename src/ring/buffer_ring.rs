//! The ring of receive buffers: which bytes are the kernel's, which are lent, which are free.
//!
//! In incremental mode (Linux 6.12) the kernel fills a buffer piece by piece, each completion
//! naming the next piece of the same buffer, until it says that it is done with it. A buffer goes
//! back to the kernel when it is done and every piece of it was given back.
//!
//! The kernel takes buffers in the order in which it got them. Had it all of them, what arrives would
//! go through all of their memory in turn, and most of that is not in the cache. So it has only as many
//! as a turn of late has used up, and the others wait in a stack: the one that was used last is
//! provided first. Memory that was never needed is never touched.

use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::io;

use crate::ring::CoreShare;
use crate::ring::mapping::Mapping;

/// `IOU_PBUF_RING_INC`: buffers are consumed incrementally (Linux 6.12).
const FLAG_INCREMENTAL: u16 = 2;
/// The only group of buffers on a ring.
pub(super) const GROUP: u16 = 0;

/// The least that the kernel has at the beginning of a turn, and after how many turns it gets fewer.
const WANTED_MIN: u16 = 2;
const TURNS_OF_LATE: u16 = 1024;

static NEXT_ID: AtomicU32 = AtomicU32::new(0);

/// How the kernel uses a receive buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BufferMode {
    /// Piece by piece until it is full: large buffers cost nothing when little arrives.
    Incremental,
    /// Once: whatever arrived, the whole buffer is taken.
    Once,
}

impl BufferMode {
    /// How many buffers a ring has and how long each is, as a share of its core's 4 MiB. With very many
    /// rings on a core each still has 256 KiB.
    ///
    /// Incremental buffers get shorter: the count is what lets a few stay lent. Those used once get
    /// fewer: the length is what a receive can take.
    #[must_use]
    pub fn shape(self, share: CoreShare) -> (u16, u32) {
        let (count, len) = match self {
            Self::Incremental => (16, share.of(256 << 10, CoreShare::BUFFER_LEN_LEAST)),
            Self::Once => (share.of(256, CoreShare::BUFFER_COUNT_LEAST), 16 << 10),
        };
        (u16::try_from(count).expect("a share is no more than the whole"), len)
    }
}

/// A piece of a receive buffer, held by one owner until it is given back.
#[derive(Debug)]
#[must_use = "a lease that is not given back keeps its buffer from the kernel"]
pub struct Lease {
    /// The ring of buffers that it was cut from.
    pub(super) owner: u32,
    pub(super) buffer: u16,
    pub(super) start: u32,
    pub(super) len: u32,
}

#[cfg(test)]
impl Lease {
    /// A lease of a driver that has no ring.
    pub(crate) fn without_ring(len: u32) -> Self {
        Self { owner: 0, buffer: 0, start: 0, len }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Buffer {
    /// How many bytes the kernel has filled since it got the buffer.
    filled: u32,
    /// How many pieces are lent.
    leases: u32,
    /// Whether the kernel is done with it.
    done: bool,
}

#[derive(Debug)]
pub(super) struct BufferRing {
    /// Told apart from other rings of this process, so that a lease can't be taken to another.
    id: u32,
    mode: BufferMode,
    entries: Mapping,
    memory: Mapping,
    buffer_len: u32,
    buffers: Box<[Buffer]>,
    tail: u16,
    /// Those that the kernel doesn't have and nobody needs; the last one is the hottest.
    spare: Vec<u16>,
    /// How many the kernel may fill, and how many it is to have at the beginning of a turn.
    provided: u16,
    wanted: u16,
    /// How many were used up since the beginning of the turn, and the most in a turn of late.
    used: u16,
    used_max: u16,
    turns: u16,
}

impl BufferRing {
    /// Maps the buffers and provides them all to `ring`.
    pub(super) fn new(ring: &IoUring, mode: BufferMode, share: CoreShare) -> io::Result<Self> {
        let (count, buffer_len) = mode.shape(share);
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * buffer_len as usize)?;
        let flags = if mode == BufferMode::Incremental { FLAG_INCREMENTAL } else { 0 };
        let address = entries.start().as_ptr() as u64;
        // SAFETY: the mapping has room for `count` entries, is page-aligned, and stays until the driver
        // has had the kernel forget this group.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, flags) }?;
        let buffers = vec![Buffer::default(); usize::from(count)].into();
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mut this = Self {
            id,
            mode,
            entries,
            memory,
            buffer_len,
            buffers,
            tail: 0,
            spare: (0..count).rev().collect(),
            provided: 0,
            wanted: WANTED_MIN,
            used: 0,
            used_max: 0,
            turns: 0,
        };
        this.begin_turn();
        Ok(this)
    }

    /// Provides as many buffers as the turn that begins may need.
    pub(super) fn begin_turn(&mut self) {
        self.used_max = self.used_max.max(self.used);
        self.used = 0;
        self.turns += 1;
        // One more than was used up: the kernel must not run out while it has more to deliver.
        if self.used_max >= self.wanted {
            self.wanted = self.used_max.saturating_mul(2).min(self.count());
        } else if self.turns >= TURNS_OF_LATE {
            self.wanted = (self.used_max + 1).max(WANTED_MIN).max(self.wanted / 2);
        }
        if self.turns >= TURNS_OF_LATE {
            (self.turns, self.used_max) = (0, 0);
        }
        while self.provided < self.wanted
            && let Some(buffer) = self.spare.pop()
        {
            self.provide(buffer);
        }
    }

    /// Has the kernel get all buffers: it has found none.
    pub(super) fn ran_out(&mut self) {
        self.used = self.count();
    }

    fn count(&self) -> u16 {
        u16::try_from(self.buffers.len()).expect("the shape counts buffers in 16 bits")
    }

    /// Books the `len` bytes that a completion reports in `buffer`; `more` is the kernel's word
    /// that it goes on filling it.
    pub(super) fn claim(&mut self, buffer: u16, len: u32, more: bool) -> Lease {
        let state = &mut self.buffers[usize::from(buffer)];
        let start = state.filled;
        // The kernel never fills past the end of what it was given; if it said so, going on would
        // hand out other memory as a peer's bytes.
        let end = start.checked_add(len).filter(|&end| end <= self.buffer_len);
        state.filled = end.expect("the kernel fills a buffer at most to its end");
        state.leases += 1;
        state.done = self.mode == BufferMode::Once || !more;
        if state.done {
            self.provided -= 1;
            self.used += 1;
        }
        Lease { owner: self.id, buffer, start, len }
    }

    /// Takes back a buffer that a completion without bytes names.
    pub(super) fn return_unused(&mut self, buffer: u16) {
        if self.mode == BufferMode::Once {
            self.provided -= 1;
            self.spare.push(buffer);
        }
        // In incremental mode nothing was consumed: the kernel goes on at the same place.
    }

    pub(super) fn bytes_mut(&mut self, lease: &mut Lease) -> &mut [u8] {
        let start = usize::from(lease.buffer) * self.buffer_len as usize + lease.start as usize;
        let len = lease.len as usize;
        assert_eq!(lease.owner, self.id, "a lease belongs to one ring");
        assert!(start + len <= self.memory.len(), "a lease lies within the buffers it was cut from");
        // SAFETY: the sum was just checked to lie within the mapping.
        let start = unsafe { self.memory.start().add(start) };
        // SAFETY:
        // - valid and initialised: the range lies within the mapping, zeroed at first, which lives
        //   as long as `self`;
        // - exclusive: `claim` cut this range off what the kernel fills, once, and the lease, which
        //   can't be copied, and `self` are both borrowed for as long as the bytes are.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    pub(super) fn give_back(&mut self, lease: Lease) {
        let Lease { owner, buffer, .. } = lease;
        assert_eq!(owner, self.id, "a lease belongs to one ring");
        let state = &mut self.buffers[usize::from(buffer)];
        state.leases -= 1;
        if state.done && state.leases == 0 {
            self.spare.push(buffer);
        }
    }

    /// How many pieces are lent.
    pub(super) fn leases(&self) -> u32 {
        self.buffers.iter().map(|buffer| buffer.leases).sum()
    }

    /// Hands a whole buffer to the kernel.
    fn provide(&mut self, buffer: u16) {
        self.buffers[usize::from(buffer)] = Buffer::default();
        self.provided += 1;
        let index = usize::from(self.tail % self.count());
        let offset = usize::from(buffer) * self.buffer_len as usize;
        let base: NonNull<BufRingEntry> = self.entries.start().cast();
        // SAFETY: the index is below the count of entries that the mapping was made for.
        let mut entry = unsafe { base.add(index) };
        // SAFETY: the entry is valid, zeroed at first, and past the published tail, where the
        // kernel doesn't look; nobody else has a reference to it.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(self.memory.start().as_ptr() as u64 + offset as u64);
        entry.set_len(self.buffer_len);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `base` is the start of the ring that the kernel knows, so the tail lies in it.
        let tail = unsafe { BufRingEntry::tail(base.as_ptr()) };
        // SAFETY: the tail is aligned, valid as long as the mapping, and both sides access it
        // atomically; `set_*` above never touch these two bytes.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the kernel must see the entry before the tail that publishes it.
        tail.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers(mode: BufferMode) -> (IoUring, BufferRing) {
        let ring = IoUring::new(4).expect("io_uring works here");
        let buffers = BufferRing::new(&ring, mode, CoreShare::WHOLE).expect("buffer rings work here");
        (ring, buffers)
    }

    #[test]
    fn a_core_has_so_much_memory_for_buffers_however_many_rings_share_it() {
        let check = |mode: BufferMode, rings, expect| assert_eq!(mode.shape(CoreShare::new(rings, 1)), expect);
        check(BufferMode::Incremental, 1, (16, 262_144));
        check(BufferMode::Incremental, 3, (16, 65_536));
        check(BufferMode::Incremental, 56, (16, 16_384));
        check(BufferMode::Once, 1, (256, 16_384));
        check(BufferMode::Once, 3, (64, 16_384));
        check(BufferMode::Once, 56, (16, 16_384));
    }

    #[test]
    fn a_buffer_returns_to_the_kernel_with_its_last_piece() {
        let (_ring, mut buffers) = buffers(BufferMode::Incremental);
        let published = buffers.tail;
        let mut first = buffers.claim(0, 100, true);
        let mut second = buffers.claim(0, 50, false);
        buffers.bytes_mut(&mut first).fill(1);
        buffers.bytes_mut(&mut second).fill(2);
        assert!(buffers.bytes_mut(&mut first).iter().all(|&byte| byte == 1), "pieces don't overlap");
        assert_eq!(buffers.leases(), 2);
        buffers.give_back(first);
        assert!(!buffers.spare.contains(&0), "a piece is still lent");
        buffers.give_back(second);
        assert_eq!((buffers.spare.last(), buffers.leases()), (Some(&0), 0));
        buffers.begin_turn();
        assert_eq!(buffers.tail, published + 1);
    }

    #[test]
    fn a_buffer_that_the_kernel_still_fills_stays_with_it() {
        let (_ring, mut buffers) = buffers(BufferMode::Incremental);
        let published = buffers.tail;
        let lease = buffers.claim(0, 10, true);
        buffers.give_back(lease);
        assert_eq!(buffers.tail, published);
        let lease = buffers.claim(0, 10, true);
        assert_eq!(lease.start, 10);
        buffers.give_back(lease);
    }

    #[test]
    fn without_incremental_use_each_completion_takes_a_buffer() {
        let (_ring, mut buffers) = buffers(BufferMode::Once);
        let published = buffers.tail;
        let lease = buffers.claim(0, 10, false);
        buffers.give_back(lease);
        buffers.return_unused(1);
        buffers.begin_turn();
        assert_eq!(buffers.tail, published + 2);
    }

    #[test]
    fn the_kernel_gets_as_many_as_are_used_up_and_the_last_one_first() {
        let (_ring, mut buffers) = buffers(BufferMode::Incremental);
        assert_eq!(buffers.provided, WANTED_MIN);
        let use_up = |buffers: &mut BufferRing, which: &[u16]| {
            let leases: Vec<Lease> = which.iter().map(|&buffer| buffers.claim(buffer, 10, false)).collect();
            leases.into_iter().for_each(|lease| buffers.give_back(lease));
            buffers.begin_turn();
        };
        use_up(&mut buffers, &[0]);
        assert_eq!((buffers.provided, buffers.spare.contains(&0)), (WANTED_MIN, false), "the hottest comes back");
        use_up(&mut buffers, &[1, 0]);
        assert_eq!(buffers.provided, 4, "all were used up: twice as many");
        buffers.ran_out();
        buffers.begin_turn();
        assert_eq!((buffers.provided, buffers.spare.len()), (16, 0));
        for _ in 0..8 * TURNS_OF_LATE {
            buffers.begin_turn();
        }
        assert_eq!(buffers.wanted, WANTED_MIN, "a rush is forgotten");
    }

    #[test]
    #[should_panic(expected = "at most to its end")]
    fn a_length_past_the_end_is_never_believed() {
        let (_ring, mut buffers) = buffers(BufferMode::Incremental);
        let _lease = buffers.claim(0, (256 << 10) + 1, true);
    }
}
