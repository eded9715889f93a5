//! Values at small numbers, each of which may stand in lists whose links lie beside it.
//!
//! Whatever is done costs a few writes, however many values there are, and the memory follows the
//! highest number in use.

use std::mem;

/// No value: the end of a list in either direction.
pub(super) const NONE: u32 = u32::MAX;
/// Less memory than for this many values is not given back while a collection is in use: it would come
/// and go all the time.
const CAPACITY_MIN: usize = 64;

/// The ends of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    first: u32,
    last: u32,
}

/// The values; each has a place in up to `LISTS` chains at a time.
#[derive(Debug)]
pub(super) struct Slots<T, const LISTS: usize> {
    slots: Vec<Slot<T, LISTS>>,
    /// The numbers without a value, linked as those of list 0.
    vacant: Chain,
    len: usize,
}

#[derive(Debug)]
struct Slot<T, const LISTS: usize> {
    value: Option<T>,
    links: [Link; LISTS],
}

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

impl<T, const LISTS: usize> Slots<T, LISTS> {
    /// Puts a value at a number that has none, in no chain yet.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let number = self.vacant.last;
        if number != NONE {
            let mut vacant = self.vacant;
            self.unlink(&mut vacant, 0, number);
            self.vacant = vacant;
            self.slots[number as usize].value = Some(value);
            return number;
        }
        let number = u32::try_from(self.slots.len()).expect("there are far fewer values than numbers");
        self.slots.push(Slot { value: Some(value), links: [Link { previous: NONE, next: NONE }; LISTS] });
        number
    }

    /// Takes the value at `number` away, which must be in no chain any more.
    pub(super) fn remove(&mut self, number: u32) -> T {
        let value = self.slots[number as usize].value.take().expect("what is removed was inserted");
        self.len -= 1;
        let mut vacant = self.vacant;
        self.push_back(&mut vacant, 0, number);
        while self.slots.last().is_some_and(|slot| slot.value.is_none()) {
            let last = u32::try_from(self.slots.len() - 1).expect("insert has counted them");
            self.unlink(&mut vacant, 0, last);
            self.slots.pop();
        }
        self.vacant = vacant;
        if let Some(capacity) = smaller(self.slots.len(), self.slots.capacity()) {
            self.slots.shrink_to(capacity);
        }
        value
    }

    /// Appends the value at `number` to `chain`, one of list `list`, in none of which it is.
    pub(super) fn push_back(&mut self, chain: &mut Chain, list: usize, number: u32) {
        let previous = mem::replace(&mut chain.last, number);
        self.slots[number as usize].links[list] = Link { previous, next: NONE };
        match previous {
            NONE => chain.first = number,
            _ => self.slots[previous as usize].links[list].next = number,
        }
    }

    /// Takes the value at `number` out of `chain`, in which it is.
    pub(super) fn unlink(&mut self, chain: &mut Chain, list: usize, number: u32) {
        let Link { previous, next } = self.slots[number as usize].links[list];
        match previous {
            NONE => chain.first = next,
            _ => self.slots[previous as usize].links[list].next = next,
        }
        match next {
            NONE => chain.last = previous,
            _ => self.slots[next as usize].links[list].previous = previous,
        }
    }

    /// Gives all memory back, if there is no value.
    pub(super) fn trim(&mut self) {
        if self.len == 0 {
            self.slots = Vec::new();
        }
    }

    /// The value at `number`, if there is one.
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.value.as_ref()
    }

    /// The value at `number`, which there must be.
    pub(super) fn at(&self, number: u32) -> &T {
        self.get(number).expect("the number is that of a value")
    }

    /// The value at `number`, which there must be.
    pub(super) fn at_mut(&mut self, number: u32) -> &mut T {
        let slot = self.slots.get_mut(number as usize);
        slot.and_then(|slot| slot.value.as_mut()).expect("the number is that of a value")
    }

    /// The number after `number` in its chain of list `list`, or [`NONE`].
    pub(super) fn next(&self, list: usize, number: u32) -> u32 {
        self.slots[number as usize].links[list].next
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T, LISTS>>()
    }
}

impl<T, const LISTS: usize> Default for Slots<T, LISTS> {
    fn default() -> Self {
        Self { slots: Vec::new(), vacant: Chain::default(), len: 0 }
    }
}

impl Chain {
    /// The number at the front, or [`NONE`].
    pub(super) fn first(self) -> u32 {
        self.first
    }

    pub(super) fn is_empty(self) -> bool {
        self.first == NONE
    }

    /// Whether nothing comes behind `number`.
    pub(super) fn ends_with(self, number: u32) -> bool {
        self.last == number
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self { first: NONE, last: NONE }
    }
}

/// The capacity that a collection of `len` values shrinks to, if three quarters of it are vacant.
///
/// It has room for as many again, and is not halved before half of them have gone.
pub(super) fn smaller(len: usize, capacity: usize) -> Option<usize> {
    (capacity > CAPACITY_MIN && len < capacity / 4).then(|| CAPACITY_MIN.max(len * 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(slots: &Slots<u32, 2>, chain: Chain, list: usize) -> Vec<u32> {
        let follow = |number: &u32| Some(slots.next(list, *number)).filter(|next| *next != NONE);
        std::iter::successors(Some(chain.first()).filter(|first| *first != NONE), follow).collect()
    }

    #[test]
    fn a_value_stands_in_two_chains_and_leaves_each_alone() {
        let (mut slots, mut all, mut some) = (Slots::<u32, 2>::default(), Chain::default(), Chain::default());
        for value in 0..6 {
            let number = slots.insert(value * 10);
            slots.push_back(&mut all, 0, number);
            if value % 2 == 0 {
                slots.push_back(&mut some, 1, number);
            }
        }
        assert_eq!((numbers(&slots, all, 0), numbers(&slots, some, 1)), (vec![0, 1, 2, 3, 4, 5], vec![0, 2, 4]));
        slots.unlink(&mut some, 1, 2);
        slots.unlink(&mut all, 0, 0);
        slots.unlink(&mut all, 0, 5);
        assert_eq!((numbers(&slots, all, 0), numbers(&slots, some, 1)), (vec![1, 2, 3, 4], vec![0, 4]));
        assert!(all.ends_with(4) && some.ends_with(4) && !some.is_empty());
    }

    #[test]
    fn memory_follows_the_highest_number_in_use() {
        let mut slots = Slots::<u32, 1>::default();
        (0..1_000).for_each(|value| assert_eq!(slots.insert(value), value));
        assert_eq!(slots.memory_bytes(), 1_024 * 16, "values and links of eight bytes each");
        (10..999).for_each(|number| assert_eq!(slots.remove(number), number));
        assert_eq!((slots.memory_bytes(), slots.len()), (1_024 * 16, 11), "the highest is still there");
        assert_eq!(
            (smaller(64, 256), smaller(63, 256), smaller(2, 256), smaller(0, 64)),
            (None, Some(126), Some(64), None)
        );
        slots.remove(999);
        assert_eq!(slots.memory_bytes(), 64 * 16, "the least that is left");
        (0..9).for_each(|number| assert_eq!(slots.remove(number), number));
        assert_eq!((slots.get(9), slots.get(8), slots.get(999)), (Some(&9), None, None));
        slots.trim();
        assert_eq!(slots.len(), 1, "what has a value stays");
        slots.remove(9);
        slots.trim();
        assert_eq!((slots.memory_bytes(), slots.len()), (0, 0));
        assert_eq!(slots.insert(7), 0);
    }
}
