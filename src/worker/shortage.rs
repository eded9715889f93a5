//! Who receives next while there are fewer receive buffers than peers that send.
//!
//! Left to themselves, those that take all buffers would be the first to ask for more. So they
//! queue, by when each last began or ended a message: what was begun first is finished first. A
//! peer that floods goes to the end with every message, and few messages are half assembled at a
//! time, where sharing evenly would have them all so.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::slab::Key;

/// How many connections receive in one turn of a shortage: more than the buffers serve, if they
/// have much, and few enough to be asked in vain.
const GRANTS_PER_TURN: usize = 64;
/// How many receives in a row may pass in the middle of a message without losing the place in the
/// queue. A message of any length is finished some day; one that never ends must not be first for ever.
pub(super) const RECEIVES_PER_PLACE: u8 = 64;

/// Connections that wait for receive buffers.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    waiting: BinaryHeap<Reverse<(u64, Key)>>,
}

impl Shortage {
    /// Whether anybody waits: others that want to receive then have to queue too.
    pub(super) fn is_on(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Adds a connection that has its place since turn `since`.
    pub(super) fn join(&mut self, since: u64, key: Key) {
        self.waiting.push(Reverse((since, key)));
    }

    /// The connections that receive in this turn, those that have waited longest first.
    pub(super) fn grants(&mut self) -> impl Iterator<Item = Key> {
        (0..GRANTS_PER_TURN).map_while(|_| self.waiting.pop()).map(|Reverse((_, key))| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_waited_longest_is_first_and_a_turn_serves_only_so_many() {
        let mut shortage = Shortage::default();
        assert!(!shortage.is_on());
        for slot in 0..100 {
            shortage.join(u64::from(1000 - slot), Key { slot, generation: 1 });
        }
        let first: Vec<u32> = shortage.grants().map(|key| key.slot).collect();
        assert_eq!(first, (36..100).rev().collect::<Vec<u32>>());
        assert!(shortage.is_on());
        assert_eq!(shortage.grants().count(), 36);
        assert!(!shortage.is_on());
    }
}
