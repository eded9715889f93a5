//! What a client asks for: its frames with the headers that their commands have, by the version's rules.

use std::borrow::Cow;

use crate::proto::stomp::{Command, Fault, Frame, Headers, Version};

/// A client's frame after CONNECT.
#[derive(Clone, Debug)]
pub struct Request<'f> {
    /// What is asked for.
    pub action: Action<'f>,
    /// The id under which the client wants to be told that it was done.
    pub receipt: Option<Cow<'f, str>>,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Action<'f> {
    /// To publish a message.
    Send(Publication<'f>),
    /// To be sent the messages of a destination.
    Subscribe(Subscription<'f>),
    /// To be sent them no longer.
    Unsubscribe(SubscriptionName<'f>),
    /// To count messages as processed.
    Ack(Settlement<'f>),
    /// To count messages as not processed.
    Nack(Settlement<'f>),
    /// To begin a transaction of this name.
    Begin(Cow<'f, str>),
    /// To have it take effect.
    Commit(Cow<'f, str>),
    /// To drop it.
    Abort(Cow<'f, str>),
    /// To end the session when all before is done.
    Disconnect,
}

/// A message that a client publishes.
#[derive(Clone, Debug)]
pub struct Publication<'f> {
    /// Where to, as it was written.
    pub destination: Cow<'f, str>,
    /// The transaction that it is part of.
    pub transaction: Option<Cow<'f, str>>,
    /// All of its headers: see [`Publication::passed_on`].
    pub headers: Headers<'f>,
    /// What it is about.
    pub body: &'f [u8],
}

impl<'f> Publication<'f> {
    /// The headers that subscribers get: all but those that are about this frame alone, and those that are the
    /// broker's to give. Of a repeated one the first comes first.
    pub fn passed_on(&self) -> impl Iterator<Item = (Cow<'f, str>, Cow<'f, str>)> + use<'f> {
        let all = self.headers.map(|header| (header.name(), header.value()));
        all.filter(|(name, _)| Self::passes_on(name))
    }

    /// Whether subscribers get a header of this name.
    #[must_use]
    pub fn passes_on(name: &str) -> bool {
        !NOT_PASSED_ON.contains(&name)
    }
}

/// Headers of SEND that subscribers don't get from it: `destination` comes with every MESSAGE anyway.
const NOT_PASSED_ON: [&str; 11] = [
    "destination",
    "content-length",
    "receipt",
    "transaction",
    "message-id",
    "subscription",
    "ack",
    "redelivered",
    "dropped",
    "dead-letter-cause",
    "dead-letter-destination",
];

/// A wish for the messages of a destination.
#[derive(Clone, Debug)]
pub struct Subscription<'f> {
    /// Where from, as it was written.
    pub destination: Cow<'f, str>,
    /// Its id, unique on the connection. Only 1.0 may go without.
    pub id: Option<Cow<'f, str>>,
    /// How its messages are acknowledged.
    pub ack: AckMode,
    /// How many may be unacknowledged at a time, if the client says so.
    pub prefetch: Option<u32>,
}

/// How the messages of a subscription are acknowledged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AckMode {
    /// By being sent.
    #[default]
    Auto,
    /// By ACK, for all messages of the subscription up to the one that it names.
    Client,
    /// By ACK, one by one.
    ClientIndividual,
}

/// Which subscription is meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SubscriptionName<'f> {
    /// That of this id.
    Id(Cow<'f, str>),
    /// That without an id of this destination (1.0).
    Destination(Cow<'f, str>),
}

/// Which message is meant by an ACK or NACK.
#[derive(Clone, Debug)]
pub struct Settlement<'f> {
    /// The `ack` of the MESSAGE in 1.2, its `message-id` before.
    pub id: Cow<'f, str>,
    /// The subscription that it came by (1.1).
    pub subscription: Option<Cow<'f, str>>,
    /// The transaction that this is part of.
    pub transaction: Option<Cow<'f, str>>,
    /// Whether a message that is declined is to be offered again: the header `requeue`, true if there is none.
    pub requeue: bool,
}

impl<'f> Action<'f> {
    /// Reads what a frame of a connected client asks for.
    ///
    /// # Errors
    ///
    /// A header that is missing or wrong, or a command that is none for a connected client.
    pub(super) fn read(frame: &Frame<'f>, version: Version) -> Result<Self, Fault> {
        Ok(match frame.command() {
            Command::Send => Self::Send(Publication {
                destination: required(frame, "destination", Fault::MissingDestination)?,
                transaction: frame.header("transaction"),
                headers: frame.headers(),
                body: frame.body(),
            }),
            Command::Subscribe => Self::Subscribe(subscription(frame, version)?),
            Command::Unsubscribe => Self::Unsubscribe(match (frame.header("id"), frame.header("destination")) {
                (Some(id), _) => SubscriptionName::Id(id),
                (None, Some(destination)) if version == Version::V1_0 => SubscriptionName::Destination(destination),
                _ => return Err(Fault::MissingId),
            }),
            Command::Ack => Self::Ack(settlement(frame, version)?),
            Command::Nack => Self::Nack(settlement(frame, version)?),
            Command::Begin => Self::Begin(required(frame, "transaction", Fault::MissingTransaction)?),
            Command::Commit => Self::Commit(required(frame, "transaction", Fault::MissingTransaction)?),
            Command::Abort => Self::Abort(required(frame, "transaction", Fault::MissingTransaction)?),
            Command::Disconnect => Self::Disconnect,
            Command::Connect | Command::Stomp => return Err(Fault::AlreadyConnected),
            Command::Connected | Command::Message | Command::Receipt | Command::Error => {
                return Err(Fault::ServerCommand);
            }
        })
    }
}

fn required<'f>(frame: &Frame<'f>, name: &str, fault: Fault) -> Result<Cow<'f, str>, Fault> {
    frame.header(name).filter(|value| !value.is_empty()).ok_or(fault)
}

fn subscription<'f>(frame: &Frame<'f>, version: Version) -> Result<Subscription<'f>, Fault> {
    let id = frame.header("id");
    if id.is_none() && version > Version::V1_0 {
        return Err(Fault::MissingId);
    }
    // Who asks for a selection and gets all would take the rest for what he asked for.
    if frame.header("selector").is_some() {
        return Err(Fault::Selector);
    }
    let ack = match frame.header("ack").as_deref() {
        None | Some("auto") => AckMode::Auto,
        Some("client") => AckMode::Client,
        Some("client-individual") => AckMode::ClientIndividual,
        Some(_) => return Err(Fault::UnknownAckMode),
    };
    // As RabbitMQ and ActiveMQ call it.
    let prefetch = frame.header("prefetch-count").or_else(|| frame.header("activemq.prefetchSize"));
    let prefetch = prefetch.map(|count| count.parse().map_err(|_| Fault::InvalidPrefetch)).transpose()?;
    let destination = required(frame, "destination", Fault::MissingDestination)?;
    Ok(Subscription { destination, id, ack, prefetch })
}

fn settlement<'f>(frame: &Frame<'f>, version: Version) -> Result<Settlement<'f>, Fault> {
    let subscription = frame.header("subscription");
    let id = match version {
        Version::V1_2 => required(frame, "id", Fault::MissingId)?,
        Version::V1_1 if subscription.is_none() => return Err(Fault::MissingSubscription),
        Version::V1_0 | Version::V1_1 => required(frame, "message-id", Fault::MissingMessageId)?,
    };
    let requeue = match frame.header("requeue").as_deref() {
        None | Some("true" | "True") => true,
        Some("false" | "False") => false,
        Some(_) => return Err(Fault::InvalidRequeue),
    };
    Ok(Settlement { id, subscription, transaction: frame.header("transaction"), requeue })
}
