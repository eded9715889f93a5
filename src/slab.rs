//! A table whose slots are chosen by somebody else: the kernel, which hands out direct descriptors.
//!
//! The index of a connection's direct descriptor is its slot here, so no second table maps one to
//! the other. Generations tell the lives of a slot apart.

use std::mem;

/// How many entries a page holds. The table grows by pages, so that no entry ever moves and no
/// growth copies what is there.
const PAGE_LEN: usize = 1024;
/// How many pages a call of `trim` looks at.
const TRIM_PAGES_MAX: usize = 64;
/// Generations wrap after this many lives of a slot. They share a 64-bit word with the slot and the
/// kind of operation, see the ring's tokens.
pub const GENERATION_MAX: u32 = (1 << 24) - 1;

const _: () = assert!((GENERATION_MAX + 1).is_power_of_two(), "differences of generations are masked");
const _: () = assert!(PAGE_LEN <= u16::MAX as usize);
const _: () = assert!(size_of::<Entry<Box<u64>>>() == 16, "an entry is a word longer than its value");

/// One life of a slot.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// The index in the table: that of the direct descriptor.
    pub slot: u32,
    /// Which life of the slot is meant, at most [`GENERATION_MAX`].
    pub generation: u32,
}

/// Values by slot, each with the generation of its life.
///
/// A slot's generations go up by one from life to life, and by more where the page that it is on was
/// given back in between: all slots of a new page begin with the generation that the furthest of them
/// would have come to. Past [`GENERATION_MAX`] they begin again with 0, so a key that is kept for more
/// than 16 million lives of the slots beside it may name another life.
///
/// ```
/// use ringsock::slab::Table;
///
/// let mut table = Table::default();
/// let first = table.insert(7, "first").expect("slot 7 is free");
/// assert_eq!(table.remove(first), Some("first"));
/// let second = table.insert(7, "second").expect("slot 7 is free again");
/// assert_eq!(table.get_mut(first), None, "an earlier life is gone");
/// assert_eq!(table.get_mut(second), Some(&mut "second"));
/// ```
#[derive(Debug)]
pub struct Table<T> {
    pages: Vec<Page<T>>,
    page_count: usize,
    /// How many of the pages have no value.
    vacant_page_count: usize,
    /// Which page `trim` looks at next.
    trim_next: usize,
    len: usize,
}

/// What is known of a page without a look into it; stays when the entries go.
#[derive(Debug)]
struct Page<T> {
    entries: Option<Box<[Entry<T>; PAGE_LEN]>>,
    /// The generation that the entries began with, or that the next ones begin with.
    generation: u32,
    /// How many values there are.
    len: u16,
    /// Whether there has been no value since the last look of `trim`.
    was_vacant: bool,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Table<T> {
    /// Begins a new life of `slot`, or returns the value if the slot is taken.
    ///
    /// # Errors
    ///
    /// The value, if the slot's last life has not ended.
    pub fn insert(&mut self, slot: u32, value: T) -> Result<Key, T> {
        let (page, index) = place(slot);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, Page::default);
        }
        let page = &mut self.pages[page];
        if page.entries.is_none() {
            self.page_count += 1;
            self.vacant_page_count += 1;
        }
        let entry = &mut page.entries.get_or_insert_with(|| new_entries(page.generation))[index];
        if entry.value.is_some() {
            return Err(value);
        }
        entry.value = Some(value);
        self.vacant_page_count -= usize::from(page.len == 0);
        page.was_vacant = false;
        page.len += 1;
        self.len += 1;
        Ok(Key { slot, generation: entry.generation })
    }

    /// Ends the life that `key` names and returns its value.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entry_mut(key)?;
        let value = entry.value.take()?;
        entry.generation = if entry.generation == GENERATION_MAX { 0 } else { entry.generation + 1 };
        let page = &mut self.pages[place(key.slot).0];
        page.len -= 1;
        self.vacant_page_count += usize::from(page.len == 0);
        self.len -= 1;
        Some(value)
    }

    /// Gives pages back that have held no value from one look at them to the next.
    ///
    /// A call looks at some pages only, those after the last call's, so it may be made every second.
    pub fn trim(&mut self) {
        let count = self.pages.len();
        for _ in 0..count.min(TRIM_PAGES_MAX) {
            let page = &mut self.pages[self.trim_next];
            self.trim_next = (self.trim_next + 1) % count;
            if page.len != 0 || page.entries.is_none() {
                continue;
            }
            if mem::replace(&mut page.was_vacant, true) {
                page.give_back();
                self.page_count -= 1;
                self.vacant_page_count -= 1;
            }
        }
    }

    /// The value of the life that `key` names.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.entry_mut(key)?.value.as_mut()
    }

    /// The key of the life that `slot` has now.
    #[must_use]
    pub fn key_of(&self, slot: u32) -> Option<Key> {
        let (page, index) = place(slot);
        let entry = &self.pages.get(page)?.entries.as_ref()?[index];
        entry.value.is_some().then_some(Key { slot, generation: entry.generation })
    }

    /// The keys of all values, by slot.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.iter().map(|(key, _)| key)
    }

    /// All values with their keys, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let pages = self.pages.iter().enumerate().filter(|(_, page)| page.len > 0);
        let entries = pages.flat_map(|(number, page)| {
            let entries = page.entries.iter().flat_map(|entries| entries.iter());
            entries.enumerate().map(move |(index, entry)| (number * PAGE_LEN + index, entry))
        });
        entries.filter_map(|(slot, entry)| {
            let slot = u32::try_from(slot).expect("slots are inserted as u32");
            entry.value.as_ref().map(|value| (Key { slot, generation: entry.generation }, value))
        })
    }

    /// How many slots are taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no slot is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether no page can be given back, so that `trim` has nothing to do.
    #[must_use]
    pub fn is_trim(&self) -> bool {
        self.vacant_page_count == 0
    }

    /// The memory of the pages that there are now, without what values own elsewhere.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.page_count * size_of::<[Entry<T>; PAGE_LEN]>()
    }

    fn entry_mut(&mut self, key: Key) -> Option<&mut Entry<T>> {
        let (page, index) = place(key.slot);
        let entry = &mut self.pages.get_mut(page)?.entries.as_mut()?[index];
        (entry.generation == key.generation).then_some(entry)
    }
}

impl<T> Page<T> {
    /// Lets the entries go, none of which has a value.
    ///
    /// The generation that a vacant entry has is one above that of its last life. The furthest from
    /// the beginning is counted, not the highest, since some may have gone past [`GENERATION_MAX`].
    fn give_back(&mut self) {
        let entries = self.entries.take().expect("a page that goes was there");
        let lives = entries.iter().map(|entry| entry.generation.wrapping_sub(self.generation) & GENERATION_MAX);
        let lives_max = lives.max().expect("a page has entries");
        self.generation = (self.generation + lives_max) & GENERATION_MAX;
        self.was_vacant = false;
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), page_count: 0, vacant_page_count: 0, trim_next: 0, len: 0 }
    }
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { entries: None, generation: 0, len: 0, was_vacant: false }
    }
}

fn place(slot: u32) -> (usize, usize) {
    (slot as usize / PAGE_LEN, slot as usize % PAGE_LEN)
}

fn new_entries<T>(generation: u32) -> Box<[Entry<T>; PAGE_LEN]> {
    let entries: Box<[Entry<T>]> = (0..PAGE_LEN).map(|_| Entry { generation, value: None }).collect();
    entries.try_into().ok().expect("as many as a page holds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_taken_slot_refuses_a_second_value() {
        let mut table = Table::default();
        let key = table.insert(3, 'a').expect("free");
        assert_eq!(table.insert(3, 'b'), Err('b'));
        assert_eq!((table.len(), table.key_of(3)), (1, Some(key)));
    }

    #[test]
    fn keys_name_every_value_over_several_pages() {
        let mut table = Table::default();
        let slots = [0, 5, 1023, 1024, 70_000];
        let keys: Vec<Key> = slots.iter().map(|&slot| table.insert(slot, slot).expect("free")).collect();
        assert_eq!(table.keys().collect::<Vec<_>>(), keys);
        for key in keys {
            assert_eq!(table.remove(key), Some(key.slot));
        }
        assert!(table.is_empty() && table.keys().next().is_none());
    }

    #[test]
    fn generations_wrap_and_still_differ_from_their_neighbours() {
        let mut table = Table::default();
        let mut last = table.insert(0, ()).expect("free");
        for _ in 0..3 {
            table.remove(last).expect("taken");
            let next = table.insert(0, ()).expect("free");
            assert_ne!(next, last);
            last = next;
        }
        table.entry_mut(last).expect("taken").generation = GENERATION_MAX;
        table.remove(Key { slot: 0, generation: GENERATION_MAX }).expect("taken");
        assert_eq!(table.insert(0, ()), Ok(Key { slot: 0, generation: 0 }));
    }

    /// Looks at every page of `table` once.
    fn look<T>(table: &mut Table<T>) {
        (0..table.pages.len().div_ceil(TRIM_PAGES_MAX)).for_each(|_| table.trim());
    }

    #[test]
    fn all_pages_go_after_a_storm_and_its_keys_stay_dead() {
        let mut table = Table::default();
        let mut dead = Vec::new();
        for storm in 0..3 {
            let keys: Vec<Key> = (0..100_000).map(|slot| table.insert(slot, [storm; 7]).expect("free")).collect();
            assert_eq!((table.len(), table.is_trim()), (100_000, true));
            assert_eq!(table.memory_bytes(), 98 * 1024 * 36, "98 pages of 36 bytes an entry");
            assert!(dead.iter().all(|&key| table.get_mut(key).is_none() && table.remove(key).is_none()));
            assert!(keys.iter().all(|&key| table.remove(key) == Some([storm; 7])));
            assert!(table.is_empty() && !table.is_trim());
            // A pass over 98 pages takes two calls.
            (0..4).for_each(|_| table.trim());
            assert!(table.is_trim());
            assert_eq!(table.memory_bytes(), 0, "storm {storm}");
            assert!(table.keys().next().is_none() && table.key_of(5).is_none());
            dead.extend(keys);
        }
    }

    #[test]
    fn a_page_goes_when_it_holds_nothing_between_two_looks() {
        let mut table = Table::default();
        let stays = table.insert(1_500, 'a').expect("free");
        let goes = table.insert(9, 'b').expect("free");
        let page_bytes = table.memory_bytes() / 2;
        let pages = |table: &Table<char>| table.memory_bytes() / page_bytes;
        look(&mut table);
        table.remove(goes).expect("taken");
        look(&mut table);
        assert_eq!(pages(&table), 2, "seen without a value once");
        let goes = table.insert(10, 'c').expect("free");
        table.remove(goes).expect("taken");
        look(&mut table);
        assert_eq!(pages(&table), 2, "there was a value since");
        look(&mut table);
        assert_eq!((pages(&table), table.is_trim()), (1, true));
        (0..3).for_each(|_| look(&mut table));
        assert_eq!((pages(&table), table.get_mut(stays)), (1, Some(&mut 'a')));
    }

    #[test]
    fn a_new_page_begins_with_the_furthest_generation_of_the_old_one() {
        /// The generations of some lives of `slot`.
        fn live(table: &mut Table<()>, slot: u32, count: u32) -> Vec<u32> {
            let lives = (0..count).map(|_| {
                let key = table.insert(slot, ()).expect("free");
                table.remove(key).expect("taken");
                key.generation
            });
            lives.collect()
        }
        let renew = |table: &mut Table<()>| {
            (0..2).for_each(|_| look(table));
            assert_eq!(table.memory_bytes(), 0);
        };
        let mut table = Table::default();
        assert_eq!(live(&mut table, 3, 4), [0, 1, 2, 3]);
        assert_eq!(live(&mut table, 0, 1), [0]);
        renew(&mut table);
        assert_eq!(live(&mut table, 0, 2), [4, 5]);
        assert_eq!(live(&mut table, 3, 1), [4]);
        renew(&mut table);
        assert_eq!(live(&mut table, 3, 1), [6]);
        renew(&mut table);

        table.pages[0].generation = GENERATION_MAX - 1;
        assert_eq!(live(&mut table, 3, 4), [GENERATION_MAX - 1, GENERATION_MAX, 0, 1]);
        assert_eq!(live(&mut table, 4, 1), [GENERATION_MAX - 1]);
        renew(&mut table);
        assert_eq!(live(&mut table, 3, 1), [2], "not one that it had a moment ago");
    }

    #[test]
    fn random_use_over_many_pages_never_revives_a_key() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let (mut table, mut model, mut used) = (Table::default(), BTreeMap::new(), BTreeSet::new());
        let mut pages_gone = 0;
        for value in 0..100_000 {
            let slot = u32::try_from(next(300) * 500).expect("small");
            match model.remove(&slot) {
                Some((key, was)) => assert_eq!(table.remove(key), Some(was)),
                None if next(8) == 0 => {
                    let key = table.insert(slot, value).expect("free");
                    assert!(used.insert(key), "{key:?} was there before");
                    model.insert(slot, (key, value));
                }
                None => assert_eq!(table.key_of(slot), None),
            }
            let pages = table.page_count;
            table.trim();
            pages_gone += pages - table.page_count;
            assert_eq!(table.len(), model.len());
        }
        assert!(pages_gone > 1_000, "{pages_gone} pages went");
        assert!(table.keys().eq(model.values().map(|(key, _)| *key)));
        let vacant = |page: &&Page<i32>| page.entries.is_some() && page.len == 0;
        assert_eq!(table.vacant_page_count, table.pages.iter().filter(vacant).count());
        assert_eq!(table.page_count, table.pages.iter().filter(|page| page.entries.is_some()).count());
    }
}
