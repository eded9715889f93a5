//! A small blocking client: the bytes of a test on a plain socket, and what comes back.
//!
//! Every wait is bounded by [`PATIENCE`]: what has not come by then fails the test.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringsock::buf::Pool;
use ringsock::proto::http::{Accepted, ClientRequest, HeadLimits, HeadScanner, write_upgrade_request};
use ringsock::proto::ws::{CloseCode, Event, Limits, Opcode, Role, Session, encoder};

/// How long anything is waited for. It only passes when a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The nonce of every handshake, so that its answer is always the same.
const NONCE: [u8; 16] = *b"the sample nonce";
/// The masking key of every frame.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The longest message that a test sends or expects.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What a server sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Arrival {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// FIN.
    End,
    /// A reset.
    Reset,
}

/// A WebSocket that has been opened.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    session: Session,
    pool: Pool,
    arrived: VecDeque<Arrival>,
}

impl Client {
    /// Connects and opens a WebSocket on `/echo`.
    #[track_caller]
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::open_on(connect(address))
    }

    /// Opens a WebSocket on a connection that has sent nothing yet.
    #[track_caller]
    pub(crate) fn open_on(stream: TcpStream) -> Self {
        let limits = Limits { message_bytes_max: MESSAGE_BYTES_MAX, ..Limits::default() };
        let session = Session::new(Role::Client, limits);
        let mut this = Self { stream, session, pool: Pool::default(), arrived: VecDeque::new() };
        this.send(&request());
        let (mut head, mut scanner, mut buffer) = (Vec::new(), HeadScanner::response(), [0; 4096]);
        loop {
            let len = read(&mut this.stream, &mut buffer).expect("the handshake is answered");
            assert!(len > 0, "the server ended instead of answering");
            let input = &mut buffer[..len];
            let end = scanner.scan(input, &HeadLimits::DEFAULT).expect("the answer is an HTTP head");
            let (front, rest) = input.split_at_mut(end.unwrap_or(len));
            head.extend_from_slice(front);
            if end.is_some() {
                Accepted::parse(&head, NONCE).expect("the upgrade is accepted");
                this.feed(rest);
                return this;
            }
        }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends one whole frame.
    #[track_caller]
    pub(crate) fn say(&mut self, opcode: Opcode, payload: &[u8]) {
        self.send(&frame(opcode, payload));
    }

    /// Waits for the next thing from the server.
    #[track_caller]
    pub(crate) fn arrival(&mut self) -> Arrival {
        let mut buffer = vec![0; 64 << 10];
        loop {
            if let Some(arrival) = self.arrived.pop_front() {
                return arrival;
            }
            match read(&mut self.stream, &mut buffer) {
                Ok(0) => return Arrival::End,
                Ok(len) => self.feed(&mut buffer[..len]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Arrival::Reset,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Expects `expect` next, and nothing else before it.
    #[track_caller]
    pub(crate) fn expect(&mut self, expect: &Arrival) {
        let arrival = self.arrival();
        assert!(arrival == *expect, "{} arrived instead of {}", summary(&arrival), summary(expect));
    }

    /// Says `text` and expects to hear it.
    #[track_caller]
    pub(crate) fn check_echo(&mut self, text: &str) {
        self.say(Opcode::Text, text.as_bytes());
        self.expect(&Arrival::Text(text.to_owned()));
    }

    fn feed(&mut self, mut input: &mut [u8]) {
        loop {
            assert!(!self.session.is_ended() || input.is_empty(), "{} bytes after the Close", input.len());
            let event = self.session.receive(&mut input, &mut self.pool).expect("a server keeps the protocol");
            let Some(event) = event else { return };
            self.arrived.push_back(owned(&event));
            event.give_back(&mut self.pool);
        }
    }
}

/// Reads once. The kernel interrupts a wait for work of its own, which is no outcome.
fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Connects, with every wait bounded.
#[track_caller]
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens");
    prepare(&stream);
    stream
}

/// Bounds every wait of `stream`, and has each write leave at once, in a segment of its own.
pub(crate) fn prepare(stream: &TcpStream) {
    stream.set_nodelay(true).expect("a socket takes this option");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes this option");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket takes this option");
}

/// An upgrade that every server of these tests accepts.
pub(crate) fn request() -> Vec<u8> {
    let mut out = Vec::new();
    let request = ClientRequest {
        host: "localhost",
        path: "/echo",
        key: NONCE,
        subprotocols: &[],
        extensions: None,
        origin: None,
    };
    write_upgrade_request(&mut out, &request);
    out
}

/// A whole masked frame.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder::frame(&mut out, opcode, payload, Some(KEY));
    out
}

fn owned(event: &Event<'_>) -> Arrival {
    match event {
        Event::Message(message) => match message.text() {
            Some(text) => Arrival::Text(text.to_owned()),
            None => Arrival::Binary(message.bytes().to_vec()),
        },
        Event::Pong(payload) => Arrival::Pong(payload.to_vec()),
        Event::Close { code, reason } => {
            let reason = String::from_utf8(reason.to_vec()).expect("a reason is validated");
            Arrival::Close(code.map(CloseCode::get), reason)
        }
        Event::Ping(_) => panic!("the server sends no pings"),
        Event::Compressed(_) => panic!("nothing was agreed on compression"),
    }
}

/// A line about an arrival, short even for a long message.
fn summary(arrival: &Arrival) -> String {
    let text = format!("{arrival:?}");
    text.chars().take(200).collect()
}
