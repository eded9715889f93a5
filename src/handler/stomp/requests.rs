//! What clients ask for.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::queue::{Nack, Queue};
use crate::broker::{Destination, Name, Pattern};
use crate::handler::{ConnectionId, Effects};
use crate::proto::stomp::{
    AckMode, Action, Fault, Publication, Request, Settlement as Wanted, Subscription as Wish, SubscriptionName,
};
use crate::slab::Key;

use super::client::{Consumer, Hold, Pending, Settlement, Source, State, Step, Subscription};
use super::desk::{OWN_CONSUMER, TOPIC};
use super::interest::hash_of;
use super::message::{Message, MessageId, read_delivery};
use super::op::{Op, Ticket, consumer_id};
use super::options::TransactionReceipts;
use super::{Reached, Stomp, refused};

pub(super) const QUEUE: &str = "/queue/";
const TEMPORARY: &str = "/temp-queue/";

const TOO_MANY_SUBSCRIPTIONS: &str = "too many subscriptions";
const DUPLICATE: &str = "subscription id is in use";
const NO_SUBSCRIPTION: &str = "no such subscription";
const NO_DELIVERY: &str = "no such message to acknowledge";
const NO_TEMPORARY: &str = "no such temporary queue of this connection";
const NAME_TOO_LONG: &str = "the name of a temporary queue has at most 128 bytes";

/// With the token before it, it is still a name.
const TEMPORARY_LEN_MAX: usize = 128;

impl Stomp {
    /// Does what a client asks for, or passes it on to who can.
    pub(super) fn request(
        &mut self,
        state: &mut State,
        request: Request<'_>,
        effects: &mut Effects<'_>,
    ) -> Result<(), Fault> {
        let Request { action, receipt } = request;
        let receipt = receipt.as_deref();
        match action {
            Action::Send(publication) => self.send(state, &publication, receipt, effects),
            Action::Subscribe(wish) => self.begin_subscription(state, wish, receipt, effects),
            Action::Unsubscribe(name) => self.unsubscribe(state, &name, receipt, effects),
            Action::Ack(wanted) => self.settle_wanted(state, &wanted, Settlement::Ack, receipt, effects),
            Action::Nack(wanted) => {
                let nack = Settlement::Nack { requeue: wanted.requeue };
                self.settle_wanted(state, &wanted, nack, receipt, effects)
            }
            Action::Begin(id) => {
                state.transactions.begin(&id, effects.now_ms()).map_err(|error| refused(error.message()))?;
                self.give_receipt(state, receipt, effects);
                Ok(())
            }
            Action::Commit(id) => self.commit(state, &id, receipt, effects),
            Action::Abort(id) => {
                state.transactions.abort(&id).map_err(|error| refused(error.message()))?;
                self.give_receipt(state, receipt, effects);
                Ok(())
            }
            Action::Disconnect => {
                self.disconnect(state, receipt, effects);
                Ok(())
            }
        }
    }

    /// Gives a receipt for what was done, behind those that were asked for before.
    pub(super) fn give_receipt(&mut self, state: &mut State, receipt: Option<&str>, effects: &mut Effects<'_>) {
        let Some(id) = receipt else { return };
        let number = state.receipts.push(id);
        state.receipts.complete(number);
        self.desk.write_receipts(state, effects);
    }

    /// Notes a receipt that somebody else says is due.
    pub(super) fn ticket(state: &mut State, receipt: Option<&str>) -> Ticket {
        state.has_told |= receipt.is_none();
        Ticket { client: Some(state.id), receipt: receipt.map_or(0, |id| state.receipts.push(id)) }
    }

    fn send(
        &mut self,
        state: &mut State,
        publication: &Publication<'_>,
        receipt: Option<&str>,
        effects: &mut Effects<'_>,
    ) -> Result<(), Fault> {
        let destination = Destination::of_send(&publication.destination);
        let destination = destination.map_err(|error| refused(error.message()))?;
        if let Destination::TempQueue(name) = destination
            && read_token(name).is_none()
            && !has_temporary(state, name.as_str())
        {
            return Err(refused(NO_TEMPORARY));
        }
        let message = Arc::new(self.take_in(state, publication)?);
        self.desk.counters.published += 1;
        let Some(transaction) = &publication.transaction else {
            return self.route(state, message, receipt, effects);
        };
        let is_late = self.desk.options.transaction_receipts == TransactionReceipts::OnCommit;
        let late = receipt.filter(|_| is_late).map(Box::from);
        let len = message.len() + late.as_deref().map_or(0, str::len);
        let step = Step::Send { message, receipt: late };
        let added = state.transactions.add(transaction, step, len, effects.now_ms());
        added.map_err(|error| refused(error.message()))?;
        self.give_receipt(state, receipt.filter(|_| !is_late), effects);
        Ok(())
    }

    /// Makes a message of a SEND.
    fn take_in(&mut self, state: &mut State, publication: &Publication<'_>) -> Result<Message, Fault> {
        self.messages += 1;
        let id = MessageId { worker: self.worker, serial: self.messages };
        let reply_to = publication.headers.into_iter().find(|header| header.name() == "reply-to");
        let reply_to = reply_to.map(|header| header.value());
        let Some(name) = reply_to.as_ref().and_then(|value| value.strip_prefix(TEMPORARY)) else {
            return Ok(Message::new(id, &publication.destination, publication.passed_on(), publication.body));
        };
        let reply_to = if Name::new(name).ok().and_then(read_token).is_some() {
            // Passed on from another message: replies go to where that one wanted them.
            format!("{TEMPORARY}{name}")
        } else {
            self.begin_temporary(state, name)?
        };
        let headers = publication.passed_on().map(|(name, value)| match name.as_ref() {
            "reply-to" => (name, Cow::Borrowed(reply_to.as_str())),
            _ => (name, value),
        });
        Ok(Message::new(id, &publication.destination, headers, publication.body))
    }

    /// The name under which others reach a temporary queue of a client's, which is subscribed to it from now on.
    fn begin_temporary(&mut self, state: &mut State, name: &str) -> Result<String, Fault> {
        let valid = Name::new(name).map_err(|error| refused(error.message()))?;
        if valid.as_str().len() > TEMPORARY_LEN_MAX {
            return Err(refused(NAME_TOO_LONG));
        }
        if !has_temporary(state, name) {
            let destination = format!("{TEMPORARY}{name}");
            self.insert(state, &destination, true, AckMode::Auto, None, |_, _| {
                Ok(Source::Temporary(Box::new(Box::from(name))))
            })?;
        }
        let ConnectionId { worker, key } = state.id;
        if state.token.is_none() {
            state.token = Some(self.secret(state.id).into());
        }
        let token = state.token.as_deref().unwrap_or_default();
        Ok(format!("{TEMPORARY}{token}-{worker}-{}-{}/{name}", key.slot, key.generation))
    }

    /// Sends a message on its way.
    pub(super) fn route(
        &mut self,
        state: &mut State,
        message: Arc<Message>,
        receipt: Option<&str>,
        effects: &mut Effects<'_>,
    ) -> Result<(), Fault> {
        if message.destination().starts_with(TOPIC) {
            self.spread(&message);
            self.give_receipt(state, receipt, effects);
        } else if let Some(name) = message.destination().strip_prefix(QUEUE) {
            let (worker, ticket) = (self.worker_of(name), Self::ticket(state, receipt));
            self.desk.outboxes.tell(worker, Op::Push { message, ticket, is_reserved: false });
        } else {
            self.reply(state, message, effects);
            self.give_receipt(state, receipt, effects);
        }
        Ok(())
    }

    /// Sends a message to every worker that may have subscribers.
    pub(super) fn spread(&mut self, message: &Arc<Message>) {
        let name = message.destination().strip_prefix(TOPIC).unwrap_or_default();
        for worker in self.shared.interests.of(name) {
            self.desk.outboxes.tell(worker, Op::Publish(message.clone()));
        }
    }

    /// Sends a message to a temporary queue.
    pub(super) fn reply(&mut self, state: &mut State, message: Arc<Message>, effects: &mut Effects<'_>) {
        let name = message.destination().strip_prefix(TEMPORARY).and_then(|name| Name::new(name).ok());
        match name {
            Some(name) if read_token(name).is_none() => {
                let name = name.as_str().to_owned();
                self.offer_temporary(state, &name, &message, effects);
            }
            _ => self.answer_to(message),
        }
    }

    /// Sends a message to the temporary queue of another client, under the name that others have for it.
    pub(super) fn answer_to(&mut self, message: Arc<Message>) {
        let name = message.destination().strip_prefix(TEMPORARY).and_then(|name| Name::new(name).ok());
        if let Some((token, client, _)) = name.and_then(read_token) {
            let (worker, token) = (client.worker, token.into());
            self.desk.outboxes.tell(worker, Op::Reply { token, client, message });
        }
    }

    /// The worker on which the queue of this name lives.
    pub(super) fn worker_of(&self, name: &str) -> u16 {
        let workers = u64::from(self.desk.outboxes.workers());
        u16::try_from(hash_of(name) % workers).expect("less than the workers")
    }

    fn begin_subscription(
        &mut self,
        state: &mut State,
        wish: Wish<'_>,
        receipt: Option<&str>,
        effects: &mut Effects<'_>,
    ) -> Result<(), Fault> {
        let Wish { destination, id, ack, prefetch } = wish;
        let wanted = Destination::of_subscribe(&destination).map_err(|error| refused(error.message()))?;
        let (name, has_id) = (id.as_deref().unwrap_or(&destination), id.is_some());
        match wanted {
            Destination::Topic(pattern) => {
                let place =
                    self.insert(state, name, has_id, ack, prefetch, |stomp, seat| Ok(stomp.sit(pattern, seat)))?;
                self.give_own_queue(state, place);
                self.give_receipt(state, receipt, effects);
            }
            Destination::TempQueue(queue) if queue.as_str().len() > TEMPORARY_LEN_MAX => {
                return Err(refused(NAME_TOO_LONG));
            }
            Destination::TempQueue(queue) => {
                let source = Source::Temporary(Box::new(queue.as_str().into()));
                let place = self.insert(state, name, has_id, ack, prefetch, |_, _| Ok(source))?;
                self.give_own_queue(state, place);
                self.give_receipt(state, receipt, effects);
            }
            Destination::Queue(queue) => {
                let (id, queue) = (state.id, queue.as_str());
                let place = self.insert(state, name, has_id, ack, prefetch, |stomp, (slot, place)| {
                    stomp.consumers = stomp.consumers.wrapping_add(1);
                    let consumer = consumer_id(id.worker, slot, place, stomp.consumers);
                    let worker = stomp.worker_of(queue);
                    Ok(Source::Queue(Box::new(Consumer { id: consumer, worker, name: queue.into() })))
                })?;
                let granted = state.at(place).and_then(|it| it.pending.as_ref()).map(|pending| pending.prefetch);
                let wanted =
                    prefetch.map(|count| if count == 0 { self.desk.options.unacknowledged_max } else { count });
                let prefetch = granted.or(wanted).unwrap_or(self.desk.options.prefetch);
                let ticket = Self::ticket(state, receipt);
                if let Some(Source::Queue(consumer)) = state.at(place).map(|subscription| &subscription.source) {
                    let (consumer, worker) = (consumer.id, consumer.worker);
                    let op = Op::Subscribe { name: queue.into(), consumer, mode: ack, prefetch, ticket };
                    self.desk.outboxes.tell(worker, op);
                }
            }
        }
        Ok(())
    }

    /// Adds a subscription with the source that `begin` makes for its place; returns the place.
    fn insert(
        &mut self,
        state: &mut State,
        name: &str,
        has_id: bool,
        mode: AckMode,
        prefetch: Option<u32>,
        begin: impl FnOnce(&mut Self, (u32, usize)) -> Result<Source, Fault>,
    ) -> Result<usize, Fault> {
        if state.find(name, has_id).is_some() {
            return Err(refused(DUPLICATE));
        }
        let place = state.vacancy();
        if place >= self.desk.options.subscriptions_max {
            state.remove(place);
            return Err(refused(TOO_MANY_SUBSCRIPTIONS));
        }
        let source = begin(self, (state.id.key.slot, place))?;
        let options = &self.desk.options;
        let pending = (mode != AckMode::Auto).then(|| {
            let left = options.unacknowledged_max.saturating_sub(state.prefetch);
            // As on RabbitMQ, zero is as many as there may be.
            let wanted = prefetch.unwrap_or(options.prefetch);
            let prefetch = if wanted == 0 { left } else { wanted.min(left) }.max(1);
            state.prefetch += prefetch;
            Box::new(Pending { prefetch, before: state.deliveries, deliveries: VecDeque::new(), own: None })
        });
        let subscription =
            Subscription { name: name.into(), has_id, mode, is_ending: false, source, dropped: 0, pending };
        state.subscriptions[place] = Some(subscription);
        Ok(place)
    }

    fn sit(&mut self, pattern: Pattern<'_>, (slot, place): (u32, usize)) -> Source {
        let place = u8::try_from(place).expect("bounded by the number of subscriptions");
        let seat = self.topics.subscribe(pattern, Reached::Client { slot, place });
        Source::Topic(seat, self.shared.interests.add(self.worker, pattern))
    }

    /// Gives a subscription that acknowledges a queue of its own, from which it can get a message again.
    fn give_own_queue(&mut self, state: &mut State, place: usize) {
        let Some(subscription) = state.at(place) else { return };
        let mode = subscription.mode;
        if let Some(pending) = &mut subscription.pending {
            let mut queue = Queue::new(self.desk.options.topic_queues);
            let subscribed = queue.subscribe(OWN_CONSUMER, mode, pending.prefetch);
            debug_assert!(subscribed.is_ok(), "it is the first one");
            pending.own = Some(queue);
        }
    }

    fn unsubscribe(
        &mut self,
        state: &mut State,
        name: &SubscriptionName<'_>,
        receipt: Option<&str>,
        effects: &mut Effects<'_>,
    ) -> Result<(), Fault> {
        let place = match name {
            SubscriptionName::Id(id) => state.find(id, true),
            SubscriptionName::Destination(destination) => state.find(destination, false),
        };
        let place = place.ok_or(refused(NO_SUBSCRIPTION))?;
        let Some(subscription) = state.at(place) else { return Ok(()) };
        if let Source::Queue(consumer) = &subscription.source {
            // What is under way to it comes first.
            let (id, worker, name) = (consumer.id, consumer.worker, consumer.name.clone());
            subscription.is_ending = true;
            let ticket = Some(Self::ticket(state, receipt));
            self.desk.outboxes.tell(worker, Op::Unsubscribe { name, consumer: id, ticket });
        } else {
            self.end_subscription(state, place);
            self.give_receipt(state, receipt, effects);
        }
        Ok(())
    }

    fn settle_wanted(
        &mut self,
        state: &mut State,
        wanted: &Wanted<'_>,
        settlement: Settlement,
        receipt: Option<&str>,
        effects: &mut Effects<'_>,
    ) -> Result<(), Fault> {
        let (place, number) = read_delivery(&wanted.id).ok_or(refused(NO_DELIVERY))?;
        if !has_delivery(state, place, number)? {
            self.give_receipt(state, receipt, effects);
            return Ok(());
        }
        let Some(transaction) = &wanted.transaction else {
            return self.settle(state, place, number, settlement, receipt, effects);
        };
        let is_late = self.desk.options.transaction_receipts == TransactionReceipts::OnCommit;
        let late = receipt.filter(|_| is_late).map(Box::from);
        let len = late.as_deref().map_or(0, str::len);
        let step = Step::Settle { place, number, settlement, receipt: late };
        let added = state.transactions.add(transaction, step, len, effects.now_ms());
        added.map_err(|error| refused(error.message()))?;
        self.give_receipt(state, receipt.filter(|_| !is_late), effects);
        Ok(())
    }

    /// Settles a delivery, and in the mode `client` all of its subscription before it.
    pub(super) fn settle(
        &mut self,
        state: &mut State,
        place: usize,
        number: u64,
        settlement: Settlement,
        receipt: Option<&str>,
        effects: &mut Effects<'_>,
    ) -> Result<(), Fault> {
        let Some(subscription) = state.at(place) else { return Ok(()) };
        let is_cumulative = subscription.mode == AckMode::Client;
        let Some(pending) = &mut subscription.pending else { return Ok(()) };
        let found = pending.deliveries.binary_search_by_key(&number, |&(number, ..)| number);
        let index = found.map_err(|_| refused(NO_DELIVERY))?;
        let (_, queue, delivery) = pending.deliveries[index];
        if is_cumulative {
            pending.deliveries.drain(..=index);
        } else {
            pending.deliveries.remove(index);
        }
        let nack = match settlement {
            Settlement::Ack => None,
            Settlement::Nack { requeue: true } => Some(Nack::Requeue),
            Settlement::Nack { requeue: false } => Some(Nack::DeadLetter),
        };
        if let Some(own) = &mut pending.own {
            let settled = match nack {
                None => own.ack(OWN_CONSUMER, delivery),
                Some(nack) => own.nack(OWN_CONSUMER, delivery, nack),
            };
            settled.map_err(|error| refused(error.message()))?;
            self.desk.pump(state, place, effects);
            self.give_receipt(state, receipt, effects);
        } else if let Source::Queue(consumer) = &subscription.source {
            let (worker, consumer) = (consumer.worker, consumer.id);
            let ticket = Self::ticket(state, receipt);
            self.desk.outboxes.tell(
                worker,
                match nack {
                    None => Op::Ack { queue, consumer, delivery, ticket },
                    Some(nack) => Op::Nack { queue, consumer, delivery, nack, ticket },
                },
            );
        }
        Ok(())
    }

    /// Ends the session when all that was asked for before is done.
    fn disconnect(&mut self, state: &mut State, receipt: Option<&str>, effects: &mut Effects<'_>) {
        let has_to_wait = state.has_told || !state.receipts.is_empty();
        let answers = if has_to_wait { self.desk.outboxes.workers() } else { 0 };
        state.hold = Some(Hold::Disconnect { answers, receipt: receipt.map(Box::from) });
        if answers == 0 {
            return self.finish_disconnect(state, effects);
        }
        let ticket = Ticket { client: Some(state.id), receipt: 0 };
        self.desk.outboxes.tell_others(|| Op::Barrier { ticket });
        self.desk.outboxes.tell(self.worker, Op::Barrier { ticket });
    }
}

/// Whether a client may settle this delivery. What was delivered by a subscription that has ended is settled.
fn has_delivery(state: &mut State, place: usize, number: u64) -> Result<bool, Fault> {
    if number == 0 || number > state.deliveries {
        return Err(refused(NO_DELIVERY));
    }
    let Some(subscription) = state.at(place).filter(|subscription| !subscription.is_ending) else { return Ok(false) };
    let Some(pending) = &subscription.pending else { return Ok(false) };
    if number <= pending.before {
        return Ok(false);
    }
    let found = pending.deliveries.binary_search_by_key(&number, |&(number, ..)| number);
    found.map(|_| true).map_err(|_| refused(NO_DELIVERY))
}

fn has_temporary(state: &State, name: &str) -> bool {
    state.subscriptions.iter().flatten().any(|subscription| is_temporary(subscription, name))
}

pub(super) fn is_temporary(subscription: &Subscription, wanted: &str) -> bool {
    matches!(&subscription.source, Source::Temporary(name) if ***name == *wanted)
}

/// The token, the client and the name of a temporary queue, out of the name that others have for it.
pub(super) fn read_token(name: Name<'_>) -> Option<(&str, ConnectionId, &str)> {
    let (head, name) = name.as_str().split_once('/')?;
    let mut parts = head.split('-');
    let token = parts.next().filter(|token| token.len() == 32)?;
    let worker = parts.next()?.parse().ok()?;
    let key = Key { slot: parts.next()?.parse().ok()?, generation: parts.next()?.parse().ok()? };
    parts.next().is_none().then_some((token, ConnectionId { worker, key }, name))
}
