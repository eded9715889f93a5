//! A client: its session, what it has subscribed to, and what waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::broker::Subscription as Seat;
use crate::broker::queue::{ConsumerId, DeliveryId, Queue};
use crate::broker::transaction::Transactions;
use crate::handler::ConnectionId;
use crate::proto::stomp::{AckMode, Session, Version};

use super::interest::Counter;
use super::message::Message;
use super::op::{CommitId, QueueRef, Room, Ticket};
use super::receipts::Receipts;

/// A client of this worker.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) session: Session,
    pub(super) state: State,
}

/// All of a client but the reading of its frames.
#[derive(Debug)]
pub(super) struct State {
    pub(super) id: ConnectionId,
    pub(super) version: Version,
    /// By place; of those that were ended some places may be vacant.
    pub(super) subscriptions: Vec<Option<Subscription>>,
    /// How many messages its subscriptions may have unacknowledged in all.
    pub(super) prefetch: u32,
    /// The number of the last delivery that is to be acknowledged.
    pub(super) deliveries: u64,
    pub(super) receipts: Receipts,
    pub(super) transactions: Transactions<Step>,
    pub(super) commits: u32,
    /// Messages that wait until its send queue has room.
    pub(super) backlog: VecDeque<Waiting>,
    pub(super) backlog_bytes: usize,
    /// Its send queue is over the bound.
    pub(super) is_full: bool,
    /// It is looked at in the next turn, since more waits for it than a turn may write.
    pub(super) is_choked: bool,
    /// What was written to it in the turn of this number.
    pub(super) turn: u64,
    pub(super) turn_bytes: usize,
    /// When something was last written to it.
    pub(super) said_ms: u64,
    /// Other workers were told something of which they say nothing when it is done.
    pub(super) has_told: bool,
    /// Why its frames are not processed at the moment.
    pub(super) hold: Option<Hold>,
    /// It was paused for that.
    pub(super) is_waiting: bool,
    /// What was received of it and not processed, from this place on.
    pub(super) stash: Vec<u8>,
    pub(super) stash_at: usize,
    /// What makes the names of its temporary queues known to it alone.
    pub(super) token: Option<Box<str>>,
    /// ERROR was written, or the RECEIPT for DISCONNECT: nothing follows.
    pub(super) has_ended: bool,
    /// Its connection is gone.
    pub(super) is_gone: bool,
}

/// Why frames of a client wait.
#[derive(Debug)]
pub(super) enum Hold {
    /// It has had its share.
    Turn,
    /// Another worker can't keep up.
    Pressure,
    /// Too many receipts wait.
    Receipts,
    /// A commit waits for room in queues.
    Commit(Box<Commit>),
    /// DISCONNECT waits for what was asked for before: so many workers have yet to answer.
    Disconnect { answers: u16, receipt: Option<Box<str>> },
}

/// A transaction that is to take effect.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) id: CommitId,
    /// Its parts, each with the number of its receipt, which is zero if there is none.
    pub(super) steps: Vec<(Step, u32)>,
    pub(super) asked: Vec<Asked>,
    pub(super) answers: usize,
    pub(super) is_refused: bool,
    pub(super) ticket: Ticket,
}

/// A worker that was asked for room.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) worker: u16,
    pub(super) queues: Vec<Room>,
    pub(super) is_granted: bool,
}

/// A part of a transaction, with the receipt that is due when it takes effect.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Send { message: Arc<Message>, receipt: Option<Box<str>> },
    Settle { place: usize, number: u64, settlement: Settlement, receipt: Option<Box<str>> },
}

/// What becomes of deliveries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Settlement {
    Ack,
    Nack { requeue: bool },
}

/// A message that waits for a client.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) place: usize,
    pub(super) message: Arc<Message>,
    /// If it comes from a queue.
    pub(super) delivery: Option<QueueDelivery>,
}

/// A delivery by a queue: which queue, which delivery, and how often the message was delivered, this time included.
pub(super) type QueueDelivery = (QueueRef, DeliveryId, u32);

/// A subscription of a client.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Its id; of one without (1.0) the destination, which is its name then.
    pub(super) name: Box<str>,
    pub(super) has_id: bool,
    pub(super) mode: AckMode,
    /// It was ended, and may still get what is under way.
    pub(super) is_ending: bool,
    pub(super) source: Source,
    /// Messages that were dropped since the last one that was sent.
    pub(super) dropped: u32,
    /// What it has to acknowledge.
    pub(super) pending: Option<Box<Pending>>,
}

/// Where the messages of a subscription come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A topic, or more of them.
    Topic(Seat, Counter),
    /// A queue, perhaps of another worker.
    Queue(Box<Consumer>),
    /// A temporary queue of the client's own: its name.
    Temporary(Box<Box<str>>),
}

/// A subscription as its queue has it.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) id: ConsumerId,
    /// The worker on which the queue lives.
    pub(super) worker: u16,
    /// The queue's name.
    pub(super) name: Box<str>,
}

const _: () = assert!(size_of::<Option<Subscription>>() <= 48, "there may be millions");

/// What a subscription has to acknowledge.
#[derive(Debug)]
pub(super) struct Pending {
    /// How many it may have.
    pub(super) prefetch: u32,
    /// The number of the last delivery before it began.
    pub(super) before: u64,
    /// By number, in their order.
    pub(super) deliveries: VecDeque<(u64, QueueRef, DeliveryId)>,
    /// What waits for it, if it comes from no queue that has others.
    pub(super) own: Option<Queue<Arc<Message>>>,
}

impl State {
    pub(super) fn new(id: ConnectionId, transactions: Transactions<Step>) -> Self {
        Self {
            id,
            version: Version::V1_0,
            subscriptions: Vec::new(),
            prefetch: 0,
            deliveries: 0,
            receipts: Receipts::default(),
            transactions,
            commits: 0,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            is_full: false,
            is_choked: false,
            turn: 0,
            turn_bytes: 0,
            said_ms: 0,
            has_told: false,
            hold: None,
            is_waiting: false,
            stash: Vec::new(),
            stash_at: 0,
            token: None,
            has_ended: false,
            is_gone: false,
        }
    }

    /// The subscription of this name that was not ended, and its place.
    pub(super) fn find(&self, name: &str, has_id: bool) -> Option<usize> {
        let is = |subscription: &Subscription| {
            *subscription.name == *name && subscription.has_id == has_id && !subscription.is_ending
        };
        self.subscriptions.iter().position(|subscription| subscription.as_ref().is_some_and(is))
    }

    pub(super) fn at(&mut self, place: usize) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(place)?.as_mut()
    }

    /// Takes a subscription away for good.
    pub(super) fn remove(&mut self, place: usize) -> Option<Subscription> {
        let subscription = self.subscriptions.get_mut(place)?.take()?;
        if let Some(pending) = &subscription.pending {
            self.prefetch -= pending.prefetch;
        }
        while self.subscriptions.pop_if(|last| last.is_none()).is_some() {}
        self.subscriptions.shrink_to(self.subscriptions.len() * 2);
        Some(subscription)
    }

    /// The vacant place that a new subscription gets.
    pub(super) fn vacancy(&mut self) -> usize {
        let vacant = self.subscriptions.iter().position(Option::is_none);
        vacant.unwrap_or_else(|| {
            // Doubling would leave a quarter of all places vacant, and there may be millions.
            if self.subscriptions.len() == self.subscriptions.capacity() {
                self.subscriptions.reserve_exact((self.subscriptions.len() / 8).max(1));
            }
            self.subscriptions.push(None);
            self.subscriptions.len() - 1
        })
    }
}

/// The clients of a worker.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// By the slots of their connections.
    slots: Vec<Option<Box<Client>>>,
    /// Those whose connections are gone before all of their frames were processed.
    gone: HashMap<ConnectionId, Box<Client>>,
    len: usize,
}

impl Clients {
    pub(super) fn insert(&mut self, client: Box<Client>) {
        let slot = client.state.id.key.slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        self.len += 1;
        self.slots[slot] = Some(client);
    }

    /// Takes a client out, to be put back.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Box<Client>> {
        let slot = self.slots.get_mut(id.key.slot as usize)?;
        let is_it = |client: &mut Box<Client>| client.state.id == id;
        let client = slot.take_if(is_it).or_else(|| self.gone.remove(&id))?;
        self.len -= 1;
        Some(client)
    }

    pub(super) fn put(&mut self, client: Box<Client>) {
        if client.state.is_gone && client.state.has_ended {
            return;
        }
        if client.state.is_gone {
            self.len += 1;
            self.gone.insert(client.state.id, client);
        } else {
            self.insert(client);
        }
    }

    pub(super) fn has(&self, id: ConnectionId) -> bool {
        let client = self.slots.get(id.key.slot as usize).and_then(Option::as_ref);
        client.is_some_and(|client| client.state.id == id) || self.gone.contains_key(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Client> {
        let client = self.slots.get_mut(id.key.slot as usize).and_then(Option::as_mut);
        match client.filter(|client| client.state.id == id) {
            Some(client) => Some(client),
            None => self.gone.get_mut(&id).map(Box::as_mut),
        }
    }

    /// The client whose connection has this slot.
    pub(super) fn at_slot(&mut self, slot: u32) -> Option<&mut Client> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}
