//! What a worker does for clients of its own and of others: the effects of what was asked for.

use std::mem;
use std::sync::Arc;

use crate::broker::queue::{AckError, Cause, ConsumerId, DeliveryId};
use crate::broker::{Destination, Name, Pattern, Subscription as Seat};
use crate::handler::Effects;

use super::client::{Hold, Source, State};
use super::desk::TOPIC;
use super::interest::Counter;
use super::local::{Subscriber, Wish};
use super::message::Message;
use super::op::{Op, QueueRef, Ticket, consumer_id, read_consumer};
use super::queues::{Bounds, Outcome};
use super::requests::{QUEUE, is_temporary};
use super::{Reached, Stomp, refused};

const TOO_SLOW: &str = "subscriber is too slow for its topic";
const OVERDUE: &str = "messages were not acknowledged in time";

/// A subscriber that is part of the program.
#[derive(Debug)]
pub(super) struct Local {
    subscriber: Subscriber,
    source: LocalSource,
}

#[derive(Debug)]
enum LocalSource {
    Topic(Seat, Counter),
    Queue { consumer: ConsumerId, name: Box<str> },
}

/// In place of the slot of a client: consumers that are part of the program. No connection has it.
const LOCAL_SLOT: u32 = (1 << 20) - 1;

impl Stomp {
    /// Does what is to be done on this worker, until there is nothing left.
    pub(super) fn work(&mut self, effects: &mut Effects<'_>) {
        loop {
            if let Some(op) = self.desk.outboxes.next_own() {
                self.obey(op, effects);
            } else if let Some((message, cause)) = self.desk.dead.pop_front() {
                self.bury(&message, cause);
            } else if let Some(id) = self.desk.slow.pop_front() {
                if let Some(mut client) = self.clients.take(id) {
                    if !client.state.has_ended {
                        self.desk.counters.slow_consumers += 1;
                        self.fail(&mut client.state, refused(TOO_SLOW), None, effects);
                    }
                    self.clients.put(client);
                }
            } else {
                return;
            }
        }
    }

    /// Does one thing that was asked of this worker.
    pub(super) fn obey(&mut self, op: Op, effects: &mut Effects<'_>) {
        let now_ms = effects.now_ms();
        match op {
            Op::Publish(message) => self.distribute(&message, effects),
            Op::Push { message, ticket, is_reserved } => {
                let bounds = bounds(&self.desk.options);
                let pushed = self.queues.push(&message, is_reserved, &bounds, now_ms);
                self.answer(pushed, ticket, now_ms);
            }
            Op::Subscribe { name, consumer, mode, prefetch, ticket } => {
                let bounds = bounds(&self.desk.options);
                let subscribed = self.queues.subscribe(&name, consumer, mode, prefetch, &bounds);
                self.answer(subscribed, ticket, now_ms);
            }
            Op::Unsubscribe { name, consumer, ticket } => {
                if let Some(place) = self.queues.leave(&name, consumer) {
                    self.dispatch(place, now_ms);
                }
                if let Some(ticket) = ticket {
                    let (worker, ..) = read_consumer(consumer);
                    self.desk.outboxes.tell(worker, Op::Unsubscribed { consumer, ticket });
                }
            }
            Op::Ack { queue, consumer, delivery, ticket } => {
                let settled = self.queues.ack(queue, consumer, delivery);
                self.answer(settled.map_err(AckError::message), ticket, now_ms);
            }
            Op::Nack { queue, consumer, delivery, nack, ticket } => {
                let settled = self.queues.nack(queue, consumer, delivery, nack);
                self.answer(settled.map_err(AckError::message), ticket, now_ms);
            }
            Op::Written { queue, consumer, delivery } => {
                // If the consumer has gone meanwhile, the queue has it again.
                if let Ok(place) = self.queues.ack(queue, consumer, delivery) {
                    self.dispatch(place, now_ms);
                }
            }
            Op::Reserve { commit, queues } => {
                let is_granted = self.queues.reserve(&queues, &bounds(&self.desk.options));
                let (to, worker) = (commit.client.worker, self.worker);
                self.desk.outboxes.tell(to, Op::Reserved { commit, worker, queues, is_granted });
            }
            Op::Release { queues } => self.queues.release(&queues),
            Op::Barrier { ticket } => {
                if let Some(client) = ticket.client {
                    self.desk.outboxes.tell(client.worker, Op::Done { ticket });
                }
            }
            Op::TakeIn(message) => self.take_in_own(&message),
            Op::Attach { destination, subscriber } => self.attach(&destination, subscriber),
            op => self.obey_for_client(op, effects),
        }
    }

    /// Does one thing that concerns a client of this worker.
    fn obey_for_client(&mut self, op: Op, effects: &mut Effects<'_>) {
        match op {
            Op::Deliver { consumer, queue, delivery, message, count } => {
                if let Some((state, place)) = find_consumer(&mut self.clients, consumer) {
                    self.desk.offer(state, place, &message, Some((queue, delivery, count)), effects);
                } else if read_consumer(consumer).1 == LOCAL_SLOT {
                    self.deliver_locally(consumer, queue, delivery, &message);
                }
            }
            Op::Overdue { consumer } => {
                let id = find_consumer(&mut self.clients, consumer).map(|(state, _)| state.id);
                if let Some(mut client) = id.and_then(|id| self.clients.take(id)) {
                    self.fail(&mut client.state, refused(OVERDUE), None, effects);
                    self.clients.put(client);
                }
            }
            Op::Unsubscribed { consumer, ticket } => {
                if let Some((state, place)) = find_consumer(&mut self.clients, consumer) {
                    state.backlog.retain(|waiting| waiting.place != place);
                    state.backlog_bytes = state.backlog.iter().map(|waiting| waiting.message.len()).sum();
                    state.remove(place);
                }
                // Without a receipt nobody waits for this.
                if ticket.receipt > 0 {
                    self.done(ticket, effects);
                }
            }
            Op::Done { ticket } => self.done(ticket, effects),
            Op::Failed { ticket, message } => {
                let Some(mut client) = ticket.client.and_then(|id| self.clients.take(id)) else { return };
                let receipt = client.state.receipts.id_of(ticket.receipt);
                self.fail(&mut client.state, refused(message), receipt, effects);
                self.clients.put(client);
            }
            Op::Reserved { commit, worker, queues, is_granted } => {
                let is_awaited = self.reserved(commit, worker, is_granted, effects);
                if is_granted && !is_awaited {
                    self.desk.outboxes.tell(worker, Op::Release { queues });
                }
            }
            Op::Reply { token, client, message } => {
                let Some(mut to) = self.clients.take(client) else {
                    self.desk.counters.lost_replies += 1;
                    return;
                };
                if to.state.token.as_deref() == Some(&*token) {
                    let name = reply_name(&message).to_owned();
                    self.offer_temporary(&mut to.state, &name, &message, effects);
                } else {
                    self.desk.counters.lost_replies += 1;
                }
                self.clients.put(to);
            }
            _ => {}
        }
    }

    /// Tells what became of something that changed a queue, and what follows from it.
    fn answer(&mut self, changed: Result<u32, &'static str>, ticket: Ticket, now_ms: u64) {
        match (changed, ticket.client) {
            (Ok(place), client) => {
                if let Some(client) = client.filter(|_| ticket.receipt > 0) {
                    self.desk.outboxes.tell(client.worker, Op::Done { ticket });
                }
                self.dispatch(place, now_ms);
            }
            (Err(message), Some(client)) => self.desk.outboxes.tell(client.worker, Op::Failed { ticket, message }),
            (Err(_), None) => self.desk.counters.dead += 1,
        }
    }

    /// Sends what a queue has to give on its way.
    pub(super) fn dispatch(&mut self, place: u32, now_ms: u64) {
        while let Some(outcome) = self.queues.poll(place, now_ms) {
            match outcome {
                Outcome::Deliver { consumer, queue, delivery, message, count } => {
                    let (worker, ..) = read_consumer(consumer);
                    let op = Op::Deliver { consumer, queue, delivery, message, count };
                    self.desk.outboxes.tell(worker, op);
                }
                Outcome::Dead { message, cause } => self.desk.dead.push_back((message, cause)),
                Outcome::Overdue(consumer) => {
                    let (worker, ..) = read_consumer(consumer);
                    self.desk.outboxes.tell(worker, Op::Overdue { consumer });
                }
            }
        }
    }

    /// Says that something was done that a client waits for.
    fn done(&mut self, ticket: Ticket, effects: &mut Effects<'_>) {
        let Some(mut client) = ticket.client.and_then(|id| self.clients.take(id)) else { return };
        let state = &mut client.state;
        if ticket.receipt > 0 {
            state.receipts.complete(ticket.receipt);
            if !state.has_ended {
                self.desk.write_receipts(state, effects);
            }
        } else if let Some(Hold::Disconnect { answers, .. }) = &mut state.hold {
            *answers -= 1;
            if *answers == 0 {
                self.finish_disconnect(state, effects);
            }
        }
        self.end_hold_for_receipts(state);
        self.clients.put(client);
    }

    /// Has a client go on, by the end of the turn.
    pub(super) fn unhold(&mut self, state: &mut State) {
        state.hold = None;
        if state.is_waiting {
            // Until then it is still held.
            state.hold = Some(Hold::Turn);
            self.ready.push(state.id);
        }
    }

    /// Gives a message to the subscribers of its topic that this worker has.
    fn distribute(&mut self, message: &Arc<Message>, effects: &mut Effects<'_>) {
        let name = message.destination().strip_prefix(TOPIC).and_then(|name| Name::new(name).ok());
        let Some(name) = name else { return };
        let mut reached = mem::take(&mut self.reached);
        self.topics.for_each_match(name, |subscriber| reached.push(subscriber));
        for subscriber in reached.drain(..) {
            match subscriber {
                Reached::Client { slot, place } => {
                    if let Some(client) = self.clients.at_slot(slot) {
                        self.desk.offer_from_topic(&mut client.state, place.into(), message, effects);
                    }
                }
                Reached::Local(index) => self.tell_local(index, message),
            }
        }
        self.reached = reached;
    }

    /// Gives a message to the subscriptions that a client has to its own temporary queue of this name.
    pub(super) fn offer_temporary(
        &mut self,
        state: &mut State,
        name: &str,
        message: &Arc<Message>,
        effects: &mut Effects<'_>,
    ) {
        let is_it = |place: &usize| {
            state.subscriptions[*place].as_ref().is_some_and(|subscription| is_temporary(subscription, name))
        };
        match (0..state.subscriptions.len()).find(is_it) {
            Some(place) => self.desk.offer_from_topic(state, place, message, effects),
            None => self.desk.counters.lost_replies += 1,
        }
    }

    /// Passes a dead letter on.
    fn bury(&mut self, message: &Arc<Message>, cause: Cause) {
        self.desk.counters.dead += 1;
        let Some(destination) = self.desk.options.dead_letter.as_deref() else { return };
        // What is dead there is dead for good.
        if message.destination() == destination {
            return;
        }
        let Ok(Destination::Queue(name)) = Destination::of_send(destination) else { return };
        let cause = match cause {
            Cause::Rejected => "rejected",
            Cause::Deliveries => "delivered too often",
            Cause::Age => "too old",
        };
        let headers = [("dead-letter-cause", cause), ("dead-letter-destination", message.destination())];
        let letter = Arc::new(message.moved(destination, &headers));
        let ticket = Ticket { client: None, receipt: 0 };
        let worker = self.worker_of(name.as_str());
        self.desk.outboxes.tell(worker, Op::Push { message: letter, ticket, is_reserved: false });
    }

    /// Subscribes a part of the program. What it can't have is not worth a word here: who makes the op has checked.
    pub(super) fn attach(&mut self, destination: &str, subscriber: Subscriber) {
        let vacant = self.locals.iter().position(Option::is_none).unwrap_or_else(|| {
            self.locals.push(None);
            self.locals.len() - 1
        });
        let index = u32::try_from(vacant).expect("few");
        let source = match Destination::of_subscribe(destination) {
            Ok(Destination::Topic(pattern)) => self.sit_locally(pattern, index),
            Ok(Destination::Queue(name)) => {
                self.consumers = self.consumers.wrapping_add(1);
                let consumer = consumer_id(self.worker, LOCAL_SLOT, 0, self.consumers);
                let (name, mode) = (Box::from(name.as_str()), crate::proto::stomp::AckMode::Auto);
                let ticket = Ticket { client: None, receipt: 0 };
                let prefetch = self.desk.options.prefetch;
                let worker = self.worker_of(&name);
                let op = Op::Subscribe { name: name.clone(), consumer, mode, prefetch, ticket };
                self.desk.outboxes.tell(worker, op);
                LocalSource::Queue { consumer, name }
            }
            Ok(Destination::TempQueue(_)) | Err(_) => return,
        };
        self.locals[vacant] = Some(Local { subscriber, source });
    }

    fn sit_locally(&mut self, pattern: Pattern<'_>, index: u32) -> LocalSource {
        let seat = self.topics.subscribe(pattern, Reached::Local(index));
        LocalSource::Topic(seat, self.shared.interests.add(self.worker, pattern))
    }

    fn tell_local(&mut self, index: u32, message: &Message) {
        let Some(place) = self.locals.get_mut(index as usize) else { return };
        let Some(local) = place else { return };
        if local.subscriber.tell(message) == Wish::More {
            return;
        }
        match place.take().map(|local| local.source) {
            Some(LocalSource::Topic(seat, counter)) => {
                self.topics.unsubscribe(seat);
                self.shared.interests.take(self.worker, counter);
            }
            Some(LocalSource::Queue { consumer, name }) => {
                let worker = self.worker_of(&name);
                self.desk.outboxes.tell(worker, Op::Unsubscribe { name, consumer, ticket: None });
            }
            None => {}
        }
    }

    fn deliver_locally(&mut self, consumer: ConsumerId, queue: QueueRef, delivery: DeliveryId, message: &Message) {
        let is_it = |local: &Local| matches!(&local.source, LocalSource::Queue { consumer: id, .. } if *id == consumer);
        let index = self.locals.iter().position(|local| local.as_ref().is_some_and(is_it));
        let Some(index) = index else { return };
        let name = message.destination().strip_prefix(QUEUE).unwrap_or_default();
        let worker = self.worker_of(name);
        self.desk.outboxes.tell(worker, Op::Written { queue, consumer, delivery });
        self.tell_local(u32::try_from(index).expect("few"), message);
    }

    /// Takes a subscription away that nothing else has to be asked about.
    pub(super) fn end_subscription(&mut self, state: &mut State, place: usize) {
        let Some(subscription) = state.remove(place) else { return };
        state.backlog.retain(|waiting| waiting.place != place);
        state.backlog_bytes = state.backlog.iter().map(|waiting| waiting.message.len()).sum();
        if let Source::Topic(seat, counter) = subscription.source {
            self.topics.unsubscribe(seat);
            self.shared.interests.take(self.worker, counter);
        }
    }
}

/// The client of this worker that has this consumer, and the place of its subscription.
fn find_consumer(clients: &mut super::client::Clients, consumer: ConsumerId) -> Option<(&mut State, usize)> {
    let (_, slot, place) = read_consumer(consumer);
    let state = &mut clients.at_slot(slot)?.state;
    let subscription = state.at(place)?;
    match &subscription.source {
        Source::Queue(it) if it.id == consumer => Some((state, place)),
        _ => None,
    }
}

/// The name that the owner of a temporary queue has for it.
fn reply_name(message: &Message) -> &str {
    let name = message.destination().strip_prefix("/temp-queue/").and_then(|name| Name::new(name).ok());
    name.and_then(super::requests::read_token).map_or("", |(_, _, name)| name)
}

fn bounds(options: &super::Options) -> Bounds<'_> {
    Bounds { queues_max: options.queues_max, bytes_max: options.queues_bytes_max, queue: &options.queues }
}
