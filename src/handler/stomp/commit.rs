//! COMMIT: all of a transaction takes effect, or nothing of it.
//!
//! A queue may be full, and queues live on several workers. So room is asked for first, wherever messages of the
//! transaction go; when all of it is granted, everything takes effect, and nothing of that can be refused any more.

use std::sync::Arc;

use crate::handler::Effects;
use crate::proto::stomp::Fault;

use super::client::{Asked, Commit, Hold, State, Step};
use super::message::Message;
use super::op::{CommitId, Op, Room, Ticket};
use super::requests::QUEUE;
use super::{Stomp, refused};

const NO_ROOM: &str = "a queue of the transaction is full";
const SETTLED: &str = "a message of the transaction is not to be acknowledged any more";

impl Stomp {
    /// Begins to have a transaction take effect.
    pub(super) fn commit(
        &mut self,
        state: &mut State,
        id: &str,
        receipt: Option<&str>,
        effects: &mut Effects<'_>,
    ) -> Result<(), Fault> {
        let steps = state.transactions.commit(id, effects.now_ms()).map_err(|error| refused(error.message()))?;
        check_settlements(state, &steps)?;
        let mut asked = Vec::new();
        for step in &steps {
            if let Step::Send { message, .. } = step
                && let Some(name) = message.destination().strip_prefix(QUEUE)
            {
                ask_for(&mut asked, self.worker_of(name), name, message);
            }
        }
        let numbered = |step| {
            let number = number_receipt(state, &step);
            (step, number)
        };
        let steps = steps.into_iter().map(numbered).collect();
        let ticket = Self::ticket(state, receipt);
        state.commits = state.commits.wrapping_add(1);
        let commit = Commit {
            id: CommitId { client: state.id, number: state.commits },
            steps,
            answers: 0,
            is_refused: false,
            asked,
            ticket,
        };
        if commit.asked.is_empty() {
            self.take_effect(state, commit, effects);
            return Ok(());
        }
        for Asked { worker, queues, .. } in &commit.asked {
            self.desk.outboxes.tell(*worker, Op::Reserve { commit: commit.id, queues: queues.clone() });
        }
        state.hold = Some(Hold::Commit(Box::new(commit)));
        Ok(())
    }

    /// A worker has answered whether it has room. Says whether the commit still waits for that: its session may have
    /// ended.
    pub(super) fn reserved(&mut self, id: CommitId, worker: u16, is_granted: bool, effects: &mut Effects<'_>) -> bool {
        let Some(mut client) = self.clients.take(id.client) else { return false };
        let state = &mut client.state;
        let hold = state.hold.take_if(|hold| matches!(hold, Hold::Commit(it) if it.id == id));
        let is_awaited = hold.is_some();
        if let Some(Hold::Commit(mut commit)) = hold {
            commit.answers += 1;
            commit.is_refused |= !is_granted;
            if let Some(asked) = commit.asked.iter_mut().find(|asked| asked.worker == worker) {
                asked.is_granted = is_granted;
            }
            if commit.answers < commit.asked.len() {
                state.hold = Some(Hold::Commit(commit));
            } else if commit.is_refused {
                self.release(commit.asked);
                let receipt = state.receipts.id_of(commit.ticket.receipt);
                self.fail(state, refused(NO_ROOM), receipt, effects);
            } else {
                self.take_effect(state, *commit, effects);
                self.unhold(state);
            }
        }
        self.clients.put(client);
        is_awaited
    }

    /// Gives back the room that workers have granted. Who has not answered does it when the answer comes.
    pub(super) fn release(&mut self, asked: Vec<Asked>) {
        for Asked { worker, queues, .. } in asked.into_iter().filter(|asked| asked.is_granted) {
            self.desk.outboxes.tell(worker, Op::Release { queues });
        }
    }

    fn take_effect(&mut self, state: &mut State, commit: Commit, effects: &mut Effects<'_>) {
        for (step, receipt) in commit.steps {
            match step {
                Step::Send { message, .. } => self.send_committed(state, message, receipt, effects),
                Step::Settle { place, number, settlement, .. } => {
                    // They were checked, and nothing came between.
                    let settled = self.settle(state, place, number, settlement, None, effects);
                    debug_assert!(settled.is_ok() || state.has_ended, "it was checked");
                    state.receipts.complete(receipt);
                }
            }
        }
        // Its parts are on their way, before whatever comes next.
        state.receipts.complete(commit.ticket.receipt);
        self.desk.write_receipts(state, effects);
    }

    fn send_committed(&mut self, state: &mut State, message: Arc<Message>, receipt: u32, effects: &mut Effects<'_>) {
        if let Some(name) = message.destination().strip_prefix(QUEUE) {
            let ticket = Ticket { client: Some(state.id), receipt };
            state.has_told = true;
            let worker = self.worker_of(name);
            self.desk.outboxes.tell(worker, Op::Push { message, ticket, is_reserved: true });
        } else {
            // Topics and temporary queues refuse nothing.
            let routed = self.route(state, message, None, effects);
            debug_assert!(routed.is_ok(), "it was checked when it was sent");
            state.receipts.complete(receipt);
        }
    }
}

/// Notes the receipt of a part of a transaction: those of all of it come before that of COMMIT, and hold up none that
/// was asked for earlier.
fn number_receipt(state: &mut State, step: &Step) -> u32 {
    let (Step::Send { receipt, .. } | Step::Settle { receipt, .. }) = step;
    receipt.as_deref().map_or(0, |id| state.receipts.push(id))
}

fn ask_for(asked: &mut Vec<Asked>, worker: u16, name: &str, message: &Message) {
    let index = asked.iter().position(|asked| asked.worker == worker).unwrap_or_else(|| {
        asked.push(Asked { worker, queues: Vec::new(), is_granted: false });
        asked.len() - 1
    });
    let queues = &mut asked[index].queues;
    match queues.iter_mut().find(|room| *room.name == *name) {
        Some(room) => {
            room.count += 1;
            room.bytes += message.len();
        }
        None => queues.push(Room { name: name.into(), count: 1, bytes: message.len() }),
    }
}

/// Sees to it that all messages that are to be settled still wait for that.
fn check_settlements(state: &mut State, steps: &[Step]) -> Result<(), Fault> {
    for (index, step) in steps.iter().enumerate() {
        let Step::Settle { place, number, .. } = step else { continue };
        // What a subscription had is back in its queue when it ends.
        let subscription = state.at(*place).filter(|subscription| !subscription.is_ending).ok_or(refused(SETTLED))?;
        let is_cumulative = subscription.mode == crate::proto::stomp::AckMode::Client;
        let pending = subscription.pending.as_ref().ok_or(refused(SETTLED))?;
        let is_pending = pending.deliveries.binary_search_by_key(number, |&(number, ..)| number).is_ok();
        let is_settled_before = steps[..index].iter().any(|before| match before {
            Step::Settle { place: other, number: last, .. } => {
                other == place && (last == number || is_cumulative && last > number)
            }
            Step::Send { .. } => false,
        });
        if !is_pending || is_settled_before {
            return Err(refused(SETTLED));
        }
    }
    Ok(())
}
