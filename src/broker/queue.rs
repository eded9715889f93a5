//! The messages of one destination on their way to competing consumers: each goes to one of them.
//!
//! What was never delivered waits in `fresh`. What a consumer has to acknowledge is in `kept`, and
//! stays there when it comes back; `returned` puts such messages in order again. Whatever came back
//! was pushed before all that is fresh, so the oldest message that waits is found without a search,
//! and it is the only one whose age matters.
//!
//! All costs are constant, amortised, whatever the number of messages and consumers, except that a
//! message that came back costs the logarithm of how many did.

mod chain;
mod consumers;
mod dispatch;
mod limits;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::proto::stomp::AckMode;

use chain::{NONE, Slots, smaller};
use consumers::Consumers;
use dispatch::{NO_PLACE, SERIAL_MAX};

pub use dispatch::{Cause, ConsumerId, DeadLetter, Delivery, DeliveryId, Dispatch, Nack};
pub use limits::{AckError, Limits, MESSAGES_MAX, Overflow, PushError, SubscribeError};

/// The queue of one destination.
///
/// Messages are opaque and cloned for each delivery that has to be acknowledged, so they should be
/// references with a count. Their length is told, not asked: it is needed again when a message is
/// settled, long after its bytes have left the cache.
///
/// Time never goes back: where `now_ms` is less than it was, nothing has passed.
///
/// ```
/// use ringsock::broker::queue::{ConsumerId, Dispatch, Limits, Queue};
/// use ringsock::proto::stomp::AckMode;
///
/// let mut queue = Queue::new(Limits::default());
/// queue.subscribe(ConsumerId(1), AckMode::Client, 10)?;
/// queue.push("hello", 5, 0)?;
/// let Some(Dispatch::Delivery(delivery)) = queue.poll_dispatch(0) else { panic!("there is room for ten") };
/// assert_eq!((delivery.message, delivery.redelivered()), ("hello", false));
/// assert_eq!(queue.ack(ConsumerId(1), delivery.id)?, 1);
/// assert!(queue.ack(ConsumerId(1), delivery.id).is_err(), "twice");
/// # #[derive(Debug)]
/// # struct Failed;
/// # impl<T> From<T> for Failed where T: Copy + std::fmt::Debug { fn from(_: T) -> Self { Self } }
/// # Ok::<(), Failed>(())
/// ```
#[derive(Debug)]
pub struct Queue<M> {
    limits: Limits,
    /// What was never delivered, oldest first.
    fresh: VecDeque<Fresh<M>>,
    /// The sequence number of the first of them, or of the next message.
    fresh_sequence: u64,
    /// What was delivered and is not settled. That of one consumer is a chain.
    kept: Slots<Kept<M>, 1>,
    /// What of it came back and waits, by sequence number.
    returned: BinaryHeap<Reverse<(u64, u32)>>,
    /// What will not be delivered, with its length, until it is handed out.
    dead: VecDeque<(DeadLetter<M>, u32)>,
    consumers: Consumers,
    /// The bytes of all messages.
    bytes: usize,
    /// The bytes of those that wait for a consumer.
    ready_bytes: usize,
    /// The serial number of the last delivery.
    serial: u64,
    now_ms: u64,
    counters: Counters,
}

/// What has happened in a queue so far.
///
/// Each accepted message waits, is unacknowledged, or is in one of `acknowledged`, `expired`,
/// `dropped` and `dead`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Messages that were taken.
    pub accepted: u64,
    /// Messages that were not.
    pub refused: u64,
    /// Deliveries, further ones of a message included.
    pub delivered: u64,
    /// Deliveries of messages that had been delivered before.
    pub redelivered: u64,
    /// Messages that a consumer was done with, by its word or because it uses [`AckMode::Auto`].
    pub acknowledged: u64,
    /// Messages that became too old.
    pub expired: u64,
    /// Messages that were dropped, for newer ones or because a consumer refused them.
    pub dropped: u64,
    /// Dead letters other than those that became too old.
    pub dead: u64,
    /// Consumers that were removed since they did not acknowledge.
    pub overdue: u64,
}

/// A message that was never delivered.
#[derive(Debug)]
struct Fresh<M> {
    message: M,
    len: u32,
    pushed_ms: u64,
}

/// A message that was delivered and is not settled.
#[derive(Debug)]
struct Kept<M> {
    message: M,
    len: u32,
    /// Who has it; of one that came back, who refused it, or [`NONE`].
    consumer: u32,
    sequence: u64,
    pushed_ms: u64,
    delivered_ms: u64,
    /// That of the delivery, or [`RETURNED`].
    serial: u64,
    delivery_count: u32,
}

/// Where the oldest message that waits is.
#[derive(Clone, Copy)]
enum Front {
    Fresh,
    Returned(u32),
}

/// What becomes of a message that a consumer has.
#[derive(Clone, Copy)]
enum Fate {
    Acknowledged,
    Refused(Nack),
}

impl<M: Clone> Queue<M> {
    /// An empty queue, which owns no memory yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Limits { messages_max: limits.messages_max.min(MESSAGES_MAX), ..limits },
            fresh: VecDeque::new(),
            fresh_sequence: 0,
            kept: Slots::default(),
            returned: BinaryHeap::new(),
            dead: VecDeque::new(),
            consumers: Consumers::default(),
            bytes: 0,
            ready_bytes: 0,
            serial: 0,
            now_ms: 0,
            counters: Counters::default(),
        }
    }

    /// Appends a message of `len` bytes.
    ///
    /// # Errors
    ///
    /// Why it was not taken; nothing else has changed then.
    pub fn push(&mut self, message: M, len: usize, now_ms: u64) -> Result<(), PushError> {
        self.pass_time(now_ms);
        match self.make_room(len) {
            Ok(len) => {
                self.fresh.push_back(Fresh { message, len, pushed_ms: self.now_ms });
                self.bytes += len as usize;
                self.ready_bytes += len as usize;
                self.counters.accepted += 1;
                Ok(())
            }
            Err(error) => {
                self.counters.refused += 1;
                Err(error)
            }
        }
    }

    /// Adds a consumer, which may have `prefetch` messages at a time that it has not acknowledged: one
    /// at least, and no more than the limit.
    ///
    /// In [`AckMode::Auto`] these are the messages whose way to the consumer has not ended, see
    /// [`Queue::written`].
    ///
    /// # Errors
    ///
    /// The consumer is there already, or too many are.
    pub fn subscribe(&mut self, consumer: ConsumerId, mode: AckMode, prefetch: u32) -> Result<(), SubscribeError> {
        if self.consumers.number_of(consumer).is_some() {
            return Err(SubscribeError::Duplicate);
        }
        if self.consumers.len() >= self.limits.consumers_max {
            return Err(SubscribeError::TooMany);
        }
        self.consumers.insert(consumer, mode, prefetch.clamp(1, self.limits.prefetch_max.max(1)));
        Ok(())
    }

    /// Removes a consumer that wants no more. What it has not acknowledged goes back to where it was in
    /// the queue; returns how many messages that are.
    ///
    /// # Errors
    ///
    /// There is no such consumer.
    pub fn unsubscribe(&mut self, consumer: ConsumerId) -> Result<usize, SubscribeError> {
        let number = self.consumers.number_of(consumer).ok_or(SubscribeError::Unknown)?;
        Ok(self.remove(number))
    }

    /// Removes a consumer whose connection was lost, if it is still there, as
    /// [`Queue::unsubscribe`] does.
    pub fn leave(&mut self, consumer: ConsumerId) -> usize {
        self.unsubscribe(consumer).unwrap_or(0)
    }

    /// Says that `count` messages have reached the socket of a consumer that does not acknowledge, so
    /// that it may have as many more. Of others, and of one that has gone, this means nothing.
    pub fn written(&mut self, consumer: ConsumerId, count: u32) {
        let number = self.consumers.number_of(consumer);
        if let Some(number) = number.filter(|&number| self.consumers.at(number).mode == AckMode::Auto) {
            self.consumers.give_room(number, count);
        }
    }

    /// Settles a message that `consumer` was delivered, in [`AckMode::Client`] with all that it was
    /// delivered before; returns how many messages that are.
    ///
    /// # Errors
    ///
    /// The consumer does not have that message; nothing has changed then.
    pub fn ack(&mut self, consumer: ConsumerId, delivery: DeliveryId) -> Result<u32, AckError> {
        self.settle(consumer, delivery, Fate::Acknowledged)
    }

    /// Takes messages back that [`Queue::ack`] would settle; returns how many.
    ///
    /// # Errors
    ///
    /// The consumer does not have that message; nothing has changed then.
    pub fn nack(&mut self, consumer: ConsumerId, delivery: DeliveryId, nack: Nack) -> Result<u32, AckError> {
        self.settle(consumer, delivery, Fate::Refused(nack))
    }

    /// The next thing to do, until there is none.
    ///
    /// To be asked whenever something else was done to the queue, and when [`Queue::poll_timeout`] has
    /// come.
    pub fn poll_dispatch(&mut self, now_ms: u64) -> Option<Dispatch<M>> {
        self.pass_time(now_ms);
        if let Some((letter, len)) = self.dead.pop_front() {
            self.bytes -= len as usize;
            if let Some(capacity) = smaller(self.dead.len(), self.dead.capacity()) {
                self.dead.shrink_to(capacity);
            }
            return Some(Dispatch::DeadLetter(letter));
        }
        if let Some(consumer) = self.remove_overdue() {
            return Some(Dispatch::Overdue(consumer));
        }
        let front = self.front()?;
        if self.expires_ms(front) <= self.now_ms {
            self.counters.expired += 1;
            return Some(Dispatch::DeadLetter(self.take(front, Cause::Age)));
        }
        let avoided = match front {
            Front::Fresh => NONE,
            Front::Returned(place) => self.kept.at(place).consumer,
        };
        let number = self.consumers.next(avoided)?;
        Some(Dispatch::Delivery(self.deliver(front, number)))
    }

    /// When [`Queue::poll_dispatch`] may have something to do that it had not when it was last asked.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let expires_ms = self.front().map(|front| self.expires_ms(front));
        let look_at_ms = self.consumers.look_at_ms();
        expires_ms.into_iter().chain(look_at_ms).min().filter(|&at_ms| at_ms < u64::MAX)
    }

    /// Gives memory back that nobody needs; all of it, if there are no messages and no consumers.
    ///
    /// What is held follows what is used in any case, except for small collections.
    pub fn trim(&mut self) {
        self.fresh.shrink_to_fit();
        self.kept.trim();
        self.returned.shrink_to_fit();
        self.dead.shrink_to_fit();
        self.consumers.trim();
    }

    /// Whether `count` messages with `bytes` together could be pushed without an overflow.
    #[must_use]
    pub fn has_room(&self, count: usize, bytes: usize) -> bool {
        count <= self.limits.messages_max - self.len() && bytes <= self.limits.bytes_max - self.bytes
    }

    /// What it may hold.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many messages wait for a consumer.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.fresh.len() + self.returned.len()
    }

    /// How many messages consumers have and did not acknowledge.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.kept.len() - self.returned.len()
    }

    /// How many messages there are: those that wait, the unacknowledged, and dead letters that were not
    /// handed out yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fresh.len() + self.kept.len() + self.dead.len()
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the messages have together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many consumers there are.
    #[must_use]
    pub fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// About how much memory the queue has, without what messages own elsewhere.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.fresh.capacity() * size_of::<Fresh<M>>()
            + self.kept.memory_bytes()
            + self.returned.capacity() * size_of::<(u64, u32)>()
            + self.dead.capacity() * size_of::<(DeadLetter<M>, u32)>()
            + self.consumers.memory_bytes()
    }

    fn pass_time(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Sees to it that a message of `len` bytes has room, if it can, and drops nothing if it can't.
    fn make_room(&mut self, len: usize) -> Result<u32, PushError> {
        let short_len = u32::try_from(len).map_err(|_| PushError::TooLarge)?;
        if len > self.limits.bytes_max {
            return Err(PushError::TooLarge);
        }
        if self.has_room(1, len) {
            return Ok(short_len);
        }
        let rest_fits = self.len() - self.depth() < self.limits.messages_max
            && len <= self.limits.bytes_max - (self.bytes - self.ready_bytes);
        if self.limits.overflow == Overflow::Refuse || !rest_fits {
            return Err(PushError::Full);
        }
        while !self.has_room(1, len) {
            let front = self.front().expect("without those that wait there is room");
            self.take(front, Cause::Rejected);
            self.counters.dropped += 1;
        }
        Ok(short_len)
    }

    /// The oldest message that waits.
    fn front(&self) -> Option<Front> {
        match self.returned.peek() {
            Some(&Reverse((_, place))) => Some(Front::Returned(place)),
            None => (!self.fresh.is_empty()).then_some(Front::Fresh),
        }
    }

    fn expires_ms(&self, front: Front) -> u64 {
        let pushed_ms = match front {
            Front::Fresh => self.fresh[0].pushed_ms,
            Front::Returned(place) => self.kept.at(place).pushed_ms,
        };
        pushed_ms.saturating_add(self.limits.age_ms_max)
    }

    /// Takes the oldest message that waits out of the queue.
    fn take(&mut self, front: Front, cause: Cause) -> DeadLetter<M> {
        let (letter, len) = match front {
            Front::Fresh => {
                let (Fresh { message, len, .. }, sequence) = self.pop_fresh();
                (DeadLetter { message, sequence, delivery_count: 0, cause }, len)
            }
            Front::Returned(place) => {
                self.pop_returned();
                let Kept { message, len, sequence, delivery_count, .. } = self.kept.remove(place);
                (DeadLetter { message, sequence, delivery_count, cause }, len)
            }
        };
        self.bytes -= len as usize;
        self.ready_bytes -= len as usize;
        letter
    }

    fn pop_fresh(&mut self) -> (Fresh<M>, u64) {
        let fresh = self.fresh.pop_front().expect("the front is one of those");
        if let Some(capacity) = smaller(self.fresh.len(), self.fresh.capacity()) {
            self.fresh.shrink_to(capacity);
        }
        self.fresh_sequence += 1;
        (fresh, self.fresh_sequence - 1)
    }

    fn pop_returned(&mut self) {
        self.returned.pop();
        if let Some(capacity) = smaller(self.returned.len(), self.returned.capacity()) {
            self.returned.shrink_to(capacity);
        }
    }

    /// Hands the oldest message that waits to the consumer at `number`.
    fn deliver(&mut self, front: Front, number: u32) -> Delivery<M> {
        self.serial = if self.serial == SERIAL_MAX { RETURNED + 1 } else { self.serial + 1 };
        let consumer = self.consumers.at(number);
        let (consumer, mode) = (consumer.id, consumer.mode);
        let delivery = if mode == AckMode::Auto {
            let DeadLetter { message, sequence, delivery_count, .. } = self.take(front, Cause::Rejected);
            self.counters.acknowledged += 1;
            let id = DeliveryId::new(self.serial, NO_PLACE);
            Delivery { consumer, id, message, sequence, delivery_count: delivery_count.saturating_add(1) }
        } else {
            let place = self.keep(front, number);
            let kept = self.kept.at(place);
            Delivery {
                consumer,
                id: DeliveryId::new(kept.serial, place),
                message: kept.message.clone(),
                sequence: kept.sequence,
                delivery_count: kept.delivery_count,
            }
        };
        self.consumers.serve(number);
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(delivery.redelivered());
        delivery
    }

    /// Puts the oldest message that waits with what the consumer at `number` has; returns its place.
    fn keep(&mut self, front: Front, number: u32) -> u32 {
        let place = match front {
            Front::Fresh => {
                let (Fresh { message, len, pushed_ms }, sequence) = self.pop_fresh();
                self.kept.insert(Kept {
                    message,
                    len,
                    consumer: NONE,
                    sequence,
                    pushed_ms,
                    delivered_ms: 0,
                    serial: RETURNED,
                    delivery_count: 0,
                })
            }
            Front::Returned(place) => {
                self.pop_returned();
                place
            }
        };
        let kept = self.kept.at_mut(place);
        kept.consumer = number;
        kept.delivered_ms = self.now_ms;
        kept.serial = self.serial;
        kept.delivery_count = kept.delivery_count.saturating_add(1);
        self.ready_bytes -= kept.len as usize;
        let look_at_ms = self.now_ms.saturating_add(self.limits.acknowledge_ms_max);
        self.consumers.hand_out(number, &mut self.kept, place, look_at_ms);
        place
    }

    fn settle(&mut self, consumer: ConsumerId, delivery: DeliveryId, fate: Fate) -> Result<u32, AckError> {
        let last = delivery.place();
        let kept = self.kept.get(last).ok_or(AckError::Unknown)?;
        if kept.serial != delivery.serial() || kept.serial == RETURNED {
            return Err(AckError::Unknown);
        }
        let number = kept.consumer;
        if self.consumers.at(number).id != consumer {
            return Err(AckError::Foreign);
        }
        let mut count = 0;
        loop {
            let consumer = self.consumers.at_mut(number);
            let place = if consumer.mode == AckMode::Client { consumer.unacknowledged.first() } else { last };
            self.kept.unlink(&mut consumer.unacknowledged, 0, place);
            self.meet(fate, place, number);
            count += 1;
            if place == last {
                break;
            }
        }
        self.consumers.give_room(number, count);
        Ok(count)
    }

    /// Lets a message, which is in no chain any more, meet its fate.
    fn meet(&mut self, fate: Fate, place: u32, number: u32) {
        let counter = match fate {
            Fate::Refused(Nack::Requeue) => return self.give_back(place, number),
            Fate::Refused(Nack::DeadLetter) => return self.bury(place, Cause::Rejected),
            Fate::Refused(Nack::Drop) => &mut self.counters.dropped,
            Fate::Acknowledged => &mut self.counters.acknowledged,
        };
        *counter += 1;
        self.bytes -= self.kept.remove(place).len as usize;
    }

    /// Lets a message wait again, to be given to somebody else than `avoided` if possible.
    fn give_back(&mut self, place: u32, avoided: u32) {
        let kept = self.kept.at_mut(place);
        if kept.delivery_count >= self.limits.deliveries_max {
            return self.bury(place, Cause::Deliveries);
        }
        kept.serial = RETURNED;
        kept.consumer = avoided;
        self.ready_bytes += kept.len as usize;
        self.returned.push(Reverse((kept.sequence, place)));
    }

    /// Makes a dead letter of a message that a consumer had.
    fn bury(&mut self, place: u32, cause: Cause) {
        let Kept { message, len, sequence, delivery_count, .. } = self.kept.remove(place);
        self.dead.push_back((DeadLetter { message, sequence, delivery_count, cause }, len));
        self.counters.dead += 1;
    }

    /// Removes the consumer at `number`; returns how many messages it had.
    fn remove(&mut self, number: u32) -> usize {
        let mut unacknowledged = self.consumers.remove(number);
        let mut count = 0;
        while !unacknowledged.is_empty() {
            let place = unacknowledged.first();
            self.kept.unlink(&mut unacknowledged, 0, place);
            self.give_back(place, NONE);
            count += 1;
        }
        count
    }

    /// Removes a consumer that has not acknowledged its oldest delivery in time, if there is one.
    ///
    /// A consumer is looked at once in that time, while it has something to acknowledge.
    fn remove_overdue(&mut self) -> Option<ConsumerId> {
        while let Some(number) = self.consumers.look(self.now_ms) {
            let consumer = self.consumers.at(number);
            let Some(oldest) = self.kept.get(consumer.unacknowledged.first()) else {
                continue;
            };
            if oldest.delivered_ms.saturating_add(self.limits.acknowledge_ms_max) <= self.now_ms {
                let id = consumer.id;
                self.remove(number);
                self.counters.overdue += 1;
                return Some(id);
            }
            self.consumers.watch(number, self.now_ms.saturating_add(self.limits.acknowledge_ms_max));
        }
        None
    }
}

/// In place of the serial number of a delivery: the message came back and waits.
const RETURNED: u64 = 0;

const _: () = {
    // An Option has no tag where the message is a reference with a count.
    assert!(size_of::<Option<Kept<std::sync::Arc<u8>>>>() == 56, "with its link, one line of the cache");
    assert!(size_of::<Fresh<std::sync::Arc<u8>>>() == 24);
};
