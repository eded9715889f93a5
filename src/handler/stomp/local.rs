//! Publishing and subscribing by the program itself: from a handler, or from another thread by a [`Parcel`].

use std::fmt;
use std::sync::Arc;

use crate::broker::{Destination, DestinationError};
use crate::handler::{Effects, Parcel};
use crate::proto::stomp::Publication;

use super::Stomp;
use super::desk::TOPIC;
use super::message::{Message, MessageId};
use super::op::{Op, Ticket};
use super::requests::{QUEUE, read_token};

/// A function that gets the messages of a destination, on a worker: it must not block.
pub struct Subscriber(Box<dyn FnMut(&Message) -> Wish + Send>);

/// Whether a subscriber wants more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    /// It does.
    More,
    /// It has had enough: the subscription ends.
    NoMore,
}

/// A message of the program's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outgoing {
    destination: Box<str>,
    headers: Vec<(String, String)>,
    body: Box<[u8]>,
}

impl Subscriber {
    /// A subscriber that is told of each message.
    pub fn new(tell: impl FnMut(&Message) -> Wish + Send + 'static) -> Self {
        Self(Box::new(tell))
    }

    pub(super) fn tell(&mut self, message: &Message) -> Wish {
        (self.0)(message)
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").finish_non_exhaustive()
    }
}

impl Outgoing {
    /// A message to a topic, a queue, or the temporary queue that the `reply-to` of a message names, with headers such
    /// as `content-type`. Those that are the broker's to give are
    /// left out, so the headers of a message that came in will do.
    ///
    /// # Errors
    ///
    /// A destination that is none.
    pub fn new(
        destination: &str,
        headers: impl IntoIterator<Item = (String, String)>,
        body: &[u8],
    ) -> Result<Self, DestinationError> {
        match Destination::of_send(destination)? {
            Destination::Topic(_) | Destination::Queue(_) => {}
            Destination::TempQueue(name) if read_token(name).is_some() => {}
            // The name that its owner has for it means nothing to others.
            Destination::TempQueue(_) => return Err(DestinationError::Unsupported),
        }
        let headers = headers.into_iter().filter(|(name, _)| Publication::passes_on(name)).collect();
        Ok(Self { destination: destination.into(), headers, body: body.into() })
    }

    /// A parcel for the worker that is to send it. Messages by the same worker stay in their order.
    #[must_use]
    pub fn into_parcel(self) -> Parcel {
        let bytes = self.destination.len() + self.body.len();
        Parcel { content: Box::new(vec![Op::TakeIn(self)]), bytes }
    }
}

/// A parcel for a worker that is to call `subscriber` with the messages of a topic or queue.
///
/// # Errors
///
/// A destination that is none, or a temporary queue.
pub fn subscription(destination: &str, subscriber: Subscriber) -> Result<Parcel, DestinationError> {
    match Destination::of_subscribe(destination)? {
        Destination::Topic(_) | Destination::Queue(_) => {}
        Destination::TempQueue(_) => return Err(DestinationError::Unsupported),
    }
    let op = Op::Attach { destination: destination.into(), subscriber };
    Ok(Parcel { content: Box::new(vec![op]), bytes: destination.len() })
}

impl Stomp {
    /// Publishes a message of the program's own. A queue that is full drops it, and counts it as dead.
    pub fn publish(&mut self, message: &Outgoing, effects: &mut Effects<'_>) {
        self.take_in_own(message);
        self.work(effects);
    }

    /// Subscribes a part of the program. It is called on this worker.
    ///
    /// # Errors
    ///
    /// A destination that is none, or a temporary queue.
    pub fn subscribe(
        &mut self,
        destination: &str,
        subscriber: Subscriber,
        effects: &mut Effects<'_>,
    ) -> Result<(), DestinationError> {
        let parcel = subscription(destination, subscriber)?;
        crate::handler::Handler::on_parcel(self, parcel, effects);
        Ok(())
    }

    pub(super) fn take_in_own(&mut self, Outgoing { destination, headers, body }: &Outgoing) {
        self.messages += 1;
        self.desk.counters.published += 1;
        let id = MessageId { worker: self.worker, serial: self.messages };
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let message = Arc::new(Message::new(id, destination, headers, body));
        if let Some(name) = destination.strip_prefix(QUEUE) {
            let ticket = Ticket { client: None, receipt: 0 };
            let worker = self.worker_of(name);
            self.desk.outboxes.tell(worker, Op::Push { message, ticket, is_reserved: false });
        } else if destination.starts_with(TOPIC) {
            self.spread(&message);
        } else {
            self.answer_to(message);
        }
    }
}
