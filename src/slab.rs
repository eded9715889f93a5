//! A table whose slots are chosen by somebody else: the kernel, which hands out direct descriptors.
//!
//! The index of a connection's direct descriptor is its slot here, so no second table maps one to
//! the other. Generations tell the lives of a slot apart.

/// How many entries a page holds. The table grows by pages, so that no entry ever moves and no
/// growth copies what is there.
const PAGE_LEN: usize = 1024;
/// Generations wrap after this many lives of a slot. They share a 64-bit word with the slot and the
/// kind of operation, see the ring's tokens.
pub const GENERATION_MAX: u32 = (1 << 24) - 1;

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
    pages: Vec<Option<Box<[Entry<T>]>>>,
    len: usize,
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
            self.pages.resize_with(page + 1, || None);
        }
        let entry = &mut self.pages[page].get_or_insert_with(new_page)[index];
        if entry.value.is_some() {
            return Err(value);
        }
        entry.value = Some(value);
        self.len += 1;
        Ok(Key { slot, generation: entry.generation })
    }

    /// Ends the life that `key` names and returns its value.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entry_mut(key)?;
        let value = entry.value.take()?;
        entry.generation = if entry.generation == GENERATION_MAX { 0 } else { entry.generation + 1 };
        self.len -= 1;
        Some(value)
    }

    /// The value of the life that `key` names.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.entry_mut(key)?.value.as_mut()
    }

    /// The key of the life that `slot` has now.
    #[must_use]
    pub fn key_of(&self, slot: u32) -> Option<Key> {
        let (page, index) = place(slot);
        let entry = self.pages.get(page)?.as_ref()?.get(index)?;
        entry.value.is_some().then_some(Key { slot, generation: entry.generation })
    }

    /// The keys of all values, by slot.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        let entries = self.pages.iter().enumerate().flat_map(|(page, entries)| {
            entries.iter().flatten().enumerate().map(move |(index, entry)| (page * PAGE_LEN + index, entry))
        });
        entries.filter(|(_, entry)| entry.value.is_some()).map(|(slot, entry)| Key {
            slot: u32::try_from(slot).expect("slots are inserted as u32"),
            generation: entry.generation,
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

    fn entry_mut(&mut self, key: Key) -> Option<&mut Entry<T>> {
        let (page, index) = place(key.slot);
        let entry = self.pages.get_mut(page)?.as_mut()?.get_mut(index)?;
        (entry.generation == key.generation).then_some(entry)
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }
}

fn place(slot: u32) -> (usize, usize) {
    (slot as usize / PAGE_LEN, slot as usize % PAGE_LEN)
}

fn new_page<T>() -> Box<[Entry<T>]> {
    (0..PAGE_LEN).map(|_| Entry { generation: 0, value: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
