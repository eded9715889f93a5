//! What each ring gets of the memory that a core has for rings.

/// One over the number of rings on a core.
///
/// More rings than cores hold more connections, since each has a table of its own; the core has no more
/// to receive for that. So they share what one ring would have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CoreShare {
    rings: u32,
}

impl CoreShare {
    /// A ring has a core to itself.
    pub const WHOLE: Self = Self { rings: 1 };

    /// However many rings share a core, a turn queues as many submissions before it makes a system call.
    pub(super) const ENTRIES_LEAST: u32 = 256;
    /// Incremental buffers: shorter ones would cut more messages in two. A series of receives stays as long
    /// as it is and goes through several. Ended after each, it costs a fifth of the throughput.
    pub(super) const BUFFER_LEN_LEAST: u32 = 16 << 10;
    /// Buffers that are used once: with fewer, few peers would take them all.
    pub(super) const BUFFER_COUNT_LEAST: u32 = 16;

    /// `rings` are spread evenly over `cores`.
    #[must_use]
    pub fn new(rings: usize, cores: usize) -> Self {
        let rings = rings.div_ceil(cores.max(1)).max(1);
        Self { rings: u32::try_from(rings).unwrap_or(u32::MAX) }
    }

    /// The part of `whole` that one ring gets, rounded down to a power of two: `least` at the least, or
    /// all where there is less than that.
    #[must_use]
    pub fn of(self, whole: u32, least: u32) -> u32 {
        if self.rings == 1 || whole <= least {
            return whole;
        }
        (whole / self.rings).checked_ilog2().map_or(least, |log| least.max(1 << log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check((rings, cores): (usize, usize), (whole, least): (u32, u32), expect: u32) {
        assert_eq!(CoreShare::new(rings, cores).of(whole, least), expect, "{rings} rings on {cores} cores");
    }

    #[test]
    fn a_ring_with_a_core_to_itself_gets_all_of_it() {
        check((1, 1), (4096, 256), 4096);
        check((2, 2), (4096, 256), 4096);
        check((3, 64), (1000, 256), 1000);
        check((0, 0), (4096, 256), 4096);
        assert_eq!(CoreShare::new(1, 1), CoreShare::WHOLE);
    }

    #[test]
    fn shares_are_powers_of_two_and_no_more_than_the_core_has() {
        check((2, 1), (4096, 256), 2048);
        check((3, 2), (4096, 256), 2048);
        check((5, 2), (4096, 256), 1024);
        check((16, 1), (4096, 256), 256);
    }

    #[test]
    fn a_share_is_never_less_than_the_least_nor_more_than_there_is() {
        check((56, 1), (4096, 256), 256);
        check((5000, 1), (4096, 256), 256);
        check((usize::MAX, 1), (4096, 256), 256);
        check((5, 1), (16, 256), 16);
        check((5, 1), (0, 0), 0);
    }
}
