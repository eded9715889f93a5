//! Low-water marks: how much has to arrive before a socket counts as readable (`SO_RCVLOWAT`, by a
//! socket command of the ring from Linux 6.7 on).

use std::collections::HashSet;

use crate::slab::Key;

/// How much is waited for at the most: 1 MiB. The kernel lets a socket hold twice as much, within the bounds
/// of `tcp_rmem`.
const PAGES_MAX: usize = 256;
const PAGE: u16 = 4096;
/// In steps of a page, in static memory, since the kernel reads them by address. The first one is the
/// default, with which a single byte ends a wait.
static MARKS: [libc::c_int; 1 + PAGES_MAX] = marks();

/// The marks of a ring's connections.
#[derive(Debug)]
pub(super) struct LowWater {
    works: bool,
    /// Connections whose mark is not the default.
    raised: HashSet<Key>,
}

impl LowWater {
    pub(super) fn new(works: bool) -> Self {
        Self { works, raised: HashSet::new() }
    }

    /// Has a connection count as readable with `bytes` bytes, as far as there is a mark for it: returns the
    /// one to set, if it has another.
    pub(super) fn set(&mut self, key: Key, bytes: usize) -> Option<&'static libc::c_int> {
        let pages = if self.works { (bytes / usize::from(PAGE)).min(PAGES_MAX) } else { 0 };
        let was_raised = if pages > 0 { !self.raised.insert(key) } else { self.raised.remove(&key) };
        (pages > 0 || was_raised).then(|| &MARKS[pages])
    }

    /// Forgets a connection that is closed.
    pub(super) fn forget(&mut self, key: Key) {
        self.raised.remove(&key);
    }
}

const fn marks() -> [libc::c_int; 1 + PAGES_MAX] {
    let mut marks = [1; 1 + PAGES_MAX];
    let (mut pages, mut mark) = (1, 0);
    while pages < marks.len() {
        mark += PAGE as libc::c_int;
        marks[pages] = mark;
        pages += 1;
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_set_where_it_changes() {
        let key = Key { slot: 1, generation: 0 };
        let mut marks = LowWater::new(true);
        for (bytes, expect) in [
            (1, None),
            (10_000, Some(8192)),
            (1 << 30, Some(1 << 20)),
            (1 << 30, Some(1 << 20)),
            (1, Some(1)),
            (1, None),
        ] {
            assert_eq!(marks.set(key, bytes).copied(), expect, "for {bytes} bytes");
        }
        assert!(marks.set(key, 4096).is_some());
        marks.forget(key);
        assert_eq!(marks.set(key, 1), None, "the slot's next life begins with the default");
        assert_eq!(LowWater::new(false).set(key, 1 << 20), None);
    }
}
