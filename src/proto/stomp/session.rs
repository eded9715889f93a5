//! A server's session with one client: what may come when, and when something is due.

use std::borrow::Cow;

use crate::buf::Pool;
use crate::proto::stomp::request::{Action, Request};
use crate::proto::stomp::{Command, Decoder, Failure, Fault, Frame, HeartBeat, Limits, Periods, Version, encoder};

/// What a server offers its clients, and bears of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionOptions {
    /// The limits of frames before CONNECT, while nobody knows who it is.
    pub first: Limits,
    /// The limits of frames after it.
    pub frames: Limits,
    /// How long a client may take to CONNECT.
    pub login_timeout_ms: u64,
    /// Our side of heart-beats: what we can, and what we want.
    pub heart_beat: HeartBeat,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            first: Limits { body_bytes_max: 4 << 10, ..Limits::default() },
            frames: Limits::default(),
            login_timeout_ms: 10_000,
            heart_beat: HeartBeat { can_ms: 1_000, wants_ms: 10_000 },
        }
    }
}

/// What a client sent.
#[derive(Clone, Debug)]
pub enum Incoming<'f> {
    /// It wants to open the session, and waits for [`Session::accept`] or an ERROR.
    Connect(Login<'f>),
    /// It asks for something.
    Request(Request<'f>),
}

/// What a CONNECT says of who sends it.
#[derive(Clone)]
pub struct Login<'f> {
    /// The virtual host. Many clients leave it out.
    pub host: Option<Cow<'f, str>>,
    /// The user.
    pub login: Option<Cow<'f, str>>,
    /// The password.
    pub passcode: Option<Cow<'f, str>>,
}

// The password is not for logs.
impl std::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("host", &self.host).field("login", &self.login).finish_non_exhaustive()
    }
}

/// A session, from the first byte to the last.
///
/// ```
/// use ringsock::buf::Pool;
/// use ringsock::proto::stomp::{Action, Incoming, Session, SessionOptions};
///
/// let (mut session, mut pool, mut out) = (Session::new(SessionOptions::default(), 0), Pool::default(), Vec::new());
/// let mut input = &b"CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0SEND\ndestination:/topic/a\n\nhi\0"[..];
///
/// let connect = session.receive(&mut input, 5, &mut pool).expect("a good frame");
/// assert!(matches!(connect, Some(Incoming::Connect(login)) if login.login.is_none()));
/// assert!(session.accept("s1", "ringsock", 5, &mut out));
/// assert_eq!(out, b"CONNECTED\nversion:1.2\nheart-beat:1000,10000\nsession:s1\nserver:ringsock\n\n\0");
///
/// let send = session.receive(&mut input, 6, &mut pool).expect("a good frame");
/// let Some(Incoming::Request(request)) = send else { panic!("a request follows") };
/// assert!(matches!(request.action, Action::Send(message) if message.body == b"hi"));
/// ```
#[derive(Debug)]
pub struct Session {
    decoder: Decoder,
    options: SessionOptions,
    phase: Phase,
    version: Option<Version>,
    periods: Periods,
    began_ms: u64,
    heard_ms: u64,
    said_ms: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// CONNECT has not come, or has not been answered.
    Connecting,
    Open,
    /// What comes is discarded.
    Ended,
}

/// A heart-beat is sent so small a part of its period early: some clients bear none that is late, and the way takes time.
const MARGIN: u32 = 4;
/// So many periods without a sign of life end a session.
const PATIENCE: u64 = 2;

impl Session {
    /// Begins a session at `now_ms`.
    #[must_use]
    pub fn new(options: SessionOptions, now_ms: u64) -> Self {
        Self {
            decoder: Decoder::new(options.first),
            options,
            phase: Phase::Connecting,
            version: None,
            periods: Periods::default(),
            began_ms: now_ms,
            heard_ms: now_ms,
            said_ms: now_ms,
        }
    }

    /// Consumes `input`, which came at `now_ms`, up to the end of the next frame; `None` when all of it is consumed.
    /// Any byte is a sign of life. It is to be called until it returns `None`.
    ///
    /// While a CONNECT waits for its answer nothing is consumed: what follows it is read by the version that is agreed
    /// on by then.
    ///
    /// # Errors
    ///
    /// What ends the session: the ERROR to write for it. Further input is discarded.
    pub fn receive<'f, 'b: 'f>(
        &'f mut self,
        input: &mut &'b [u8],
        now_ms: u64,
        pool: &mut Pool,
    ) -> Result<Option<Incoming<'f>>, Failure> {
        if self.phase == Phase::Ended {
            self.decoder.end(pool);
            *input = &[];
            return Ok(None);
        }
        if !input.is_empty() {
            self.heard_ms = now_ms;
        }
        if self.is_asked() {
            return Ok(None);
        }
        let (phase, version) = (&mut self.phase, &mut self.version);
        let frame = self.decoder.receive(input, pool).map_err(|error| {
            *phase = Phase::Ended;
            Failure { fault: Fault::Frame(error), receipt: None }
        })?;
        let Some(frame) = frame else { return Ok(None) };
        let incoming = match (*phase, *version) {
            (Phase::Open, Some(version)) => open(&frame, version),
            _ => connect(&frame, self.options.heart_beat).map(|(chosen, periods, login)| {
                *version = Some(chosen);
                self.periods = periods;
                Incoming::Connect(login)
            }),
        };
        incoming.map(Some).map_err(|fault| {
            *phase = Phase::Ended;
            let receipt = frame.header("receipt").filter(|_| !frame.command().is_of_handshake());
            Failure { fault, receipt: receipt.map(|receipt| receipt.into_owned().into()) }
        })
    }

    /// Opens the session: writes CONNECTED. `session` is unique, `server` the name of the server; an empty one is left
    /// out. Says whether it was: who takes long to decide may come too late for a client, whose session has ended
    /// then, and nothing is written.
    pub fn accept(&mut self, session: &str, server: &str, now_ms: u64, out: &mut Vec<u8>) -> bool {
        let Some(version) = self.version.filter(|_| self.phase == Phase::Connecting) else { return false };
        self.phase = Phase::Open;
        self.decoder.set_version(version);
        self.decoder.set_limits(self.options.frames);
        let mut connected = encoder::begin(out, version, Command::Connected);
        connected.header("version", version.name());
        if version > Version::V1_0 {
            let HeartBeat { can_ms, wants_ms } = self.options.heart_beat;
            connected.header("heart-beat", &format!("{can_ms},{wants_ms}"));
        }
        connected.header("session", session);
        if !server.is_empty() {
            connected.header("server", server);
        }
        connected.finish(b"");
        self.said_ms = now_ms;
        true
    }

    /// Notes that the client cannot be heard at `now_ms`, since its bytes wait with us: that is no silence of its.
    pub fn handle_held(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// Notes that something was written to the client at `now_ms`: it needs no heart-beat for a while.
    pub fn handle_said(&mut self, now_ms: u64) {
        self.said_ms = now_ms;
    }

    /// Does what is due at `now_ms`: writes a heart-beat if nothing was said for the period, and finds out whether the
    /// client is silent.
    ///
    /// # Errors
    ///
    /// A client that takes too long to CONNECT, or of which nothing was heard for two periods.
    pub fn handle_timeout(&mut self, now_ms: u64, out: &mut Vec<u8>) -> Result<(), Failure> {
        let is_due = |due_ms: Option<u64>| due_ms.is_some_and(|due_ms| due_ms <= now_ms);
        if is_due(self.deadline_ms()) {
            let fault = if self.phase == Phase::Open { Fault::Silent } else { Fault::LoginTimeout };
            self.phase = Phase::Ended;
            return Err(Failure { fault, receipt: None });
        }
        if is_due(self.heart_beat_ms()) {
            encoder::heart_beat(out);
            self.said_ms = now_ms;
        }
        Ok(())
    }

    /// Ends the session: what comes is discarded.
    pub fn end(&mut self, pool: &mut Pool) {
        self.decoder.end(pool);
        self.phase = Phase::Ended;
    }

    /// When [`Session::handle_timeout`] has something to do, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        self.deadline_ms().into_iter().chain(self.heart_beat_ms()).min()
    }

    /// Whether a CONNECT waits for its answer.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.phase == Phase::Connecting && self.version.is_some()
    }

    /// The version that was agreed on.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// The heart-beats that were agreed on.
    #[must_use]
    pub fn periods(&self) -> Periods {
        self.periods
    }

    /// When the client must have said something.
    fn deadline_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Connecting => Some(self.began_ms + self.options.login_timeout_ms),
            Phase::Open => self.periods.expect_ms.map(|period_ms| self.heard_ms + PATIENCE * u64::from(period_ms)),
            Phase::Ended => None,
        }
    }

    /// When we have to say something, if nothing else was said.
    fn heart_beat_ms(&self) -> Option<u64> {
        let period_ms = self.periods.send_ms.filter(|_| self.phase == Phase::Open);
        period_ms.map(|period_ms| self.said_ms + u64::from(period_ms - period_ms / MARGIN))
    }
}

fn open<'f>(frame: &Frame<'f>, version: Version) -> Result<Incoming<'f>, Fault> {
    let action = Action::read(frame, version)?;
    Ok(Incoming::Request(Request { action, receipt: frame.header("receipt") }))
}

fn connect<'f>(frame: &Frame<'f>, ours: HeartBeat) -> Result<(Version, Periods, Login<'f>), Fault> {
    if !matches!(frame.command(), Command::Connect | Command::Stomp) {
        return Err(Fault::NotConnected);
    }
    let version = Version::negotiate(frame.header("accept-version").as_deref()).ok_or(Fault::NoCommonVersion)?;
    let frame = frame.in_version(version);
    let heart_beat = frame.header("heart-beat").filter(|_| version > Version::V1_0);
    let theirs = heart_beat.map_or(Ok(HeartBeat::default()), |value| HeartBeat::parse(&value));
    let periods = ours.agree(theirs.map_err(|_| Fault::InvalidHeartBeat)?);
    let (host, login, passcode) = (frame.header("host"), frame.header("login"), frame.header("passcode"));
    Ok((version, periods, Login { host, login, passcode }))
}
