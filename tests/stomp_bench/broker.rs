//! A broker that does what the load asks for, but for one misdeed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringsock::buf::Pool;
use ringsock::proto::stomp::{Command, Decoder, Frame, Limits, SUBPROTOCOLS, Version, encoder as stomp};
use ringsock::{
    Accept, CloseCause, ConnectionId, Effects, Handler, Message, MessageKind, Options, Refusal, Request, Server,
    Upgrade, encoder,
};

/// What it does to one message, for the first who should get it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Misdeed {
    None,
    Loses,
    Doubles,
    Alters,
    /// Exchanges it with the next one.
    Swaps,
    /// Refuses everybody.
    Refuses,
}

/// Which message that is.
const VICTIM: u64 = 7;

#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) acknowledged: Arc<AtomicU64>,
}

pub(crate) struct Broker {
    misdeed: Misdeed,
    counts: Counts,
    /// Who has subscribed to what.
    subscribers: Vec<(ConnectionId, String)>,
    delivered: u64,
    /// A message that waits for the next one.
    held: Option<Vec<u8>>,
    turn: usize,
    pool: Pool,
}

impl Broker {
    /// Starts a server with it.
    pub(crate) fn start(misdeed: Misdeed) -> (Server, Counts) {
        let mut options = Options::development();
        options.listen.set_port(0);
        options.workers = Some(1);
        options.connections_max = Some(256);
        let counts = Counts::default();
        let make_handler = {
            let counts = counts.clone();
            move |_| Self::new(misdeed, counts.clone())
        };
        (Server::start(options, make_handler).expect("io_uring works here"), counts)
    }

    fn new(misdeed: Misdeed, counts: Counts) -> Self {
        Self { misdeed, counts, subscribers: Vec::new(), delivered: 0, held: None, turn: 0, pool: Pool::default() }
    }

    fn take(&mut self, from: ConnectionId, frame: &Frame<'_>, effects: &mut Effects<'_>) {
        let destination = frame.header("destination").unwrap_or_default().into_owned();
        match frame.command() {
            Command::Connect if self.misdeed == Misdeed::Refuses => {
                answer(effects, Command::Error, "message", "not today");
            }
            Command::Connect => answer(effects, Command::Connected, "version", "1.2"),
            Command::Subscribe => {
                self.subscribers.push((from, destination));
                answer(effects, Command::Receipt, "receipt-id", &frame.header("receipt").expect("it asks for one"));
            }
            Command::Send => {
                self.counts.sent.fetch_add(1, Ordering::Relaxed);
                self.publish(&destination, frame.body(), effects);
            }
            Command::Ack => {
                assert!(frame.header("id").is_some_and(|id| id.starts_with("ack-")), "the one that was given");
                self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            other => panic!("the load does not send {other:?}"),
        }
    }

    fn publish(&mut self, destination: &str, body: &[u8], effects: &mut Effects<'_>) {
        let to = |it: &&(ConnectionId, String)| it.1 == destination;
        let mut receivers: Vec<ConnectionId> = self.subscribers.iter().filter(to).map(|it| it.0).collect();
        if destination.starts_with("/queue/") && !receivers.is_empty() {
            self.turn += 1;
            receivers = vec![receivers[self.turn % receivers.len()]];
        }
        let is_victim = self.counts.sent.load(Ordering::Relaxed) == VICTIM;
        for (index, receiver) in receivers.into_iter().enumerate() {
            match self.misdeed {
                Misdeed::Loses if is_victim && index == 0 => {}
                Misdeed::Doubles if is_victim && index == 0 => {
                    (0..2).for_each(|_| self.deliver(receiver, destination, body, effects));
                }
                Misdeed::Alters if is_victim && index == 0 => {
                    let altered = [&body[..body.len() - 1], b"!"].concat();
                    self.deliver(receiver, destination, &altered, effects);
                }
                Misdeed::Swaps if is_victim && index == 0 => self.held = Some(body.to_vec()),
                _ => {
                    self.deliver(receiver, destination, body, effects);
                    if index == 0
                        && let Some(held) = self.held.take()
                    {
                        self.deliver(receiver, destination, &held, effects);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, to: ConnectionId, destination: &str, body: &[u8], effects: &mut Effects<'_>) {
        self.delivered += 1;
        let mut out = Vec::new();
        let mut frame = stomp::begin(&mut out, Version::V1_2, Command::Message);
        frame.header("subscription", "0").header("destination", destination);
        frame.header("ack", &format!("ack-{}", self.delivered)).number("message-id", self.delivered);
        frame.finish(body);
        let kind = if str::from_utf8(&out).is_ok() { MessageKind::Text } else { MessageKind::Binary };
        effects.send_to(to, &encoder::shared(kind, &out));
    }
}

impl Handler for Broker {
    fn on_upgrade(&mut self, _: ConnectionId, _: &Request<'_>, upgrade: &Upgrade<'_>) -> Result<Accept, Refusal> {
        let subprotocol = SUBPROTOCOLS.into_iter().find(|name| upgrade.subprotocols().any(|offered| offered == *name));
        Ok(Accept { subprotocol, ..Accept::default() })
    }

    fn on_message(&mut self, from: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(Version::V1_2);
        let (mut input, mut pool) = (message.bytes(), std::mem::take(&mut self.pool));
        let frame = decoder.receive(&mut input, &mut pool).expect("the load keeps to the protocol");
        self.take(from, &frame.expect("one whole frame in each message"), effects);
        assert!(input.is_empty(), "one frame in each message");
        self.pool = pool;
    }

    fn on_close(&mut self, connection: ConnectionId, _: CloseCause, _: &mut Effects<'_>) {
        self.subscribers.retain(|subscriber| subscriber.0 != connection);
    }
}

fn answer(effects: &mut Effects<'_>, command: Command, name: &str, value: &str) {
    let mut out = Vec::new();
    let mut frame = stomp::begin(&mut out, Version::V1_2, command);
    frame.header(name, value);
    frame.finish(b"");
    effects.send_text(str::from_utf8(&out).expect("all of it is text"));
}
