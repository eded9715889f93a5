//! When messages are due at a fixed rate.
//!
//! The times depend on the rate alone, never on replies. A message that can't be sent when it is
//! due keeps its time, and its latency counts from there: a server that stops for a second is
//! charged for every message that would have been sent meanwhile, not for the one that it held up
//! (that mistake is known as coordinated omission). What could not be sent at all by the end counts
//! with the time that it has waited.

/// Bits behind the point of a time in nanoseconds: the error is below a microsecond in a century.
const FRACTION_BITS: u32 = 32;
const NANOSECONDS: u128 = 1_000_000_000;
/// Messages that were not sent are told one by one up to this number, and in so many groups above it.
const GROUPS_MAX: u64 = 10_000;

/// The times at which one thread's messages are due.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// The next time, as a fixed-point number of nanoseconds.
    next: u128,
    step: u128,
}

impl Schedule {
    /// The share of thread number `index` of `count` in `rate` messages a second from `start_ns` on:
    /// threads take turns, so that all messages together are evenly spaced.
    pub(super) fn new(start_ns: u64, rate: u64, index: u32, count: u32) -> Self {
        let one = (NANOSECONDS << FRACTION_BITS) / u128::from(rate.max(1));
        Self { next: (u128::from(start_ns) << FRACTION_BITS) + one * u128::from(index), step: one * u128::from(count) }
    }

    /// When the next message is due.
    pub(super) fn next_ns(&self) -> u64 {
        u64::try_from(self.next >> FRACTION_BITS).unwrap_or(u64::MAX)
    }

    /// Takes the next message if it is due: its time.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns();
        (due_ns <= now_ns).then(|| {
            self.next += self.step;
            due_ns
        })
    }

    /// How many messages are due before `end_ns` and were not taken.
    pub(super) fn count_before(&self, end_ns: u64) -> u64 {
        let left = (u128::from(end_ns) << FRACTION_BITS).saturating_sub(self.next);
        u64::try_from(left.div_ceil(self.step.max(1))).unwrap_or(u64::MAX)
    }

    /// When the messages were due, from `start_ns` on and before `end_ns`, that were not taken: each
    /// time with the number of messages that it stands for.
    pub(super) fn missed(&self, start_ns: u64, end_ns: u64) -> impl Iterator<Item = (u64, u64)> {
        let skipped = self.count_before(start_ns);
        let count = self.count_before(end_ns).saturating_sub(skipped);
        let first = self.next + self.step * u128::from(skipped);
        let step = self.step;
        let groups = count.min(GROUPS_MAX);
        let begin = move |group: u64| u128::from(count) * u128::from(group) / u128::from(groups.max(1));
        (0..groups).map(move |group| {
            let (begin, end) = (begin(group), begin(group + 1));
            let middle = first + step * ((begin + end - 1) / 2);
            let [due, len] =
                [middle >> FRACTION_BITS, end - begin].map(|value| u64::try_from(value).unwrap_or(u64::MAX));
            (due, len)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_even_distances_whatever_is_taken_when() {
        let mut schedule = Schedule::new(1_000, 1_000_000, 0, 1);
        assert_eq!(schedule.take_due(999), None);
        assert_eq!(schedule.take_due(1_000), Some(1_000));
        assert_eq!(schedule.take_due(1_999), None);
        // A stop of ten periods: each message keeps the time at which it was due.
        let late: Vec<u64> = std::iter::from_fn(|| schedule.take_due(12_000)).collect();
        assert_eq!(late, (2..=12).map(|n| n * 1_000).collect::<Vec<u64>>());
        assert_eq!(schedule.next_ns(), 13_000);
    }

    /// A server that answers within 1 ms but stops for 100 ms once, under 1,000 messages a second
    /// through one connection with one message outstanding.
    #[test]
    fn a_stop_of_the_server_is_charged_to_every_message_that_was_due() {
        let mut schedule = Schedule::new(0, 1_000, 0, 1);
        let (mut now, mut latencies) = (0_u64, Vec::new());
        while now < 1_000_000_000 {
            let Some(due) = schedule.take_due(now) else {
                now = schedule.next_ns();
                continue;
            };
            now += if latencies.len() == 500 { 100_000_000 } else { 100_000 };
            latencies.push(now - due);
        }
        let late = latencies.iter().filter(|&&latency| latency > 1_000_000).count();
        assert!((100..125).contains(&late), "{late} late messages: about one for each millisecond of the stop");
        assert!(latencies.iter().any(|&latency| (45_000_000..55_000_000).contains(&latency)));
    }

    #[test]
    fn threads_share_a_rate_without_overlap_or_drift() {
        let mut schedules: Vec<Schedule> = (0..3).map(|index| Schedule::new(0, 333_331, index, 3)).collect();
        let mut times: Vec<u64> = schedules
            .iter_mut()
            .flat_map(|schedule| std::iter::from_fn(|| schedule.take_due(999_998_000)).collect::<Vec<u64>>())
            .collect();
        times.sort_unstable();
        assert_eq!(times.len(), 333_331);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 3_000));
    }

    #[test]
    fn what_was_due_and_not_taken_is_counted() {
        let mut schedule = Schedule::new(0, 1_000, 0, 1);
        assert_eq!(schedule.count_before(1_000_000_000), 1_000);
        schedule.take_due(0);
        assert_eq!(schedule.count_before(1_000_000_000), 999);
        assert_eq!(schedule.count_before(0), 0);
    }

    #[test]
    fn what_was_missed_is_told_one_by_one_or_in_groups() {
        let mut schedule = Schedule::new(0, 1_000, 0, 1);
        schedule.take_due(0);
        let missed: Vec<_> = schedule.missed(0, 4_000_001).collect();
        assert_eq!(missed, [(1_000_000, 1), (2_000_000, 1), (3_000_000, 1), (4_000_000, 1)]);
        assert_eq!(schedule.missed(3_000_000, 4_000_001).next(), Some((3_000_000, 1)));
        assert_eq!(schedule.missed(5_000_000, 4_000_000).next(), None);
        let groups: Vec<_> = Schedule::new(0, 1_000_000_000, 0, 1).missed(7_000, 50_007_000).collect();
        assert_eq!((groups.len() as u64, groups.iter().map(|group| group.1).sum()), (GROUPS_MAX, 50_000_000_u64));
        assert_eq!((groups[0], groups[9_999]), ((9_499, 5_000), (50_004_499, 5_000)));
    }
}
