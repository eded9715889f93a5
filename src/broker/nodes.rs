//! Nodes by parent and text: topics with their whole name, and the tree of patterns piece by piece.
//!
//! A hash table of the usual kind stands still while it doubles: with a million names for tens of
//! milliseconds, in which no connection of the worker gets anything. This one grows and shrinks by a
//! bucket for each name that comes or goes (linear hashing), in pages that never move.

use std::hash::{BuildHasher, RandomState};

use super::seats::Seats;
use super::slots::Slots;

/// How many buckets a page holds, and the fewest that there are.
const PAGE_LEN: usize = 1024;
/// How many bytes of text are part of a node.
const TEXT_SHORT_MAX: usize = 22;
/// The end of a bucket's list.
const NONE: u32 = u32::MAX;

/// A topic, or one piece of some patterns.
#[derive(Debug)]
pub(super) struct Node<S> {
    text: Text,
    pub(super) seats: Seats<S>,
    parent: u32,
    hash: u32,
    /// The next node of the bucket.
    next: u32,
    pub(super) family: Family,
}

const _: () = assert!(Slots::<Node<u32>>::ENTRY_LEN == 56, "a million topics are a million of these");
const _: () = assert!(PAGE_LEN.is_power_of_two(), "the fewest buckets make a table too");

/// The text of a node. That of most is part of it, which saves memory and a miss of the cache.
#[derive(Debug)]
pub(super) enum Text {
    Short { len: u8, bytes: [u8; TEXT_SHORT_MAX] },
    Long(Box<[u8]>),
}

/// Which children a node has: how many, and, in the low bits, which of the wildcards are among them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Family(u32);

/// Nodes that can be found.
#[derive(Debug)]
pub(super) struct Nodes<S> {
    slots: Slots<Node<S>>,
    /// The first node of each bucket, as many as `bucket_count`.
    pages: Vec<Box<[u32; PAGE_LEN]>>,
    bucket_count: usize,
    /// Names come from peers, so the hash has a key that they do not know. Nothing that can be seen
    /// depends on it.
    hasher: RandomState,
    texts_bytes: usize,
    #[cfg(test)]
    pub(super) searches: std::cell::Cell<usize>,
}

impl<S: Copy> Nodes<S> {
    /// Adds a node, which must not be there.
    pub(super) fn insert(&mut self, parent: u32, text: &str) -> u32 {
        let hash = self.hash(parent, text);
        let (seats, family) = (Seats::None, Family::default());
        let id = self.slots.insert(Node { text: text.into(), seats, parent, hash, next: NONE, family });
        self.texts_bytes += self.slots.get(id).text.memory_bytes();
        let bucket = self.bucket_of(hash);
        self.push(bucket, id);
        if self.slots.len() > self.bucket_count {
            self.split();
        }
        id
    }

    /// Removes a node and returns its parent and text.
    pub(super) fn remove(&mut self, id: u32) -> (u32, Text) {
        let Node { text, parent, hash, next, .. } = self.slots.remove(id);
        self.texts_bytes -= text.memory_bytes();
        let bucket = self.bucket_of(hash);
        match self.head(bucket) {
            first if first == id => *self.head_mut(bucket) = next,
            first => {
                let before = self.find_link(first, |after| after == id);
                self.slots.get_mut(before).next = next;
            }
        }
        // A page more than there are nodes, so that the page which goes is not needed at once.
        if self.bucket_count > PAGE_LEN && self.bucket_count >= self.slots.len() + PAGE_LEN {
            self.merge();
        }
        (parent, text)
    }

    pub(super) fn find(&self, parent: u32, text: &str) -> Option<u32> {
        #[cfg(test)]
        self.searches.set(self.searches.get() + 1);
        let hash = self.hash(parent, text);
        let mut id = self.head(self.bucket_of(hash));
        while id != NONE {
            let node = self.slots.get(id);
            if node.hash == hash && node.parent == parent && node.text.as_bytes() == text.as_bytes() {
                return Some(id);
            }
            id = node.next;
        }
        None
    }

    pub(super) fn get(&self, id: u32) -> &Node<S> {
        self.slots.get(id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> &mut Node<S> {
        self.slots.get_mut(id)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let pages = self.pages.capacity() * size_of::<Box<[u32; PAGE_LEN]>>() + self.pages.len() * 4 * PAGE_LEN;
        self.slots.memory_bytes() + pages + self.texts_bytes
    }

    /// Adds a bucket and moves what belongs into it from the one that had it until now.
    fn split(&mut self) {
        let new = self.bucket_count;
        if new == self.pages.len() * PAGE_LEN {
            self.pages.push(new_page());
        }
        let old = buddy(new);
        self.bucket_count += 1;
        let mut id = std::mem::replace(self.head_mut(old), NONE);
        while id != NONE {
            let Node { hash, next, .. } = *self.slots.get(id);
            let bucket = self.bucket_of(hash);
            debug_assert!(bucket == old || bucket == new, "only the old bucket is split");
            self.push(bucket, id);
            id = next;
        }
    }

    /// Takes the last bucket away; its nodes go back to where they would have been without it.
    fn merge(&mut self) {
        let last = self.bucket_count - 1;
        let old = buddy(last);
        let first = self.head(last);
        if first != NONE {
            let tail = self.find_link(first, |after| after == NONE);
            self.slots.get_mut(tail).next = std::mem::replace(self.head_mut(old), first);
        }
        *self.head_mut(last) = NONE;
        self.bucket_count = last;
        if last.is_multiple_of(PAGE_LEN) {
            self.pages.pop();
            if self.pages.len() <= (self.pages.capacity() / 4).max(1) {
                self.pages.shrink_to_fit();
            }
        }
    }

    /// Puts a node in front of its bucket's list.
    fn push(&mut self, bucket: usize, id: u32) {
        let first = std::mem::replace(self.head_mut(bucket), id);
        self.slots.get_mut(id).next = first;
    }

    /// The node of the list that begins with `id` whose next one is meant.
    fn find_link(&self, mut id: u32, is_meant: impl Fn(u32) -> bool) -> u32 {
        while !is_meant(self.slots.get(id).next) {
            id = self.slots.get(id).next;
        }
        id
    }

    fn hash(&self, parent: u32, text: &str) -> u32 {
        (self.hasher.hash_one((parent, text)) >> 32) as u32
    }

    fn bucket_of(&self, hash: u32) -> usize {
        let mask = self.bucket_count.next_power_of_two() - 1;
        let bucket = hash as usize & mask;
        if bucket < self.bucket_count { bucket } else { buddy(bucket) }
    }

    fn head(&self, bucket: usize) -> u32 {
        self.pages[bucket / PAGE_LEN][bucket % PAGE_LEN]
    }

    fn head_mut(&mut self, bucket: usize) -> &mut u32 {
        &mut self.pages[bucket / PAGE_LEN][bucket % PAGE_LEN]
    }
}

impl<S> Default for Nodes<S> {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            pages: vec![new_page()],
            bucket_count: PAGE_LEN,
            hasher: RandomState::new(),
            texts_bytes: 0,
            #[cfg(test)]
            searches: std::cell::Cell::default(),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        match u8::try_from(text.len()) {
            Ok(len) if text.len() <= TEXT_SHORT_MAX => {
                let mut bytes = [0; TEXT_SHORT_MAX];
                bytes[..text.len()].copy_from_slice(text.as_bytes());
                Self::Short { len, bytes }
            }
            _ => Self::Long(text.as_bytes().into()),
        }
    }
}

impl Text {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

impl Family {
    /// Adds the child called `text`.
    pub(super) fn add(&mut self, text: &[u8]) {
        self.0 = (self.0 + Self::CHILD) | Self::wildcard(text);
    }

    /// Takes the child called `text` away.
    pub(super) fn take(&mut self, text: &[u8]) {
        self.0 = (self.0 - Self::CHILD) & !Self::wildcard(text);
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 < Self::CHILD
    }

    /// Whether the wildcard called `text` is there.
    pub(super) fn has(self, text: &str) -> bool {
        self.0 & Self::wildcard(text.as_bytes()) != 0
    }

    /// Whether there is a child that is no wildcard.
    pub(super) fn has_literal(self) -> bool {
        self.0 / Self::CHILD > (self.0 % Self::CHILD).count_ones()
    }

    /// The bit of a piece that is a wildcard, 0 for others.
    fn wildcard(text: &[u8]) -> u32 {
        match text {
            // The first piece has no separator. No node has this as well as one with a separator.
            b"*" | b".*" => 1,
            b"/*" => 2,
            b"#" | b".#" => 4,
            b"/#" => 8,
            _ => 0,
        }
    }

    /// One child.
    const CHILD: u32 = 16;
}

/// The bucket that had the nodes of `bucket` before that one was there: without the highest bit.
const fn buddy(bucket: usize) -> usize {
    bucket - (1 << bucket.ilog2())
}

fn new_page() -> Box<[u32; PAGE_LEN]> {
    Box::new([NONE; PAGE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_while_the_table_grows_and_shrinks() {
        let mut nodes: Nodes<u32> = Nodes::default();
        let before = nodes.memory_bytes();
        // Short ones and long ones.
        let text =
            |number: u32| format!("a name that has a number {}", number / 3)[number as usize % 2 * 18..].to_owned();
        let mut ids = Vec::new();
        for number in 0..30_000 {
            assert_eq!(nodes.find(number % 3, &text(number)), None);
            ids.push(nodes.insert(number % 3, &text(number)));
            assert_eq!(nodes.find(number % 3, &text(number)), Some(ids[number as usize]));
        }
        assert_eq!(nodes.bucket_count, 30_000);
        assert!((0..30_000).all(|number| nodes.find(number % 3, &text(number)) == Some(ids[number as usize])));
        for number in 0..30_000 {
            let (parent, name) = nodes.remove(ids[number as usize]);
            assert_eq!((parent, name.as_bytes()), (number % 3, text(number).as_bytes()));
            assert_eq!(nodes.find(number % 3, &text(number)), None);
            let last = nodes.find(2, &text(29_999));
            assert_eq!(last, (number < 29_999).then_some(ids[29_999]));
            if number % 1_000 == 0 {
                assert!((number + 1..30_000).all(|left| nodes.find(left % 3, &text(left)).is_some()));
            }
        }
        assert_eq!((nodes.memory_bytes(), nodes.bucket_count), (before, PAGE_LEN));
    }

    #[test]
    fn a_family_knows_its_wildcards() {
        let mut family = Family::default();
        assert!(family.is_empty() && !family.has_literal());
        family.add(b"/*");
        assert!(family.has("/*") && !family.has(".*") && !family.has("/#") && !family.has_literal());
        family.add(b"/a");
        family.add(b".#");
        assert!(family.has(".#") && family.has_literal());
        family.take(b"/a");
        family.take(b"/*");
        assert!(family.has(".#") && !family.has("/*") && !family.has_literal() && !family.is_empty());
        family.take(b".#");
        assert!(family.is_empty());
    }
}
