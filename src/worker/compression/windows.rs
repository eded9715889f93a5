//! What connections remember of the messages before.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::proto::ws::deflate::{Context, Parameters};
use crate::slab::Key;

/// How often those are looked for that have been sent nothing for long.
const SWEEP_MS: u64 = 10_000;

/// The windows of a worker's connections.
#[derive(Debug, Default)]
pub(super) struct Table {
    windows: HashMap<Key, Windows>,
    /// What they may come to take.
    memory_len: usize,
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

    /// What it takes in all, if it has any memory.
    fn memory_max(&self) -> usize {
        match self.ours.sent_memory_max() + self.theirs.memory_max() {
            0 => 0,
            len => len + size_of::<Self>(),
        }
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
    }

    pub(super) fn of(&mut self, key: Key) -> &mut Windows {
        self.windows.get_mut(&key).expect("windows are kept until the connection ends")
    }

    /// What all windows may come to take.
    pub(super) fn memory_len(&self) -> usize {
        self.memory_len
    }

    /// Takes notice that a connection was sent something that was compressed.
    pub(super) fn sent(&mut self, key: Key, now_ms: u64) {
        let windows = self.of(key);
        if windows.ours.memory_len() > 0 {
            self.mindful += usize::from(windows.sent_ms.replace(now_ms).is_none());
        }
    }

    /// Has those forget what they were sent that were sent nothing for `forget_after_ms`.
    pub(super) fn trim(&mut self, now_ms: u64, forget_after_ms: u64) {
        if now_ms < self.sweep_at_ms || self.mindful == 0 {
            return;
        }
        self.sweep_at_ms = now_ms + SWEEP_MS;
        shrink(&mut self.windows);
        for windows in self.windows.values_mut() {
            if windows.sent_ms.is_some_and(|sent_ms| now_ms.saturating_sub(sent_ms) >= forget_after_ms) {
                windows.ours.forget();
                windows.sent_ms = None;
                self.mindful -= 1;
            }
        }
    }

    /// When there may be something to trim, if ever.
    pub(super) fn trim_at_ms(&self) -> Option<u64> {
        (self.mindful > 0).then_some(self.sweep_at_ms)
    }

    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.windows.is_empty() && self.memory_len == 0 && self.mindful == 0
    }
}

/// Gives memory back that a map needed when it was much larger.
pub(super) fn shrink<V>(map: &mut HashMap<Key, V>) {
    if map.capacity() > SPARE_MAX && map.capacity() / 8 > map.len() {
        map.shrink_to(2 * map.len());
    }
}

/// Room for so many connections is not worth giving back.
const SPARE_MAX: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ws::deflate::{Deflater, Level, Outcome, WindowBits};

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
    fn what_was_sent_is_forgotten_after_half_a_minute_and_what_came_never() {
        let mut table = table(1, 15);
        table.trim(0, 30_000);
        let mut payload = Vec::new();
        let outcome = Deflater::new(Level::FASTEST).deflate(&[b'a'; 2_000], &mut table.of(key(0)).ours, &mut payload);
        assert_eq!(outcome, Outcome::Compressed);
        table.of(key(0)).theirs.push(&[b'b'; 2_000]);
        table.sent(key(0), 5_000);
        let mut kept = |now_ms| {
            table.trim(now_ms, 30_000);
            let windows = table.of(key(0));
            (windows.ours.memory_len(), windows.theirs.memory_len())
        };
        assert_eq!(kept(34_999), (2_048, 2_048));
        assert_eq!(kept(44_999), (0, 2_048));
        assert_eq!(table.trim_at_ms(), None);
    }
}
