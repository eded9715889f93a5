//! A compressor that belongs to one connection.

use zlib_rs::{Deflate, DeflateConfig};

use crate::proto::ws::deflate::{Level, WindowBits};

/// A compressor that knows what its connection has sent.
pub(super) struct Engine {
    stream: Deflate,
    /// It knows just what the peer's window holds.
    in_step: bool,
}

impl Engine {
    pub(super) fn new(level: Level, window_bits: WindowBits) -> Self {
        Self { stream: make(level, window_bits), in_step: false }
    }

    /// The bytes of memory that one takes.
    pub(super) const fn memory_len(window_bits: WindowBits) -> usize {
        // Two windows of text, their hash chains, the hash heads, and what has yet to be coded.
        let window_len = 1 << engine_bits(window_bits);
        STATE_LEN + 2 * window_len + 2 * window_len + HASH_HEADS_LEN + 7 * (1 << (MEMORY_LEVEL + 6))
    }

    pub(super) const fn is_in_step(&self) -> bool {
        self.in_step
    }

    /// Learns what the window holds, and nothing else.
    pub(super) fn begin(&mut self, window: &[u8]) {
        self.stream.reset();
        self.in_step = window.is_empty() || self.stream.set_dictionary(window).is_ok();
    }

    pub(super) fn stream(&mut self) -> &mut Deflate {
        &mut self.stream
    }

    /// Learns that the peer does not know what was compressed last.
    pub(super) fn unlearn(&mut self) {
        self.in_step = false;
    }

    /// Learns a message that was compressed elsewhere.
    pub(super) fn learn(&mut self, message: &[u8]) {
        if self.in_step {
            // A raw stream takes a dictionary between two blocks, too.
            self.in_step = self.stream.set_dictionary(message).is_ok();
        }
    }
}

/// What zlib's kind of compressor needs for a size of window.
pub(super) fn make(level: Level, window_bits: WindowBits) -> Deflate {
    Deflate::new_with_config(DeflateConfig {
        level: i32::from(level.get()),
        window_bits: -i32::from(engine_bits(window_bits)), // without a header
        mem_level: MEMORY_LEVEL,
        ..DeflateConfig::default()
    })
}

pub(super) const fn engine_bits(window_bits: WindowBits) -> u8 {
    let bits = window_bits.get();
    if bits < ENGINE_BITS_MIN { ENGINE_BITS_MIN } else { bits }
}

pub(super) const ENGINE_BITS_MIN: u8 = 9;
const MEMORY_LEVEL: i32 = 8;
/// zlib-rs has as many whatever the memory level.
const HASH_HEADS_LEN: usize = 128 << 10;
const STATE_LEN: usize = 8 << 10;
