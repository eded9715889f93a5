//! One connection of the client: its socket, what it says, and the check of what it hears.

use std::io;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use ringsock::buf::Pool;
use ringsock::proto::http::{Accepted, ClientRequest, HeadLimits, HeadScanner, write_upgrade_request};
use ringsock::proto::ws::{Event, Limits, MessageKind, Role, Session};
use socket2::SockRef;

use crate::content::{Content, Sample};
use crate::random::Random;
use crate::speech::{Debt, Speech, Temper};
use crate::tally::Tally;

/// What the connections of a thread share.
pub(crate) struct Desk<'a> {
    pub(crate) content: &'a Content,
    pub(crate) tally: Tally,
    pub(crate) pool: Pool,
    /// Where everything is received.
    pub(crate) buffer: Vec<u8>,
    /// The time of this turn, since the start.
    pub(crate) now: Duration,
}

/// What to do with a connection next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// It waits for its socket.
    Idle,
    /// It had its share of this turn and can go on.
    Busy,
    /// It has ended, as it should.
    Ended,
}

/// A connection.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// When a byte last went either way.
    pub(crate) moved_at: Duration,
    stage: Stage,
    speech: Speech,
    session: Session,
    read_len: usize,
}

enum Stage {
    Connecting(Upgrade),
    Upgrading(Upgrade),
    Open,
    /// Both have sent a Close: nothing but the end of the stream may follow.
    Closed,
}

/// An upgrade request and as much of its answer as has arrived.
struct Upgrade {
    host: String,
    path: &'static str,
    key: [u8; 16],
    request: Vec<u8>,
    written: usize,
    scanner: HeadScanner,
    head: Vec<u8>,
}

impl Connection {
    /// Begins to connect. `random` decides everything that the connection does.
    pub(crate) fn open(address: SocketAddr, mut random: Random, temper: Temper, desk: &Desk<'_>) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        if random.one_in(NARROW_ONE_IN) {
            SockRef::from(&stream).set_recv_buffer_size(NARROW_LEN)?;
        }
        let limits = Limits { message_bytes_max: desk.content.size_max(), ..Limits::default() };
        Ok(Self {
            stream,
            readable: false,
            writable: false,
            moved_at: desk.now,
            stage: Stage::Connecting(Upgrade::new(address, &mut random)),
            read_len: random.pick(&READ_LENS),
            speech: Speech::new(random, temper),
            session: Session::new(Role::Client, limits),
        })
    }

    /// Writes and reads as far as the socket and the share of a turn allow.
    pub(crate) fn drive(&mut self, desk: &mut Desk<'_>) -> Result<Outcome, String> {
        if matches!(self.stage, Stage::Connecting(_)) && !self.connect(desk)? {
            return Ok(Outcome::Idle);
        }
        let more_to_write = self.write(desk)?;
        if self.speech.is_cut() {
            self.reset(desk).map_err(|error| format!("a reset failed: {error}"))?;
            return Ok(Outcome::Ended);
        }
        if self.speech.is_deaf() {
            if more_to_write && self.writable {
                return Ok(Outcome::Busy);
            }
            self.speech.listen();
        }
        if self.readable && self.read(desk)? == Outcome::Ended {
            return Ok(Outcome::Ended);
        }
        // What was read may let more be said.
        let more_to_write = !pending(&self.stage, &mut self.speech, desk).is_empty() || self.speech.is_cut();
        Ok(if self.readable || self.writable && more_to_write { Outcome::Busy } else { Outcome::Idle })
    }

    /// Begins nothing new and ends in order.
    pub(crate) fn conclude(&mut self) {
        self.speech.conclude();
    }

    /// What it waits for, for a message about an error.
    pub(crate) fn awaits(&self) -> String {
        match &self.stage {
            Stage::Connecting(_) => "to be connected".to_owned(),
            Stage::Upgrading(_) => "the answer to its upgrade request".to_owned(),
            Stage::Open => match self.speech.debts().front() {
                Some(debt) => format!("{debt:?}, the first of {}", self.speech.debts().len()),
                None => "nothing".to_owned(),
            },
            Stage::Closed => "the end of the stream".to_owned(),
        }
    }

    /// Gives its memory back to the desk.
    pub(crate) fn retire(mut self, desk: &mut Desk<'_>) {
        self.session.end(&mut desk.pool);
    }

    /// Whether the connection is made; its request is written next.
    fn connect(&mut self, desk: &mut Desk<'_>) -> Result<bool, String> {
        if !self.writable {
            return Ok(false);
        }
        let failed = |error: io::Error| format!("could not connect: {error}");
        if let Some(error) = self.stream.take_error().map_err(failed)? {
            return Err(failed(error));
        }
        match self.stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Open) {
            Stage::Connecting(upgrade) => Stage::Upgrading(upgrade),
            other => other,
        };
        self.moved_at = desk.now;
        Ok(true)
    }

    /// Writes one share; whether there is more.
    fn write(&mut self, desk: &mut Desk<'_>) -> Result<bool, String> {
        let mut budget = WRITE_LEN_MAX;
        while self.writable {
            let pending = pending(&self.stage, &mut self.speech, desk);
            if pending.is_empty() {
                return Ok(false);
            }
            match self.stream.write(pending) {
                Ok(len) => {
                    match &mut self.stage {
                        Stage::Upgrading(upgrade) => upgrade.written += len,
                        _ => self.speech.advance(len),
                    }
                    desk.tally.bytes_sent += len as u64;
                    self.note_move(desk);
                    budget = budget.saturating_sub(len);
                    if budget == 0 {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("writing failed ({error}) while it awaits {}", self.awaits())),
            }
        }
        Ok(!pending(&self.stage, &mut self.speech, desk).is_empty())
    }

    /// Reads one share.
    fn read(&mut self, desk: &mut Desk<'_>) -> Result<Outcome, String> {
        let mut buffer = std::mem::take(&mut desk.buffer);
        let read = self.stream.read(&mut buffer[..self.read_len]);
        let outcome = match read {
            Ok(0) if matches!(self.stage, Stage::Closed) => {
                desk.tally.closes += 1;
                Ok(Outcome::Ended)
            }
            Ok(0) => Err(format!("the stream ended while it awaits {}", self.awaits())),
            Ok(len) => {
                desk.tally.bytes_received += len as u64;
                self.note_move(desk);
                self.receive(&mut buffer[..len], desk).map(|()| Outcome::Busy)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(Outcome::Idle)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Outcome::Busy),
            Err(error) => Err(format!("reading failed ({error}) while it awaits {}", self.awaits())),
        };
        desk.buffer = buffer;
        outcome
    }

    fn receive(&mut self, bytes: &mut [u8], desk: &mut Desk<'_>) -> Result<(), String> {
        let mut input = bytes;
        if let Stage::Upgrading(upgrade) = &mut self.stage {
            let Some(len) = upgrade.receive(input)? else { return Ok(()) };
            input = &mut input[len..];
            self.stage = Stage::Open;
        }
        if matches!(self.stage, Stage::Closed) {
            return Err(format!("{} bytes follow the server's Close", input.len()));
        }
        while let Some(event) = self
            .session
            .receive(&mut input, &mut desk.pool)
            .map_err(|error| format!("the server broke a rule ({error:?}) while it owes {}", self.awaits()))?
        {
            let is_close = matches!(event, Event::Close { .. });
            check(&event, self.speech.settle(), desk)?;
            event.give_back(&mut desk.pool);
            if is_close {
                self.stage = Stage::Closed;
                return match input.len() {
                    0 => Ok(()),
                    len => Err(format!("{len} bytes follow the server's Close")),
                };
            }
        }
        Ok(())
    }

    fn note_move(&mut self, desk: &mut Desk<'_>) {
        let silence = desk.now.saturating_sub(self.moved_at);
        desk.tally.silence_max = desk.tally.silence_max.max(silence);
        self.moved_at = desk.now;
    }

    /// Has the socket send a reset when it is dropped, whatever waits in either direction.
    fn reset(&mut self, desk: &mut Desk<'_>) -> io::Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        desk.tally.resets += 1;
        desk.tally.unanswered += self.speech.echoes() as u64;
        Ok(())
    }
}

/// The bytes to be written next.
fn pending<'s>(stage: &'s Stage, speech: &'s mut Speech, desk: &mut Desk<'_>) -> &'s [u8] {
    match stage {
        Stage::Connecting(_) | Stage::Closed => &[],
        Stage::Upgrading(upgrade) => &upgrade.request[upgrade.written..],
        Stage::Open => speech.pending(desk.content, &mut desk.tally),
    }
}

impl Upgrade {
    fn new(address: SocketAddr, random: &mut Random) -> Self {
        let mut upgrade = Self {
            host: address.to_string(),
            path: random.pick(&PATHS),
            key: random.bytes(),
            request: Vec::new(),
            written: 0,
            scanner: HeadScanner::response(),
            head: Vec::new(),
        };
        let mut request = Vec::new();
        write_upgrade_request(&mut request, &upgrade.asked());
        upgrade.request = request;
        upgrade
    }

    fn asked(&self) -> ClientRequest<'_> {
        ClientRequest {
            host: &self.host,
            path: self.path,
            key: self.key,
            subprotocols: &[],
            extensions: None,
            origin: None,
        }
    }

    /// How much of `input` belongs to the answer, once it is complete and right.
    fn receive(&mut self, input: &[u8]) -> Result<Option<usize>, String> {
        let scanned = self.scanner.scan(input, &HeadLimits::DEFAULT);
        let end = scanned.map_err(|refusal| format!("the answer to the upgrade is malformed: {refusal:?}"))?;
        self.head.extend_from_slice(&input[..end.unwrap_or(input.len())]);
        if end.is_some() {
            Accepted::parse(&self.head, self.key)
                .and_then(|accepted| accepted.check_offered(&self.asked()))
                .map_err(|error| format!("{error}: {}", self.head.escape_ascii()))?;
        }
        Ok(end)
    }
}

/// Compares what arrived with what was owed.
fn check(event: &Event<'_>, debt: Option<Debt>, desk: &mut Desk<'_>) -> Result<(), String> {
    match (event, debt) {
        (Event::Message(message), Some(Debt::Echo(sample))) => {
            if message.kind != sample.kind {
                return Err(format!("expected the echo of {sample:?}, got {:?}", message.kind));
            }
            compare(message.bytes(), sample, desk.content)?;
            desk.tally.count_echo(sample);
            Ok(())
        }
        (Event::Pong(payload), Some(Debt::Pong(sample))) => {
            compare(payload, sample, desk.content)?;
            desk.tally.pings += 1;
            Ok(())
        }
        (Event::Close { code, .. }, Some(Debt::Close(sent))) if *code == sent => Ok(()),
        (event, debt) => Err(format!("expected {debt:?}, got {}", describe(event))),
    }
}

fn compare(bytes: &[u8], sample: Sample, content: &Content) -> Result<(), String> {
    let expect = content.bytes(sample);
    if bytes == expect {
        return Ok(());
    }
    let at = bytes.iter().zip(expect).position(|(got, expect)| got != expect).unwrap_or(bytes.len().min(expect.len()));
    let excerpt = |bytes: &[u8]| bytes[at..].iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
    Err(format!(
        "expected {sample:?}, got {} bytes that differ from byte {at} on: expected {}, got {}",
        bytes.len(),
        excerpt(expect),
        excerpt(bytes)
    ))
}

fn describe(event: &Event<'_>) -> String {
    match event {
        Event::Message(message) if message.kind == MessageKind::Text => {
            format!("a text of {} bytes", message.bytes().len())
        }
        Event::Message(message) => format!("{} bytes of binary", message.bytes().len()),
        Event::Compressed(message) => format!("{} compressed bytes", message.payload.len()),
        Event::Ping(payload) => format!("a Ping of {} bytes", payload.len()),
        Event::Pong(payload) => format!("a Pong of {} bytes", payload.len()),
        Event::Close { code, reason } => format!("a Close with {code:?} and '{}'", reason.escape_ascii()),
    }
}

/// Where the server echoes.
const PATHS: [&str; 3] = ["/", "/ws", "/echo"];
/// What a connection writes at most in one turn.
const WRITE_LEN_MAX: usize = 256 << 10;
/// What a connection reads in one turn, always the same: the less, the more cuts in frames.
const READ_LENS: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, READ_LEN_MAX];
pub(crate) const READ_LEN_MAX: usize = 256 << 10;
/// Some sockets take little at once, so that the server has to wait for them.
const NARROW_ONE_IN: usize = 4;
const NARROW_LEN: usize = 64 << 10;
