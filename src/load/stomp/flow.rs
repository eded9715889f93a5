//! What is under way between publishers and those who receive, counted on both ends.

use std::collections::VecDeque;
use std::mem;

/// From the oldest message of a publisher that is still missed to its newest: one that is further behind is given up
/// as lost, so that nobody waits for it.
const SPAN_MAX: usize = 1 << 20;

/// The messages under way from every publisher.
#[derive(Debug, Default)]
pub(in crate::load) struct Flow {
    lanes: Vec<Lane>,
    /// How often each message must arrive until it is complete: a topic's with its subscribers, a queue's once.
    needed: u32,
    /// Publishers of which a message is complete, each as often as there are such messages.
    freed: Vec<u32>,
}

/// The messages of one publisher from the first that is not complete on.
#[derive(Debug, Default)]
struct Lane {
    first: u32,
    /// How often each has arrived.
    counts: VecDeque<u32>,
    lost: u64,
}

/// What is wrong with an arrival.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wrong {
    /// It was complete before.
    Again,
    /// Nobody has sent it.
    NeverSent,
}

impl Flow {
    pub(in crate::load) fn new(publishers: u32) -> Self {
        Self { lanes: (0..publishers).map(|_| Lane::default()).collect(), needed: 1, freed: Vec::new() }
    }

    /// Says how often a message has to arrive from now on. What has arrived so often already is complete.
    pub(in crate::load) fn set_needed(&mut self, needed: u32) {
        let before = mem::replace(&mut self.needed, needed);
        for (publisher, lane) in (0..).zip(&mut self.lanes) {
            let completed = lane.counts.iter().filter(|count| (needed..before).contains(count)).count();
            self.freed.extend(std::iter::repeat_n(publisher, completed));
            lane.drop_complete(needed);
        }
    }

    /// Notes that a publisher sends its next message.
    pub(in crate::load) fn publish(&mut self, publisher: u32) {
        let lane = &mut self.lanes[publisher as usize];
        if lane.counts.len() == SPAN_MAX {
            lane.counts.pop_front();
            lane.first = lane.first.wrapping_add(1);
            lane.lost += 1;
            self.freed.push(publisher);
        }
        lane.counts.push_back(0);
    }

    /// Notes that a message has arrived somewhere.
    pub(super) fn arrive(&mut self, publisher: u32, sequence: u32) -> Result<(), Wrong> {
        let lane = self.lanes.get_mut(publisher as usize).ok_or(Wrong::NeverSent)?;
        let index = sequence.wrapping_sub(lane.first);
        // The number may have begun anew, so what is far ahead is behind.
        if index >= 1 << 31 {
            return Err(Wrong::Again);
        }
        let count = lane.counts.get_mut(index as usize).ok_or(Wrong::NeverSent)?;
        *count += 1;
        match *count {
            count if count < self.needed => Ok(()),
            count if count == self.needed => {
                self.freed.push(publisher);
                lane.drop_complete(self.needed);
                Ok(())
            }
            _ => Err(Wrong::Again),
        }
    }

    /// Takes a publisher of which one more message is complete.
    pub(in crate::load) fn take_freed(&mut self) -> Option<u32> {
        self.freed.pop()
    }

    /// How many messages are not complete, those that were given up included.
    pub(in crate::load) fn missing(&self) -> u64 {
        let missing = |lane: &Lane| lane.counts.iter().filter(|&&count| count < self.needed).count() as u64;
        self.lanes.iter().map(|lane| missing(lane) + lane.lost).sum()
    }
}

impl Lane {
    fn drop_complete(&mut self, needed: u32) {
        while self.counts.front().is_some_and(|&count| count >= needed) {
            self.counts.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freed(flow: &mut Flow) -> Vec<u32> {
        let mut freed: Vec<u32> = std::iter::from_fn(|| flow.take_freed()).collect();
        freed.sort_unstable();
        freed
    }

    #[test]
    fn a_queues_message_is_complete_with_its_first_arrival_in_any_order() {
        let mut flow = Flow::new(2);
        (0..3).for_each(|_| flow.publish(1));
        assert_eq!(flow.arrive(1, 2), Ok(()));
        assert_eq!(flow.arrive(1, 0), Ok(()));
        assert_eq!((freed(&mut flow), flow.missing()), (vec![1, 1], 1));
        assert_eq!((flow.arrive(1, 2), flow.arrive(1, 0)), (Err(Wrong::Again), Err(Wrong::Again)));
        assert_eq!((flow.arrive(1, 3), flow.arrive(0, 0)), (Err(Wrong::NeverSent), Err(Wrong::NeverSent)));
        assert_eq!((flow.arrive(2, 0), flow.arrive(1, 1)), (Err(Wrong::NeverSent), Ok(())));
        assert_eq!((freed(&mut flow), flow.missing()), (vec![1], 0));
    }

    #[test]
    fn a_topics_message_is_complete_when_enough_have_it() {
        let mut flow = Flow::new(1);
        flow.set_needed(3);
        (0..2).for_each(|_| flow.publish(0));
        for sequence in [0, 0, 1, 1] {
            assert_eq!(flow.arrive(0, sequence), Ok(()));
        }
        assert_eq!((freed(&mut flow), flow.missing()), (vec![], 2));
        assert_eq!(flow.arrive(0, 0), Ok(()));
        assert_eq!((freed(&mut flow), flow.missing()), (vec![0], 1));
        // A subscriber is gone.
        flow.set_needed(2);
        assert_eq!((freed(&mut flow), flow.missing()), (vec![0], 0));
        flow.publish(0);
        assert_eq!(flow.arrive(0, 2), Ok(()));
    }

    #[test]
    fn what_is_far_behind_is_given_up_and_stays_missing() {
        let mut flow = Flow::new(1);
        (0..=SPAN_MAX).for_each(|_| flow.publish(0));
        assert_eq!(freed(&mut flow), [0]);
        for sequence in 1..=u32::try_from(SPAN_MAX).expect("it is small") {
            assert_eq!(flow.arrive(0, sequence), Ok(()));
        }
        assert_eq!((flow.missing(), flow.arrive(0, 0)), (1, Err(Wrong::Again)));
    }
}
