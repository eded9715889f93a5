//! zlib's compressors: what they cost, and who has one.

use std::sync::atomic::{AtomicU64, Ordering};

use zlib_rs::{Deflate, DeflateConfig};

use crate::proto::ws::deflate::{Level, WindowBits};

/// The engines that know what certain contexts have sent, so that these need not begin anew.
///
/// One that is given to another context is made anew, and not only reset: an engine hashes the end of what it
/// knows together with what stands behind that in its window. Were that another connection's, the length of
/// what is sent could tell of it.
pub(super) struct Engines {
    level: Level,
    /// They stay where they are, since contexts know theirs by its index.
    engines: Vec<Option<Engine>>,
    memory_len: usize,
    memory_max: usize,
    /// The number of the last message.
    number: u64,
    /// What it was when engines were last looked at for disuse.
    trimmed: u64,
}

struct Engine {
    stream: Deflate,
    memory_len: usize,
    /// The number of the last message, which is that of the context that may go on.
    number: u64,
}

/// Which engine knows a context, as long as the number of its last message is this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    index: usize,
    number: u64,
}

impl Engines {
    /// For as many as `memory_max` bytes hold, but at least one.
    pub(super) fn new(level: Level, memory_max: usize) -> Self {
        // Deflaters number differently: so a context that comes to another one is not mistaken there.
        static DEFLATERS: AtomicU64 = AtomicU64::new(1);
        let number = DEFLATERS.fetch_add(1, Ordering::Relaxed) << 48;
        Self { level, engines: Vec::new(), memory_len: 0, memory_max, number, trimmed: number }
    }

    /// An engine for a message, and whether it has to be told what came before.
    pub(super) fn take(&mut self, place: Option<Place>, window_bits: WindowBits) -> (&mut Deflate, Place, bool) {
        self.number += 1;
        let number = self.number;
        let known = place.filter(|place| {
            self.engines.get(place.index).and_then(Option::as_ref).is_some_and(|at| at.number == place.number)
        });
        let index = known.map_or_else(|| self.make_room(memory_len_of(window_bits)), |place| place.index);
        let slot = &mut self.engines[index];
        let engine = slot.get_or_insert_with(|| {
            let memory_len = memory_len_of(window_bits);
            self.memory_len += memory_len;
            Engine { stream: make(self.level, window_bits), memory_len, number }
        });
        engine.number = number;
        (&mut engine.stream, Place { index, number }, known.is_none())
    }

    /// Has nobody go on at `place`.
    pub(super) fn spoil(&mut self, place: Place) {
        self.drop_engine(place.index);
    }

    /// Lets go of those that were not used since the last call.
    pub(super) fn trim(&mut self) {
        for index in 0..self.engines.len() {
            if self.engines[index].as_ref().is_some_and(|engine| engine.number <= self.trimmed) {
                self.drop_engine(index);
            }
        }
        self.trimmed = self.number;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.memory_len == 0
    }

    /// The index of an empty place for an engine of `memory_len` bytes.
    fn make_room(&mut self, memory_len: usize) -> usize {
        while !self.is_empty() && self.memory_len + memory_len > self.memory_max {
            let engines = self.engines.iter().enumerate();
            let by_use = engines.filter_map(|(index, engine)| Some((engine.as_ref()?.number, index)));
            let (number, oldest) = by_use.clone().min().expect("it is not empty");
            let (_, latest) = by_use.max().expect("it is not empty");
            // If all are busy, the one that is in the cache is given away again and again, and the others
            // stay whose they are.
            self.drop_engine(if number + QUIET_AFTER < self.number { oldest } else { latest });
        }
        self.engines.iter().position(Option::is_none).unwrap_or_else(|| {
            self.engines.push(None);
            self.engines.len() - 1
        })
    }

    fn drop_engine(&mut self, index: usize) {
        if let Some(engine) = self.engines[index].take() {
            self.memory_len -= engine.memory_len;
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

/// The bytes of memory that one takes.
pub(super) const fn memory_len_of(window_bits: WindowBits) -> usize {
    // Two windows of text, their hash chains, the hash heads, and what has yet to be coded.
    let window_len = 1 << engine_bits(window_bits);
    STATE_LEN + 2 * window_len + 2 * window_len + HASH_HEADS_LEN + 7 * (1 << (MEMORY_LEVEL + 6))
}

pub(super) const fn engine_bits(window_bits: WindowBits) -> u8 {
    let bits = window_bits.get();
    if bits < ENGINE_BITS_MIN { ENGINE_BITS_MIN } else { bits }
}

/// zlib knows no smaller window.
pub(super) const ENGINE_BITS_MIN: u8 = 9;
/// Whose last message is so many messages ago is quiet.
const QUIET_AFTER: u64 = 1 << 10;
const MEMORY_LEVEL: i32 = 8;
/// zlib-rs has as many whatever the memory level.
const HASH_HEADS_LEN: usize = 128 << 10;
const STATE_LEN: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const BITS: WindowBits = WindowBits::MAX;

    /// Serves contexts in turn; returns for each whether an engine knew it.
    fn serve(engines: &mut Engines, places: &mut [Option<Place>], turns: &[usize]) -> Vec<bool> {
        let serve = |&context: &usize| {
            let (_, place, is_new) = engines.take(places[context], BITS);
            places[context] = Some(place);
            !is_new
        };
        turns.iter().map(serve).collect()
    }

    fn engines(count: usize) -> Engines {
        Engines::new(Level::FASTEST, count * memory_len_of(BITS))
    }

    #[test]
    fn as_many_as_there_is_memory_for_keep_theirs() {
        let (mut engines, mut places) = (engines(2), [None; 3]);
        assert_eq!(serve(&mut engines, &mut places, &[0, 1, 0, 1, 1, 0]), [false, false, true, true, true, true]);
        // A third one takes that of the last one, which has to begin anew; the other keeps its own.
        assert_eq!(serve(&mut engines, &mut places, &[1, 2, 0, 2, 0]), [true, false, true, true, true]);
        assert_eq!(engines.memory_len, 2 * memory_len_of(BITS));
    }

    #[test]
    fn without_memory_there_is_one() {
        let (mut engines, mut places) = (engines(0), [None; 2]);
        assert_eq!(serve(&mut engines, &mut places, &[0, 0, 1, 1, 0]), [false, true, false, true, false]);
    }

    #[test]
    fn a_quiet_one_gives_way() {
        let (mut engines, mut places) = (engines(2), [None; 3]);
        serve(&mut engines, &mut places, &[0, 1]);
        serve(&mut engines, &mut places, &vec![1; 1_100]);
        assert_eq!(serve(&mut engines, &mut places, &[2, 1, 0]), [false, true, false]);
    }

    #[test]
    fn what_was_not_used_is_let_go_of_the_next_time() {
        let (mut engines, mut places) = (engines(2), [None; 2]);
        serve(&mut engines, &mut places, &[0, 1]);
        engines.trim();
        serve(&mut engines, &mut places, &[1]);
        engines.trim();
        assert_eq!(engines.memory_len, memory_len_of(BITS));
        assert_eq!(serve(&mut engines, &mut places, &[1, 0]), [true, false], "those that stay are still known");
        engines.trim();
        engines.trim();
        assert!(engines.is_empty());
        assert_eq!(serve(&mut engines, &mut places, &[0, 1]), [false, false]);
    }

    #[test]
    fn memory_is_bounded_for_any_mix_of_windows() {
        let memory_max = 4 * memory_len_of(BITS);
        let mut engines = Engines::new(Level::FASTEST, memory_max);
        for (turn, bits) in [9, 15, 9, 9, 12, 15, 15, 9, 15, 15, 10, 9, 15].into_iter().cycle().take(500).enumerate() {
            let (_, place, is_new) = engines.take(None, WindowBits::new(bits).unwrap());
            assert!(is_new && engines.memory_len <= memory_max, "{}", engines.memory_len);
            if turn % 3 == 0 {
                engines.spoil(place);
            }
            let held: usize = engines.engines.iter().flatten().map(|engine| engine.memory_len).sum();
            assert_eq!(held, engines.memory_len);
        }
        assert!(engines.engines.len() <= 8);
    }

    #[test]
    fn another_deflaters_context_is_not_mistaken() {
        let (mut ours, mut theirs, mut places) = (engines(1), engines(1), [None]);
        assert_eq!(serve(&mut ours, &mut places, &[0, 0]), [false, true]);
        assert_eq!(serve(&mut theirs, &mut places, &[0, 0]), [false, true]);
        assert_eq!(serve(&mut ours, &mut places, &[0]), [false]);
    }
}
