//! Random streams of frames, read by a session and by `tungstenite`, which must agree.
//!
//! Where the two differ for a reason, the reason is a [`Divergence`]. Anything else fails.

use std::io;
use std::io::{Cursor, Read, Write};
use std::iter;
use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseResult};
use ringsock::buf::Pool;
use ringsock::proto::ws::{CloseCode, Event, Limits, MessageKind, Opcode, ProtocolError, Role, Session, encoder};
use ringsock::simd::mask;
use ringsock::simd::mask::Key;
use tungstenite::error::ProtocolError as TheirError;
use tungstenite::protocol::frame::Frame as TheirFrame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role as TheirRole, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// An event, with its payload.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Did {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// What one library made of a stream.
#[derive(Debug, Eq, PartialEq)]
struct Reading {
    events: Vec<Did>,
    /// The rule that it saw broken. Neither this nor a Close: it waits for more.
    refused: Option<ProtocolError>,
    /// How many bytes it had been given at the last event or error.
    len: usize,
}

/// Reads the stream with our session, as it is cut into `pieces`.
fn read<'a>(role: Role, limits: Limits, pieces: impl Iterator<Item = &'a [u8]>) -> Reading {
    let (mut session, mut pool) = (Session::new(role, limits), Pool::default());
    let mut reading = Reading { events: Vec::new(), refused: None, len: 0 };
    let mut len = 0;
    for piece in pieces {
        let mut buffer = piece.to_vec();
        let mut input = &mut buffer[..];
        len += piece.len();
        loop {
            match session.receive(&mut input, &mut pool) {
                Ok(Some(event)) => {
                    reading.events.push(owned(&event));
                    reading.len = len;
                    event.give_back(&mut pool);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reading.refused.replace(error), None, "one error ends the session");
                    reading.len = len;
                }
            }
        }
        assert!(input.is_empty());
    }
    session.end(&mut pool);
    assert_eq!(pool.lent(), 0);
    reading
}

fn owned(event: &Event<'_>) -> Did {
    match event {
        Event::Message(message) => match message.text() {
            Some(text) => Did::Text(text.to_owned()),
            None => Did::Binary(message.bytes().to_vec()),
        },
        Event::Compressed(_) => panic!("nothing was agreed on compression"),
        Event::Ping(payload) => Did::Ping(payload.to_vec()),
        Event::Pong(payload) => Did::Pong(payload.to_vec()),
        Event::Close { code, reason } => {
            let reason = String::from_utf8(reason.to_vec()).expect("a reason is validated");
            Did::Close(code.map(CloseCode::get), reason)
        }
    }
}

/// Reads the stream with `tungstenite`.
fn read_theirs(role: Role, limits: Limits, bytes: &[u8]) -> Reading {
    let role = match role {
        Role::Server => TheirRole::Server,
        Role::Client => TheirRole::Client,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .max_frame_size(Some(limits.message_bytes_max))
        .max_message_size(Some(limits.message_bytes_max));
    let wire = Wire { input: Cursor::new(bytes.to_vec()), output: Vec::new() };
    let mut socket = WebSocket::from_raw_socket(wire, role, Some(config));
    let mut events = Vec::new();
    let refused = loop {
        match socket.read() {
            Ok(Message::Text(text)) => events.push(Did::Text(text.as_str().to_owned())),
            Ok(Message::Binary(bytes)) => events.push(Did::Binary(bytes.to_vec())),
            Ok(Message::Ping(bytes)) => events.push(Did::Ping(bytes.to_vec())),
            Ok(Message::Pong(bytes)) => events.push(Did::Pong(bytes.to_vec())),
            Ok(Message::Close(frame)) => {
                let (code, reason) = frame.map(|frame| (frame.code.into(), frame.reason)).unzip();
                events.push(Did::Close(code, reason.map_or_else(String::new, |reason| reason.as_str().to_owned())));
                break None;
            }
            Ok(Message::Frame(frame)) => panic!("a raw frame was read: {frame}"),
            Err(Error::Protocol(TheirError::ResetWithoutClosingHandshake)) => break None,
            Err(error) => break Some(our_name(&error)),
        }
    };
    Reading { events, refused, len: bytes.len() }
}

/// Our name of the rule that `tungstenite` saw broken.
fn our_name(error: &Error) -> ProtocolError {
    match error {
        Error::Capacity(_) => ProtocolError::MessageTooBig,
        Error::Utf8(_) => ProtocolError::InvalidUtf8,
        Error::Protocol(TheirError::NonZeroReservedBits) => ProtocolError::ReservedBit,
        Error::Protocol(TheirError::InvalidOpcode(_)) => ProtocolError::UnknownOpcode,
        Error::Protocol(TheirError::FragmentedControlFrame) => ProtocolError::FragmentedControl,
        Error::Protocol(TheirError::ControlFrameTooBig) => ProtocolError::OversizedControl,
        Error::Protocol(TheirError::UnmaskedFrameFromClient) => ProtocolError::UnmaskedFrame,
        Error::Protocol(TheirError::MaskedFrameFromServer) => ProtocolError::MaskedFrame,
        Error::Protocol(TheirError::UnexpectedContinueFrame) => ProtocolError::UnexpectedContinuation,
        Error::Protocol(TheirError::ExpectedFragment(_)) => ProtocolError::InterleavedMessage,
        Error::Protocol(TheirError::InvalidCloseSequence) => ProtocolError::TruncatedCloseCode,
        other => panic!("no rule of ours has this name: {other}"),
    }
}

/// The transport of a `tungstenite` socket: bytes to read, then an end, and a record of the writes.
#[derive(Default)]
struct Wire {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reason for which the two libraries read a stream differently.
///
/// One difference is not in this list because the comparison removes it: `tungstenite` judges a
/// frame only once its payload is whole (apart from its opcode and length, which it judges with
/// the header), while a session refuses at the first byte that shows the mistake, in a header or
/// in a text. So the frame in which a session fails is completed before `tungstenite` reads it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Divergence {
    /// A frame that breaks two rules: each library names the one that it looks at first.
    NamesTheOtherRule,
    /// It takes lengths that are not in their shortest form. RFC 6455 section 5.2 has a MUST here.
    TakesLongLengths,
    /// It takes a Close with a reserved code, and reports it as 1002. So it does with 1014, which
    /// is not reserved: IANA has registered it (Bad Gateway).
    ReplacesCloseCodes,
    /// It has no limit on the number of fragments, or of empty ones in a row.
    DoesNotCountFragments,
}

/// Why `theirs` is not `ours`, for a stream that ends with the frame in which we failed, if we did.
fn explain(ours: &Reading, theirs: &Reading) -> Option<Divergence> {
    let both = ours.events.iter().zip(&theirs.events).take_while(|(our, their)| our == their).count();
    match (&ours.events[both..], ours.refused, &theirs.events[both..], theirs.refused) {
        ([], Some(ours), [], Some(theirs))
            if is_first(OUR_ORDER, ours, theirs) && is_first(THEIR_ORDER, theirs, ours) =>
        {
            Some(Divergence::NamesTheOtherRule)
        }
        ([], Some(ProtocolError::NonMinimalLength), [] | [_], None) => Some(Divergence::TakesLongLengths),
        // The long form alone says that this control frame is too long, or should have a short one.
        ([], Some(ProtocolError::OversizedControl), [Did::Ping(_) | Did::Pong(_) | Did::Close(..)], None)
        | (
            [],
            Some(ProtocolError::OversizedControl),
            [],
            Some(ProtocolError::TruncatedCloseCode | ProtocolError::InvalidUtf8),
        ) => Some(Divergence::TakesLongLengths),
        ([], Some(ProtocolError::InvalidCloseCode), [close], None)
        | ([Did::Close(Some(1014), _)], None, [close], None)
            if *close == Did::Close(Some(1002), "Protocol violation".to_owned()) =>
        {
            Some(Divergence::ReplacesCloseCodes)
        }
        ([], Some(ProtocolError::TooManyFragments | ProtocolError::TooManyEmptyFragments), [] | [_], None) => {
            Some(Divergence::DoesNotCountFragments)
        }
        _ => None,
    }
}

/// Whether one who looks at rules in `order` sees `first` before `second`, if at all.
fn is_first(order: &[ProtocolError], first: ProtocolError, second: ProtocolError) -> bool {
    order.iter().find(|rule| [first, second].contains(rule)) == Some(&first) && first != second
}

/// The order in which a session looks at a frame.
const OUR_ORDER: &[ProtocolError] = &[
    ProtocolError::ReservedBit,
    ProtocolError::UnknownOpcode,
    ProtocolError::FragmentedControl,
    ProtocolError::UnmaskedFrame,
    ProtocolError::MaskedFrame,
    ProtocolError::OversizedControl,
    ProtocolError::LengthTopBit,
    ProtocolError::NonMinimalLength,
    ProtocolError::UnexpectedContinuation,
    ProtocolError::InterleavedMessage,
    ProtocolError::MessageTooBig,
    ProtocolError::TooManyFragments,
    ProtocolError::TooManyEmptyFragments,
    ProtocolError::TruncatedCloseCode,
    ProtocolError::InvalidCloseCode,
    ProtocolError::InvalidUtf8,
];

/// The order in which `tungstenite` does. Rules of ours that it does not have are missing.
const THEIR_ORDER: &[ProtocolError] = &[
    ProtocolError::UnknownOpcode,
    ProtocolError::MessageTooBig,
    ProtocolError::UnmaskedFrame,
    ProtocolError::ReservedBit,
    ProtocolError::MaskedFrame,
    ProtocolError::FragmentedControl,
    ProtocolError::OversizedControl,
    ProtocolError::TruncatedCloseCode,
    ProtocolError::UnexpectedContinuation,
    ProtocolError::InterleavedMessage,
    ProtocolError::InvalidUtf8,
];

/// Reads `bytes` in every way, which must not matter, and then with `tungstenite`.
fn judge(role: Role, limits: Limits, bytes: &[u8], cuts: &Cuts) -> Result<Option<Divergence>, TestCaseError> {
    let mut ours = read(role, limits, bytes.chunks(1));
    for reading in [read(role, limits, iter::once(bytes)), read(role, limits, cuts.pieces(bytes))] {
        prop_assert_eq!(&reading.events, &ours.events);
        prop_assert_eq!(reading.refused, ours.refused);
    }
    let theirs = match ours.refused {
        Some(_) => read_theirs(role, limits, &completed(role, limits, bytes, ours.len)),
        None => read_theirs(role, limits, bytes),
    };
    ours.len = theirs.len;
    if ours == theirs {
        return Ok(None);
    }
    let divergence = explain(&ours, &theirs);
    prop_assert!(divergence.is_some(), "unexplained: {ours:?} but {theirs:?} of {bytes:02x?}");
    Ok(divergence)
}

/// The beginning of `bytes` up to the end of the frame that has byte `len`, made up if need be.
fn completed(role: Role, limits: Limits, bytes: &[u8], len: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut start = 0;
    loop {
        if out.len() == start + 1 {
            out.push(if role == Role::Server { 0x80 } else { 0 });
        }
        let form = out[start + 1] & 0x7f;
        let header_len = 2 + [0, 2, 8][usize::from(form.saturating_sub(125))] + usize::from(out[start + 1] >> 7) * 4;
        out.resize(out.len().max(start + header_len), 0);
        let payload_len = match form {
            126 => u64::from(u16::from_be_bytes([out[start + 2], out[start + 3]])),
            127 => u64::from_be_bytes(*out[start + 2..].first_chunk().expect("the header was just completed")),
            short => u64::from(short),
        };
        // A frame over the limit is refused with its header, by either library.
        let payload_len = usize::try_from(payload_len).unwrap_or(usize::MAX);
        start += header_len + if payload_len > limits.message_bytes_max { 0 } else { payload_len };
        if start >= len {
            out.resize(start, 0);
            return out;
        }
    }
}

/// Where a stream is cut.
#[derive(Clone, Debug)]
enum Cuts {
    At(Vec<Index>),
    Every(usize),
}

impl Cuts {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            4 => prop::collection::vec(any::<Index>(), 0..8).prop_map(Self::At),
            1 => select(vec![2, 3, 125, 126, 1_460, 4_096]).prop_map(Self::Every),
        ]
    }

    fn pieces<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut ends: Vec<usize> = match self {
            Self::At(cuts) => cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect(),
            Self::Every(step) => (*step..bytes.len()).step_by(*step).collect(),
        };
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut start = 0;
        ends.into_iter().map(move |end| &bytes[std::mem::replace(&mut start, end)..end])
    }
}

/// What a well-behaved peer sends.
#[derive(Clone, Debug)]
struct Script {
    items: Vec<Item>,
    close: Option<(u16, String)>,
}

#[derive(Clone, Debug)]
enum Item {
    /// A message, cut into fragments, with a control frame after each fragment but the last.
    Message {
        kind: MessageKind,
        len: usize,
        seed: u64,
        cuts: Vec<Index>,
        between: Vec<Control>,
    },
    Control(Control),
}

#[derive(Clone, Debug)]
struct Control {
    opcode: Opcode,
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    fin: bool,
    opcode: Opcode,
    payload: Vec<u8>,
}

impl Script {
    fn any(lens: impl Strategy<Value = usize> + Clone + 'static) -> impl Strategy<Value = Self> {
        let control = || {
            let payload = prop_oneof![0..=125_usize, select(vec![0, 125])].prop_map(|len| vec![b'c'; len]);
            let opcode = select(vec![Opcode::Ping, Opcode::Pong]);
            (opcode, payload).prop_map(|(opcode, payload)| Control { opcode, payload })
        };
        let cuts = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<Index>(), 1..6)];
        let between = prop::collection::vec(control(), 0..4);
        let kind = select(vec![MessageKind::Text, MessageKind::Binary]);
        let message = (kind, lens, any::<u64>(), cuts, between)
            .prop_map(|(kind, len, seed, cuts, between)| Item::Message { kind, len, seed, cuts, between });
        let item = prop_oneof![3 => message, 1 => control().prop_map(Item::Control)];
        let code = select(vec![1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 3000, 3999, 4000, 4999]);
        let reason = (0..=123_usize, any::<u64>()).prop_map(|(len, seed)| text_of(len, seed));
        let close = prop::option::of((code, reason));
        (prop::collection::vec(item, 1..6), close).prop_map(|(items, close)| Self { items, close })
    }

    /// The frames before the Close, and all events.
    fn play(&self) -> (Vec<Frame>, Vec<Did>) {
        let (mut frames, mut events) = (Vec::new(), Vec::new());
        for item in &self.items {
            match item {
                Item::Message { kind, len, seed, cuts, between } => {
                    let (payload, event) = match kind {
                        MessageKind::Text => (text_of(*len, *seed).into_bytes(), Did::Text(text_of(*len, *seed))),
                        MessageKind::Binary => (bytes_of(*len, *seed), Did::Binary(bytes_of(*len, *seed))),
                    };
                    let cuts = Cuts::At(cuts.clone());
                    for (index, piece) in cuts.pieces(&payload).enumerate() {
                        if let (1.., Some(control)) = (index, between.get(index.wrapping_sub(1))) {
                            control.play(&mut frames, &mut events);
                        }
                        let opcode = if index == 0 { kind.opcode() } else { Opcode::Continuation };
                        frames.push(Frame { fin: false, opcode, payload: piece.to_vec() });
                    }
                    frames.last_mut().expect("a message has a frame").fin = true;
                    events.push(event);
                }
                Item::Control(control) => control.play(&mut frames, &mut events),
            }
        }
        events.extend(self.close.as_ref().map(|(code, reason)| Did::Close(Some(*code), reason.clone())));
        (frames, events)
    }

    /// The stream as our encoder writes it, with random masking keys or none, and where the
    /// headers are in it.
    fn encode(&self, mut keys: Option<Random>) -> (Vec<u8>, Vec<Range<usize>>) {
        let (mut out, mut headers) = (Vec::new(), Vec::new());
        for frame in self.play().0 {
            let start = out.len();
            frame.encode(&mut out, keys.as_mut().map(Random::key));
            headers.push(start..out.len() - frame.payload.len());
        }
        if let Some((code, reason)) = &self.close {
            let start = out.len();
            encoder::close(&mut out, CloseCode::new(*code), reason, keys.as_mut().map(Random::key));
            headers.push(start..out.len() - 2 - reason.len());
        }
        (out, headers)
    }
}

impl Control {
    fn play(&self, frames: &mut Vec<Frame>, events: &mut Vec<Did>) {
        frames.push(Frame { fin: true, opcode: self.opcode, payload: self.payload.clone() });
        events.push(match self.opcode {
            Opcode::Ping => Did::Ping(self.payload.clone()),
            _ => Did::Pong(self.payload.clone()),
        });
    }
}

impl Frame {
    fn encode(&self, out: &mut Vec<u8>, key: Option<Key>) {
        match (self.fin, self.opcode, key) {
            (true, Opcode::Text, None) => out.extend_from_slice(&encoder::shared(MessageKind::Text, &self.payload)),
            (true, _, _) => encoder::frame(out, self.opcode, &self.payload, key),
            (false, _, _) => {
                encoder::fragment_header(out, self.opcode, false, self.payload.len(), key);
                mask::append(out, &self.payload, key.unwrap_or_default());
            }
        }
    }

    fn into_theirs(self) -> Message {
        let data = |data| Message::Frame(TheirFrame::message(self.payload.clone(), OpCode::Data(data), self.fin));
        match (self.fin, self.opcode) {
            (true, Opcode::Text) => Message::text(String::from_utf8(self.payload).expect("the script has valid text")),
            (true, Opcode::Binary) => Message::binary(self.payload),
            (false, Opcode::Text) => data(Data::Text),
            (false, Opcode::Binary) => data(Data::Binary),
            (_, Opcode::Continuation) => data(Data::Continue),
            (_, Opcode::Ping) => Message::Ping(self.payload.into()),
            (_, Opcode::Pong) => Message::Pong(self.payload.into()),
            (_, Opcode::Close) => panic!("the script closes by itself"),
        }
    }
}

/// Text of `len` bytes, with characters of every width.
fn text_of(len: usize, seed: u64) -> String {
    let mut random = Random::new(seed);
    let mut text = String::with_capacity(len);
    while text.len() < len {
        let character =
            ['a', 'Z', '\u{7f}', 'é', 'ж', '\u{7ff}', '€', '\u{ffff}', '😀', '\u{10ffff}'][random.below(10)];
        text.push(if text.len() + character.len_utf8() <= len { character } else { '.' });
    }
    text
}

fn bytes_of(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let words = iter::repeat_with(|| random.next().to_le_bytes());
    words.flatten().take(len).collect()
}

/// Xorshift: what a payload consists of need not shrink.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn key(&mut self) -> Key {
        let [.., a, b, c, d] = self.next().to_le_bytes();
        [a, b, c, d]
    }

    fn below(&mut self, count: usize) -> usize {
        let [.., high] = self.next().to_le_bytes();
        usize::from(high) % count
    }
}

/// Damage to a valid stream.
#[derive(Clone, Debug)]
struct Damage {
    header: Index,
    byte: Index,
    kind: DamageKind,
}

#[derive(Clone, Debug)]
enum DamageKind {
    Flip(u8),
    Insert(u8),
    Delete,
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let kind = prop_oneof![
            6 => (0..8_u8).prop_map(|bit| DamageKind::Flip(1 << bit)),
            1 => any::<u8>().prop_map(DamageKind::Insert),
            1 => Just(DamageKind::Delete),
        ];
        (any::<Index>(), any::<Index>(), kind).prop_map(|(header, byte, kind)| Self { header, byte, kind })
    }

    fn apply(&self, bytes: &mut Vec<u8>, headers: &[Range<usize>]) {
        let header = self.header.get(headers);
        let at = header.start + self.byte.index(header.len());
        match self.kind {
            _ if at >= bytes.len() => {}
            DamageKind::Flip(bits) => bytes[at] ^= bits,
            DamageKind::Insert(byte) => bytes.insert(at, byte),
            DamageKind::Delete => drop(bytes.remove(at)),
        }
    }
}

/// A frame that may be wrong in any way, but mostly is right.
#[derive(Clone, Debug)]
struct Odd {
    first: First,
    is_masked_wrongly: bool,
    form: Form,
    key: Key,
    payload: Vec<u8>,
}

#[derive(Clone, Debug)]
enum First {
    /// A data frame, the first of a message or a further one as it should be.
    Data {
        text: bool,
        fin: bool,
    },
    Byte(u8),
}

#[derive(Clone, Debug)]
enum Form {
    Minimal,
    Bits16,
    Bits64,
    Announced(u64),
}

impl Odd {
    fn any() -> impl Strategy<Value = Self> {
        let first = prop_oneof![
            20 => (prop::bool::weighted(0.7), prop::bool::weighted(0.35)).prop_map(|(text, fin)| First::Data { text, fin }),
            5 => select(vec![0x89, 0x8a]).prop_map(First::Byte),
            1 => select(vec![0x80, 0x00, 0x81, 0x02, 0x88]).prop_map(First::Byte),
            1 => any::<u8>().prop_map(First::Byte),
        ];
        let form = prop_oneof![
            60 => Just(Form::Minimal),
            1 => Just(Form::Bits16),
            1 => Just(Form::Bits64),
            1 => any::<u64>().prop_map(Form::Announced),
        ];
        let pieces =
            [&b"a"[..], "é".as_bytes(), b"\xe2", b"\x82\xac", b"\xf0\x9f", b"\x98\x80", b"\xc3", b"\xa9", b"\xed"];
        let character = (0..60_usize).prop_map(move |n| if n < 40 { pieces[n % 2] } else { pieces[n % pieces.len()] });
        let payload = prop_oneof![
            4 => prop::collection::vec(character, 0..4).prop_map(|pieces| pieces.concat()),
            1 => Just(Vec::new()),
            1 => (0..300_usize).prop_map(|len| vec![b'x'; len]),
            1 => (900..1100_u16).prop_map(|code| code.to_be_bytes().to_vec()),
        ];
        (first, prop::bool::weighted(0.01), form, any::<Key>(), payload).prop_map(
            |(first, is_masked_wrongly, form, key, payload)| Self { first, is_masked_wrongly, form, key, payload },
        )
    }

    /// Appends the frame. `is_open` is whether a message is under way before it, and then after it.
    fn encode(&self, out: &mut Vec<u8>, role: Role, is_open: &mut bool) {
        let first = match self.first {
            First::Byte(first) => first,
            First::Data { text, fin } => {
                let opcode = if *is_open { 0 } else { 2 - u8::from(text) };
                *is_open = !fin;
                u8::from(fin) << 7 | opcode
            }
        };
        let key = ((role == Role::Server) != self.is_masked_wrongly).then_some(self.key);
        let mask_bit = u8::from(key.is_some()) << 7;
        let len = u16::try_from(self.payload.len()).expect("payloads are short");
        match self.form {
            Form::Minimal => {
                let start = out.len();
                encoder::header(out, Opcode::Binary, self.payload.len(), key);
                out[start] = first;
            }
            Form::Bits16 => {
                out.extend([first, mask_bit | 126]);
                out.extend(len.to_be_bytes());
                out.extend(key.iter().flatten());
            }
            Form::Bits64 | Form::Announced(_) => {
                let len = if let Form::Announced(len) = self.form { len } else { len.into() };
                out.extend([first, mask_bit | 127]);
                out.extend(len.to_be_bytes());
                out.extend(key.iter().flatten());
            }
        }
        mask::append(out, &self.payload, key.unwrap_or_default());
    }
}

fn any_len() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![
        6 => 0..300_usize,
        3 => select(vec![0, 1, 125, 126, 127, 65_535, 65_536, 65_537]),
        1 => 0..100_000_usize,
    ]
}

fn small_len() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![0..40_usize, select(vec![0, 1, 125, 126, 127, 300])]
}

fn any_role() -> impl Strategy<Value = Role> {
    select(vec![Role::Server, Role::Client])
}

/// Room for every message of a [`Script`].
const WIDE: Limits = Limits { message_bytes_max: 100_000, fragments_max: 6, empty_fragments_max: 6 };
/// Limits that random frames meet now and then.
const TIGHT: Limits = Limits { message_bytes_max: 600, fragments_max: 5, empty_fragments_max: 2 };

fn check_read(role: Role, bytes: &[u8], cuts: &Cuts, expect: &[Did]) -> TestCaseResult {
    for reading in [read(role, WIDE, cuts.pieces(bytes)), read_theirs(role, WIDE, bytes)] {
        prop_assert_eq!(reading.refused, None);
        prop_assert_eq!(&reading.events[..], expect);
    }
    Ok(())
}

fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn what_our_client_sends_arrives_at_both_servers(
        script in Script::any(any_len()), seed: u64, cuts in Cuts::any()
    ) {
        let (bytes, _) = script.encode(Some(Random::new(seed)));
        check_read(Role::Server, &bytes, &cuts, &script.play().1)?;
    }

    #[test]
    fn what_our_server_sends_arrives_at_both_clients(script in Script::any(any_len()), cuts in Cuts::any()) {
        let (bytes, _) = script.encode(None);
        check_read(Role::Client, &bytes, &cuts, &script.play().1)?;
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn what_their_client_sends_arrives_at_our_server(
        script in Script::any(any_len()), role in any_role(), cuts in Cuts::any()
    ) {
        let (their_role, our_role) = match role {
            Role::Client => (TheirRole::Client, Role::Server),
            Role::Server => (TheirRole::Server, Role::Client),
        };
        let mut socket = WebSocket::from_raw_socket(Wire::default(), their_role, None);
        let (frames, events) = script.play();
        for frame in frames {
            socket.send(frame.into_theirs()).expect("the wire takes everything");
        }
        if let Some((code, reason)) = script.close {
            let frame = CloseFrame { code: code.into(), reason: reason.into() };
            socket.close(Some(frame)).expect("the wire takes everything");
        }
        let reading = read(our_role, WIDE, cuts.pieces(&socket.get_ref().output));
        prop_assert_eq!(reading.refused, None);
        prop_assert_eq!(reading.events, events);
    }

    #[test]
    fn random_bytes_are_judged_alike(
        bytes in prop::collection::vec(any::<u8>(), 0..100), role in any_role(), cuts in Cuts::any()
    ) {
        judge(role, TIGHT, &bytes, &cuts)?;
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn damaged_streams_are_judged_alike(
        script in Script::any(small_len()), role in any_role(), seed: u64,
        damages in prop::collection::vec(Damage::any(), 1..4), cuts in Cuts::any()
    ) {
        let keys = (role == Role::Server).then(|| Random::new(seed));
        let (mut bytes, headers) = script.encode(keys);
        for damage in damages {
            damage.apply(&mut bytes, &headers);
        }
        let limits = Limits { message_bytes_max: 2_000, ..Limits::default() };
        judge(role, limits, &bytes, &cuts)?;
    }

    #[test]
    fn odd_frames_are_judged_alike(
        frames in prop::collection::vec(Odd::any(), 0..12), role in any_role(),
        cut_off in 0..20_usize, cuts in Cuts::any()
    ) {
        let (mut bytes, mut is_open) = (Vec::new(), false);
        frames.iter().for_each(|frame| frame.encode(&mut bytes, role, &mut is_open));
        bytes.truncate(bytes.len() - cut_off.min(bytes.len()));
        judge(role, TIGHT, &bytes, &cuts)?;
    }
}

#[track_caller]
fn check_divergence(bytes: &[u8], expect: Option<Divergence>) {
    let divergence = judge(Role::Client, TIGHT, bytes, &Cuts::Every(2)).expect("explained");
    assert_eq!(divergence, expect, "{bytes:02x?}");
}

#[test]
fn each_divergence_has_an_example() {
    check_divergence(b"\xc3\x00", Some(Divergence::NamesTheOtherRule));
    check_divergence(b"\x09\x80\x00\x00\x00\x00", Some(Divergence::NamesTheOtherRule));
    check_divergence(b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", Some(Divergence::NamesTheOtherRule));
    check_divergence(b"\x88\x03\x03\xed\xff", Some(Divergence::NamesTheOtherRule));
    check_divergence(b"\x81\x7e\x00\x02ok", Some(Divergence::TakesLongLengths));
    check_divergence(b"\x01\x7f\0\0\0\0\0\0\x00\x01a", Some(Divergence::TakesLongLengths));
    check_divergence(b"\x89\x7e\x00\x02ok", Some(Divergence::TakesLongLengths));
    check_divergence(b"\x88\x7e\x00\x01\x03", Some(Divergence::TakesLongLengths));
    check_divergence(b"\x88\x02\x03\xed", Some(Divergence::ReplacesCloseCodes));
    check_divergence(b"\x88\x04\x03\xf6ok", Some(Divergence::ReplacesCloseCodes));
    check_divergence(
        b"\x02\x01a\x00\x01b\x00\x01c\x00\x01d\x00\x01e\x80\x01f",
        Some(Divergence::DoesNotCountFragments),
    );
    check_divergence(b"\x02\x00\x00\x00\x00\x00", Some(Divergence::DoesNotCountFragments));
}

#[test]
fn frames_that_are_cut_before_their_mistake_can_be_told_agree() {
    check_divergence(b"\x81\x05\xff", None);
    check_divergence(b"\x01\x02a\xe2\x80\x09\x82", None);
    check_divergence(b"\x01\x02a\xe2\x80\x09\x28", None);
    check_divergence(b"\x81\x80", None);
    check_divergence(b"\x09", None);
    check_divergence(b"\x89\x7e", Some(Divergence::TakesLongLengths));
}
