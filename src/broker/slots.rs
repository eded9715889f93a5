//! Values in pages, by an index that the table chooses: growth moves no value, and vacant pages go.

/// How many entries a page holds.
const PAGE_LEN: u32 = 256;
/// In place of an index: the end of a list.
const NONE: u32 = u32::MAX;

/// Values by index. An index is used again once its value has gone.
#[derive(Debug)]
pub(super) struct Slots<T> {
    pages: Vec<Page<T>>,
    /// How many pages have entries.
    page_count: usize,
    /// The first of the pages with a vacant entry, or without entries, linked through the pages.
    roomy: u32,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// None while no entry is taken.
    entries: Option<Box<[Entry<T>]>>,
    len: u16,
    /// The first of the vacant entries, linked through them.
    vacant: u32,
    next_roomy: u32,
}

#[derive(Debug)]
enum Entry<T> {
    Taken(T),
    /// The next vacant entry of the page.
    Vacant(u32),
}

impl<T> Slots<T> {
    /// The size of an entry, for those who rely on it.
    pub(super) const ENTRY_LEN: usize = size_of::<Entry<T>>();

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if self.roomy == NONE {
            self.roomy = u32::try_from(self.pages.len()).expect("memory ends before numbers do");
            self.pages.push(Page { entries: None, len: 0, vacant: 0, next_roomy: NONE });
        }
        let number = self.roomy;
        let page = &mut self.pages[number as usize];
        self.page_count += usize::from(page.entries.is_none());
        let index = page.insert(value);
        if page.vacant == NONE {
            self.roomy = page.next_roomy;
        }
        self.len += 1;
        let first = number.checked_mul(PAGE_LEN).expect("memory ends before numbers do");
        first + index
    }

    /// Takes the value at `index` out.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(super) fn remove(&mut self, index: u32) -> T {
        let (number, index) = place(index);
        let page = &mut self.pages[number];
        let had_room = page.vacant != NONE;
        let value = page.remove(index);
        self.len -= 1;
        if !had_room {
            page.next_roomy = self.roomy;
            self.roomy = u32::try_from(number).expect("an index was a u32");
        }
        if self.pages[number].len == 0 {
            self.pages[number].entries = None;
            self.page_count -= 1;
            self.shorten();
        }
        value
    }

    /// Forgets the pages after the first when they have no entries, and the first with them.
    fn shorten(&mut self) {
        let first_is_used = self.pages.first().is_some_and(|page| page.entries.is_some());
        if self.page_count != usize::from(first_is_used) {
            return;
        }
        self.pages.truncate(self.page_count);
        self.pages.shrink_to_fit();
        self.roomy = NONE;
        if let Some(page) = self.pages.first_mut() {
            page.next_roomy = NONE;
            self.roomy = if page.vacant == NONE { NONE } else { 0 };
        }
    }

    /// # Panics
    ///
    /// If there is no value at `index`, as for `get_mut`.
    pub(super) fn get(&self, index: u32) -> &T {
        let (number, index) = place(index);
        match self.pages[number].entries.as_deref() {
            Some(entries) => entries[index].value(),
            None => vacant(),
        }
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        let (number, index) = place(index);
        match self.pages[number].entries.as_deref_mut() {
            Some(entries) => entries[index].value_mut(),
            None => vacant(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.pages.capacity() * size_of::<Page<T>>() + self.page_count * PAGE_LEN as usize * size_of::<Entry<T>>()
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), page_count: 0, roomy: NONE, len: 0 }
    }
}

impl<T> Page<T> {
    fn insert(&mut self, value: T) -> u32 {
        if self.entries.is_none() {
            self.vacant = 0;
        }
        let entries = self.entries.get_or_insert_with(new_entries);
        let index = self.vacant;
        let entry = &mut entries[index as usize];
        let Entry::Vacant(next) = *entry else { unreachable!("the list has vacant entries only") };
        *entry = Entry::Taken(value);
        self.vacant = next;
        self.len += 1;
        index
    }

    fn remove(&mut self, index: usize) -> T {
        let Some(entries) = &mut self.entries else { vacant() };
        let Entry::Taken(value) = std::mem::replace(&mut entries[index], Entry::Vacant(self.vacant)) else { vacant() };
        self.vacant = u32::try_from(index).expect("an index was a u32");
        self.len -= 1;
        value
    }
}

impl<T> Entry<T> {
    fn value(&self) -> &T {
        match self {
            Self::Taken(value) => value,
            Self::Vacant(_) => vacant(),
        }
    }

    fn value_mut(&mut self) -> &mut T {
        match self {
            Self::Taken(value) => value,
            Self::Vacant(_) => vacant(),
        }
    }
}

fn place(index: u32) -> (usize, usize) {
    ((index / PAGE_LEN) as usize, (index % PAGE_LEN) as usize)
}

fn new_entries<T>() -> Box<[Entry<T>]> {
    let nexts = (1..PAGE_LEN).chain([NONE]);
    nexts.map(Entry::Vacant).collect()
}

#[cold]
fn vacant() -> ! {
    panic!("an index is used only while its value is there");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn random_use_keeps_every_value_and_gives_all_memory_back() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let (mut slots, mut model) = (Slots::default(), BTreeMap::new());
        for round in 0..6 {
            let grows = round % 2 == 0;
            for value in 0..3_000 {
                if model.is_empty() || next(10) < if grows { 8 } else { 2 } {
                    let index = slots.insert(value);
                    assert_eq!(model.insert(index, value), None, "{index} was taken");
                } else {
                    let from = u32::try_from(next(2_000)).expect("small");
                    let index = *model.range(from..).chain(&model).next().expect("not empty").0;
                    assert_eq!(Some(slots.remove(index)), model.remove(&index));
                }
                assert_eq!(slots.len(), model.len());
            }
            assert!(model.iter().all(|(&index, value)| slots.get(index) == value));
        }
        while let Some((index, value)) = model.pop_first() {
            assert_eq!(slots.remove(index), value);
        }
        assert_eq!(slots.memory_bytes(), 0);
        assert_eq!(slots.insert(7), 0, "begins again");
    }

    #[test]
    fn the_first_page_stays_alone_when_the_others_go() {
        let mut slots = Slots::default();
        let indices: Vec<u32> = (0..1_000).map(|value| slots.insert(value)).collect();
        assert_eq!(slots.page_count, 4);
        for (&index, value) in indices.iter().zip(0..).skip(1) {
            assert_eq!(slots.remove(index), value);
        }
        assert_eq!((slots.pages.len(), *slots.get(0)), (1, 0));
        let again: Vec<u32> = (0..1_000).map(|value| slots.insert(value)).collect();
        assert!(again.iter().zip(0..).all(|(&index, value)| index != 0 && *slots.get(index) == value));
    }

    #[test]
    #[should_panic(expected = "only while its value is there")]
    fn a_value_that_has_gone_is_not_found() {
        let mut slots = Slots::default();
        let (first, _) = (slots.insert('a'), slots.insert('b'));
        slots.remove(first);
        slots.get(first);
    }
}
