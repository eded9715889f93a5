//! A hashed timing wheel: one deadline for each slot, no kernel timer for any of them.
//!
//! Arming and disarming cost a few writes, whatever the number of entries; the wheel turns with
//! the worker's loop. Deadlines are counted in ticks and never fire early, nor late by more than
//! one tick.

/// Milliseconds a tick.
pub const TICK_MS: u64 = 32;
/// Buckets of the wheel, a power of two: deadlines further away than this many ticks take rounds.
const BUCKET_COUNT: usize = 1 << 12;
/// The end of a list, and the mark of an entry that is not armed.
const NONE: u32 = u32::MAX;

/// Deadlines by slot.
///
/// ```
/// use ringsock::timer::Wheel;
///
/// let mut wheel = Wheel::default();
/// wheel.arm(4, 1_000);
/// assert_eq!(wheel.next_ms(0), Some(1_024), "rounded up to a tick");
/// let mut fired = Vec::new();
/// wheel.expire(999, &mut fired);
/// assert!(fired.is_empty());
/// wheel.expire(1_024, &mut fired);
/// assert_eq!(fired, [4]);
/// ```
#[derive(Debug)]
pub struct Wheel {
    /// The first entry of each bucket's list.
    buckets: Box<[u32]>,
    /// Doubly linked through the slots' own entries.
    entries: Vec<Entry>,
    /// The last tick that was expired.
    tick: u64,
    /// No entry is in a bucket of a tick between the last one expired and this one.
    vacant_until: u64,
    armed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tick: u64,
    next: u32,
    previous: u32,
}

const UNARMED: Entry = Entry { tick: u64::MAX, next: NONE, previous: NONE };

impl Wheel {
    /// Sets the deadline of `slot`, in place of an earlier setting.
    pub fn arm(&mut self, slot: u32, deadline_ms: u64) {
        self.disarm(slot);
        if slot as usize >= self.entries.len() {
            self.entries.resize(slot as usize + 1, UNARMED);
        }
        // Past ticks are never looked at again, so what is due already goes into the next one.
        let tick = deadline_ms.div_ceil(TICK_MS).max(self.tick + 1);
        let bucket = bucket_of(tick);
        let next = std::mem::replace(&mut self.buckets[bucket], slot);
        if next != NONE {
            self.entries[next as usize].previous = slot;
        }
        self.entries[slot as usize] = Entry { tick, next, previous: NONE };
        self.vacant_until = self.vacant_until.min(tick);
        self.armed += 1;
    }

    /// Takes the deadline of `slot` away, if it has one.
    pub fn disarm(&mut self, slot: u32) {
        let Some(&Entry { tick, next, previous }) = self.entries.get(slot as usize) else { return };
        if tick == UNARMED.tick {
            return;
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous == NONE {
            self.buckets[bucket_of(tick)] = next;
        } else {
            self.entries[previous as usize].next = next;
        }
        self.entries[slot as usize] = UNARMED;
        self.armed -= 1;
    }

    /// Appends the slots whose deadlines are at or before `now_ms` to `fired` and disarms them.
    pub fn expire(&mut self, now_ms: u64, fired: &mut Vec<u32>) {
        let now = now_ms / TICK_MS;
        // After a long pause every bucket is due once, no more.
        let count = (now.saturating_sub(self.tick)).min(BUCKET_COUNT as u64);
        for tick in self.tick + 1..=self.tick + count {
            let mut slot = self.buckets[bucket_of(tick)];
            while slot != NONE {
                let Entry { tick: due, next, .. } = self.entries[slot as usize];
                if due <= now {
                    self.disarm(slot);
                    fired.push(slot);
                }
                slot = next;
            }
        }
        self.tick = self.tick.max(now);
    }

    /// How many milliseconds from `now_ms` to the next tick with an entry; it may be a later round's.
    #[must_use]
    pub fn next_ms(&mut self, now_ms: u64) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        // The search goes on where the last one ended, so that a turn costs no walk of the wheel.
        let start = self.vacant_until.max(self.tick + 1);
        let due = (start..start + BUCKET_COUNT as u64)
            .find(|&tick| self.buckets[bucket_of(tick)] != NONE)
            .expect("an armed entry is in one of the buckets");
        self.vacant_until = due;
        Some((due * TICK_MS).saturating_sub(now_ms))
    }

    /// Whether `slot` has a deadline.
    #[must_use]
    pub fn is_armed(&self, slot: u32) -> bool {
        self.entries.get(slot as usize).is_some_and(|entry| entry.tick != UNARMED.tick)
    }

    /// Whether `slot` has a deadline that fires no later than one of `deadline_ms` would.
    #[must_use]
    pub fn fires_by(&self, slot: u32, deadline_ms: u64) -> bool {
        self.entries.get(slot as usize).is_some_and(|entry| entry.tick <= deadline_ms.div_ceil(TICK_MS))
    }

    /// How many slots have a deadline.
    #[must_use]
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether no slot has a deadline.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }
}

impl Default for Wheel {
    fn default() -> Self {
        Self { buckets: vec![NONE; BUCKET_COUNT].into(), entries: Vec::new(), tick: 0, vacant_until: 0, armed: 0 }
    }
}

fn bucket_of(tick: u64) -> usize {
    usize::try_from(tick % BUCKET_COUNT as u64).expect("below the count of buckets")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn random_use_fires_each_deadline_on_its_tick_as_a_sorted_map_would() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let (mut wheel, mut model, mut now) = (Wheel::default(), BTreeMap::new(), 0);
        for _ in 0..200_000 {
            let slot = u32::try_from(next(500)).expect("small");
            match next(8) {
                0 => {
                    wheel.disarm(slot);
                    model.remove(&slot);
                }
                1..=3 => {
                    now += next(200);
                    let mut fired = Vec::new();
                    wheel.expire(now, &mut fired);
                    fired.sort_unstable();
                    let due: Vec<u32> =
                        model.iter().filter(|(_, at)| **at <= now / TICK_MS).map(|(slot, _)| *slot).collect();
                    assert_eq!(fired, due, "at {now} ms");
                    model.retain(|_, at| *at > now / TICK_MS);
                }
                _ => {
                    let deadline = now + next(if slot % 10 == 0 { 500_000 } else { 3_000 });
                    wheel.arm(slot, deadline);
                    model.insert(slot, deadline.div_ceil(TICK_MS).max(now / TICK_MS + 1));
                }
            }
            assert_eq!((wheel.len(), wheel.is_armed(slot)), (model.len(), model.contains_key(&slot)));
            let earliest = model.values().min().map(|tick| tick * TICK_MS - now);
            assert!(wheel.next_ms(now) <= earliest && wheel.next_ms(now).is_some() == earliest.is_some());
        }
    }

    #[test]
    fn the_next_tick_is_never_past_the_earliest_deadline() {
        let mut wheel = Wheel::default();
        assert_eq!(wheel.next_ms(0), None);
        wheel.arm(1, 10_000_000);
        wheel.arm(2, 50);
        assert_eq!(wheel.next_ms(0), Some(64));
        assert_eq!(wheel.next_ms(60), Some(4));
        wheel.disarm(2);
        assert!(wheel.next_ms(0).expect("armed") <= 10_000_000 + TICK_MS);
    }

    #[test]
    fn a_long_pause_fires_everything_that_is_due_once() {
        let mut wheel = Wheel::default();
        for slot in 0..1000 {
            wheel.arm(slot, u64::from(slot) * 1_000);
        }
        let mut fired = Vec::new();
        wheel.expire(500_000, &mut fired);
        fired.sort_unstable();
        assert_eq!(fired, (0..=500).collect::<Vec<u32>>());
    }
}
