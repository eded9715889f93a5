//! The queues that live on a worker.

use std::collections::HashMap;
use std::sync::Arc;

use crate::broker::queue::{
    AckError, Cause, ConsumerId, DeliveryId, Dispatch, Limits, Nack, Overflow, PushError, Queue, SubscribeError,
};
use crate::proto::stomp::AckMode;
use crate::timer::Wheel;

use super::message::Message;
use super::op::{QueueRef, Room};
use super::requests::QUEUE;

/// Queues by name and by place, and when they have something to do.
#[derive(Debug, Default)]
pub(super) struct Queues {
    places: HashMap<Box<str>, u32>,
    shelves: Vec<Shelf>,
    free: Vec<u32>,
    wheel: Wheel,
    fired: Vec<u32>,
    /// The bytes of all messages, and those that commits under way have room for.
    bytes: usize,
    reserved_bytes: usize,
}

/// A place for a queue.
#[derive(Debug)]
struct Shelf {
    generation: u32,
    queue: Option<Stored>,
}

#[derive(Debug)]
struct Stored {
    name: Box<str>,
    queue: Queue<Arc<Message>>,
    /// Messages and bytes that commits under way have room for.
    reserved: (usize, usize),
}

/// Something to tell after a queue has changed.
#[derive(Debug)]
pub(super) enum Outcome {
    Deliver { consumer: ConsumerId, queue: QueueRef, delivery: DeliveryId, message: Arc<Message>, count: u32 },
    Dead { message: Arc<Message>, cause: Cause },
    Overdue(ConsumerId),
}

const TOO_MANY: &str = "too many queues";
const NO_ROOM: &str = "the queues of the server are full";

impl Queues {
    /// Appends a message to the queue of this name.
    pub(super) fn push(
        &mut self,
        message: &Arc<Message>,
        is_reserved: bool,
        limits: &Bounds<'_>,
        now_ms: u64,
    ) -> Result<u32, &'static str> {
        let len = message.len();
        if !is_reserved && self.bytes + self.reserved_bytes + len > limits.bytes_max {
            return Err(NO_ROOM);
        }
        let place = self.open(message.destination().strip_prefix(QUEUE).unwrap_or_default(), limits)?;
        if is_reserved {
            self.reserved_bytes -= len;
        }
        let stored = self.stored(place);
        let bytes = stored.queue.bytes();
        let pushed = if is_reserved {
            stored.release(1, len);
            stored.queue.push(message.clone(), len, now_ms).map_err(PushError::message)
        } else if stored.has_room(1, len) {
            stored.queue.push(message.clone(), len, now_ms).map_err(PushError::message)
        } else {
            let is_too_large = len > stored.queue.limits().bytes_max;
            Err(if is_too_large { PushError::TooLarge } else { PushError::Full }.message())
        };
        self.count(place, bytes);
        pushed.map(|()| place).inspect_err(|_| self.close_unused(place))
    }

    /// Adds a consumer to the queue of this name.
    pub(super) fn subscribe(
        &mut self,
        name: &str,
        consumer: ConsumerId,
        mode: AckMode,
        prefetch: u32,
        limits: &Bounds<'_>,
    ) -> Result<u32, &'static str> {
        let place = self.open(name, limits)?;
        // What was not written yet is to be found here, so an acknowledgement by whoever writes it takes the place of
        // that of a consumer which gives none.
        let mode = if mode == AckMode::Auto { AckMode::Client } else { mode };
        let subscribed = self.stored(place).queue.subscribe(consumer, mode, prefetch).map_err(SubscribeError::message);
        subscribed.map(|()| place).inspect_err(|_| self.close_unused(place))
    }

    /// Removes a consumer, if it is there.
    pub(super) fn leave(&mut self, name: &str, consumer: ConsumerId) -> Option<u32> {
        let place = *self.places.get(name)?;
        let bytes = self.stored(place).queue.bytes();
        self.stored(place).queue.leave(consumer);
        self.count(place, bytes);
        Some(place)
    }

    pub(super) fn ack(&mut self, queue: QueueRef, by: ConsumerId, delivery: DeliveryId) -> Result<u32, AckError> {
        let place = self.find(queue).ok_or(AckError::Unknown)?;
        let bytes = self.stored(place).queue.bytes();
        let settled = self.stored(place).queue.ack(by, delivery);
        self.count(place, bytes);
        settled.map(|_| place)
    }

    pub(super) fn nack(
        &mut self,
        queue: QueueRef,
        by: ConsumerId,
        delivery: DeliveryId,
        nack: Nack,
    ) -> Result<u32, AckError> {
        let place = self.find(queue).ok_or(AckError::Unknown)?;
        let bytes = self.stored(place).queue.bytes();
        let settled = self.stored(place).queue.nack(by, delivery, nack);
        self.count(place, bytes);
        settled.map(|_| place)
    }

    /// Keeps room for messages of a commit in all of these queues, or in none.
    pub(super) fn reserve(&mut self, queues: &[Room], limits: &Bounds<'_>) -> bool {
        let wanted: usize = queues.iter().map(|room| room.bytes).sum();
        if self.bytes + self.reserved_bytes + wanted > limits.bytes_max {
            return false;
        }
        for (index, Room { name, count, bytes }) in queues.iter().enumerate() {
            let place = self.open(name, limits);
            let Some(place) = place.ok().filter(|&place| self.stored(place).has_room(*count, *bytes)) else {
                place.into_iter().for_each(|place| self.close_unused(place));
                self.release(&queues[..index]);
                return false;
            };
            let (reserved_count, reserved_bytes) = &mut self.stored(place).reserved;
            *reserved_count += count;
            *reserved_bytes += bytes;
            self.reserved_bytes += bytes;
        }
        true
    }

    /// Gives room back that is not needed.
    pub(super) fn release(&mut self, queues: &[Room]) {
        for Room { name, count, bytes } in queues {
            if let Some(&place) = self.places.get(name) {
                self.stored(place).release(*count, *bytes);
                self.reserved_bytes -= bytes;
                self.close_unused(place);
            }
        }
    }

    /// The next thing to tell of a queue after a change, until there is none.
    pub(super) fn poll(&mut self, place: u32, now_ms: u64) -> Option<Outcome> {
        let shelf = self.shelves.get_mut(place as usize)?;
        let generation = shelf.generation;
        let stored = shelf.queue.as_mut()?;
        let bytes = stored.queue.bytes();
        let dispatch = stored.queue.poll_dispatch(now_ms);
        self.bytes -= bytes - stored.queue.bytes();
        match dispatch {
            Some(Dispatch::Delivery(delivery)) => Some(Outcome::Deliver {
                consumer: delivery.consumer,
                queue: QueueRef { slot: place, generation },
                delivery: delivery.id,
                message: delivery.message,
                count: delivery.delivery_count,
            }),
            Some(Dispatch::DeadLetter(letter)) => Some(Outcome::Dead { message: letter.message, cause: letter.cause }),
            Some(Dispatch::Overdue(consumer)) => Some(Outcome::Overdue(consumer)),
            None => {
                match stored.queue.poll_timeout() {
                    Some(at_ms) if !self.wheel.fires_by(place, at_ms) => self.wheel.arm(place, at_ms),
                    _ => {}
                }
                self.close_unused(place);
                None
            }
        }
    }

    /// The places of queues that have something to do now.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<u32> {
        self.wheel.expire(now_ms, &mut self.fired);
        self.fired.drain(..).collect()
    }

    /// When a queue has something to do, in milliseconds from now.
    pub(super) fn next_ms(&mut self, now_ms: u64) -> Option<u64> {
        self.wheel.next_ms(now_ms)
    }

    /// How many queues there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The place of the queue of this name, a new one if there was none.
    fn open(&mut self, name: &str, limits: &Bounds<'_>) -> Result<u32, &'static str> {
        if let Some(&place) = self.places.get(name) {
            return Ok(place);
        }
        if self.places.len() >= limits.queues_max {
            return Err(TOO_MANY);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.shelves.push(Shelf { generation: 0, queue: None });
            u32::try_from(self.shelves.len() - 1).expect("bounded by the limit")
        });
        let shelf = &mut self.shelves[place as usize];
        shelf.generation = shelf.generation.wrapping_add(1);
        shelf.queue = Some(Stored { name: name.into(), queue: Queue::new(*limits.queue), reserved: (0, 0) });
        self.places.insert(name.into(), place);
        Ok(place)
    }

    /// Forgets a queue that has neither messages nor consumers: the next one who names it gets a new one.
    fn close_unused(&mut self, place: u32) {
        let shelf = &mut self.shelves[place as usize];
        let is_unused = |stored: &mut Stored| {
            stored.queue.is_empty() && stored.queue.consumer_count() == 0 && stored.reserved.0 == 0
        };
        if let Some(stored) = shelf.queue.take_if(is_unused) {
            self.places.remove(&stored.name);
            self.wheel.disarm(place);
            self.free.push(place);
        }
    }

    /// Takes account of a queue that had so many bytes before it was changed.
    fn count(&mut self, place: u32, before: usize) {
        self.bytes = self.bytes + self.stored(place).queue.bytes() - before;
    }

    fn find(&self, queue: QueueRef) -> Option<u32> {
        let shelf = self.shelves.get(queue.slot as usize)?;
        (shelf.generation == queue.generation && shelf.queue.is_some()).then_some(queue.slot)
    }

    fn stored(&mut self, place: u32) -> &mut Stored {
        self.shelves[place as usize].queue.as_mut().expect("a place that is known has a queue")
    }
}

/// What bounds queues.
#[derive(Debug)]
pub(super) struct Bounds<'o> {
    pub(super) queues_max: usize,
    pub(super) bytes_max: usize,
    pub(super) queue: &'o Limits,
}

impl Stored {
    fn has_room(&self, count: usize, bytes: usize) -> bool {
        let (count, bytes) = (count + self.reserved.0, bytes + self.reserved.1);
        let limits = self.queue.limits();
        match limits.overflow {
            Overflow::Refuse => self.queue.has_room(count, bytes),
            // What waits gives way, what consumers have does not.
            Overflow::DropOldest => {
                self.queue.unacknowledged() + count <= limits.messages_max && bytes <= limits.bytes_max
            }
        }
    }

    fn release(&mut self, count: usize, bytes: usize) {
        let (reserved_count, reserved_bytes) = &mut self.reserved;
        *reserved_count -= count;
        *reserved_bytes -= bytes;
    }
}
