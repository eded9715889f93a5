//! What a queue gives out: deliveries, dead letters, and word of consumers that it removed.

/// Names a consumer of one queue: a subscription of a connection, in the words of whoever owns both.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConsumerId(pub u64);

/// What becomes of a message that a consumer does not want.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Nack {
    /// It goes back to where it was in the queue, and to another consumer if one has room.
    Requeue,
    /// It is handed out as a dead letter.
    DeadLetter,
    /// It is dropped.
    Drop,
}

/// One delivery of a message. No two deliveries of a queue have the same one within 10^12.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct DeliveryId(u64);

/// Something to do for the owner of a queue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Dispatch<M> {
    /// A message for a consumer.
    Delivery(Delivery<M>),
    /// A message that will not be delivered. The queue has forgotten it.
    DeadLetter(DeadLetter<M>),
    /// A consumer that has not acknowledged for too long. It is removed, as if its connection was lost,
    /// and should be told.
    Overdue(ConsumerId),
}

/// A message for a consumer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delivery<M> {
    /// To whom.
    pub consumer: ConsumerId,
    /// What to acknowledge; nothing in [`AckMode::Auto`](crate::proto::stomp::AckMode::Auto).
    pub id: DeliveryId,
    /// What was pushed.
    pub message: M,
    /// How many messages the queue had taken before this one. Another delivery of the message has
    /// the same.
    pub sequence: u64,
    /// How often the message was delivered, this time included.
    pub delivery_count: u32,
}

/// A message that will not be delivered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeadLetter<M> {
    /// What was pushed.
    pub message: M,
    /// How many messages the queue had taken before this one.
    pub sequence: u64,
    /// How often it was delivered.
    pub delivery_count: u32,
    /// Why it will not be.
    pub cause: Cause,
}

/// Why a message is a dead letter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// A consumer refused it.
    Rejected,
    /// It came back from its last permitted delivery.
    Deliveries,
    /// It was too old.
    Age,
}

impl DeliveryId {
    /// A delivery, the `serial`-th, of the message that is kept at `place`.
    pub(super) fn new(serial: u64, place: u32) -> Self {
        Self(serial << PLACE_BITS | u64::from(place))
    }

    /// The id that [`DeliveryId::to_bits`] gave, or one that no delivery has.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The id as a number, for the wire.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    pub(super) fn serial(self) -> u64 {
        self.0 >> PLACE_BITS
    }

    pub(super) fn place(self) -> u32 {
        u32::try_from(self.0 & u64::from(NO_PLACE)).expect("masked")
    }
}

impl<M> Delivery<M> {
    /// Whether the message was delivered before, to whomever.
    #[must_use]
    pub const fn redelivered(&self) -> bool {
        self.delivery_count > 1
    }
}

const PLACE_BITS: u32 = 24;
/// In place of the place: the message is not kept, since nobody will acknowledge it.
pub(super) const NO_PLACE: u32 = (1 << PLACE_BITS) - 1;
/// Serial numbers begin again with 1 after this one.
pub(super) const SERIAL_MAX: u64 = u64::MAX >> PLACE_BITS;

const _: () = assert!(super::MESSAGES_MAX <= NO_PLACE as usize, "every message kept has a place of its own");
