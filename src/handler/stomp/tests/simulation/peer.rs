//! A client that keeps to the protocol, and what it knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use crate::handler::ConnectionId;

use super::ledger::Fate;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: ConnectionId,
    pub(super) version: &'static str,
    pub(super) subscriptions: Vec<Subscription>,
    /// Names of open transactions, and what they are in the ledger.
    pub(super) transactions: Vec<(String, usize)>,
    pub(super) begun: u32,
    /// What was written and not said yet.
    pub(super) out: String,
    frames: u32,
    /// Receipts that were asked for, by the numbers of their frames.
    pub(super) receipts: VecDeque<u32>,
    /// What frames bring about, of which is not known whether they were processed.
    pub(super) effects: VecDeque<(u32, Effect)>,
    /// It has said something wrong: nothing after that counts.
    pub(super) is_doomed: bool,
    /// It has said DISCONNECT.
    pub(super) is_leaving: bool,
    /// It got an ERROR.
    pub(super) has_failed: bool,
    /// Its session has ended.
    pub(super) has_ended: bool,
    pub(super) is_stuck: bool,
}

#[derive(Debug)]
pub(super) struct Subscription {
    /// None of a 1.0 client's without an id.
    pub(super) name: Option<String>,
    pub(super) destination: &'static str,
    pub(super) mode: &'static str,
    /// The step in which its receipt came.
    pub(super) active_at: Option<u64>,
    /// UNSUBSCRIBE was sent.
    pub(super) is_ended: bool,
    /// That was confirmed.
    pub(super) is_gone: bool,
    /// What it has to acknowledge: what names it, and whether a transaction does that.
    pub(super) pending: VecDeque<Pending>,
    /// The last message of each publisher that was not delivered before.
    pub(super) last: BTreeMap<usize, u64>,
    /// Of a topic: what it got, and what of that it gave back.
    pub(super) seen: BTreeSet<usize>,
    pub(super) returned: BTreeSet<usize>,
    /// What it was told to have missed.
    pub(super) dropped: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) name: String,
    pub(super) message: usize,
    /// The transaction that settles it, as the ledger has it.
    pub(super) transaction: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Effect {
    Nothing,
    Send(usize),
    Settle(Vec<usize>, Fate),
    Commit(usize),
    Subscribe(usize),
    Unsubscribe(usize),
}

impl Peer {
    pub(super) fn new(id: ConnectionId, version: &'static str) -> Self {
        Self {
            id,
            version,
            subscriptions: Vec::new(),
            transactions: Vec::new(),
            begun: 0,
            out: String::new(),
            frames: 0,
            receipts: VecDeque::new(),
            effects: VecDeque::new(),
            is_doomed: false,
            is_leaving: false,
            has_failed: false,
            has_ended: false,
            is_stuck: false,
        }
    }

    /// Whether it goes on.
    pub(super) fn is_alive(&self) -> bool {
        !self.has_ended && !self.has_failed && !self.is_doomed && !self.is_leaving
    }

    /// Writes a frame, to be said later.
    pub(super) fn write(&mut self, head: &str, body: &str, wants_receipt: bool, effect: Effect) {
        self.frames += 1;
        self.out.push_str(head);
        if wants_receipt {
            writeln!(self.out, "receipt:r{}", self.frames).expect("there is memory");
            self.receipts.push_back(self.frames);
        }
        write!(self.out, "\n{body}\0").expect("there is memory");
        self.effects.push_back((self.frames, effect));
    }

    /// The subscription that a MESSAGE came by.
    pub(super) fn find(&self, name: Option<&str>, destination: &str) -> usize {
        let is_it = |it: &Subscription| match name {
            Some(name) => it.name.as_deref() == Some(name) && !it.is_gone,
            None => it.name.is_none() && it.destination == destination && !it.is_gone,
        };
        self.subscriptions.iter().position(is_it).unwrap_or_else(|| panic!("no subscription {name:?} {destination}"))
    }

    /// A name that no subscription has, or the place of one that may be used again.
    pub(super) fn new_name(&self) -> String {
        let is_free =
            |name: &String| !self.subscriptions.iter().any(|it| it.name.as_ref() == Some(name) && !it.is_gone);
        (0..).map(|number| format!("s{number}")).find(is_free).expect("there are more names than subscriptions")
    }
}

impl Subscription {
    pub(super) fn new(name: Option<String>, destination: &'static str, mode: &'static str) -> Self {
        Self {
            name,
            destination,
            mode,
            active_at: None,
            is_ended: false,
            is_gone: false,
            pending: VecDeque::new(),
            last: BTreeMap::new(),
            seen: BTreeSet::new(),
            returned: BTreeSet::new(),
            dropped: 0,
        }
    }

    pub(super) fn is_of_topic(&self) -> bool {
        self.destination.starts_with("/topic/")
    }

    pub(super) fn acknowledges(&self) -> bool {
        self.mode != "auto"
    }

    /// Whether it gets what is sent to `destination`.
    pub(super) fn wants(&self, destination: &str) -> bool {
        let (Some(pattern), Some(name)) =
            (self.destination.strip_prefix("/topic/"), destination.strip_prefix("/topic/"))
        else {
            return self.destination == destination;
        };
        match pattern.split_once(['*', '#']) {
            None => pattern == name,
            Some((start, _)) if pattern.ends_with('*') => {
                name.strip_prefix(start).is_some_and(|rest| !rest.contains('.'))
            }
            Some((start, _)) => name.starts_with(start) || name == start.trim_end_matches('.'),
        }
    }
}
