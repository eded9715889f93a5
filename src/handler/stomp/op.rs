//! What workers tell each other, and how it is gathered on the way.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use crate::broker::queue::{ConsumerId, DeliveryId, Nack};
use crate::handler::{ConnectionId, Effects, Parcel};
use crate::proto::stomp::AckMode;

use super::local::{Outgoing, Subscriber};
use super::message::Message;

/// Something for the worker that owns what it is about; what is for the own worker goes the same way.
#[derive(Debug)]
pub(super) enum Op {
    /// A message for subscribers of its topic.
    Publish(Arc<Message>),
    /// A message for a queue, or for a part of it that was reserved.
    Push { message: Arc<Message>, ticket: Ticket, is_reserved: bool },
    /// A consumer for a queue.
    Subscribe { name: Box<str>, consumer: ConsumerId, mode: AckMode, prefetch: u32, ticket: Ticket },
    /// A consumer wants no more. With a ticket it is told when nothing more will come.
    Unsubscribe { name: Box<str>, consumer: ConsumerId, ticket: Option<Ticket> },
    /// Deliveries were processed.
    Ack { queue: QueueRef, consumer: ConsumerId, delivery: DeliveryId, ticket: Ticket },
    /// They were not.
    Nack { queue: QueueRef, consumer: ConsumerId, delivery: DeliveryId, nack: Nack, ticket: Ticket },
    /// Deliveries to a consumer that does not acknowledge were written, up to this one.
    Written { queue: QueueRef, consumer: ConsumerId, delivery: DeliveryId },
    /// Room in queues for a commit.
    Reserve { commit: CommitId, queues: Vec<Room> },
    /// The room was not needed after all.
    Release { queues: Vec<Room> },
    /// Everything before this was done.
    Barrier { ticket: Ticket },
    /// A message for whoever has this temporary queue.
    Reply { token: Box<str>, client: ConnectionId, message: Arc<Message> },
    /// A message of the program's own.
    TakeIn(Outgoing),
    /// A subscriber of the program's own.
    Attach { destination: Box<str>, subscriber: Subscriber },

    /// To a consumer's worker: a message of a queue.
    Deliver { consumer: ConsumerId, queue: QueueRef, delivery: DeliveryId, message: Arc<Message>, count: u32 },
    /// To a consumer's worker: it was removed, since it did not acknowledge.
    Overdue { consumer: ConsumerId },
    /// To a consumer's worker: it was removed, as it wanted.
    Unsubscribed { consumer: ConsumerId, ticket: Ticket },
    /// To a client's worker: it was done.
    Done { ticket: Ticket },
    /// To a client's worker: it was refused.
    Failed { ticket: Ticket, message: &'static str },
    /// To a committing client's worker: whether there is room, and for what.
    Reserved { commit: CommitId, worker: u16, queues: Vec<Room>, is_granted: bool },
}

/// Whom to tell what became of something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ticket {
    /// Who has asked for it; nobody if the program itself has.
    pub(super) client: Option<ConnectionId>,
    /// The number of the receipt that waits for it, or zero if none does.
    pub(super) receipt: u32,
}

/// A commit under way on the worker of its client.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct CommitId {
    pub(super) client: ConnectionId,
    pub(super) number: u32,
}

/// Room in a queue for messages that a commit has for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Room {
    /// The queue's name.
    pub(super) name: Box<str>,
    pub(super) count: usize,
    pub(super) bytes: usize,
}

/// One life of a queue on its worker.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct QueueRef {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl Op {
    /// About how much memory it holds while it is on its way.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Publish(message)
                | Self::Push { message, .. }
                | Self::Reply { message, .. }
                | Self::Deliver { message, .. } => message.len(),
                _ => 0,
            }
    }
}

/// What is to be told, by worker; what is for the own worker stays here.
#[derive(Debug, Default)]
pub(super) struct Outboxes {
    own: u16,
    inbox: VecDeque<Op>,
    others: Vec<(Vec<Op>, usize)>,
    waiting: usize,
}

/// Where consumers are found: the worker, the client's slot, the place among its subscriptions, and which one it is
/// of all that have been there.
const SERIAL_BITS: u32 = 26;
const PLACE_BITS: u32 = 8;
const SLOT_BITS: u32 = 20;

impl Outboxes {
    pub(super) fn begin(&mut self, own: u16, workers: u16) {
        self.own = own;
        self.others.resize_with(workers.into(), Default::default);
    }

    /// How many workers there are.
    pub(super) fn workers(&self) -> u16 {
        u16::try_from(self.others.len().max(1)).expect("they are counted so")
    }

    pub(super) fn tell(&mut self, worker: u16, op: Op) {
        if worker == self.own {
            return self.inbox.push_back(op);
        }
        let Some((ops, bytes)) = self.others.get_mut(usize::from(worker)) else { return };
        // The last of many says it for all.
        if let (
            Op::Written { queue, consumer, delivery },
            Some(Op::Written { queue: last_queue, consumer: last, delivery: up_to }),
        ) = (&op, ops.last_mut())
            && (queue, consumer) == (&*last_queue, &*last)
        {
            *up_to = *delivery;
            return;
        }
        *bytes += op.bytes();
        ops.push(op);
        self.waiting += 1;
    }

    /// Tells all other workers.
    pub(super) fn tell_others(&mut self, op: impl Fn() -> Op) {
        let own = self.own;
        for worker in (0..self.workers()).filter(|&worker| worker != own) {
            self.tell(worker, op());
        }
    }

    /// The next thing that this worker has to do itself.
    pub(super) fn next_own(&mut self) -> Option<Op> {
        self.inbox.pop_front()
    }

    /// Posts what was gathered.
    pub(super) fn post(&mut self, effects: &mut Effects<'_>) {
        if mem::take(&mut self.waiting) == 0 {
            return;
        }
        for (worker, (ops, bytes)) in (0..).zip(&mut self.others) {
            if !ops.is_empty() {
                let content = Box::new(mem::take(ops));
                effects.post(worker, Parcel { content, bytes: mem::take(bytes) });
            }
        }
    }
}

/// The id of a consumer.
pub(super) fn consumer_id(worker: u16, slot: u32, place: usize, serial: u32) -> ConsumerId {
    let serial = u64::from(serial) & ((1 << SERIAL_BITS) - 1);
    let (worker, slot, place) = (u64::from(worker), u64::from(slot), place as u64);
    debug_assert!(slot < 1 << SLOT_BITS && place < 1 << PLACE_BITS, "bounded by the ring and the options");
    ConsumerId(((worker << SLOT_BITS | slot) << PLACE_BITS | place) << SERIAL_BITS | serial)
}

/// The worker of a consumer, the slot of its client and its place among the client's subscriptions.
pub(super) fn read_consumer(ConsumerId(bits): ConsumerId) -> (u16, u32, usize) {
    let field = |shift: u32, len: u32| bits >> shift & ((1 << len) - 1);
    let slot = u32::try_from(field(SERIAL_BITS + PLACE_BITS, SLOT_BITS)).expect("20 bits");
    let place = usize::try_from(field(SERIAL_BITS, PLACE_BITS)).expect("8 bits");
    let worker = u16::try_from(bits >> (SERIAL_BITS + PLACE_BITS + SLOT_BITS)).expect("10 bits");
    (worker, slot, place)
}
