//! The client role against Autobahn's fuzzing server: echoes whatever it says, in every case.
//!
//! `scripts/autobahn.sh --client` starts the fuzzing server, runs this and reads its verdicts. Without it, a
//! small one of ringsock's own has to do.

mod host;

use std::collections::HashMap;
use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ringsock::{
    Accept, CloseCode, ConnectionId, Effects, Handler, Message, Policy, Refusal, Request, Upgrade, WindowBits,
};

use host::Host;
use ringsock::buf::Pool;
use ringsock::proto::http::{Accepted, ClientRequest, HeadLimits, HeadScanner, write_upgrade_request};
use ringsock::proto::ws::deflate::{Context, Deflater, Inflater, Level, Offer, Outcome, Parameters};
use ringsock::proto::ws::{Event, Limits, MessageKind, Opcode, ReservedBits, Role, Session, encoder};

const AGENT: &str = "ringsock-client";
/// Autobahn waits this long for some things itself.
const PATIENCE: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits { message_bytes_max: 64 << 20, fragments_max: 1 << 20, empty_fragments_max: 1 << 20 };
const OFFER: Offer = Offer {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: None,
    client_max_window_bits: Some(WindowBits::MAX),
};

struct Client {
    stream: TcpStream,
    session: Session,
    pool: Pool,
    deflate: Option<Deflate>,
    /// What came behind the head of the handshake.
    early: Vec<u8>,
    /// Changes with every frame.
    key: u32,
}

struct Deflate {
    inflater: Inflater,
    deflater: Deflater,
    theirs: Context,
    ours: Context,
    scratch: Vec<u8>,
}

impl Deflate {
    fn new(parameters: &Parameters) -> Self {
        Self {
            inflater: Inflater::new(),
            deflater: Deflater::new(Level::SHORTEST),
            theirs: parameters.server_context(),
            ours: parameters.client_context(),
            scratch: Vec::new(),
        }
    }
}

impl Client {
    fn open(authority: &str, path: &str) -> Self {
        let mut stream = TcpStream::connect(authority).expect("the fuzzing server listens");
        stream.set_nodelay(true).expect("a socket takes this option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes this option");
        let (key, offer) = (*b"the sample nonce", OFFER.header_value());
        let extensions = Some(offer.as_str());
        let mut out = Vec::new();
        let request = ClientRequest { host: authority, path, key, subprotocols: &[], extensions, origin: None };
        write_upgrade_request(&mut out, &request);
        stream.write_all(&out).expect("the server reads");
        let (mut head, mut scanner, mut buffer) = (Vec::new(), HeadScanner::response(), [0; 4096]);
        let early = loop {
            let len = stream.read(&mut buffer).expect("the handshake is answered");
            assert!(len > 0, "the server ended instead of answering");
            let end = scanner.scan(&buffer[..len], &HeadLimits::DEFAULT).expect("the answer is an HTTP head");
            head.extend_from_slice(&buffer[..end.unwrap_or(len)]);
            if let Some(end) = end {
                break buffer[end..len].to_vec();
            }
        };
        let accepted = Accepted::parse(&head, key).expect("the upgrade is accepted");
        let parameters = OFFER.check(accepted.extensions()).expect("the answer keeps to the offer");
        let mut session = Session::new(Role::Client, LIMITS);
        if parameters.is_some() {
            session.set_reserved_bits(ReservedBits::Deflate);
        }
        let deflate = parameters.as_ref().map(Deflate::new);
        Self { stream, session, pool: Pool::default(), deflate, early, key: 1 }
    }

    /// Answers what comes until the session ends; returns the last text.
    fn echo(&mut self) -> String {
        let (mut buffer, mut said, mut out) = (vec![0; 256 << 10], String::new(), Vec::new());
        let mut early = std::mem::take(&mut self.early);
        loop {
            let mut input = if early.is_empty() {
                match self.stream.read(&mut buffer) {
                    Ok(len @ 1..) => &mut buffer[..len],
                    Ok(0) | Err(_) => return said,
                }
            } else {
                &mut early[..]
            };
            loop {
                let event = match self.session.receive(&mut input, &mut self.pool) {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(error) => {
                        let key = self.next_key();
                        encoder::close(&mut out, Some(error.close_code()), error.reason(), Some(key));
                        break;
                    }
                };
                self.answer(event, &mut out, &mut said);
            }
            if self.stream.write_all(&out).is_err() {
                return said;
            }
            out.clear();
            early.clear();
        }
    }

    fn answer(&mut self, event: Event<'_>, out: &mut Vec<u8>, said: &mut String) {
        let key = self.next_key();
        let event = match (event, &mut self.deflate) {
            (Event::Compressed(message), Some(deflate)) => {
                let Deflate { inflater, theirs, .. } = deflate;
                match message.inflate(inflater, theirs, LIMITS.message_bytes_max, &mut self.pool) {
                    Ok(message) => Event::Message(message),
                    Err(error) => {
                        self.session.end(&mut self.pool);
                        return encoder::close(out, Some(error.close_code()), error.reason(), Some(key));
                    }
                }
            }
            (event, _) => event,
        };
        match &event {
            Event::Message(message) => {
                if let Some(text) = message.text() {
                    text.clone_into(said);
                }
                self.say(message.kind, message.bytes(), key, out);
            }
            Event::Ping(payload) => encoder::frame(out, Opcode::Pong, payload, Some(key)),
            Event::Close { code, .. } => encoder::close(out, *code, "", Some(key)),
            Event::Pong(_) | Event::Compressed(_) => {}
        }
        event.give_back(&mut self.pool);
    }

    fn say(&mut self, kind: MessageKind, bytes: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
        if let Some(Deflate { deflater, ours, scratch, .. }) = &mut self.deflate {
            scratch.clear();
            if deflater.deflate(bytes, ours, scratch) == Outcome::Compressed {
                return encoder::compressed_frame(out, kind.opcode(), scratch, Some(key));
            }
        }
        encoder::frame(out, kind.opcode(), bytes, Some(key));
    }

    fn next_key(&mut self) -> [u8; 4] {
        self.key = self.key.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        self.key.to_le_bytes()
    }
}

/// Runs every case of the fuzzing server at `authority`; returns how many there are.
fn run_cases(authority: &str) -> u32 {
    let count = Client::open(authority, "/getCaseCount").echo().parse().expect("the server says how many cases it has");
    for case in 1..=count {
        Client::open(authority, &format!("/runCase?case={case}&agent={AGENT}")).echo();
    }
    Client::open(authority, &format!("/updateReports?agent={AGENT}")).echo();
    count
}

/// A fuzzing server of two cases: it says something, and closes when it comes back.
#[derive(Default)]
struct Cases {
    said: HashMap<ConnectionId, String>,
}

impl Handler for Cases {
    fn on_upgrade(
        &mut self,
        connection: ConnectionId,
        request: &Request<'_>,
        _: &Upgrade<'_>,
    ) -> Result<Accept, Refusal> {
        let said = match request.path() {
            "/getCaseCount" => String::from("2"),
            "/runCase" => "to be or not to be ".repeat(5_000),
            path => path.to_owned(),
        };
        self.said.insert(connection, said);
        Ok(Accept { compression: Policy::Dedicated { window_bits: WindowBits::MAX }, ..Accept::default() })
    }

    fn on_open(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        effects.send_text(&self.said[&connection]);
    }

    fn on_message(&mut self, connection: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        assert_eq!(message.text(), Some(&*self.said[&connection]), "it comes back as it is");
        effects.close(CloseCode::NORMAL, "well done");
    }
}

#[test]
fn every_case_of_a_fuzzing_server_is_run() {
    if let Ok(authority) = env::var("RINGSOCK_AUTOBAHN_SERVER") {
        assert!(run_cases(&authority) > 0, "the server has cases; its reports say how they went");
        return;
    }
    let adjust = |options: &mut ringsock::Options| options.worker.messages.message_bytes_max = 1 << 20;
    let host = Host::start(adjust, |_| Cases::default());
    assert_eq!(run_cases(&host.address.to_string()), 2);
    assert_eq!(host.stop().sum(|worker| worker.messages), 4);
}
