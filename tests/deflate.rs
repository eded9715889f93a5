//! permessage-deflate over real sockets: what is agreed on, what comes back, and what hostile data lead to.

mod host;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringsock::buf::Pool;
use ringsock::handler::Echo;
use ringsock::proto::http::{Accepted, ClientRequest, HeadLimits, HeadScanner, write_upgrade_request};
use ringsock::proto::ws::deflate::{Context, Deflater, Inflater, Level, Outcome, Takeover};
use ringsock::proto::ws::{CloseCode, Event, Limits, MessageKind, Opcode, ReservedBits, Role, Session, encoder};
use ringsock::{ConnectionId, Effects, Handler, Message, Policy, WindowBits};

use host::Host;

/// How long anything is waited for. It only passes when a test fails.
const PATIENCE: Duration = Duration::from_secs(10);
const NONCE: [u8; 16] = *b"the sample nonce";
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// What browsers offer.
const OFFER: &str = "permessage-deflate; client_max_window_bits";
/// The longest message that the servers of these tests take.
const LEN_MAX: usize = 64 << 10;
const DEDICATED: Policy = Policy::Dedicated { window_bits: WindowBits::MAX };

/// What a server sent: whether it was compressed, and what it is.
#[derive(Debug, Eq, PartialEq)]
enum Arrival {
    Message { compressed: bool, kind: MessageKind, bytes: Vec<u8> },
    Close(Option<u16>),
}

/// A client that has been let in.
struct Peer {
    stream: TcpStream,
    session: Session,
    pool: Pool,
    inflater: Inflater,
    deflater: Deflater,
    /// What the server's messages refer to, and ours.
    theirs: Context,
    ours: Context,
    agreed: Option<String>,
}

impl Peer {
    #[track_caller]
    fn open(address: SocketAddr, offer: &str) -> Self {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes this option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes this option");
        let mut request = Vec::new();
        write_upgrade_request(
            &mut request,
            &ClientRequest {
                host: "localhost",
                path: "/echo",
                key: NONCE,
                subprotocols: &[],
                extensions: Some(offer),
                origin: None,
            },
        );
        stream.write_all(&request).expect("the server reads");
        let (mut head, mut scanner) = (Vec::new(), HeadScanner::response());
        let mut byte = [0];
        while scanner.scan(&byte[..usize::from(!head.is_empty())], &HeadLimits::DEFAULT).expect("a head").is_none() {
            stream.read_exact(&mut byte).expect("the handshake is answered");
            head.push(byte[0]);
        }
        let accepted = Accepted::parse(&head, NONCE).expect("the upgrade is accepted");
        let agreed = accepted.extensions().next().map(|extension| {
            let params = extension.params().map(|(name, value)| match value {
                Some(value) => format!("{name}={value}"),
                None => name.to_owned(),
            });
            params.collect::<Vec<_>>().join("; ")
        });
        let mut session = Session::new(Role::Client, Limits { message_bytes_max: 16 << 20, ..Limits::default() });
        session.set_reserved_bits(if agreed.is_some() { ReservedBits::Deflate } else { ReservedBits::Unused });
        let takeover = |word: &str| {
            if agreed.as_ref().is_some_and(|agreed| agreed.contains(word)) { Takeover::No } else { Takeover::Yes }
        };
        Self {
            stream,
            session,
            pool: Pool::default(),
            inflater: Inflater::new(),
            deflater: Deflater::new(Level::SHORTEST),
            theirs: Context::new(WindowBits::MAX, takeover("server_no_context_takeover")),
            ours: Context::new(WindowBits::MAX, takeover("client_no_context_takeover")),
            agreed,
        }
    }

    /// Sends a frame that says of its payload that it is compressed.
    #[track_caller]
    fn say_compressed(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) {
        let mut out = Vec::new();
        encoder::fragment_header(&mut out, opcode, fin, payload.len(), Some(KEY));
        out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        encoder::mark_compressed(&mut out);
        self.stream.write_all(&out).expect("the server reads");
    }

    #[track_caller]
    fn say(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) {
        let mut out = Vec::new();
        encoder::fragment_header(&mut out, opcode, fin, payload.len(), Some(KEY));
        out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        self.stream.write_all(&out).expect("the server reads");
    }

    fn compress(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let outcome = self.deflater.deflate(message, &mut self.ours, &mut out);
        assert_eq!(outcome, Outcome::Compressed, "the messages of these tests become shorter");
        out
    }

    #[track_caller]
    fn arrival(&mut self) -> Arrival {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let len = self.stream.read(&mut buffer).expect("the server answers");
            assert!(len > 0, "the server ended without a word");
            let mut input = &mut buffer[..len];
            let event = self.session.receive(&mut input, &mut self.pool).expect("a server keeps the protocol");
            assert!(event.is_none() || input.is_empty(), "one answer at a time");
            let compressed = matches!(event, Some(Event::Compressed(_)));
            let event = match event {
                None => continue,
                Some(Event::Compressed(message)) => {
                    let message = message.inflate(&mut self.inflater, &mut self.theirs, 16 << 20, &mut self.pool);
                    Event::Message(message.expect("a server compresses right"))
                }
                Some(event) => event,
            };
            return match &event {
                Event::Message(message) => {
                    Arrival::Message { compressed, kind: message.kind, bytes: message.bytes().to_vec() }
                }
                Event::Close { code, .. } => Arrival::Close(code.map(CloseCode::get)),
                other => panic!("{other:?}"),
            };
        }
    }

    #[track_caller]
    fn expect_message(&mut self, compressed: bool, kind: MessageKind, bytes: &[u8]) {
        let arrival = self.arrival();
        let expect = Arrival::Message { compressed, kind, bytes: bytes.to_vec() };
        assert!(arrival == expect, "{} bytes were expected", bytes.len());
    }

    #[track_caller]
    fn check_echo(&mut self, text: &str) {
        let payload = self.compress(text.as_bytes());
        self.say_compressed(Opcode::Text, true, &payload);
        self.expect_message(true, MessageKind::Text, text.as_bytes());
    }
}

fn start(compression: Policy) -> Host {
    Host::start(|options| options.worker.messages.message_bytes_max = LEN_MAX, move |_| Echo { compression })
}

/// A line that becomes shorter when it is compressed.
fn text(number: usize) -> String {
    format!("{{\"number\":{number},\"text\":\"{}\"}}", "to be or not to be, that is the question; ".repeat(8))
}

/// Bytes that can't be compressed.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    });
    bytes.take(len).collect()
}

#[test]
fn what_is_agreed_depends_on_the_route_and_on_the_offer() {
    let shared = "server_no_context_takeover; client_no_context_takeover";
    let twelve = Policy::Dedicated { window_bits: WindowBits::new(12).expect("a window") };
    for (policy, offer, agreed) in [
        (Policy::Off, OFFER, None),
        (Policy::Shared, OFFER, Some(shared)),
        (Policy::Shared, "permessage-deflate", Some(shared)),
        (DEDICATED, "permessage-deflate", Some("")),
        (DEDICATED, "permessage-deflate; server_no_context_takeover", Some("server_no_context_takeover")),
        (twelve, OFFER, Some("server_max_window_bits=12; client_max_window_bits=12")),
        (twelve, "permessage-deflate", Some("client_no_context_takeover; server_max_window_bits=12")),
        // H21: each is declined, and the next one that is good is taken.
        (DEDICATED, "permessage-deflate; server_max_window_bits=7", None),
        (DEDICATED, "permessage-deflate; server_max_window_bits=16", None),
        (DEDICATED, "permessage-deflate; server_max_window_bits=08", None),
        (DEDICATED, "permessage-deflate; server_max_window_bits=abc", None),
        (DEDICATED, "permessage-deflate; server_max_window_bits", None),
        (DEDICATED, "permessage-deflate; client_max_window_bits=10; client_max_window_bits=10", None),
        (DEDICATED, "permessage-deflate; unknown", None),
        (DEDICATED, "x-webkit-deflate-frame", None),
        (DEDICATED, "permessage-deflate; unknown, permessage-deflate", Some("")),
    ] {
        let host = start(policy);
        let peer = Peer::open(host.address, offer);
        assert_eq!(peer.agreed.as_deref(), agreed, "{policy:?} for {offer}");
        drop(peer);
        host.stop();
    }
}

#[test]
fn messages_come_back_compressed_whatever_came_before_and_however_they_are_cut() {
    for policy in [Policy::Shared, DEDICATED] {
        let host = start(policy);
        let mut peer = Peer::open(host.address, OFFER);
        let mut neighbour = Peer::open(host.address, OFFER);
        for number in 0..50 {
            peer.check_echo(&text(number));
            neighbour.check_echo(&text(1_000 + number));
        }
        // In three fragments, the first of which alone says that it is compressed, with a ping between.
        let long = text(7).repeat(100);
        let payload = peer.compress(long.as_bytes());
        let (first, rest) = payload.split_at(payload.len() / 3);
        peer.say_compressed(Opcode::Text, false, first);
        peer.say(Opcode::Continuation, false, b"");
        std::thread::sleep(Duration::from_millis(5));
        peer.say(Opcode::Continuation, true, rest);
        peer.expect_message(true, MessageKind::Text, long.as_bytes());
        // What would not become shorter, and what is too short, goes as it is; so may what comes to us.
        let noise = noise(2_000);
        peer.say(Opcode::Binary, true, &noise);
        peer.expect_message(false, MessageKind::Binary, &noise);
        peer.say(Opcode::Text, true, b"short");
        peer.expect_message(false, MessageKind::Text, b"short");
        peer.check_echo(&text(8));
        // The empty message, which takes a byte.
        peer.say_compressed(Opcode::Binary, true, b"\0");
        peer.expect_message(false, MessageKind::Binary, b"");
        peer.check_echo(&text(9));
        drop((peer, neighbour));
        host.stop();
    }
}

#[test]
fn with_takeover_the_second_message_of_a_kind_is_shorter() {
    let host = start(DEDICATED);
    let mut peer = Peer::open(host.address, OFFER);
    let message = text(1);
    let first = peer.compress(message.as_bytes());
    peer.say_compressed(Opcode::Text, true, &first);
    peer.expect_message(true, MessageKind::Text, message.as_bytes());
    let second = peer.compress(message.as_bytes());
    assert!(second.len() * 3 < first.len());
    peer.say_compressed(Opcode::Text, true, &second);
    peer.expect_message(true, MessageKind::Text, message.as_bytes());
    drop(peer);
    host.stop();
}

/// What the server says to a message, and to a neighbour of whoever sent it.
#[track_caller]
fn check_closed(host: &Host, payload: &[u8], code: u16) {
    let mut neighbour = Peer::open(host.address, OFFER);
    neighbour.check_echo(&text(1));
    let mut peer = Peer::open(host.address, OFFER);
    peer.check_echo(&"a secret that is nobody else's, ".repeat(9));
    peer.say_compressed(Opcode::Text, true, payload);
    assert_eq!(peer.arrival(), Arrival::Close(Some(code)));
    neighbour.check_echo(&text(2));
    Peer::open(host.address, OFFER).check_echo(&text(3));
}

#[test]
fn d1_d4_d5_d10_hostile_data_end_their_own_connection_and_no_other() {
    for policy in [Policy::Shared, DEDICATED] {
        let host = start(policy);
        let mut deflater = Deflater::new(Level::SHORTEST);
        let mut compressed = |message: &[u8]| {
            let (mut out, mut alone) = (Vec::new(), Context::new(WindowBits::MAX, Takeover::No));
            assert_eq!(deflater.deflate(message, &mut alone, &mut out), Outcome::Compressed);
            out
        };
        let zeros = compressed(&vec![0; 32 << 20]);
        assert!(zeros.len() < LEN_MAX, "a short frame for 32 MiB");
        check_closed(&host, &zeros, 1009);
        check_closed(&host, &compressed(&vec![b'a'; LEN_MAX + 1]), 1009);
        check_closed(&host, b"", 1007);
        check_closed(&host, b"\0\0\xff\xff\xff", 1007);
        check_closed(&host, b"\x07", 1007); // no such kind of block
        let good = compressed(text(4).as_bytes());
        check_closed(&host, &good[..good.len() / 2], 1007);
        check_closed(&host, &compressed(&[&[b'x'; 500][..], &[0xff]].concat()), 1007); // not UTF-8
        // A reference to what was never said: ten bytes from a distance of 1,000, in the fixed code.
        check_closed(&host, b"\x83\x5a\x7c\x00", 1007);
        let mut whole = Peer::open(host.address, OFFER);
        let most = "a".repeat(LEN_MAX);
        whole.check_echo(&most);
        drop(whole);
        host.stop();
    }
}

#[test]
fn d3_whoever_makes_too_much_work_is_closed() {
    let adjust = |options: &mut ringsock::Options| {
        options.worker.messages.message_bytes_max = LEN_MAX;
        options.worker.compression.inflate_work_max = 1 << 20;
    };
    let host = Host::start(adjust, |_| Echo { compression: Policy::Shared });
    let mut peer = Peer::open(host.address, OFFER);
    let zeros = vec![0; LEN_MAX];
    let payload = peer.compress(&zeros);
    let mut rounds = 0;
    let end = loop {
        peer.say_compressed(Opcode::Binary, true, &payload);
        rounds += 1;
        match peer.arrival() {
            Arrival::Message { bytes, .. } if rounds < 10_000 => assert_eq!(bytes, zeros),
            other => break other,
        }
    };
    assert_eq!(end, Arrival::Close(Some(1008)));
    assert!(rounds > 16, "{rounds} messages are within the bound");
    Peer::open(host.address, OFFER).check_echo(&text(1));
    drop(peer);
    assert_eq!(host.stop().sum(|worker| worker.protocol_errors), 1);
}

fn has_windows(peer: &Peer) -> bool {
    peer.agreed.as_ref().is_some_and(|agreed| !agreed.contains("no_context_takeover"))
}

#[test]
fn windows_beyond_the_budget_are_not_promised() {
    let adjust = |options: &mut ringsock::Options| {
        options.workers = Some(1);
        options.worker.compression.memory_max = 3 * (37 << 10);
    };
    let host = Host::start(adjust, |_| Echo { compression: DEDICATED });
    let mut peers: Vec<Peer> = (0..5).map(|_| Peer::open(host.address, OFFER)).collect();
    let agreed: Vec<bool> = peers.iter().map(has_windows).collect();
    assert_eq!(agreed, [true, true, true, false, false]);
    peers.iter_mut().for_each(|peer| peer.check_echo(&text(1)));
    // A connection that ends gives its share back.
    let mut first = peers.remove(0);
    first.say(Opcode::Close, true, b"");
    assert_eq!(first.arrival(), Arrival::Close(None));
    let again = Peer::open(host.address, OFFER);
    assert!(has_windows(&again));
    drop((first, again, peers));
    assert_eq!(host.stop().sum(|worker| worker.windows_denied), 2);
}

/// Answers whoever speaks, or tells it everybody; a secret as it is.
struct Careful {
    compression: Policy,
    tells_all: fn(&[u8]) -> bool,
}

impl Handler for Careful {
    fn on_upgrade(
        &mut self,
        _: ConnectionId,
        _: &ringsock::Request<'_>,
        _: &ringsock::Upgrade<'_>,
    ) -> Result<ringsock::Accept, ringsock::Refusal> {
        Ok(ringsock::Accept { compression: self.compression, ..ringsock::Accept::default() })
    }

    fn on_message(&mut self, _: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        let secret = message.bytes().starts_with(b"secret");
        if (self.tells_all)(message.bytes()) {
            let frame = encoder::shared(message.kind, message.bytes());
            effects.broadcast(&if secret { frame.uncompressed() } else { frame });
        } else {
            effects.set_compression(!secret);
            effects.echo(message);
        }
    }
}

#[test]
fn d9_a_handler_may_have_a_message_sent_as_it_is() {
    let host = Host::start(|_| {}, |_| Careful { compression: Policy::Shared, tells_all: |_| false });
    let mut peer = Peer::open(host.address, OFFER);
    peer.check_echo(&text(1));
    let secret = format!("secret {}", text(1));
    let payload = peer.compress(secret.as_bytes());
    peer.say_compressed(Opcode::Text, true, &payload);
    peer.expect_message(false, MessageKind::Text, secret.as_bytes());
    peer.check_echo(&text(2));
    drop(peer);
    host.stop();
}

/// Each peer has a compressor of its own soon, which must know what came from the others too, and what did not.
#[test]
fn a_busy_connection_is_understood_whatever_it_is_sent() {
    for engines_max in [0, 1 << 20, 32 << 20] {
        let adjust = |options: &mut ringsock::Options| {
            options.workers = Some(1);
            options.worker.compression.engines_max = engines_max;
        };
        let tells_all = |message: &[u8]| message.len().is_multiple_of(3);
        let host = Host::start(adjust, move |_| Careful { compression: DEDICATED, tells_all });
        let mut peers: Vec<Peer> = (0..4).map(|_| Peer::open(host.address, OFFER)).collect();
        for number in 0..200 {
            let message = match number % 7 {
                5 => format!("secret {}", text(number)).into_bytes(),
                6 => noise(300 + number),
                _ => text(number / 3).repeat(1 + number % 5).into_bytes(),
            };
            let compressed = number % 7 < 5;
            let speaker = &mut peers[number % 4];
            if compressed {
                let payload = speaker.compress(&message);
                speaker.say_compressed(Opcode::Binary, true, &payload);
            } else {
                speaker.say(Opcode::Binary, true, &message);
            }
            let to_all = tells_all(&message);
            for (index, peer) in peers.iter_mut().enumerate() {
                if to_all || index == number % 4 {
                    peer.expect_message(compressed, MessageKind::Binary, &message);
                }
            }
        }
        drop(peers);
        host.stop();
    }
}

#[test]
fn what_is_too_much_to_compress_in_a_second_is_sent_as_it_is() {
    let adjust = |options: &mut ringsock::Options| {
        options.workers = Some(1);
        options.worker.compression.deflate_work_max = 0;
    };
    let tells_all = |message: &[u8]| message.len().is_multiple_of(2);
    let host = Host::start(adjust, move |_| Careful { compression: DEDICATED, tells_all });
    let mut peer = Peer::open(host.address, OFFER);
    let texts = [text(1), text(1) + "."];
    for message in &texts {
        let payload = peer.compress(message.as_bytes());
        peer.say_compressed(Opcode::Text, true, &payload);
        peer.expect_message(false, MessageKind::Text, message.as_bytes());
    }
    assert_ne!(tells_all(texts[0].as_bytes()), tells_all(texts[1].as_bytes()), "each in its own way");
    drop(peer);
    assert_eq!(host.stop().sum(|worker| worker.deflates_skipped), 2);
}

#[test]
fn a_message_to_many_is_compressed_for_those_who_agreed_on_it() {
    let host = Host::start(|_| {}, |_| Careful { compression: DEDICATED, tells_all: |_| true });
    let offers = [
        OFFER,
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=8",
        "x-unknown",
        OFFER,
    ];
    let mut peers: Vec<Peer> = offers.iter().map(|offer| Peer::open(host.address, offer)).collect();
    for number in 0..20 {
        let message =
            if number % 5 == 4 { format!("secret {}", text(number)) } else { text(number).repeat(1 + number) };
        let speaker = &mut peers[number % 4];
        let payload = speaker.compress(message.as_bytes());
        speaker.say_compressed(Opcode::Text, true, &payload);
        for (peer, offer) in peers.iter_mut().zip(offers) {
            // To a window of 256 bytes nothing longer is compressed.
            let fits = !offer.ends_with("=8") || message.len() <= 256;
            let compressed = peer.agreed.is_some() && !message.starts_with("secret") && fits;
            peer.expect_message(compressed, MessageKind::Text, message.as_bytes());
        }
    }
    drop(peers);
    host.stop();
}
