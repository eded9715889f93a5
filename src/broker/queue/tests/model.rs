//! Random use of a queue beside a naive one, which searches everything and moves whole lists.
//!
//! The model does not say who is served next, only who may be; the order of turns has tests of its
//! own. A failure prints the steps, cut down to those that matter, and the seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::AckMode::{Auto, Client, ClientIndividual};
use super::super::*;

/// A message: its number, and a count of those that are alive.
type Message = (u64, Rc<()>);

#[derive(Clone, Debug)]
enum Step {
    Push {
        len: usize,
    },
    Subscribe {
        consumer: u64,
        mode: AckMode,
        prefetch: u32,
    },
    Unsubscribe {
        consumer: u64,
    },
    Leave {
        consumer: u64,
    },
    /// Of any delivery there ever was, by its consumer or by another one.
    Ack {
        which: Index,
        by: Option<u64>,
    },
    Nack {
        which: Index,
        by: Option<u64>,
        nack: Nack,
    },
    /// The same of one that can be acknowledged.
    AckHeld {
        which: Index,
    },
    NackHeld {
        which: Index,
        nack: Nack,
    },
    Written {
        consumer: u64,
        count: u32,
    },
    Poll {
        count: usize,
    },
    Pass {
        ms: u64,
    },
    Trim,
}

/// A message that was taken.
#[derive(Clone, Debug)]
struct Item {
    number: u64,
    len: usize,
    pushed_ms: u64,
    delivery_count: u32,
    refused_by: Option<u64>,
}

#[derive(Debug)]
struct Member {
    mode: AckMode,
    prefetch: usize,
    /// What it has not acknowledged: delivery, sequence number and time, in order of delivery.
    held: Vec<(DeliveryId, u64, u64)>,
    /// How many are on their way to a consumer that does not acknowledge.
    on_their_way: usize,
    /// The last message that it was the first to get.
    newest: Option<u64>,
}

struct Model {
    limits: Limits,
    now_ms: u64,
    /// What is not settled, by sequence number.
    items: BTreeMap<u64, Item>,
    ready: BTreeSet<u64>,
    dead: VecDeque<(u64, Cause)>,
    members: BTreeMap<u64, Member>,
    deliveries: Vec<(u64, DeliveryId)>,
    counters: Counters,
}

impl Member {
    fn has_room(&self) -> bool {
        self.held.len() + self.on_their_way < self.prefetch
    }
}

impl Model {
    fn push(&mut self, number: u64, len: usize) -> Result<(), PushError> {
        let fits = |model: &Self, sequences: &mut dyn Iterator<Item = u64>| {
            let lens: Vec<usize> = sequences.map(|sequence| model.items[&sequence].len).collect();
            lens.len() < model.limits.messages_max && lens.iter().sum::<usize>() + len <= model.limits.bytes_max
        };
        let outcome = if len > self.limits.bytes_max {
            Err(PushError::TooLarge)
        } else if fits(self, &mut self.items.keys().copied()) {
            Ok(())
        } else if self.limits.overflow == Overflow::Refuse
            || !fits(self, &mut self.items.keys().copied().filter(|sequence| !self.ready.contains(sequence)))
        {
            Err(PushError::Full)
        } else {
            while !fits(self, &mut self.items.keys().copied()) {
                let oldest = self.ready.pop_first().expect("the rest fits");
                self.items.remove(&oldest);
                self.counters.dropped += 1;
            }
            Ok(())
        };
        match outcome {
            Ok(()) => {
                let sequence = self.counters.accepted;
                let item = Item { number, len, pushed_ms: self.now_ms, delivery_count: 0, refused_by: None };
                self.items.insert(sequence, item);
                self.ready.insert(sequence);
                self.counters.accepted += 1;
            }
            Err(_) => self.counters.refused += 1,
        }
        outcome
    }

    fn subscribe(&mut self, consumer: u64, mode: AckMode, prefetch: u32) -> Result<(), SubscribeError> {
        if self.members.contains_key(&consumer) {
            return Err(SubscribeError::Duplicate);
        }
        if self.members.len() == self.limits.consumers_max {
            return Err(SubscribeError::TooMany);
        }
        let prefetch = prefetch.max(1).min(self.limits.prefetch_max) as usize;
        let member = Member { mode, prefetch, held: Vec::new(), on_their_way: 0, newest: None };
        self.members.insert(consumer, member);
        Ok(())
    }

    fn leave(&mut self, consumer: u64) -> Option<usize> {
        let member = self.members.remove(&consumer)?;
        // Who subscribes with that id again has not refused anything yet.
        let refused = self.items.values_mut().filter(|item| item.refused_by == Some(consumer));
        refused.for_each(|item| item.refused_by = None);
        for &(_, sequence, _) in &member.held {
            self.give_back(sequence, None);
        }
        Some(member.held.len())
    }

    fn settle(&mut self, consumer: u64, id: DeliveryId, nack: Option<Nack>) -> Result<u32, AckError> {
        let holds = |member: &Member| member.held.iter().position(|held| held.0 == id);
        let Some((&holder, index)) = self.members.iter().find_map(|(name, member)| Some((name, holds(member)?))) else {
            return Err(AckError::Unknown);
        };
        if holder != consumer {
            return Err(AckError::Foreign);
        }
        let member = self.members.get_mut(&holder).expect("just found");
        let from = if member.mode == Client { 0 } else { index };
        let settled: Vec<_> = member.held.drain(from..=index).collect();
        for &(_, sequence, _) in &settled {
            match nack {
                Some(Nack::Requeue) => self.give_back(sequence, Some(holder)),
                Some(Nack::DeadLetter) => self.bury(sequence, Cause::Rejected),
                Some(Nack::Drop) => {
                    self.counters.dropped += 1;
                    self.items.remove(&sequence);
                }
                None => {
                    self.counters.acknowledged += 1;
                    self.items.remove(&sequence);
                }
            }
        }
        Ok(u32::try_from(settled.len()).expect("few"))
    }

    fn give_back(&mut self, sequence: u64, refused_by: Option<u64>) {
        let item = self.items.get_mut(&sequence).expect("it is not settled");
        if item.delivery_count >= self.limits.deliveries_max {
            return self.bury(sequence, Cause::Deliveries);
        }
        item.refused_by = refused_by;
        self.ready.insert(sequence);
    }

    fn bury(&mut self, sequence: u64, cause: Cause) {
        self.dead.push_back((sequence, cause));
        self.counters.dead += 1;
    }

    /// Checks that `dispatch` was the thing to do, and does it.
    fn follow(&mut self, dispatch: Option<Dispatch<Message>>) {
        if let Some((sequence, cause)) = self.dead.pop_front() {
            return self.expect_letter(dispatch, sequence, cause);
        }
        let limit = self.limits.acknowledge_ms_max;
        let silent_ms = |member: &Member| member.held.first().map_or(0, |held| self.now_ms - held.2);
        if let Some(Dispatch::Overdue(ConsumerId(consumer))) = dispatch {
            let member = &self.members[&consumer];
            assert!(!member.held.is_empty() && silent_ms(member) >= limit, "{consumer} is overdue");
            self.leave(consumer);
            self.counters.overdue += 1;
            return;
        }
        let bound = self.members.values().all(|member| silent_ms(member) < 2 * limit);
        assert!(bound, "somebody has been silent for twice the limit");
        let oldest = self.ready.first().copied();
        if let Some(sequence) = oldest
            && self.items[&sequence].pushed_ms + self.limits.age_ms_max <= self.now_ms
        {
            self.ready.remove(&sequence);
            self.counters.expired += 1;
            return self.expect_letter(dispatch, sequence, Cause::Age);
        }
        let with_room = self.members.iter().filter(|(_, member)| member.has_room());
        let with_room: BTreeSet<u64> = with_room.map(|(consumer, _)| *consumer).collect();
        match (oldest.filter(|_| !with_room.is_empty()), dispatch) {
            (None, None) => {}
            (Some(sequence), Some(Dispatch::Delivery(delivery))) => {
                assert!(with_room.contains(&delivery.consumer.0), "the prefetch is never exceeded");
                let refused_by = self.items[&sequence].refused_by;
                assert!(refused_by != Some(delivery.consumer.0) || with_room.len() == 1, "another one has room");
                self.deliver(sequence, &delivery);
            }
            (expect, dispatch) => panic!("expected message {expect:?}, got {dispatch:?}"),
        }
    }

    fn deliver(&mut self, sequence: u64, delivery: &Delivery<Message>) {
        self.ready.remove(&sequence);
        let item = self.items.get_mut(&sequence).expect("what is ready is not settled");
        item.delivery_count += 1;
        item.refused_by = None;
        let did = (delivery.sequence, delivery.message.0, delivery.delivery_count, delivery.redelivered());
        assert_eq!(did, (sequence, item.number, item.delivery_count, item.delivery_count > 1));
        let consumer = delivery.consumer.0;
        let known = self.deliveries.iter().any(|other| other.1 == delivery.id);
        assert!(!known, "each delivery has an id of its own");
        self.deliveries.push((consumer, delivery.id));
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(item.delivery_count > 1);
        let member = self.members.get_mut(&consumer).expect("it has room");
        if item.delivery_count == 1 {
            assert!(member.newest < Some(sequence), "first in, first out");
            member.newest = Some(sequence);
        }
        if member.mode == Auto {
            member.on_their_way += 1;
            self.counters.acknowledged += 1;
            self.items.remove(&sequence);
        } else {
            member.held.push((delivery.id, sequence, self.now_ms));
        }
    }

    fn expect_letter(&mut self, dispatch: Option<Dispatch<Message>>, sequence: u64, cause: Cause) {
        let item = self.items.remove(&sequence).expect("the dead count until they are handed out");
        let Some(Dispatch::DeadLetter(letter)) = dispatch else {
            panic!("{dispatch:?} instead of dead letter {sequence}");
        };
        let did = (letter.sequence, letter.message.0, letter.delivery_count, letter.cause);
        assert_eq!(did, (sequence, item.number, item.delivery_count, cause));
    }

    fn compare(&self, queue: &Queue<Message>) {
        let held: usize = self.members.values().map(|member| member.held.len()).sum();
        assert_eq!((queue.depth(), queue.unacknowledged()), (self.ready.len(), held));
        assert_eq!((queue.len(), queue.consumer_count()), (self.items.len(), self.members.len()));
        assert_eq!(queue.bytes(), self.items.values().map(|item| item.len).sum::<usize>());
        assert_eq!(queue.counters(), self.counters);
        let Counters { accepted, acknowledged, expired, dropped, dead, .. } = queue.counters();
        let there = (queue.depth() + queue.unacknowledged()) as u64;
        assert_eq!(accepted, there + acknowledged + expired + dropped + dead, "nothing is lost");
        assert!(queue.len() <= self.limits.messages_max && queue.bytes() <= self.limits.bytes_max);
        let ready_bytes = self.ready.iter().map(|sequence| self.items[sequence].len).sum::<usize>();
        assert_eq!(queue.ready_bytes, ready_bytes);
    }
}

/// The queue and its model, side by side.
struct Pair {
    queue: Queue<Message>,
    model: Model,
    alive: Rc<()>,
    pushes: u64,
}

impl Pair {
    fn new(limits: Limits) -> Self {
        let model = Model {
            limits,
            now_ms: 0,
            items: BTreeMap::new(),
            ready: BTreeSet::new(),
            dead: VecDeque::new(),
            members: BTreeMap::new(),
            deliveries: Vec::new(),
            counters: Counters::default(),
        };
        Self { queue: Queue::new(limits), model, alive: Rc::new(()), pushes: 0 }
    }

    fn step(&mut self, step: Step) {
        let (queue, model) = (&mut self.queue, &mut self.model);
        match step {
            Step::Push { len } => {
                self.pushes += 1;
                let message = (self.pushes, self.alive.clone());
                assert_eq!(queue.push(message, len, model.now_ms), model.push(self.pushes, len));
            }
            Step::Subscribe { consumer, mode, prefetch } => {
                let expect = model.subscribe(consumer, mode, prefetch);
                assert_eq!(queue.subscribe(ConsumerId(consumer), mode, prefetch), expect);
            }
            Step::Unsubscribe { consumer } => {
                let expect = model.leave(consumer).ok_or(SubscribeError::Unknown);
                assert_eq!(queue.unsubscribe(ConsumerId(consumer)), expect);
            }
            Step::Leave { consumer } => {
                assert_eq!(queue.leave(ConsumerId(consumer)), model.leave(consumer).unwrap_or(0));
            }
            Step::Ack { which, by } if !model.deliveries.is_empty() => {
                let &(consumer, id) = which.get(&model.deliveries);
                self.settle(by.unwrap_or(consumer), id, None);
            }
            Step::Nack { which, by, nack } if !model.deliveries.is_empty() => {
                let &(consumer, id) = which.get(&model.deliveries);
                self.settle(by.unwrap_or(consumer), id, Some(nack));
            }
            Step::AckHeld { which } => self.settle_held(which, None),
            Step::NackHeld { which, nack } => self.settle_held(which, Some(nack)),
            Step::Ack { .. } | Step::Nack { .. } => {}
            Step::Written { consumer, count } => {
                queue.written(ConsumerId(consumer), count);
                if let Some(member) = model.members.get_mut(&consumer) {
                    member.on_their_way = member.on_their_way.saturating_sub(count as usize);
                }
            }
            Step::Poll { count } => (0..count).for_each(|_| model.follow(queue.poll_dispatch(model.now_ms))),
            Step::Pass { ms } => model.now_ms += ms,
            Step::Trim => queue.trim(),
        }
        self.model.compare(&self.queue);
    }

    fn settle_held(&mut self, which: Index, nack: Option<Nack>) {
        let members = self.model.members.iter();
        let held = members.flat_map(|(consumer, member)| member.held.iter().map(|held| (*consumer, held.0)));
        let held: Vec<_> = held.collect();
        if !held.is_empty() {
            let &(consumer, id) = which.get(&held);
            self.settle(consumer, id, nack);
        }
    }

    fn settle(&mut self, consumer: u64, id: DeliveryId, nack: Option<Nack>) {
        let did = match nack {
            None => self.queue.ack(ConsumerId(consumer), id),
            Some(nack) => self.queue.nack(ConsumerId(consumer), id, nack),
        };
        assert_eq!(did, self.model.settle(consumer, id, nack));
    }

    /// Lets everybody leave and a last consumer take all that is left.
    fn drain(mut self) {
        (0..CONSUMERS).for_each(|consumer| self.step(Step::Leave { consumer }));
        self.step(Step::Subscribe { consumer: 0, mode: Auto, prefetch: 1 });
        while !self.queue.is_empty() {
            self.step(Step::Poll { count: 1 });
            self.step(Step::Written { consumer: 0, count: 1 });
        }
        assert!(self.model.items.is_empty());
        self.step(Step::Poll { count: 1 });
        self.step(Step::Leave { consumer: 0 });
        assert_eq!((Rc::strong_count(&self.alive), self.queue.poll_timeout()), (1, None));
        self.queue.trim();
        assert_eq!(self.queue.memory_bytes(), 0, "all memory is given back");
    }
}

/// How many ids of consumers there are, one more than may be there.
const CONSUMERS: u64 = 5;

fn limits() -> impl Strategy<Value = Limits> {
    let overflow = select(vec![Overflow::Refuse, Overflow::DropOldest]);
    (1..60_usize, 20..400_usize, 20..400_u64, 1..5_u32, 20..200_u64, overflow).prop_map(
        |(messages_max, bytes_max, age_ms_max, deliveries_max, acknowledge_ms_max, overflow)| Limits {
            messages_max,
            bytes_max,
            age_ms_max,
            deliveries_max,
            consumers_max: 4,
            prefetch_max: 6,
            acknowledge_ms_max,
            overflow,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let mode = select(vec![Auto, Client, ClientIndividual]);
    let nack = || select(vec![Nack::Requeue, Nack::Requeue, Nack::Requeue, Nack::DeadLetter, Nack::Drop]);
    let by = || proptest::option::weighted(0.2, 0..CONSUMERS);
    let which = any::<Index>;
    prop_oneof![
        12 => (0..40_usize).prop_map(|len| Step::Push { len }),
        4 => (0..CONSUMERS, mode, 0..8_u32)
            .prop_map(|(consumer, mode, prefetch)| Step::Subscribe { consumer, mode, prefetch }),
        1 => (0..CONSUMERS).prop_map(|consumer| Step::Unsubscribe { consumer }),
        1 => (0..CONSUMERS).prop_map(|consumer| Step::Leave { consumer }),
        2 => (which(), by()).prop_map(|(which, by)| Step::Ack { which, by }),
        2 => (which(), by(), nack()).prop_map(|(which, by, nack)| Step::Nack { which, by, nack }),
        5 => which().prop_map(|which| Step::AckHeld { which }),
        4 => (which(), nack()).prop_map(|(which, nack)| Step::NackHeld { which, nack }),
        4 => (0..CONSUMERS, 0..4_u32).prop_map(|(consumer, count)| Step::Written { consumer, count }),
        10 => (1..6_usize).prop_map(|count| Step::Poll { count }),
        3 => (0..40_u64).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_use_agrees_with_a_queue_that_searches_everything(limits in limits(), steps in vec(step(), 0..150)) {
        let mut pair = Pair::new(limits);
        steps.into_iter().for_each(|step| pair.step(step));
        pair.drain();
    }
}
