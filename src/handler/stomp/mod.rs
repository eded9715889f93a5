//! The STOMP broker: sessions of clients, on one side, and destinations, on the other.
//!
//! ```text
//!  bytes ─► proto::stomp::Session ─► request ─┬─ topic ──► every worker that has subscribers ─► Topics
//!                                             ├─ queue ──► the worker on which it lives ─► Queue
//!                                             └─ transaction, until COMMIT
//!  bytes ◄─ Desk: MESSAGE, RECEIPT, ERROR ◄───────────────── op, by parcel if from another worker
//! ```
//!
//! Each worker has a [`Stomp`] of its own. What concerns a destination is an [`Op`] for the worker that owns it, the
//! own one included, so there is one way for all of it. Between two workers the order is kept.

mod client;
mod commit;
mod counters;
mod desk;
mod ends;
mod interest;
mod local;
mod message;
mod op;
mod options;
mod queues;
mod receipts;
mod requests;
mod work;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::Arc;

use crate::broker::Topics;
use crate::broker::transaction::Transactions;
use crate::handler::{Accept, CloseCause, ConnectionId, Effects, Handler, Parcel};
use crate::proto::http::{Refusal, Request, Upgrade};
use crate::proto::stomp::{Incoming, SUBPROTOCOLS, Session};
use crate::proto::ws::Message as WebSocketMessage;
use crate::timer::Wheel;

use client::{Client, Clients, Hold, State};
use counters::Slate;
use desk::Desk;
use interest::Interests;
use op::Op;
use queues::Queues;

pub use counters::Counters;
pub use local::{Outgoing, Subscriber, Wish, subscription};
pub use message::{Message, MessageId};
pub use options::{Options, SlowConsumer, SlowConsumers, TransactionReceipts};

/// What the workers of a server share: made once, and cloned into the handler of each.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    interests: Arc<Interests>,
    slate: Arc<Slate>,
}

impl Shared {
    /// What all workers have counted, by the ends of their last turns.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.slate.sum()
    }
}

/// One worker's part of a STOMP broker.
#[derive(Debug)]
pub struct Stomp {
    worker: u16,
    shared: Shared,
    /// The counters that others see.
    written: Counters,
    clients: Clients,
    topics: Topics<Reached>,
    queues: Queues,
    desk: Desk,
    locals: Vec<Option<work::Local>>,
    /// When clients have something due, by the slots of their connections.
    wheel: Wheel,
    /// Clients whose frames wait for the next turn, or until other workers keep up.
    yielded: Vec<ConnectionId>,
    pressed: Vec<ConnectionId>,
    /// What other workers have said, and there was no time for yet.
    late: VecDeque<Op>,
    /// Clients that need wait no longer.
    ready: Vec<ConnectionId>,
    /// How many messages came in here, and how many consumers began.
    messages: u64,
    consumers: u32,
    random: RandomState,
    fired: Vec<u32>,
    reached: Vec<Reached>,
}

/// Who is subscribed to a topic.
#[derive(Clone, Copy, Debug)]
enum Reached {
    /// A client, by the slot of its connection, and which of its subscriptions.
    Client { slot: u32, place: u8 },
    /// A part of the program.
    Local(u32),
}

/// How much of a client's input was processed.
enum Progress {
    /// All of it.
    Done,
    /// All but so many bytes, which wait.
    Held(usize),
}

impl Stomp {
    /// A broker's part for one worker.
    #[must_use]
    pub fn new(options: Options, shared: &Shared) -> Self {
        let subscriptions_max = options.subscriptions_max.min(SUBSCRIPTIONS_MAX);
        Self {
            worker: 0,
            shared: shared.clone(),
            written: Counters::default(),
            clients: Clients::default(),
            topics: Topics::default(),
            queues: Queues::default(),
            desk: Desk::new(Options { subscriptions_max, ..options }),
            locals: Vec::new(),
            wheel: Wheel::default(),
            yielded: Vec::new(),
            pressed: Vec::new(),
            late: VecDeque::new(),
            ready: Vec::new(),
            messages: 0,
            consumers: 0,
            random: RandomState::new(),
            fired: Vec::new(),
            reached: Vec::new(),
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.desk.counters
    }

    /// The path at which WebSocket clients are let in.
    #[must_use]
    pub fn path(&self) -> &'static str {
        self.desk.options.path
    }

    /// Whether a connection is a client of this broker's.
    #[must_use]
    pub fn has(&self, connection: ConnectionId) -> bool {
        self.clients.has(connection)
    }

    /// How many clients there are on this worker.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// How many queues live on this worker.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// How many subscriptions to topics this worker has.
    #[must_use]
    pub fn topic_subscription_count(&self) -> usize {
        self.topics.len()
    }

    /// Takes bytes of a client.
    fn receive(&mut self, id: ConnectionId, input: &[u8], effects: &mut Effects<'_>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.state.hold.is_some() {
            // The connection was paused, so this is of the same receive.
            return client.state.stash.extend_from_slice(input);
        }
        if let Progress::Held(rest) = self.process(id, input, effects)
            && let Some(client) = self.clients.get_mut(id)
        {
            client.state.stash = input[input.len() - rest..].to_vec();
            client.state.stash_at = 0;
            client.state.is_waiting = true;
            effects.pause();
        }
    }

    /// Goes on with clients that had to wait, in their order, as far as the commands of one call allow: the frames of
    /// all of them together may be for very many.
    fn go_on_with(&mut self, clients: Vec<ConnectionId>, effects: &mut Effects<'_>) {
        let mut clients = clients.into_iter();
        while effects.waiting_commands() < COMMANDS_MAX
            && let Some(id) = clients.next()
        {
            self.go_on(id, effects);
        }
        // The rest comes first in the next turn, before those that have had a share of this one.
        if clients.len() > 0 {
            let again = mem::take(&mut self.yielded);
            self.yielded.extend(clients.chain(again));
        }
    }

    /// Goes on with the frames of a client that had to wait.
    fn go_on(&mut self, id: ConnectionId, effects: &mut Effects<'_>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.state.hold = None;
        client.state.is_waiting = false;
        let stash = mem::take(&mut client.state.stash);
        let start = client.state.stash_at;
        let progress = self.process(id, &stash[start..], effects);
        let Some(client) = self.clients.get_mut(id) else { return };
        match progress {
            Progress::Held(rest) => {
                client.state.is_waiting = true;
                client.state.stash_at = stash.len() - rest;
                client.state.stash = stash;
            }
            Progress::Done if client.state.is_gone => self.forget(id, effects),
            Progress::Done => effects.resume(id),
        }
    }

    /// Processes frames until the input ends or the client has to wait.
    fn process(&mut self, id: ConnectionId, mut input: &[u8], effects: &mut Effects<'_>) -> Progress {
        let mut frames = 0;
        loop {
            let Some(mut client) = self.clients.take(id) else { return Progress::Done };
            let is_more = self.process_frame(&mut client, &mut input, effects);
            frames += 1;
            if is_more && client.state.hold.is_none() {
                self.hold(&mut client.state, frames, effects);
            }
            let is_held = client.state.hold.is_some();
            if is_held {
                // The frame is done with: its block goes back now, for this client may be gone before it goes on.
                let next = client.session.receive(&mut &[][..], effects.now_ms(), effects.pool());
                debug_assert!(matches!(next, Ok(None)), "there is no input");
            } else if !is_more {
                self.schedule(&mut client);
            }
            self.clients.put(client);
            self.work(effects);
            // A commit may be through already.
            let is_held = is_held && self.clients.get_mut(id).is_some_and(|client| client.state.hold.is_some());
            if is_held {
                return Progress::Held(input.len());
            }
            if !is_more {
                return Progress::Done;
            }
        }
    }

    /// Processes the next frame; says whether there may be another one.
    fn process_frame(&mut self, client: &mut Client, input: &mut &[u8], effects: &mut Effects<'_>) -> bool {
        let Client { session, state } = client;
        if state.has_ended {
            session.end(effects.pool());
            return false;
        }
        match session.receive(input, effects.now_ms(), effects.pool()) {
            Ok(None) => false,
            Ok(Some(Incoming::Connect(login))) => {
                // Who it is does not matter yet: everybody may come in.
                drop(login);
                self.accept(client, effects);
                true
            }
            Ok(Some(Incoming::Request(request))) => {
                let receipt = request.receipt.clone();
                if let Err(fault) = self.request(state, request, effects) {
                    let receipt = receipt.map(|receipt| receipt.into_owned().into());
                    self.fail(state, fault, receipt, effects);
                }
                !state.has_ended
            }
            Err(failure) => {
                state.version = session.version().unwrap_or(state.version);
                self.end_with_error(state, &failure, effects);
                false
            }
        }
    }

    fn accept(&mut self, client: &mut Client, effects: &mut Effects<'_>) {
        let Client { session, state } = client;
        state.version = session.version().unwrap_or(state.version);
        let (name, server) = (self.secret(state.id), mem::take(&mut self.desk.options.server));
        let now_ms = effects.now_ms();
        self.desk.write(state, effects, |out| {
            session.accept(&name, &server, now_ms, out);
        });
        self.desk.options.server = server;
        self.desk.counters.sessions += 1;
    }

    /// Has a client wait, if there is a reason.
    fn hold(&mut self, state: &mut State, frames: usize, effects: &Effects<'_>) {
        if state.receipts.len() >= self.desk.options.receipts_max {
            state.hold = Some(Hold::Receipts);
        } else if effects.is_backed_up() {
            state.hold = Some(Hold::Pressure);
            self.pressed.push(state.id);
        } else if frames >= self.desk.options.frames_per_turn_max || effects.waiting_commands() >= COMMANDS_MAX {
            state.hold = Some(Hold::Turn);
            self.yielded.push(state.id);
        }
    }

    /// Writes to a client what has waited, and has it go on if it has waited for its receipts.
    fn catch_up(&mut self, id: ConnectionId, effects: &mut Effects<'_>) {
        let Some(mut client) = self.clients.take(id) else { return };
        self.desk.catch_up(&mut client.state, effects);
        self.end_hold_for_receipts(&mut client.state);
        self.clients.put(client);
    }

    /// Has a client go on that waits for its receipts, if few of them are left.
    fn end_hold_for_receipts(&mut self, state: &mut State) {
        if matches!(state.hold, Some(Hold::Receipts)) && state.receipts.len() <= self.desk.options.receipts_max / 2 {
            self.unhold(state);
        }
    }

    /// Sees to it that the client is looked at when something is due.
    fn schedule(&mut self, client: &mut Client) {
        let Client { session, state } = client;
        if state.is_gone {
            return;
        }
        session.handle_said(state.said_ms);
        let due_ms = session.poll_timeout().into_iter().chain(state.transactions.poll_timeout()).min();
        if let Some(due_ms) = due_ms
            && !self.wheel.fires_by(state.id.key.slot, due_ms)
        {
            self.wheel.arm(state.id.key.slot, due_ms);
        }
    }

    /// Does what is due for the client whose connection has this slot.
    fn look_at(&mut self, slot: u32, effects: &mut Effects<'_>) {
        let Some(id) = self.clients.at_slot(slot).map(|client| client.state.id) else { return };
        let Some(mut client) = self.clients.take(id) else { return };
        let Client { session, state } = &mut *client;
        session.handle_said(state.said_ms);
        let (now_ms, mut out) = (effects.now_ms(), Vec::new());
        // Of one whose queue is full nothing is read: if it reads nothing for long, that ends it.
        if state.hold.is_some() || state.is_full {
            session.handle_held(now_ms);
        }
        if state.has_ended {
            return self.clients.put(client);
        }
        match session.handle_timeout(now_ms, &mut out) {
            Err(failure) => self.end_with_error(state, &failure, effects),
            Ok(()) if out.is_empty() => {}
            // To one that does not read, more bytes are no sign of life: it is looked at when the next ones are due.
            Ok(()) if state.is_full => state.said_ms = now_ms,
            Ok(()) => self.desk.write(state, effects, |bytes| bytes.append(&mut out)),
        }
        if let Err(error) = state.transactions.handle_timeout(now_ms) {
            self.fail(state, refused(error.message()), None, effects);
        }
        self.schedule(&mut client);
        self.clients.put(client);
        self.work(effects);
    }

    /// Text that nobody can guess, which is another one each time.
    fn secret(&mut self, id: ConnectionId) -> String {
        self.consumers = self.consumers.wrapping_add(1);
        let part = |half: u8| self.random.hash_one((id, self.consumers, self.messages, half));
        format!("{:016x}{:016x}", part(0), part(1))
    }
}

impl Handler for Stomp {
    fn on_start(&mut self, worker: u16, workers: u16) {
        self.worker = worker;
        self.shared.interests.begin(workers);
        self.shared.slate.begin(workers);
        self.desk.outboxes.begin(worker, workers);
    }

    fn on_upgrade(&mut self, _: ConnectionId, request: &Request<'_>, upgrade: &Upgrade<'_>) -> Result<Accept, Refusal> {
        if request.path() != self.desk.options.path {
            return Err(Refusal::NotFound);
        }
        let is_offered = |name: &&&str| upgrade.subprotocols().any(|offered| offered == **name);
        let subprotocol = SUBPROTOCOLS.iter().find(is_offered).copied();
        Ok(Accept { subprotocol, compression: self.desk.options.compression })
    }

    fn on_open(&mut self, id: ConnectionId, effects: &mut Effects<'_>) {
        let transactions = Transactions::new(self.desk.options.transactions);
        let session = Session::new(self.desk.options.session, effects.now_ms());
        let mut client = Box::new(Client { session, state: State::new(id, transactions) });
        self.schedule(&mut client);
        self.clients.insert(client);
    }

    fn on_message(&mut self, id: ConnectionId, message: &mut WebSocketMessage<'_>, effects: &mut Effects<'_>) {
        self.receive(id, message.bytes(), effects);
    }

    fn on_bytes(&mut self, id: ConnectionId, bytes: &[u8], effects: &mut Effects<'_>) {
        self.receive(id, bytes, effects);
    }

    fn on_full(&mut self, id: ConnectionId, _: &mut Effects<'_>) {
        if let Some(client) = self.clients.get_mut(id) {
            client.state.is_full = true;
        }
    }

    fn on_drain(&mut self, id: ConnectionId, effects: &mut Effects<'_>) {
        if let Some(client) = self.clients.get_mut(id) {
            client.state.is_full = false;
            client.session.handle_held(effects.now_ms());
        }
        self.catch_up(id, effects);
        self.work(effects);
    }

    fn on_close(&mut self, id: ConnectionId, _: CloseCause, effects: &mut Effects<'_>) {
        self.lose(id, effects);
        self.work(effects);
    }

    fn on_parcel(&mut self, parcel: Parcel, effects: &mut Effects<'_>) {
        // Other handlers of the same program may have their own.
        let Ok(ops) = parcel.content.downcast::<Vec<Op>>() else { return };
        self.late.extend(*ops);
        // Of a message to very many it is written to all before the next one follows.
        while effects.waiting_commands() < COMMANDS_MAX {
            let Some(op) = self.late.pop_front() else { return };
            self.obey(op, effects);
            self.work(effects);
        }
        if !self.late.is_empty() {
            effects.post(self.worker, Parcel { content: Box::new(Vec::<Op>::new()), bytes: 0 });
        }
    }

    fn poll_timeout(&mut self, now_ms: u64) -> Option<u64> {
        if !self.yielded.is_empty() || !self.desk.choked.is_empty() {
            return Some(now_ms);
        }
        let clients = self.wheel.next_ms(now_ms);
        let queues = self.queues.next_ms(now_ms);
        clients.into_iter().chain(queues).min().map(|wait_ms| now_ms + wait_ms)
    }

    fn on_timeout(&mut self, effects: &mut Effects<'_>) {
        let mut choked = mem::take(&mut self.desk.choked).into_iter();
        while effects.waiting_commands() < COMMANDS_MAX
            && let Some(id) = choked.next()
        {
            if let Some(client) = self.clients.get_mut(id) {
                client.state.is_choked = false;
            }
            self.catch_up(id, effects);
        }
        if choked.len() > 0 {
            let again = mem::take(&mut self.desk.choked);
            self.desk.choked.extend(choked.chain(again));
        }
        let yielded = mem::take(&mut self.yielded);
        self.go_on_with(yielded, effects);
        for place in self.queues.expire(effects.now_ms()) {
            self.dispatch(place, effects.now_ms());
        }
        let mut fired = mem::take(&mut self.fired);
        self.wheel.expire(effects.now_ms(), &mut fired);
        for slot in fired.drain(..) {
            self.look_at(slot, effects);
        }
        self.fired = fired;
        self.work(effects);
        self.wheel.trim();
    }

    fn on_turn_end(&mut self, effects: &mut Effects<'_>) {
        if !effects.is_backed_up() {
            self.ready.append(&mut self.pressed);
        }
        let ready = mem::take(&mut self.ready);
        self.go_on_with(ready, effects);
        self.desk.outboxes.post(effects);
        self.desk.begin_turn();
        if self.written != self.desk.counters {
            self.written = self.desk.counters;
            self.shared.slate.write(self.worker, self.written);
        }
    }
}

/// A fault in words of the broker's.
fn refused(message: &'static str) -> crate::proto::stomp::Fault {
    crate::proto::stomp::Fault::Refused(message)
}

/// With so many commands that wait to be done a handler gathers no more.
const COMMANDS_MAX: usize = 64 << 10;
/// A consumer's id has room for the places of so many subscriptions.
const SUBSCRIPTIONS_MAX: usize = 256;
