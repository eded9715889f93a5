//! What is known of each message, and what must not happen to it.

use std::collections::{BTreeMap, BTreeSet};

/// A message that a client has written, or may write by COMMIT.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) publisher: usize,
    /// Its place in what the publisher has sent: that of the COMMIT, if it is of a transaction.
    pub(super) order: u64,
    pub(super) destination: String,
    /// It was sent, and its COMMIT if it is of a transaction.
    pub(super) is_sent: bool,
    /// The broker has it, or will have it.
    pub(super) is_certain: bool,
    /// The step of the simulation in which it was sent.
    pub(super) sent_at: u64,
    /// Of a queue: who has it and has not lost it.
    holder: Option<(usize, usize)>,
    /// Of a queue: how often it was delivered.
    seen: u32,
    /// Of a queue: a consumer that does not acknowledge got it.
    is_taken: bool,
    attempts: Vec<Attempt>,
}

/// An ACK or NACK without return.
#[derive(Debug)]
struct Attempt {
    fate: Fate,
    is_certain: bool,
    transaction: Option<usize>,
    /// How often the message had been delivered by then.
    seen: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    Acknowledged,
    Returned,
    Dead,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) messages: Vec<usize>,
    pub(super) settlements: Vec<(usize, Fate)>,
    pub(super) is_committed: bool,
    pub(super) is_certain: bool,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) messages: Vec<Message>,
    pub(super) transactions: Vec<Transaction>,
    pub(super) now: u64,
    orders: u64,
}

/// One delivery of a message of a queue.
pub(super) struct Delivery {
    pub(super) message: usize,
    /// The peer and its subscription.
    pub(super) to: (usize, usize),
    pub(super) acknowledges: bool,
    pub(super) is_redelivered: bool,
    /// The receiver has it until it says or loses something.
    pub(super) is_held: bool,
}

impl Ledger {
    /// Notes a message; it is not sent by that.
    pub(super) fn write(&mut self, publisher: usize, destination: &str) -> usize {
        self.messages.push(Message {
            publisher,
            order: 0,
            destination: destination.into(),
            is_sent: false,
            is_certain: false,
            sent_at: 0,
            holder: None,
            seen: 0,
            is_taken: false,
            attempts: Vec::new(),
        });
        self.messages.len() - 1
    }

    pub(super) fn send(&mut self, message: usize) {
        self.orders += 1;
        let (order, sent_at) = (self.orders, self.now);
        let message = &mut self.messages[message];
        (message.is_sent, message.order, message.sent_at) = (true, order, sent_at);
    }

    pub(super) fn begin(&mut self) -> usize {
        self.transactions.push(Transaction {
            messages: Vec::new(),
            settlements: Vec::new(),
            is_committed: false,
            is_certain: false,
        });
        self.transactions.len() - 1
    }

    /// COMMIT was sent.
    pub(super) fn commit(&mut self, index: usize) {
        let transaction = &mut self.transactions[index];
        transaction.is_committed = true;
        let (messages, settlements) = (transaction.messages.clone(), transaction.settlements.clone());
        messages.into_iter().for_each(|message| self.send(message));
        settlements.into_iter().for_each(|(message, fate)| self.settle(message, fate, Some(index)));
    }

    /// COMMIT has taken effect, or will.
    pub(super) fn confirm_commit(&mut self, index: usize) {
        let transaction = &mut self.transactions[index];
        transaction.is_certain = true;
        let (messages, settlements) = (transaction.messages.clone(), transaction.settlements.clone());
        messages.into_iter().for_each(|message| self.messages[message].is_certain = true);
        settlements.into_iter().for_each(|(message, _)| self.confirm(message, Some(index)));
    }

    /// An ACK or NACK was sent by whoever has the message.
    pub(super) fn settle(&mut self, message: usize, fate: Fate, transaction: Option<usize>) {
        let message = &mut self.messages[message];
        message.holder = None;
        if fate != Fate::Returned {
            message.attempts.push(Attempt { fate, is_certain: false, transaction, seen: message.seen });
        }
    }

    /// The last ACK or NACK has taken effect, or will.
    pub(super) fn confirm(&mut self, message: usize, transaction: Option<usize>) {
        let it = &mut self.messages[message];
        let attempt = it.attempts.iter_mut().rfind(|attempt| attempt.transaction == transaction);
        if let Some(attempt) = attempt {
            attempt.is_certain = true;
            assert_eq!(attempt.seen, it.seen, "m{message} was settled, and delivered after that");
        }
    }

    /// A consumer has lost a message.
    pub(super) fn release(&mut self, message: usize, from: (usize, usize)) {
        let holder = &mut self.messages[message].holder;
        if *holder == Some(from) {
            *holder = None;
        }
    }

    /// A message of a queue was delivered.
    pub(super) fn deliver(&mut self, delivery: &Delivery) {
        let index = delivery.message;
        let message = &mut self.messages[index];
        assert!(message.is_sent, "m{index} was not sent, or not committed");
        assert_eq!(message.holder, None, "m{index} is delivered to {:?}, and another one has it", delivery.to);
        assert!(!message.is_taken, "m{index} was taken by a consumer that does not acknowledge");
        let settled = message.attempts.iter().find(|attempt| attempt.is_certain);
        assert!(settled.is_none(), "m{index} is delivered after {settled:?}");
        assert!(message.seen == 0 || delivery.is_redelivered, "m{index} comes again without a word");
        message.seen += 1;
        if !delivery.acknowledges {
            message.is_taken = true;
        } else if delivery.is_held {
            message.holder = Some(delivery.to);
        }
    }

    /// Compares what is left in queues, and among the dead letters, with what was sent and settled.
    pub(super) fn check(&mut self, left: &BTreeMap<usize, bool>, rules: &Rules) {
        self.resolve_transactions(left);
        for (index, message) in self.messages.iter().enumerate() {
            let is_left = left.get(&index);
            if !message.destination.starts_with("/queue/") {
                assert!(is_left != Some(&false), "m{index} is none of a queue");
                continue;
            }
            assert!(is_left.is_none() || message.is_sent, "m{index} was never sent");
            let is_any = |fate: Fate, is_certain: bool| {
                message.attempts.iter().any(|attempt| attempt.fate == fate && (attempt.is_certain || !is_certain))
            };
            if is_any(Fate::Acknowledged, true) || message.is_taken {
                assert_eq!(is_left, None, "m{index} was acknowledged: {message:?}");
                continue;
            }
            if is_any(Fate::Dead, true) {
                assert!(is_left == Some(&true) || rules.drops_dead, "m{index} is no dead letter: {is_left:?}");
                continue;
            }
            let may_be_dead = rules.buries || is_any(Fate::Dead, false);
            assert!(is_left != Some(&true) || may_be_dead, "m{index} is a dead letter: {message:?}");
            let may_be_gone = is_any(Fate::Acknowledged, false)
                || rules.lossy.contains(message.destination.as_str())
                || may_be_dead && rules.drops_dead;
            if message.is_certain && !may_be_gone {
                assert!(is_left.is_some(), "m{index} was lost: {message:?}");
            }
        }
    }

    /// Finds out whether transactions whose COMMIT was not answered took effect: all of it has, or nothing.
    fn resolve_transactions(&mut self, left: &BTreeMap<usize, bool>) {
        for index in 0..self.transactions.len() {
            let transaction = &self.transactions[index];
            if !transaction.is_committed || transaction.is_certain {
                continue;
            }
            let messages = transaction.messages.iter().filter(|&&it| {
                let destination = &self.messages[it].destination;
                destination.starts_with("/queue/m")
            });
            let has_come: BTreeSet<bool> =
                messages.map(|it| self.messages[*it].seen > 0 || left.contains_key(it)).collect();
            assert!(has_come.len() < 2, "a part of transaction {index} took effect: {transaction:?}");
            match has_come.first() {
                Some(true) => self.confirm_commit(index),
                Some(false) => {
                    let of_it = |attempt: &Attempt| attempt.transaction == Some(index);
                    self.messages.iter_mut().for_each(|message| message.attempts.retain(|attempt| !of_it(attempt)));
                }
                None => {}
            }
        }
    }
}

/// What may happen to messages.
#[derive(Debug)]
pub(super) struct Rules {
    /// They may become dead letters by being delivered often.
    pub(super) buries: bool,
    /// There may be no room for dead letters.
    pub(super) drops_dead: bool,
    /// Queues with consumers that do not acknowledge.
    pub(super) lossy: BTreeSet<&'static str>,
}
