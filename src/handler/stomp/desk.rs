//! Writing to clients: MESSAGE, RECEIPT and ERROR, and what happens if a client does not read.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use crate::broker::Name;
use crate::broker::queue::{Cause, ConsumerId, Dispatch};
use crate::buf::SharedFrame;
use crate::handler::{ConnectionId, Effects};
use crate::proto::stomp::{AckMode, Command, Failure, encoder};
use crate::proto::ws::MessageKind;

use super::client::{QueueDelivery, Source, State, Waiting};
use super::counters::Counters;
use super::message::{Message, Opening};
use super::op::{Op, Outboxes, QueueRef};
use super::options::{Options, Policies, SlowConsumer};

/// What a client is written in one turn, before it is known whether its send queue has room: more than that waits
/// for the next turn.
const TURN_BYTES_MAX: usize = 256 << 10;

/// The consumer of a queue that a subscription has for itself.
pub(super) const OWN_CONSUMER: ConsumerId = ConsumerId(0);

/// All that is needed to write to clients.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) options: Options,
    pub(super) outboxes: Outboxes,
    pub(super) counters: Counters,
    /// Clients that were written as much as a turn may hold.
    pub(super) choked: Vec<ConnectionId>,
    policies: Policies,
    /// Clients that are too slow for what is sent to them.
    pub(super) slow: VecDeque<ConnectionId>,
    /// Messages that will not be delivered, and why.
    pub(super) dead: VecDeque<(Arc<Message>, Cause)>,
    turn: u64,
    out: Vec<u8>,
    nothing: SharedFrame,
}

impl Desk {
    pub(super) fn new(options: Options) -> Self {
        Self {
            policies: Policies::new(&options.slow_consumers),
            options,
            outboxes: Outboxes::default(),
            counters: Counters::default(),
            choked: Vec::new(),
            slow: VecDeque::new(),
            dead: VecDeque::new(),
            turn: 1,
            out: Vec::new(),
            nothing: SharedFrame::new(&[]),
        }
    }

    pub(super) fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// Writes what `write` appends, as one message of text.
    pub(super) fn write(&mut self, state: &mut State, effects: &mut Effects<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.clear();
        write(&mut self.out);
        self.said(state, self.out.len(), effects);
        effects.deliver(state.id, MessageKind::Text, &self.out, &self.nothing);
    }

    /// Writes receipts that are due, as long as there is room: there are never many.
    pub(super) fn write_receipts(&mut self, state: &mut State, effects: &mut Effects<'_>) {
        while !state.has_ended && self.may_write(state) {
            let Some(id) = state.receipts.pop_due() else { return };
            self.write_receipt(state, &id, effects);
        }
        self.choke(state);
    }

    /// Writes all receipts that are due before a session ends.
    pub(super) fn write_last_receipts(&mut self, state: &mut State, effects: &mut Effects<'_>) {
        while let Some(id) = state.receipts.pop_due() {
            self.write_receipt(state, &id, effects);
        }
    }

    pub(super) fn write_receipt(&mut self, state: &mut State, id: &str, effects: &mut Effects<'_>) {
        let version = state.version;
        self.write(state, effects, |out| {
            let mut receipt = encoder::begin(out, version, Command::Receipt);
            receipt.header("receipt-id", id);
            receipt.finish(b"");
        });
    }

    /// Writes the ERROR that ends a session.
    pub(super) fn write_error(&mut self, state: &mut State, failure: &Failure, effects: &mut Effects<'_>) {
        let version = state.version;
        self.write(state, effects, |out| failure.write(Some(version), out));
    }

    /// Writes a message of a topic, or has it wait.
    pub(super) fn offer_from_topic(
        &mut self,
        state: &mut State,
        place: usize,
        message: &Arc<Message>,
        effects: &mut Effects<'_>,
    ) {
        if state.at(place).is_some_and(|subscription| subscription.pending.is_some()) {
            self.enqueue(state, place, message, effects.now_ms());
            self.pump(state, place, effects);
        } else {
            self.offer(state, place, message, None, effects);
        }
    }

    /// Writes a message, or has it wait for room. Of a queue it is known which delivery it is.
    pub(super) fn offer(
        &mut self,
        state: &mut State,
        place: usize,
        message: &Arc<Message>,
        delivery: Option<QueueDelivery>,
        effects: &mut Effects<'_>,
    ) {
        if state.has_ended {
            return;
        }
        if self.may_write(state) && state.backlog.is_empty() {
            return self.write_message(state, place, message, delivery, effects);
        }
        let waiting = Waiting { place, message: message.clone(), delivery };
        if waiting.delivery.is_some() {
            // It is still in its queue, too, and counts there.
            state.backlog_bytes += waiting.message.len();
            state.backlog.push_back(waiting);
        } else {
            self.hold_back(state, waiting);
        }
        self.choke(state);
    }

    /// Has a client looked at in the next turn; one whose send queue is full is looked at when that has drained.
    fn choke(&mut self, state: &mut State) {
        if !state.is_full && !state.has_ended && !mem::replace(&mut state.is_choked, true) {
            self.choked.push(state.id);
        }
    }

    /// Writes what has waited, as long as there is room.
    pub(super) fn catch_up(&mut self, state: &mut State, effects: &mut Effects<'_>) {
        if state.has_ended {
            return;
        }
        let is_at_hand = effects.connection() == state.id;
        self.write_receipts(state, effects);
        while self.may_write(state)
            && !(is_at_hand && effects.is_full())
            && let Some(Waiting { place, message, delivery }) = state.backlog.pop_front()
        {
            state.backlog_bytes -= message.len();
            self.write_message(state, place, &message, delivery, effects);
        }
        if state.backlog.is_empty() {
            state.backlog = VecDeque::new();
        } else if !(is_at_hand && effects.is_full()) {
            self.choke(state);
        }
        for place in 0..state.subscriptions.len() {
            self.pump(state, place, effects);
        }
    }

    /// Delivers from the queue that a subscription has for itself.
    pub(super) fn pump(&mut self, state: &mut State, place: usize, effects: &mut Effects<'_>) {
        let now_ms = effects.now_ms();
        if state.at(place).is_none_or(|it| it.pending.as_ref().is_none_or(|pending| pending.own.is_none())) {
            return;
        }
        while !state.has_ended && self.may_write(state) {
            let Some(pending) = state.at(place).and_then(|subscription| subscription.pending.as_mut()) else { return };
            let Some(queue) = &mut pending.own else { return };
            match queue.poll_dispatch(now_ms) {
                Some(Dispatch::Delivery(delivery)) => {
                    let of = Some((QueueRef::default(), delivery.id, delivery.delivery_count));
                    self.write_message(state, place, &delivery.message, of, effects);
                }
                Some(Dispatch::DeadLetter(letter)) => self.dead.push_back((letter.message, letter.cause)),
                Some(Dispatch::Overdue(_)) | None => return,
            }
        }
        // What is left waits for the next turn, or until the send queue has drained.
        self.choke(state);
    }

    /// Appends a message to the queue that a subscription has for itself.
    fn enqueue(&mut self, state: &mut State, place: usize, message: &Arc<Message>, now_ms: u64) {
        let Some(subscription) = state.at(place) else { return };
        let Some(queue) = subscription.pending.as_mut().and_then(|pending| pending.own.as_mut()) else { return };
        let before = queue.counters().dropped;
        let refused = queue.push(message.clone(), message.len(), now_ms).is_err();
        let dropped = queue.counters().dropped - before + u64::from(refused);
        subscription.dropped = subscription.dropped.saturating_add(u32::try_from(dropped).unwrap_or(u32::MAX));
        self.counters.dropped += dropped;
    }

    /// Has a message of a topic wait, as the topic's policy says.
    fn hold_back(&mut self, state: &mut State, waiting: Waiting) {
        let (count_max, bytes_max) = self.options.backlog_max;
        let name = waiting.message.destination().strip_prefix(TOPIC).and_then(|name| Name::new(name).ok());
        let policy = name.map_or(SlowConsumer::DropOldest, |name| self.policies.of(name));
        if policy == SlowConsumer::KeepLatest {
            let same = |other: &Waiting| {
                other.place == waiting.place && other.message.destination() == waiting.message.destination()
            };
            if let Some(index) = state.backlog.iter().position(same) {
                self.drop_waiting(state, index);
            }
        }
        state.backlog_bytes += waiting.message.len();
        state.backlog.push_back(waiting);
        // One may wait, however long it is.
        while state.backlog.len() > 1 && (state.backlog.len() > count_max || state.backlog_bytes > bytes_max) {
            if policy == SlowConsumer::Close {
                return self.slow.push_back(state.id);
            }
            // What comes from queues is not dropped, and bounded by their prefetch.
            let oldest = state.backlog.iter().position(|waiting| waiting.delivery.is_none());
            let Some(oldest) = oldest else { return };
            self.drop_waiting(state, oldest);
        }
    }

    fn drop_waiting(&mut self, state: &mut State, index: usize) {
        let Some(dropped) = state.backlog.remove(index) else { return };
        state.backlog_bytes -= dropped.message.len();
        self.counters.dropped += 1;
        if let Some(subscription) = state.at(dropped.place) {
            subscription.dropped = subscription.dropped.saturating_add(1);
        }
    }

    fn write_message(
        &mut self,
        state: &mut State,
        place: usize,
        message: &Message,
        delivery: Option<QueueDelivery>,
        effects: &mut Effects<'_>,
    ) {
        let (version, number) = (state.version, state.deliveries + 1);
        let Some(subscription) = state.at(place) else { return };
        let acknowledges = subscription.mode != AckMode::Auto;
        if subscription.is_ending {
            // It goes back to its queue with all that was not acknowledged, or written.
            return;
        }
        let count = delivery.map_or(1, |(_, _, count)| count);
        let opening = Opening {
            version,
            message,
            subscription: subscription.has_id.then_some(&*subscription.name),
            delivery: acknowledges.then_some((place, number)),
            is_redelivered: count > 1,
            dropped: mem::take(&mut subscription.dropped),
        };
        self.out.clear();
        opening.write(&mut self.out);
        match (&mut subscription.pending, &subscription.source, delivery) {
            (Some(pending), _, Some((queue, id, _))) => pending.deliveries.push_back((number, queue, id)),
            (None, Source::Queue(consumer), Some((queue, id, _))) => {
                self.outboxes.tell(consumer.worker, Op::Written { queue, consumer: consumer.id, delivery: id });
            }
            _ => {}
        }
        state.deliveries += u64::from(acknowledges);
        let tail = message.tail(version);
        self.said(state, self.out.len() + tail.len(), effects);
        self.counters.delivered += 1;
        effects.deliver(state.id, message.kind(), &self.out, tail);
    }

    fn may_write(&self, state: &State) -> bool {
        !state.is_full && (state.turn != self.turn || state.turn_bytes < TURN_BYTES_MAX)
    }

    fn said(&self, state: &mut State, bytes: usize, effects: &Effects<'_>) {
        state.said_ms = effects.now_ms();
        if mem::replace(&mut state.turn, self.turn) != self.turn {
            state.turn_bytes = 0;
        }
        state.turn_bytes += bytes;
    }
}

/// What topics are called.
pub(super) const TOPIC: &str = "/topic/";
