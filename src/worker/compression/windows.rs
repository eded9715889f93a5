//! What connections remember of the messages before, and the compressors that busy ones have for themselves.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::proto::ws::deflate::{Context, Level, Parameters};
use crate::slab::Key;

/// Who sends again within that time is busy.
const BUSY_MS: u64 = 1_000;
/// How often those are looked for that have been sent nothing for long.
const SWEEP_MS: u64 = 10_000;

/// The windows of a worker's connections.
#[derive(Debug, Default)]
pub(super) struct Table {
    windows: HashMap<Key, Windows>,
    /// What they may come to take.
    memory_len: usize,
    /// Connections with a compressor of their own.
    engaged: Vec<Key>,
    engines_len: usize,
    /// How many have been sent something that is not forgotten yet.
    mindful: usize,
    sweep_at_ms: u64,
}

/// The windows of a connection, one for each direction.
#[derive(Debug)]
pub(super) struct Windows {
    pub(super) ours: Context,
    pub(super) theirs: Context,
    /// When it was last sent something that was compressed.
    sent_ms: Option<u64>,
}

impl Windows {
    pub(super) fn new(parameters: &Parameters) -> Self {
        Self { ours: parameters.server_context(), theirs: parameters.client_context(), sent_ms: None }
    }

    fn memory_max(&self) -> usize {
        self.ours.sent_memory_max() + self.theirs.memory_max()
    }

    fn was_sent_within(&self, ms: u64, now_ms: u64) -> bool {
        self.sent_ms.is_some_and(|sent_ms| now_ms.saturating_sub(sent_ms) < ms)
    }
}

impl Table {
    /// Keeps the windows of a connection, if it has any.
    pub(super) fn insert(&mut self, key: Key, windows: Windows) -> bool {
        let memory_max = windows.memory_max();
        if memory_max > 0 {
            self.memory_len += memory_max;
            self.windows.insert(key, windows);
        }
        memory_max > 0
    }

    pub(super) fn remove(&mut self, key: Key) {
        let Entry::Occupied(entry) = self.windows.entry(key) else { return };
        let windows = entry.remove();
        self.memory_len -= windows.memory_max();
        self.mindful -= usize::from(windows.sent_ms.is_some());
        if windows.ours.is_engaged() {
            self.engines_len -= windows.ours.engine_memory_len();
            self.engaged.retain(|&engaged| engaged != key);
        }
    }

    pub(super) fn of(&mut self, key: Key) -> &mut Windows {
        self.windows.get_mut(&key).expect("windows are kept until the connection ends")
    }

    /// What all windows may come to take.
    pub(super) fn memory_len(&self) -> usize {
        self.memory_len
    }

    /// Takes notice that a connection was sent something. One that is busy gets a compressor of its own, as
    /// long as all of them take no more than `engines_max` bytes.
    pub(super) fn sent(&mut self, key: Key, now_ms: u64, level: Level, engines_max: usize) {
        let windows = self.windows.get_mut(&key).expect("windows are kept until the connection ends");
        let is_busy = windows.was_sent_within(BUSY_MS, now_ms);
        self.mindful += usize::from(windows.sent_ms.replace(now_ms).is_none());
        let engine_len = windows.ours.engine_memory_len();
        if is_busy && !windows.ours.is_engaged() && engine_len > 0 && self.engines_len + engine_len <= engines_max {
            windows.ours.engage(level);
            self.engines_len += engine_len;
            self.engaged.push(key);
        }
    }

    /// Takes from quiet connections what they can do without: a compressor of their own, and after
    /// `forget_after_ms` what they were sent.
    pub(super) fn trim(&mut self, now_ms: u64, forget_after_ms: u64) {
        let Self { windows, engaged, engines_len, .. } = self;
        engaged.retain(|key| {
            let windows = windows.get_mut(key).expect("one that ends is taken out");
            let stays = windows.was_sent_within(BUSY_MS, now_ms);
            if !stays {
                windows.ours.disengage();
                *engines_len -= windows.ours.engine_memory_len();
            }
            stays
        });
        if now_ms >= self.sweep_at_ms && self.mindful > 0 {
            self.sweep_at_ms = now_ms + SWEEP_MS;
            for windows in self.windows.values_mut() {
                if windows.sent_ms.is_some() && !windows.was_sent_within(forget_after_ms, now_ms) {
                    windows.ours.forget();
                    windows.sent_ms = None;
                    self.mindful -= 1;
                }
            }
        }
    }

    /// Whether there is nothing to trim, now or later.
    pub(super) fn is_trim(&self) -> bool {
        self.mindful == 0 && self.engaged.is_empty()
    }

    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.windows.is_empty() && self.memory_len == 0 && self.is_trim() && self.engines_len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ws::deflate::{Deflater, Outcome, WindowBits};

    const LEVEL: Level = Level::FASTEST;

    fn key(slot: u32) -> Key {
        Key { slot, generation: 0 }
    }

    fn windows(bits: u8) -> Windows {
        let bits = WindowBits::new(bits);
        Windows::new(&Parameters {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: bits,
            client_max_window_bits: bits,
        })
    }

    fn table(connections: u32, bits: u8) -> Table {
        let mut table = Table::default();
        for slot in 0..connections {
            assert!(table.insert(key(slot), windows(bits)));
        }
        table
    }

    #[test]
    fn who_sends_twice_within_a_second_gets_a_compressor_until_he_is_quiet_for_one() {
        let mut table = table(1, 15);
        for (now_ms, is_engaged) in [(0, false), (1_000, false), (1_999, true), (2_500, true)] {
            table.sent(key(0), now_ms, LEVEL, usize::MAX);
            table.trim(now_ms, 30_000);
            assert_eq!(table.of(key(0)).ours.is_engaged(), is_engaged, "at {now_ms} ms");
        }
        table.trim(3_499, 30_000);
        assert!(table.of(key(0)).ours.is_engaged());
        table.trim(3_500, 30_000);
        assert!(!table.of(key(0)).ours.is_engaged());
        assert_eq!((table.engines_len, table.engaged.len()), (0, 0));
        table.remove(key(0));
        assert!(table.is_at_rest());
    }

    #[test]
    fn compressors_of_their_own_are_bounded() {
        let mut table = table(5, 12);
        let engine_len = table.of(key(0)).ours.engine_memory_len();
        for slot in [0, 1, 2, 3, 4, 0, 1, 2, 3, 4] {
            table.sent(key(slot), 0, LEVEL, 3 * engine_len);
        }
        let engaged = |table: &mut Table| [0, 1, 2, 3, 4].map(|slot| table.of(key(slot)).ours.is_engaged());
        assert_eq!(engaged(&mut table), [true, true, true, false, false]);
        // Where one ends, there is room for another.
        table.remove(key(1));
        table.insert(key(1), windows(12));
        table.sent(key(4), 1, LEVEL, 3 * engine_len);
        assert_eq!(engaged(&mut table), [true, false, true, false, true]);
        assert_eq!(table.engines_len, 3 * engine_len);
        (0..5).for_each(|slot| table.remove(key(slot)));
        assert!(table.is_at_rest());
    }

    #[test]
    fn what_was_sent_is_forgotten_after_half_a_minute_and_what_came_never() {
        let mut table = table(1, 15);
        table.trim(0, 30_000);
        let mut payload = Vec::new();
        let outcome = Deflater::new(LEVEL).deflate(&[b'a'; 2_000], &mut table.of(key(0)).ours, &mut payload);
        assert_eq!(outcome, Outcome::Compressed);
        table.of(key(0)).theirs.push(&[b'b'; 2_000]);
        table.sent(key(0), 5_000, LEVEL, usize::MAX);
        let mut kept = |now_ms| {
            table.trim(now_ms, 30_000);
            let windows = table.of(key(0));
            (windows.ours.memory_len(), windows.theirs.memory_len())
        };
        assert_eq!(kept(34_999), (2_048, 2_048));
        assert_eq!(kept(44_999), (0, 2_048));
        assert!(table.is_trim());
    }
}
