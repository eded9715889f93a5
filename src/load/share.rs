//! Which part of the work a thread has: what is counted over all threads is dealt out in turn.

/// Which thread this is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) index: u32,
    pub(super) threads: u32,
}

impl Share {
    /// How many of `count` things over all threads are this thread's.
    pub(super) const fn of(self, count: u32) -> u32 {
        count.saturating_sub(self.index).div_ceil(self.threads)
    }

    /// The number over all threads of this thread's thing number `index`.
    pub(super) const fn number(self, index: u32) -> u32 {
        self.index + index * self.threads
    }
}

/// Whether number `index` of `count` is among `chosen` of them that are spread evenly.
pub(super) fn is_chosen(index: u32, chosen: u32, count: u32) -> bool {
    let before = |index: u64| index * u64::from(chosen) / u64::from(count.max(1));
    before(u64::from(index)) != before(u64::from(index) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_somebodys() {
        for (count, threads) in [(0, 1), (1, 3), (7, 3), (9, 3), (1_000_000, 56)] {
            let shares = (0..threads).map(|index| Share { index, threads });
            let mut numbers: Vec<u32> =
                shares.flat_map(|share| (0..share.of(count)).map(move |index| share.number(index))).collect();
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..count), "{count} things on {threads} threads");
        }
    }

    #[test]
    fn the_chosen_are_as_many_as_wanted_and_evenly_spread() {
        let chosen = |chosen, count| (0..count).filter(|&index| is_chosen(index, chosen, count)).collect::<Vec<u32>>();
        assert!(chosen(0, 5).is_empty());
        assert_eq!(chosen(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(chosen(3, 10), [3, 6, 9]);
        assert_eq!(chosen(1_000, 2_000_000).len(), 1_000);
    }
}
