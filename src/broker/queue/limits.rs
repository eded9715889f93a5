//! What a queue may hold, for how long, and what is said to those who want more.

/// How many messages a queue can hold at all: a delivery's id has 24 bits for the place of its message.
pub const MESSAGES_MAX: usize = (1 << 24) - 1;

/// The limits of one queue.
///
/// Messages count until they are settled or handed out as dead letters, so what waits, what is not
/// acknowledged yet and what is dead share the same bounds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How many messages the queue holds; more than [`MESSAGES_MAX`] mean that many.
    pub messages_max: usize,
    /// How many bytes the messages have together.
    pub bytes_max: usize,
    /// How old a message gets before it is a dead letter instead of being delivered.
    pub age_ms_max: u64,
    /// How often a message is delivered. If it comes back after that, it is a dead letter.
    pub deliveries_max: u32,
    /// How many consumers there are.
    pub consumers_max: usize,
    /// How many unacknowledged messages a consumer may ask for.
    pub prefetch_max: u32,
    /// After this time without an acknowledgement of its oldest delivery, and before twice of it, a
    /// consumer is removed.
    pub acknowledge_ms_max: u64,
    /// What happens to a message for which there is no room.
    pub overflow: Overflow,
}

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overflow {
    /// It is refused, so that its sender learns of it.
    Refuse,
    /// The oldest messages that wait are dropped for it. Those that consumers have at the moment are
    /// not, so it is refused if these take all the room.
    DropOldest,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PushError {
    /// The queue holds as many messages or bytes as it may.
    Full,
    /// The message alone has more bytes than the queue may hold.
    TooLarge,
}

/// Why a consumer was not added or removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubscribeError {
    /// The consumer is there already.
    Duplicate,
    /// There are as many consumers as there may be.
    TooMany,
    /// There is no such consumer.
    Unknown,
}

/// Why an acknowledgement, or its opposite, had no effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AckError {
    /// Nothing of that id waits for one: it was settled, came back to the queue or was never delivered.
    Unknown,
    /// The message was delivered to another consumer.
    Foreign,
}

impl PushError {
    /// The text for an ERROR frame, which needs no escaping.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Full => "queue is full",
            Self::TooLarge => "message is too large for the queue",
        }
    }
}

impl SubscribeError {
    /// The text for an ERROR frame, which needs no escaping.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Duplicate => "subscription id is in use",
            Self::TooMany => "too many subscriptions to the queue",
            Self::Unknown => "no such subscription",
        }
    }
}

impl AckError {
    /// The text for an ERROR frame, which needs no escaping.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Unknown => "no such message to acknowledge",
            Self::Foreign => "message was delivered to another subscription",
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages_max: 100_000,
            bytes_max: 64 << 20,
            age_ms_max: 24 * 3_600_000,
            deliveries_max: 16,
            consumers_max: 10_000,
            prefetch_max: 1_024,
            acknowledge_ms_max: 30 * 60_000,
            overflow: Overflow::Refuse,
        }
    }
}
