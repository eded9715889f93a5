//! What a STOMP broker lets its clients have.

use crate::broker::{DestinationError, Name, Pattern, Topics, queue, transaction};
use crate::proto::stomp::SessionOptions;
use crate::proto::ws::deflate::Policy;

/// What becomes of messages of a topic for a subscriber that does not take them as fast as they come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SlowConsumer {
    /// It is closed, with an ERROR that says so.
    #[default]
    Close,
    /// The oldest of those that wait for it are dropped. The next MESSAGE tells in its header `dropped` how many.
    DropOldest,
    /// Of each destination only the latest waits. The next MESSAGE tells in its header `dropped` how many were
    /// before it.
    KeepLatest,
}

/// When a SEND within a transaction gets its RECEIPT.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TransactionReceipts {
    /// At once: it is part of the transaction. Some clients wait for that before they send COMMIT.
    #[default]
    Immediate,
    /// After COMMIT, and never after ABORT.
    OnCommit,
}

/// What a broker offers and bears, for each worker or connection.
#[derive(Clone, Debug)]
pub struct Options {
    /// The path at which WebSocket clients are let in.
    pub path: &'static str,
    /// Frames, heart-beats and the time to log in.
    pub session: SessionOptions,
    /// What CONNECTED says of the server; empty for nothing.
    pub server: String,
    /// Subscriptions of a connection.
    pub subscriptions_max: usize,
    /// Messages that a connection may have unacknowledged, over all its subscriptions; each may have one in any case.
    pub unacknowledged_max: u32,
    /// How many messages a subscription that does not say may have unacknowledged.
    pub prefetch: u32,
    /// Receipts of a connection that wait for what they are about.
    pub receipts_max: usize,
    /// Frames of a connection that are processed in one go.
    pub frames_per_turn_max: usize,
    /// Transactions of a connection.
    pub transactions: transaction::Limits,
    /// When SENDs within them get their receipts.
    pub transaction_receipts: TransactionReceipts,
    /// Queues of a worker.
    pub queues_max: usize,
    /// Bytes of all messages in queues of a worker.
    pub queues_bytes_max: usize,
    /// Each queue.
    pub queues: queue::Limits,
    /// What waits for a subscription to a topic that acknowledges.
    pub topic_queues: queue::Limits,
    /// Where dead letters go; `None` drops them.
    pub dead_letter: Option<String>,
    /// What happens to slow subscribers, by the first pattern that the topic's name matches.
    pub slow_consumers: SlowConsumers,
    /// Messages that wait for a slow subscriber, and their bytes.
    pub backlog_max: (usize, usize),
    /// Whether messages are compressed with clients that offer it.
    pub compression: Policy,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: "/stomp",
            session: SessionOptions::default(),
            server: concat!("ringsock/", env!("CARGO_PKG_VERSION")).into(),
            subscriptions_max: 256,
            unacknowledged_max: 1_024,
            prefetch: 128,
            receipts_max: 1_024,
            frames_per_turn_max: 512,
            transactions: transaction::Limits::default(),
            transaction_receipts: TransactionReceipts::default(),
            queues_max: 10_000,
            queues_bytes_max: 512 << 20,
            queues: queue::Limits::default(),
            topic_queues: queue::Limits {
                messages_max: 1_024,
                bytes_max: 1 << 20,
                overflow: queue::Overflow::DropOldest,
                acknowledge_ms_max: u64::MAX,
                ..queue::Limits::default()
            },
            dead_letter: Some("/queue/DLQ".into()),
            slow_consumers: SlowConsumers::default(),
            backlog_max: (4_096, 1 << 20),
            compression: Policy::default(),
        }
    }
}

/// The policies of topics.
#[derive(Clone, Debug, Default)]
pub struct SlowConsumers {
    rules: Vec<(String, SlowConsumer)>,
}

impl SlowConsumers {
    /// Adds a policy for topics whose names match `pattern`, as in a SUBSCRIBE but without `/topic/`, unless an
    /// earlier one is theirs.
    ///
    /// # Errors
    ///
    /// The pattern is none.
    pub fn add(&mut self, pattern: &str, policy: SlowConsumer) -> Result<(), DestinationError> {
        Pattern::new(pattern)?;
        self.rules.push((pattern.into(), policy));
        Ok(())
    }
}

/// The policies as they are looked up.
#[derive(Debug)]
pub(super) struct Policies {
    rules: Topics<u32>,
    policies: Vec<SlowConsumer>,
}

impl Policies {
    pub(super) fn new(of: &SlowConsumers) -> Self {
        let mut rules = Topics::default();
        for (number, (pattern, _)) in (0..).zip(&of.rules) {
            if let Ok(pattern) = Pattern::new(pattern) {
                // It stays for as long as there are policies.
                let _rule = rules.subscribe(pattern, number);
            }
        }
        Self { rules, policies: of.rules.iter().map(|&(_, policy)| policy).collect() }
    }

    /// The policy for the topic of this name.
    pub(super) fn of(&self, name: Name<'_>) -> SlowConsumer {
        let mut first = u32::MAX;
        self.rules.for_each_match(name, |number| first = first.min(number));
        self.policies.get(first as usize).copied().unwrap_or_default()
    }
}
