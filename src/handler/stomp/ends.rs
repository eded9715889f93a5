//! Ends: of sessions by an ERROR or a DISCONNECT, and of connections.

use std::collections::VecDeque;

use crate::handler::{ConnectionId, Effects};
use crate::proto::stomp::{Failure, Fault};
use crate::proto::ws::CloseCode;

use super::Stomp;
use super::client::{Hold, Source, State};
use super::op::Op;

impl Stomp {
    /// Ends a session with an ERROR.
    pub(super) fn fail(
        &mut self,
        state: &mut State,
        fault: Fault,
        receipt: Option<Box<str>>,
        effects: &mut Effects<'_>,
    ) {
        self.end_with_error(state, &Failure { fault, receipt }, effects);
    }

    pub(super) fn end_with_error(&mut self, state: &mut State, failure: &Failure, effects: &mut Effects<'_>) {
        if state.has_ended {
            return;
        }
        self.desk.counters.errors += 1;
        let ConnectionId { worker, key } = state.id;
        tracing::debug!("STOMP client {worker}-{}: {}", key.slot, failure.fault.message());
        self.desk.write_error(state, failure, effects);
        self.end(state);
        effects.close_other(state.id, CloseCode::PROTOCOL_ERROR, failure.fault.message());
    }

    /// Ends a session whose DISCONNECT has waited for all before it.
    pub(super) fn finish_disconnect(&mut self, state: &mut State, effects: &mut Effects<'_>) {
        self.desk.write_last_receipts(state, effects);
        if let Some(Hold::Disconnect { receipt: Some(receipt), .. }) = state.hold.take() {
            self.desk.write_receipt(state, &receipt, effects);
        }
        self.end(state);
        effects.close_other(state.id, CloseCode::NORMAL, "");
    }

    /// A connection is gone. What it has sent whole is still processed.
    pub(super) fn lose(&mut self, id: ConnectionId, effects: &mut Effects<'_>) {
        let Some(mut client) = self.clients.take(id) else { return };
        self.wheel.disarm(id.key.slot);
        client.state.is_gone = true;
        if client.state.hold.is_none() || client.state.has_ended {
            client.session.end(effects.pool());
            self.end(&mut client.state);
            return;
        }
        // Its slot may soon be another client's: what is known by the slot ends now.
        for place in 0..client.state.subscriptions.len() {
            if client.state.at(place).is_some_and(|it| matches!(it.source, Source::Topic(..))) {
                self.end_subscription(&mut client.state, place);
            }
        }
        // Nobody reads it any more, so there is room.
        client.state.is_full = false;
        self.clients.put(client);
        self.catch_up(id, effects);
    }

    /// Forgets a client that is gone, now that all of its frames were processed.
    pub(super) fn forget(&mut self, id: ConnectionId, effects: &mut Effects<'_>) {
        let Some(mut client) = self.clients.take(id) else { return };
        client.session.end(effects.pool());
        self.end(&mut client.state);
    }

    /// Gives up all that a session has: nothing is written to it any more.
    fn end(&mut self, state: &mut State) {
        state.has_ended = true;
        state.backlog = VecDeque::new();
        state.backlog_bytes = 0;
        if let Some(Hold::Commit(commit)) = state.hold.take() {
            self.release(commit.asked);
        }
        state.stash = Vec::new();
        state.stash_at = 0;
        for place in 0..state.subscriptions.len() {
            let Some(subscription) = state.at(place) else { continue };
            if let Source::Queue(consumer) = &subscription.source {
                let (consumer, worker, name) = (consumer.id, consumer.worker, consumer.name.clone());
                self.desk.outboxes.tell(worker, Op::Unsubscribe { name, consumer, ticket: None });
            }
            self.end_subscription(state, place);
        }
    }
}
