//! What a simulated peer says, and what a plain reference says it must be answered.

use std::ops::Range;

use crate::proto::ws::deflate::{Context, Deflater, Inflater, Level, Outcome, Takeover, WindowBits};
use crate::ring::sim::{Ending, Peer, Random};
use crate::worker::CompressionOptions;
use crate::worker::simulation::is_rude;

/// The limit of the simulated servers, so that some scripts can break it.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 10;

const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
/// What some offer, and with which the server agrees word for word.
const OFFERS: [(&str, Takeover); 2] = [
    ("permessage-deflate", Takeover::Yes),
    ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", Takeover::No),
];
const GOING_AWAY: &[u8] = b"\x88\x0e\x03\xe9server stops";
const OUT_OF_MEMORY: &[u8] = b"\x88\x0f\x03\xf5out of memory";
const SILENT: &[u8] = b"\x88\x20\x03\xf3nothing heard, not even a pong";
const TOO_LATE: &[u8] = b"\x88\x19\x03\xf0fragments took too long";

/// How much of the expected answer a peer must have got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// All of it, if the peer stayed to read it.
    Whole,
    /// What had come when the server was told to stop.
    Prefix,
}

/// One peer's part.
pub(super) struct Script {
    outbox: Vec<u8>,
    ending: Ending,
    reads: bool,
    /// How much it has said when it rests, between two messages.
    rests: Vec<usize>,
    /// What the server answers, whole.
    expect: Vec<u8>,
    /// Offsets in `expect` where a frame ends, where a stopping server may say goodbye.
    frame_ends: Vec<usize>,
    /// The peer says all that the answer depends on: not cut, not closed early.
    complete: bool,
    /// Only the first line of the answer is known.
    status_only: bool,
    compression: Option<Compression>,
    /// It calls the listener for streams.
    is_stream: bool,
}

/// What a peer that compresses knows of its own messages, and of what was agreed.
struct Compression {
    deflater: Deflater,
    context: Context,
    takeover: Takeover,
}

impl Compression {
    fn new(takeover: Takeover) -> Self {
        let context = Context::new(WindowBits::MAX, takeover);
        Self { deflater: Deflater::new(Level::SHORTEST), context, takeover }
    }

    /// The compressed form of a message, if it is shorter.
    fn deflate(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        (self.deflater.deflate(message, &mut self.context, &mut out) == Outcome::Compressed).then_some(out)
    }
}

impl Script {
    /// Peer `number`'s script; its payloads carry the number.
    pub(super) fn new(number: usize, random: &mut Random) -> Self {
        let mut script = Self {
            outbox: Vec::new(),
            ending: Ending::WaitForServer,
            reads: !random.one_in(12),
            rests: Vec::new(),
            expect: Vec::new(),
            frame_ends: Vec::new(),
            complete: true,
            status_only: false,
            compression: None,
            is_stream: random.one_in(6),
        };
        if script.is_stream {
            script.say_bytes(number, random);
            return script;
        }
        if random.one_in(8) {
            script.say_bad_request(random);
        } else {
            let (mut extensions, offer) = (String::new(), random.below(2 * OFFERS.len()));
            if let Some((words, takeover)) = OFFERS.get(offer) {
                extensions = format!("Sec-WebSocket-Extensions: {words}\r\n");
                script.compression = Some(Compression::new(*takeover));
            }
            script.outbox.extend(format!("{REQUEST}{extensions}\r\n").bytes());
            script.expect_bytes(format!("{SWITCHING}{extensions}\r\n").as_bytes());
            for _ in 0..random.below(12) {
                script.say_message(number, random);
                if random.one_in(4) {
                    script.rests.push(script.outbox.len());
                }
            }
            if random.one_in(3) {
                script.break_a_rule(random);
            } else {
                script.say_close(random);
            }
        }
        script.choose_ending(random);
        script
    }

    pub(super) fn peer(&self) -> Peer {
        let len = self.outbox.len();
        let rests = self.rests.iter().filter(|&&at| at < len).map(|at| len - at);
        let peer = Peer::new(self.outbox.clone(), self.ending, self.reads).with_rests(rests.collect());
        peer.calling(u8::from(self.is_stream))
    }

    /// Whether the server may have to wait for this peer until a deadline.
    pub(super) fn may_time_out(&self) -> bool {
        is_rude(self.ending, self.reads)
    }

    /// Compares what the peer got with the reference.
    #[track_caller]
    pub(super) fn check(&self, peer: &Peer, verdict: Verdict) {
        let got = plain_frames(&peer.received, self.compression.as_ref().map(|compression| compression.takeover));
        let got = &got;
        if self.status_only && verdict == Verdict::Whole && self.stays(peer) {
            assert!(got.starts_with(&self.expect) && got.ends_with(b"\n"), "{}", String::from_utf8_lossy(got));
            assert!(peer.saw_fin, "a refusal ends with FIN");
            return;
        }
        if self.status_only {
            let common = got.len().min(self.expect.len());
            assert_eq!(got[..common], self.expect[..common]);
            return;
        }
        if verdict == Verdict::Whole && self.stays(peer) {
            assert_eq!(got.len(), self.expect.len(), "the whole answer to a peer that ends by {:?}", self.ending);
            assert!(peer.saw_fin, "the answer ends with FIN");
        }
        let common = got.iter().zip(&self.expect).take_while(|(got, expect)| got == expect).count();
        if common == got.len() {
            return;
        }
        // Only a goodbye may stand where the reference goes on, and only after a whole frame.
        let end = self.frame_ends.iter().rev().find(|&&end| end <= common).copied().unwrap_or(0);
        let stopped = GOING_AWAY.starts_with(&got[end..]) && (verdict == Verdict::Prefix || self.may_time_out());
        let late = TOO_LATE.starts_with(&got[end..]) && !self.complete && self.ending == Ending::Silent;
        let shed = OUT_OF_MEMORY.starts_with(&got[end..]) && verdict == Verdict::Prefix;
        let silent = SILENT.starts_with(&got[end..]) && self.may_time_out();
        let tail = &got[end..];
        assert!(stopped || late || silent || shed, "the answer differs at byte {common} of {}: {tail:?}", got.len());
    }

    /// Whether the peer reads to the end, and the server had every reason to answer to the end.
    fn stays(&self, peer: &Peer) -> bool {
        self.complete && self.reads && peer.was_accepted() && matches!(self.ending, Ending::WaitForServer | Ending::Fin)
    }

    /// Says bytes on a stream, which come back as they are. It is the peer that ends it.
    fn say_bytes(&mut self, number: usize, random: &mut Random) {
        for _ in 0..1 + random.below(6) {
            let len = random.piece(30_000);
            self.outbox.extend(binary_of(number, len, random));
            self.rests.push(self.outbox.len());
        }
        self.expect = self.outbox.clone();
        self.ending = [Ending::Fin, Ending::Fin, Ending::Fin, Ending::Reset, Ending::Silent][random.below(5)];
    }

    fn say_message(&mut self, number: usize, random: &mut Random) {
        let len = match random.below(10) {
            0 => 0,
            1..=6 => random.below(300),
            7 | 8 => random.below(5_000),
            _ => random.below(MESSAGE_BYTES_MAX + 1),
        };
        let text = random.one_in(2);
        let payload = if text { text_of(number, len, random) } else { binary_of(number, len, random) };
        let pieces = if random.one_in(3) { 1 + random.below(5) } else { 1 };
        let compressed = match &mut self.compression {
            Some(compression) if random.one_in(2) => compression.deflate(&payload),
            _ => None,
        };
        let mark = if compressed.is_some() { 0x40 } else { 0 };
        let mut rest = compressed.as_deref().unwrap_or(&payload);
        for piece in 0..pieces {
            let last = piece + 1 == pieces;
            let cut = if last { rest.len() } else { random.below(rest.len() + 1) };
            let (front, back) = rest.split_at(cut);
            let opcode = if piece > 0 { 0 } else { mark | (2 - u8::from(text)) };
            self.say_frame(u8::from(last) << 7 | opcode, front, random);
            rest = back;
            if !last && random.one_in(3) {
                self.say_ping(number, random);
            }
        }
        let first = 0x82 - u8::from(text);
        self.expect_frame(first, &payload);
    }

    fn say_ping(&mut self, number: usize, random: &mut Random) {
        let payload = binary_of(number, random.below(126), random);
        self.say_frame(0x89, &payload, random);
        self.expect_frame(0x8a, &payload);
    }

    fn say_close(&mut self, random: &mut Random) {
        let payload: &[u8] = [&b""[..], b"\x03\xe8", b"\x0f\xa0goodbye"][random.below(3)];
        self.say_frame(0x88, payload, random);
        self.expect_frame(0x88, &payload[..payload.len().min(2)]);
    }

    /// Says something that ends the session; what follows is never looked at.
    fn break_a_rule(&mut self, random: &mut Random) {
        let (frame, code, reason): (&[u8], u16, &str) = [
            (&b"\x81\x05Hello"[..], 1002, "client frame without mask"),
            (b"\xa1\x80\0\0\0\0", 1002, "reserved bit set that means nothing here"),
            (b"\x83\x80\0\0\0\0", 1002, "unknown opcode"),
            (b"\x80\x80\0\0\0\0", 1002, "continuation without a message"),
            (b"\x81\x83\0\0\0\0a\xffb", 1007, "text is not UTF-8"),
            (b"\x82\xff\0\0\0\0\0\x01\0\x01\0\0\0\0", 1009, "message over the limit"),
            (b"\x88\x82\0\0\0\0\x03\xed", 1002, "close code not allowed"),
        ][random.below(7)];
        self.outbox.extend(frame);
        let garbage = random.below(2_000);
        self.outbox.extend((0..garbage).map(|i| u8::try_from(i % 256).expect("a byte")));
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend(reason.bytes());
        self.expect_frame(0x88, &payload);
    }

    fn say_bad_request(&mut self, random: &mut Random) {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", "c".repeat(9_000));
        let (request, status) = [
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 405 "),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 426 "),
            ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "HTTP/1.1 505 "),
            ("\x16\x03\x01\x02\0\x01\0", "HTTP/1.1 400 "),
            (&long, "HTTP/1.1 431 "),
        ][random.below(5)];
        self.outbox.extend(request.bytes());
        self.outbox.extend(b"GET / HTTP/1.1\r\nHost: second\r\n\r\n".repeat(random.below(3)));
        self.expect.extend(status.bytes());
        self.status_only = true;
    }

    /// Some peers don't stay for the end, or don't even get to it.
    fn choose_ending(&mut self, random: &mut Random) {
        self.ending = match random.below(8) {
            0 => Ending::Fin,
            1 => Ending::Reset,
            2 => Ending::Silent,
            _ => Ending::WaitForServer,
        };
        if self.ending != Ending::WaitForServer && random.one_in(2) {
            let anywhere = random.below(self.outbox.len() + 1);
            self.outbox.truncate(if random.one_in(2) { self.rests.pop().unwrap_or(anywhere) } else { anywhere });
            self.complete = false;
        }
    }

    fn say_frame(&mut self, first: u8, payload: &[u8], random: &mut Random) {
        let key = u32::try_from(random.next() >> 32).expect("half of the bits").to_be_bytes();
        self.outbox.extend(frame(first, payload, 0x80));
        let at = self.outbox.len() - payload.len();
        self.outbox.splice(at..at, key);
        for (i, byte) in self.outbox[at + 4..].iter_mut().enumerate() {
            *byte ^= key[i % 4];
        }
    }

    fn expect_frame(&mut self, first: u8, payload: &[u8]) {
        self.expect_bytes(&frame(first, payload, 0));
    }

    fn expect_bytes(&mut self, bytes: &[u8]) {
        self.expect.extend(bytes);
        self.frame_ends.push(self.expect.len());
    }
}

/// What a server sent as if it had compressed nothing, and had not pinged. How it compresses is its own affair,
/// as long as the peer understands it; but only what is long enough, and what becomes shorter. A compressed
/// frame that is cut off at the end is left out.
#[track_caller]
fn plain_frames(received: &[u8], takeover: Option<Takeover>) -> Vec<u8> {
    if !received.starts_with(b"HTTP/1.1 101 ") {
        return received.to_vec();
    }
    let head_len = received.windows(4).position(|end| end == b"\r\n\r\n").map_or(received.len(), |at| at + 4);
    let (head, mut rest) = received.split_at(head_len);
    let (mut out, mut inflater, mut context) =
        (head.to_vec(), Inflater::new(), Context::new(WindowBits::MAX, takeover.unwrap_or(Takeover::No)));
    while let Some(&first) = rest.first() {
        if first == 0x89 {
            assert!(matches!(rest, [_] | [_, 0, ..]), "a ping has no content");
            rest = rest.get(2..).unwrap_or_default();
            continue;
        }
        let is_compressed = first & 0x40 != 0;
        assert!(!is_compressed || takeover.is_some(), "only what was agreed on is compressed");
        let Some(payload) = payload_of(rest) else {
            out.extend(if is_compressed { &[] } else { rest });
            break;
        };
        let (frame_bytes, behind) = rest.split_at(rest.len().min(payload.end));
        rest = behind;
        if is_compressed {
            let (payload, mut message) = (&frame_bytes[payload], Vec::new());
            inflater.inflate(payload, &mut context, MESSAGE_BYTES_MAX, &mut message).expect("the peer understands it");
            assert!(message.len() >= CompressionOptions::default().bytes_min && payload.len() < message.len());
            out.extend(frame(first & !0x40, &message, 0));
        } else {
            out.extend(frame_bytes);
        }
    }
    out
}

/// Where the payload of the first frame is, if all of it is there.
fn payload_of(bytes: &[u8]) -> Option<Range<usize>> {
    let (start, len) = match *bytes.get(1)? {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let end = start + usize::try_from(len).ok()?;
    (end <= bytes.len()).then_some(start..end)
}

/// A frame without a key, the plain way: the reference owes nothing to the encoder under test.
fn frame(first: u8, payload: &[u8], mask: u8) -> Vec<u8> {
    let mut out = vec![first];
    let len = payload.len();
    if len < 126 {
        out.push(mask | u8::try_from(len).expect("below 126"));
    } else if len < 1 << 16 {
        out.push(mask | 126);
        out.extend(u16::try_from(len).expect("below 2^16").to_be_bytes());
    } else {
        out.push(mask | 127);
        out.extend((len as u64).to_be_bytes());
    }
    out.extend(payload);
    out
}

fn binary_of(number: usize, len: usize, random: &mut Random) -> Vec<u8> {
    let salt = random.below(256);
    (0..len).map(|i| u8::try_from((number * 31 + i * 7 + i / 256 + salt) % 256).expect("a byte")).collect()
}

fn text_of(number: usize, len: usize, random: &mut Random) -> Vec<u8> {
    let alphabet = ['a', 'ß', '€', '🦀', 'Z', ' '];
    let mut text = format!("{number}:");
    while text.len() < len {
        text.push(alphabet[random.below(alphabet.len())]);
    }
    text.truncate(text.floor_char_boundary(len));
    text.into_bytes()
}
