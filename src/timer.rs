//! A hashed timing wheel: one deadline for each slot, no kernel timer for any of them.
//!
//! Arming and disarming cost a few writes, whatever the number of entries; the wheel turns with
//! the worker's loop. Deadlines are counted in ticks and never fire early, nor late by more than
//! one tick. The exception are those in more than two years, which fire after two years.

use std::mem;

/// Milliseconds a tick.
pub const TICK_MS: u64 = 32;
/// Buckets of the wheel, a power of two: deadlines further away than this many ticks take rounds.
const BUCKET_COUNT: usize = 1 << 12;
/// How many lists a bucket has. They are walked side by side, because an entry is mostly not in the cache
/// and names the next of its list: so many of them are on their way at a time. With a million entries one
/// list takes 137 ns for each, eight 21, sixteen 20.
const LIST_COUNT: usize = 8;
/// How many ticks away a deadline is at most. An entry has the low half of its tick, so its distance
/// from the last tick that was expired has to fit into that.
const DISTANCE_MAX: u64 = 1 << 31;
/// How many entries a page holds. The wheel grows by pages, so that no growth copies an entry.
const PAGE_LEN: usize = 1024;
/// How many pages a call of `trim` looks at.
const TRIM_PAGES_MAX: usize = 64;
/// The end of a list in either direction.
const NONE: u32 = u32::MAX;
/// A bucket without entries.
const VACANT: [u32; LIST_COUNT] = [NONE; LIST_COUNT];
/// In place of the previous entry: this one is not armed, so it is in no list.
const UNARMED: u32 = u32::MAX - 1;

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
    /// The first entry of each of a bucket's lists.
    buckets: Box<[[u32; LIST_COUNT]]>,
    /// The entries by slot, doubly linked through slots.
    pages: Vec<Page>,
    page_count: usize,
    /// How many of the pages have no armed entry.
    vacant_page_count: usize,
    /// Which page `trim` looks at next.
    trim_next: usize,
    /// The last tick that was expired.
    tick: u64,
    /// No entry is due before this tick.
    vacant_until: u64,
    armed: usize,
}

/// What is known of a page without a look into it.
#[derive(Debug, Default)]
struct Page {
    entries: Option<Box<[Entry; PAGE_LEN]>>,
    armed: u16,
    /// Whether no entry has been armed since the last look of `trim`.
    was_vacant: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The low half of the tick.
    tick: u32,
    next: u32,
    previous: u32,
}

const _: () = assert!(size_of::<Entry>() == 12, "five entries share a line of the cache");
const _: () = assert!(PAGE_LEN <= u16::MAX as usize);

impl Wheel {
    /// Sets the deadline of `slot`, in place of an earlier setting.
    ///
    /// # Panics
    ///
    /// If `slot` is one of the two highest numbers, which mark ends of lists.
    pub fn arm(&mut self, slot: u32, deadline_ms: u64) {
        assert!(slot < UNARMED, "slots are indices of a table");
        self.disarm(slot);
        let (page, _) = place(slot);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, Page::default);
        }
        let page = &mut self.pages[page];
        if page.entries.is_none() {
            page.entries = Some(new_page());
            self.page_count += 1;
        } else if page.armed == 0 {
            self.vacant_page_count -= 1;
        }
        page.was_vacant = false;
        page.armed += 1;
        self.armed += 1;
        // Past ticks are never looked at again, so what is due already goes into the next one.
        let tick = deadline_ms.div_ceil(TICK_MS).clamp(self.tick + 1, self.tick + DISTANCE_MAX);
        self.vacant_until = self.vacant_until.min(tick);
        self.link(slot, low_half(tick));
    }

    /// Takes the deadline of `slot` away, if it has one.
    pub fn disarm(&mut self, slot: u32) {
        let Some(&Entry { tick, next, previous }) = self.armed_entry(slot) else { return };
        if next != NONE {
            self.entry_mut(next).previous = previous;
        }
        if previous == NONE {
            *self.first_mut(slot, tick) = next;
        } else {
            self.entry_mut(previous).next = next;
        }
        let (page, index) = place(slot);
        self.vacant_page_count += usize::from(self.pages[page].leave(index) == 0);
        self.armed -= 1;
    }

    /// Appends the slots whose deadlines are at or before `now_ms` to `fired` and disarms them.
    pub fn expire(&mut self, now_ms: u64, fired: &mut Vec<u32>) {
        let now = now_ms / TICK_MS;
        let passed = now.saturating_sub(self.tick);
        let fired_before = fired.len();
        // After a long pause every bucket is due once, no more.
        for tick in self.tick + 1..=self.tick + passed.min(BUCKET_COUNT as u64) {
            self.expire_bucket(bucket_of(low_half(tick)), passed, fired);
        }
        self.armed -= fired.len() - fired_before;
        self.tick += passed;
    }

    /// Gives pages back in which no slot has had a deadline from one look at them to the next.
    ///
    /// A call looks at some pages only, those after the last call's, so it may be made every second.
    pub fn trim(&mut self) {
        let count = self.pages.len();
        for _ in 0..count.min(TRIM_PAGES_MAX) {
            let page = &mut self.pages[self.trim_next];
            self.trim_next = (self.trim_next + 1) % count;
            if page.armed != 0 || page.entries.is_none() {
                continue;
            }
            if mem::replace(&mut page.was_vacant, true) {
                *page = Page::default();
                self.page_count -= 1;
                self.vacant_page_count -= 1;
            }
        }
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
            .find(|&tick| self.buckets[bucket_of(low_half(tick))] != VACANT)
            .expect("an armed entry is in one of the buckets");
        self.vacant_until = due;
        Some((due * TICK_MS).saturating_sub(now_ms))
    }

    /// Whether `slot` has a deadline.
    #[must_use]
    pub fn is_armed(&self, slot: u32) -> bool {
        self.armed_entry(slot).is_some()
    }

    /// Whether `slot` has a deadline that fires no later than one of `deadline_ms` would.
    #[must_use]
    pub fn fires_by(&self, slot: u32, deadline_ms: u64) -> bool {
        self.armed_entry(slot)
            .is_some_and(|entry| self.tick + distance(self.tick, entry.tick) <= deadline_ms.div_ceil(TICK_MS))
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

    /// Whether no page can be given back, so that `trim` has nothing to do.
    #[must_use]
    pub fn is_trim(&self) -> bool {
        self.vacant_page_count == 0
    }

    /// The memory of the pages that there are now.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.page_count * size_of::<[Entry; PAGE_LEN]>()
    }

    /// Fires what is due in a bucket when `passed` ticks are over, and leaves the rest in it.
    ///
    /// The lists are taken as a whole: what fires is not unlinked, so its neighbours are not written.
    fn expire_bucket(&mut self, bucket: usize, passed: u64, fired: &mut Vec<u32>) {
        let mut lists = mem::replace(&mut self.buckets[bucket], VACANT);
        while lists != VACANT {
            for first in &mut lists {
                if *first != NONE {
                    *first = self.expire_entry(*first, passed, fired);
                }
            }
        }
    }

    /// Fires an entry that is in no list any more or puts it back, and returns the next one.
    fn expire_entry(&mut self, slot: u32, passed: u64, fired: &mut Vec<u32>) -> u32 {
        let (page, index) = place(slot);
        let page = &mut self.pages[page];
        let Entry { tick, next, .. } = *page.entry_mut(index);
        if distance(self.tick, tick) <= passed {
            self.vacant_page_count += usize::from(page.leave(index) == 0);
            fired.push(slot);
        } else {
            self.link(slot, tick);
        }
        next
    }

    /// Puts the entry of `slot` in front of its list.
    fn link(&mut self, slot: u32, tick: u32) {
        let next = mem::replace(self.first_mut(slot, tick), slot);
        if next != NONE {
            self.entry_mut(next).previous = slot;
        }
        *self.entry_mut(slot) = Entry { tick, next, previous: NONE };
    }

    /// The first entry of the list that `slot` is in if it is due at `tick`.
    fn first_mut(&mut self, slot: u32, tick: u32) -> &mut u32 {
        &mut self.buckets[bucket_of(tick)][slot as usize % LIST_COUNT]
    }

    fn armed_entry(&self, slot: u32) -> Option<&Entry> {
        let (page, index) = place(slot);
        let entry = &self.pages.get(page)?.entries.as_ref()?[index];
        (entry.previous != UNARMED).then_some(entry)
    }

    fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        let (page, index) = place(slot);
        self.pages[page].entry_mut(index)
    }
}

impl Page {
    fn entry_mut(&mut self, index: usize) -> &mut Entry {
        &mut self.entries.as_mut().expect("a page stays while an entry of it is armed")[index]
    }

    /// Marks an entry as not armed, to which nothing of a list leads any more. Returns how many are left.
    fn leave(&mut self, index: usize) -> u16 {
        self.entry_mut(index).previous = UNARMED;
        self.armed -= 1;
        self.armed
    }
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            buckets: vec![VACANT; BUCKET_COUNT].into(),
            pages: Vec::new(),
            page_count: 0,
            vacant_page_count: 0,
            trim_next: 0,
            tick: 0,
            vacant_until: 0,
            armed: 0,
        }
    }
}

fn place(slot: u32) -> (usize, usize) {
    (slot as usize / PAGE_LEN, slot as usize % PAGE_LEN)
}

fn new_page() -> Box<[Entry; PAGE_LEN]> {
    let entries = vec![Entry { tick: 0, next: NONE, previous: UNARMED }; PAGE_LEN];
    entries.into_boxed_slice().try_into().expect("as many as a page holds")
}

/// How many ticks after `from` a tick is of which only the low half is known.
fn distance(from: u64, tick: u32) -> u64 {
    u64::from(tick.wrapping_sub(low_half(from)))
}

fn low_half(tick: u64) -> u32 {
    (tick & 0xffff_ffff) as u32
}

fn bucket_of(tick: u32) -> usize {
    tick as usize % BUCKET_COUNT
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Compares a wheel with a sorted map, from `start_ms` on. `slot_of` makes slots of numbers below 500.
    #[track_caller]
    fn check(start_ms: u64, slot_of: fn(u32) -> u32) {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let (mut wheel, mut model, mut now, mut pages_gone) = (Wheel::default(), BTreeMap::new(), start_ms, 0);
        wheel.expire(start_ms, &mut Vec::new());
        for _ in 0..200_000 {
            let slot = slot_of(u32::try_from(next(500)).expect("small"));
            match next(8) {
                0 => {
                    wheel.disarm(slot);
                    model.remove(&slot);
                }
                1..=3 => {
                    // Seldom a pause of more than a round of the wheel, in which most deadlines pass.
                    now += if next(5_000) == 0 { 300_000 } else { next(200) };
                    let mut fired = Vec::new();
                    wheel.expire(now, &mut fired);
                    fired.sort_unstable();
                    let due: Vec<u32> =
                        model.iter().filter(|(_, at)| **at <= now / TICK_MS).map(|(slot, _)| *slot).collect();
                    assert_eq!(fired, due, "at {now} ms");
                    model.retain(|_, at| *at > now / TICK_MS);
                }
                _ => {
                    let deadline = now + next(if slot.is_multiple_of(10) { 500_000 } else { 3_000 });
                    wheel.arm(slot, deadline);
                    assert!(wheel.fires_by(slot, deadline.max(now / TICK_MS * TICK_MS + 1)));
                    model.insert(slot, deadline.div_ceil(TICK_MS).max(now / TICK_MS + 1));
                }
            }
            if next(20) == 0 {
                let pages = wheel.page_count;
                wheel.trim();
                pages_gone += pages - wheel.page_count;
            }
            assert_eq!((wheel.len(), wheel.is_armed(slot)), (model.len(), model.contains_key(&slot)));
            let earliest = model.values().min().map(|tick| tick * TICK_MS - now);
            assert!(wheel.next_ms(now) <= earliest && wheel.next_ms(now).is_some() == earliest.is_some());
        }
        let armed_per_page = wheel.pages.iter().map(|page| usize::from(page.armed));
        assert_eq!(armed_per_page.sum::<usize>(), model.len());
        let vacant = |page: &&Page| page.entries.is_some() && page.armed == 0;
        assert_eq!(wheel.vacant_page_count, wheel.pages.iter().filter(vacant).count());
        assert_eq!(wheel.page_count, wheel.pages.iter().filter(|page| page.entries.is_some()).count());
        assert_eq!(pages_gone > 100, slot_of(499) > 1_000_000, "{pages_gone} pages went");
    }

    #[test]
    fn random_use_fires_each_deadline_on_its_tick_as_a_sorted_map_would() {
        check(0, |number| number);
    }

    #[test]
    fn slots_on_many_pages_fire_on_their_ticks_while_pages_come_and_go() {
        check(0, |number| number * 3_001);
    }

    #[test]
    fn the_low_half_of_a_tick_may_wrap() {
        // The deadlines of the first two minutes lie on both sides of the wrap.
        check((1 << 32) * TICK_MS - 60_000, |number| number);
    }

    #[test]
    fn a_deadline_in_a_hundred_years_fires_after_two() {
        const YEAR_MS: u64 = 365 * 24 * 3_600_000;
        let mut wheel = Wheel::default();
        let mut fired = Vec::new();
        wheel.expire(3 * YEAR_MS, &mut fired);
        wheel.arm(1, 100 * YEAR_MS);
        wheel.arm(2, u64::MAX);
        assert!(wheel.fires_by(1, 100 * YEAR_MS) && !wheel.fires_by(1, 5 * YEAR_MS));
        wheel.expire(5 * YEAR_MS, &mut fired);
        assert!(fired.is_empty());
        wheel.expire(6 * YEAR_MS, &mut fired);
        fired.sort_unstable();
        assert_eq!(fired, [1, 2]);
    }

    #[test]
    fn a_page_goes_when_nothing_is_armed_between_two_looks() {
        let mut wheel = Wheel::default();
        wheel.arm(5, 1_000);
        wheel.arm(200_000, 1_000);
        assert_eq!((wheel.memory_bytes(), wheel.is_trim()), (2 * 12 * 1024, true));
        wheel.disarm(200_000);
        assert!(!wheel.is_trim());
        let looks = |wheel: &mut Wheel| {
            // There are more pages than a call looks at.
            (0..4).for_each(|_| wheel.trim());
            wheel.memory_bytes() / (12 * 1024)
        };
        assert_eq!(looks(&mut wheel), 2);
        wheel.arm(200_000, 2_000);
        wheel.disarm(200_000);
        assert_eq!(looks(&mut wheel), 2, "there was a deadline since");
        assert_eq!(looks(&mut wheel), 1);
        assert!(wheel.is_trim() && wheel.is_armed(5) && !wheel.is_armed(200_000));
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
