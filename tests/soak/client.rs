//! A thread of the client: connections around one readiness loop.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use ringsock::buf::Pool;

use crate::connection::{Connection, Desk, Outcome, READ_LEN_MAX};
use crate::content::Content;
use crate::random::Random;
use crate::speech::Temper;
use crate::tally::Tally;

/// When a client ends its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until<'a> {
    /// It is told so; until then, connections that have ended are replaced.
    Told(&'a AtomicBool),
    /// Each connection has had the echo of one message, and all of them are open.
    AllAnswered,
}

/// What a client is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) content: &'a Content,
    pub(crate) seed: u64,
    /// The number of its first connection, and the step to the next.
    pub(crate) first: u64,
    pub(crate) step: u64,
    pub(crate) connections: usize,
    pub(crate) until: Until<'a>,
}

/// Serves connections until all have ended.
pub(crate) fn run(task: Task<'_>) -> Result<Tally, String> {
    let mut client = Client::new(task).map_err(|error| format!("the client could not start: {error}"))?;
    client.run()?;
    match client.desk.pool.lent() {
        0 => Ok(client.desk.tally),
        lent => Err(format!("the client's sessions have not given back {lent} blocks")),
    }
}

struct Client<'a> {
    task: Task<'a>,
    poll: Poll,
    seats: Vec<Seat>,
    /// The seats that can go on, each once.
    ready: Vec<usize>,
    desk: Desk<'a>,
    opened: u64,
    live: usize,
    started: Instant,
    /// When it was told to end.
    ending_since: Option<Duration>,
    looked_at: Duration,
}

/// A place for one connection after another.
struct Seat {
    number: u64,
    ready: bool,
    connection: Option<Connection>,
}

impl<'a> Client<'a> {
    #[expect(clippy::disallowed_methods, reason = "the client of a soak runs in real time")]
    fn new(task: Task<'a>) -> io::Result<Self> {
        let desk = Desk {
            content: task.content,
            tally: Tally::default(),
            pool: Pool::default(),
            buffer: vec![0; READ_LEN_MAX],
            now: Duration::ZERO,
        };
        Ok(Self {
            task,
            poll: Poll::new()?,
            seats: Vec::new(),
            ready: Vec::new(),
            desk,
            opened: 0,
            live: 0,
            started: Instant::now(),
            ending_since: None,
            looked_at: Duration::ZERO,
        })
    }

    fn run(&mut self) -> Result<(), String> {
        for seat in 0..self.task.connections {
            self.seats.push(Seat { number: 0, ready: false, connection: None });
            self.open(seat)?;
        }
        let mut events = Events::with_capacity(EVENTS_MAX);
        while self.live > 0 {
            let wait = if self.ready.is_empty() { WAIT } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(format!("poll: {error}")),
                _ => {}
            }
            self.desk.now = self.started.elapsed();
            for event in &events {
                let seat = event.token().0;
                if let Some(connection) = &mut self.seats[seat].connection {
                    connection.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                    connection.writable |= event.is_writable() || event.is_error();
                    self.make_ready(seat);
                }
            }
            for seat in std::mem::take(&mut self.ready) {
                self.seats[seat].ready = false;
                self.serve(seat)?;
            }
            self.end_in_time()?;
        }
        Ok(())
    }

    /// Gives one connection its share of the turn.
    fn serve(&mut self, seat: usize) -> Result<(), String> {
        let Seat { number, connection: Some(connection), .. } = &mut self.seats[seat] else { return Ok(()) };
        let outcome = connection.drive(&mut self.desk).map_err(|error| format!("connection {number}: {error}"))?;
        match outcome {
            Outcome::Idle => {}
            Outcome::Busy => self.make_ready(seat),
            Outcome::Ended => {
                if let Some(connection) = self.seats[seat].connection.take() {
                    connection.retire(&mut self.desk);
                }
                self.live -= 1;
                if self.ending_since.is_none() {
                    self.open(seat)?;
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, seat: usize) -> Result<(), String> {
        let number = self.task.first + self.opened * self.task.step;
        self.opened += 1;
        let temper = match self.task.until {
            Until::Told(_) => Temper::Wild,
            Until::AllAnswered => Temper::Calm,
        };
        let random = Random::new(self.task.seed, number);
        let connection = Connection::open(self.task.address, random, temper, &self.desk).and_then(|mut connection| {
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut connection.stream, Token(seat), both)?;
            Ok(connection)
        });
        let connection = connection.map_err(|error| format!("connection {number} could not be opened: {error}"))?;
        self.seats[seat] = Seat { number, ready: self.seats[seat].ready, connection: Some(connection) };
        self.desk.tally.connections += 1;
        self.live += 1;
        Ok(())
    }

    fn make_ready(&mut self, seat: usize) {
        if !std::mem::replace(&mut self.seats[seat].ready, true) {
            self.ready.push(seat);
        }
    }

    /// Ends the connections when it is time, and fails if any of them hangs.
    fn end_in_time(&mut self) -> Result<(), String> {
        let due = match self.task.until {
            Until::Told(told) => told.load(Ordering::Relaxed),
            Until::AllAnswered => self.desk.tally.messages() == self.task.connections as u64,
        };
        let now = self.desk.now;
        if due && self.ending_since.is_none() {
            self.ending_since = Some(now);
            for seat in 0..self.seats.len() {
                if let Some(connection) = &mut self.seats[seat].connection {
                    connection.conclude();
                    self.make_ready(seat);
                }
            }
        }
        if now.saturating_sub(self.looked_at) < LOOK_INTERVAL {
            return Ok(());
        }
        self.looked_at = now;
        for seat in &self.seats {
            if let Some(connection) = &seat.connection
                && now.saturating_sub(connection.moved_at) > PATIENCE
            {
                let (number, awaits) = (seat.number, connection.awaits());
                return Err(format!("connection {number}: no byte for {PATIENCE:?} while it awaits {awaits}"));
            }
        }
        match self.ending_since {
            Some(since) if now.saturating_sub(since) > ENDING_MAX => {
                Err(format!("{} connections have not ended after {ENDING_MAX:?}", self.live))
            }
            _ => Ok(()),
        }
    }
}

const EVENTS_MAX: usize = 1024;
/// How long a turn waits at most, so that the client notices when it is told to end.
const WAIT: Duration = Duration::from_millis(50);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Hanging is an error, slowness is not: these bound the run and are far beyond what is ever seen.
const PATIENCE: Duration = Duration::from_secs(60);
const ENDING_MAX: Duration = Duration::from_secs(180);
