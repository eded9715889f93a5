//! The ring of receive buffers, filled piece by piece (Linux 6.12).

use std::sync::atomic::{AtomicU16, Ordering};
use std::{io, ptr, slice};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

pub const GROUP: u16 = 0;
const COUNT: u16 = 16;
const LEN: u32 = 256 << 10;
/// `IOU_PBUF_RING_INC`.
const INCREMENTAL: u16 = 2;

/// Buffers that live as long as the process: the kernel may fill them until its end.
pub struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    filled: [u32; COUNT as usize],
    tail: u16,
}

impl Buffers {
    pub fn new(ring: &IoUring) -> io::Result<Self> {
        let entries: *mut BufRingEntry = map(usize::from(COUNT) * size_of::<BufRingEntry>())?.cast();
        let memory = map(usize::from(COUNT) * LEN as usize)?;
        // SAFETY: the mapping has room for the entries and is never unmapped.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, COUNT, GROUP, INCREMENTAL) }?;
        let mut buffers = Self { entries, memory, filled: [0; COUNT as usize], tail: 0 };
        for buffer in 0..COUNT {
            buffers.provide(buffer);
        }
        Ok(buffers)
    }

    /// The piece that a completion of `len` bytes is about.
    pub fn claim(&mut self, buffer: u16, len: u32) -> &[u8] {
        let filled = &mut self.filled[usize::from(buffer)];
        let start = *filled;
        *filled += len;
        assert!(*filled <= LEN, "the kernel fills a buffer at most to its end");
        // SAFETY: the piece lies within the buffer, as just checked, and the kernel is done with it.
        unsafe {
            slice::from_raw_parts(self.memory.add(usize::from(buffer) * LEN as usize + start as usize), len as usize)
        }
    }

    pub fn give_back(&mut self, buffer: u16, more: bool) {
        if !more {
            self.provide(buffer);
        }
    }

    fn provide(&mut self, buffer: u16) {
        self.filled[usize::from(buffer)] = 0;
        // SAFETY: the index is below the count of entries, the entry past the published tail, where
        // the kernel does not look, and the tail is within the mapping and accessed atomically.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail % COUNT));
            entry.set_addr(self.memory as u64 + u64::from(buffer) * u64::from(LEN));
            entry.set_len(LEN);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut()).store(self.tail, Ordering::Release);
        }
    }
}

fn map(len: usize) -> io::Result<*mut u8> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a fresh mapping takes nobody else's memory.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(start.cast()) }
}
