//! Who takes messages from a queue, whose turn it is, and who has been silent for too long.
//!
//! Consumers with room take turns in rounds. In a round each is served as often as it had room when
//! it was first served in it, one message at a time: of two with room for 30 and for 10, the first is
//! given three of four. Whoever has had its share, or gets room again, waits for the next round.

use std::collections::HashMap;

use super::chain::{Chain, NONE, Slots, smaller};
use super::{ConsumerId, Kept};
use crate::proto::stomp::AckMode;

/// The list of consumers that the rounds are chains of.
const TURNS: usize = 0;
/// The list that `watched` is a chain of.
const WATCH: usize = 1;

/// One consumer.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) id: ConsumerId,
    pub(super) mode: AckMode,
    /// What it was given and has not acknowledged, in the order of delivery.
    pub(super) unacknowledged: Chain,
    prefetch: u32,
    /// How many more it may be given. It is in a round while that is not zero.
    room: u32,
    /// How often it is still served in this round, or zero before it is first served.
    turns: u32,
    /// Which of the two rounds it is in.
    round: usize,
    is_watched: bool,
    /// When it is looked at, if it is watched.
    look_at_ms: u64,
}

/// All consumers of a queue.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    slots: Slots<Consumer, 2>,
    numbers: HashMap<ConsumerId, u32>,
    /// This round and the next one.
    rounds: [Chain; 2],
    /// Which of them is this one.
    round: usize,
    /// Those that had something to acknowledge, by the time when they are looked at.
    watched: Chain,
}

impl Consumers {
    /// Adds a consumer whose id nobody has.
    pub(super) fn insert(&mut self, id: ConsumerId, mode: AckMode, prefetch: u32) {
        let number = self.slots.insert(Consumer {
            id,
            mode,
            unacknowledged: Chain::default(),
            prefetch,
            room: 0,
            turns: 0,
            round: 0,
            is_watched: false,
            look_at_ms: 0,
        });
        self.numbers.insert(id, number);
        self.give_room(number, prefetch);
    }

    /// Takes a consumer away, and returns what it has not acknowledged.
    pub(super) fn remove(&mut self, number: u32) -> Chain {
        let consumer = self.slots.at(number);
        let (has_room, round, is_watched) = (consumer.room > 0, consumer.round, consumer.is_watched);
        if has_room {
            self.slots.unlink(&mut self.rounds[round], TURNS, number);
        }
        if is_watched {
            self.slots.unlink(&mut self.watched, WATCH, number);
        }
        let consumer = self.slots.remove(number);
        self.numbers.remove(&consumer.id);
        if let Some(capacity) = smaller(self.numbers.len(), self.numbers.capacity()) {
            self.numbers.shrink_to(capacity);
        }
        consumer.unacknowledged
    }

    /// Whose turn it is. That is `avoided` only if nobody else has room.
    pub(super) fn next(&mut self, avoided: u32) -> Option<u32> {
        if self.rounds[self.round].is_empty() {
            self.round ^= 1;
        }
        let first = self.rounds[self.round].first();
        if first != avoided || first == NONE {
            return (first != NONE).then_some(first);
        }
        let second = self.slots.next(TURNS, first);
        let other = if second == NONE { self.rounds[self.round ^ 1].first() } else { second };
        Some(if other == NONE { first } else { other })
    }

    /// Says that the consumer at `number`, whose turn it was, was given a message.
    pub(super) fn serve(&mut self, number: u32) {
        let this_round = self.round;
        let consumer = self.slots.at_mut(number);
        let turns = if consumer.turns == 0 { consumer.room } else { consumer.turns };
        consumer.turns = turns - 1;
        consumer.room -= 1;
        if consumer.room == 0 {
            consumer.turns = 0;
        }
        let (from, turns, has_room) = (consumer.round, consumer.turns, consumer.room > 0);
        let to = if turns == 0 { this_round ^ 1 } else { from };
        if has_room && to == from && self.rounds[from].ends_with(number) {
            return;
        }
        self.slots.unlink(&mut self.rounds[from], TURNS, number);
        if has_room {
            self.slots.at_mut(number).round = to;
            self.slots.push_back(&mut self.rounds[to], TURNS, number);
        }
    }

    /// Lets the consumer at `number` have `count` more messages, up to its prefetch.
    pub(super) fn give_room(&mut self, number: u32, count: u32) {
        let next_round = self.round ^ 1;
        let consumer = self.slots.at_mut(number);
        let had_room = consumer.room > 0;
        consumer.room = consumer.room.saturating_add(count).min(consumer.prefetch);
        if !had_room && consumer.room > 0 {
            consumer.round = next_round;
            self.slots.push_back(&mut self.rounds[next_round], TURNS, number);
        }
    }

    /// Appends `kept_number` to what the consumer at `number` has to acknowledge, who is looked at when
    /// `look_at_ms` has come or before.
    pub(super) fn hand_out<M>(&mut self, number: u32, kept: &mut Slots<Kept<M>, 1>, kept_number: u32, look_at_ms: u64) {
        let consumer = self.slots.at_mut(number);
        kept.push_back(&mut consumer.unacknowledged, 0, kept_number);
        if !consumer.is_watched {
            self.watch(number, look_at_ms);
        }
    }

    /// The consumer that was to be looked at before all others, if that time has come; it is watched no
    /// more.
    pub(super) fn look(&mut self, now_ms: u64) -> Option<u32> {
        let number = self.watched.first();
        if self.look_at_ms()? > now_ms {
            return None;
        }
        self.slots.unlink(&mut self.watched, WATCH, number);
        self.slots.at_mut(number).is_watched = false;
        Some(number)
    }

    /// Looks at a consumer when `look_at_ms` has come, which is no earlier than for any other.
    pub(super) fn watch(&mut self, number: u32, look_at_ms: u64) {
        let consumer = self.slots.at_mut(number);
        consumer.is_watched = true;
        consumer.look_at_ms = look_at_ms;
        self.slots.push_back(&mut self.watched, WATCH, number);
    }

    /// Gives memory back that nobody needs.
    pub(super) fn trim(&mut self) {
        self.slots.trim();
        self.numbers.shrink_to_fit();
    }

    /// When somebody is looked at.
    pub(super) fn look_at_ms(&self) -> Option<u64> {
        self.slots.get(self.watched.first()).map(|consumer| consumer.look_at_ms)
    }

    /// The number of the consumer that `id` names.
    pub(super) fn number_of(&self, id: ConsumerId) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    pub(super) fn at(&self, number: u32) -> &Consumer {
        self.slots.at(number)
    }

    pub(super) fn at_mut(&mut self, number: u32) -> &mut Consumer {
        self.slots.at_mut(number)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.memory_bytes() + self.numbers.capacity() * size_of::<(ConsumerId, u32)>()
    }
}
