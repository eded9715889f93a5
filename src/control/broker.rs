//! The STOMP broker of a running server for the rest of the program: publishing, and subscribing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};

use crate::broker::{Destination, DestinationError};
use crate::handler::stomp::{Message, Outgoing, Subscriber, Wish, subscription};
use crate::worker::{Handle, PostError};

/// The worker that is told. One for all, so that what one thread asks for happens in order.
const WORKER: u16 = 0;

/// Publishes to and subscribes at the broker of a running server, from any thread; cheap to clone.
///
/// ```
/// use ringsock::control::Broker;
/// use ringsock::handler::stomp::{Options, Shared, Stomp};
/// use ringsock::Server;
///
/// let mut options = ringsock::Options::default();
/// options.listen.set_port(0);
/// let shared = Shared::default();
/// let server = Server::start(options, move |_worker| Stomp::new(Options::default(), &shared))?;
///
/// let broker = Broker::new(server.handle());
/// let prices = broker.subscribe("/topic/price.*", 100)?;
/// broker.publish("/topic/price.gold", &[("content-type", "text/plain")], b"2412")?;
/// let price = prices.recv()?;
/// assert_eq!((price.destination(), price.body()), ("/topic/price.gold", &b"2412"[..]));
/// assert!(broker.subscribe("/queue/jobs", 100).is_err(), "a queue is for those who acknowledge");
/// # server.stop();
/// # server.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Broker {
    handle: Handle,
}

/// Why something was not published or subscribed to.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The destination is none.
    #[error("{}", _0.message())]
    Destination(DestinationError),
    /// A subscription to a queue, whose messages would be lost while nobody takes them.
    #[error("only topics can be subscribed to from here: what comes while nobody takes it is dropped")]
    Queue,
    /// A worker could not be told.
    #[error(transparent)]
    Post(#[from] PostError),
}

/// The messages of a subscription, in their order.
///
/// It ends when it is dropped, with the next message that would have come.
#[derive(Debug)]
pub struct Messages {
    receiver: Receiver<Message>,
    dropped: Arc<AtomicU64>,
}

impl Broker {
    /// The broker of the server behind `handle`, whose workers have a
    /// [`Stomp`](crate::handler::stomp::Stomp) for a handler, or pass parcels on to one.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// Publishes a message to a topic or a queue, or as an answer to the `reply-to` of a message. Those to one
    /// destination keep their order. It returns before the message has arrived: a queue that is full drops it, and
    /// counts it as dead.
    ///
    /// # Errors
    ///
    /// The destination is none, or its worker can't be reached: [`PostError::Full`] says that it is told more than it
    /// can do at the moment, and nothing was published.
    pub fn publish(&self, destination: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<(), BrokerError> {
        let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let message = Outgoing::new(destination, headers, body).map_err(BrokerError::Destination)?;
        self.handle.post(WORKER, message.into_parcel())?;
        Ok(())
    }

    /// Subscribes to a topic, perhaps with wildcards. `capacity` messages may wait to be taken; what
    /// comes while so many do is dropped and counted by [`Messages::dropped`]. It is active when its worker has
    /// heard of it: before what this thread publishes to the same destination from here on.
    ///
    /// # Errors
    ///
    /// The destination is no topic, or its worker can't be reached. A queue is for consumers that acknowledge, since
    /// its messages are nobody else's: that is a client, or on a worker
    /// [`Stomp::subscribe`](crate::handler::stomp::Stomp::subscribe), which waits for nobody.
    pub fn subscribe(&self, destination: &str, capacity: usize) -> Result<Messages, BrokerError> {
        if matches!(Destination::of_subscribe(destination), Ok(Destination::Queue(_))) {
            return Err(BrokerError::Queue);
        }
        let (sender, receiver) = sync_channel(capacity);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = dropped.clone();
        let subscriber = Subscriber::new(move |message| match sender.try_send(message.clone()) {
            Ok(()) => Wish::More,
            Err(TrySendError::Full(_)) => {
                counter.fetch_add(1, Ordering::Relaxed);
                Wish::More
            }
            Err(TrySendError::Disconnected(_)) => Wish::NoMore,
        });
        let parcel = subscription(destination, subscriber).map_err(BrokerError::Destination)?;
        self.handle.post(WORKER, parcel)?;
        Ok(Messages { receiver, dropped })
    }
}

impl Messages {
    /// Waits for the next message.
    ///
    /// # Errors
    ///
    /// The server has stopped.
    pub fn recv(&self) -> Result<Message, std::sync::mpsc::RecvError> {
        self.receiver.recv()
    }

    /// The next message, if one waits.
    #[must_use]
    pub fn try_recv(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// How many messages were dropped, since too many waited.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
