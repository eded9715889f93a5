//! What one connection says, frame by frame, and what the server owes it in return.

use std::collections::VecDeque;

use ringsock::proto::ws::{CloseCode, MessageKind, Opcode, encoder};
use ringsock::simd::mask;

use crate::content::{Content, Sample};
use crate::random::Random;
use crate::tally::Tally;

/// How a connection behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Temper {
    /// Messages without end; now and then it closes, resets or does not listen.
    Wild,
    /// One message, then silence until it is told to end.
    Calm,
}

/// Something that the server must send, in the order in which it was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Debt {
    Echo(Sample),
    Pong(Sample),
    Close(Option<CloseCode>),
}

/// The side of a conversation that we speak.
#[derive(Debug)]
pub(crate) struct Speech {
    random: Random,
    temper: Temper,
    /// Encoded, and how much of it was written to the socket.
    bytes: Vec<u8>,
    written: usize,
    /// The message under way.
    message: Option<Message>,
    /// What the server owes, the oldest first, and how many echoes are among it.
    debts: VecDeque<Debt>,
    echoes: usize,
    /// How many messages may be unanswered at once.
    window: usize,
    begun: u64,
    end: End,
    deaf: bool,
}

/// How and when a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// It is not known yet.
    Open,
    /// With a Close after the message under way.
    Close,
    /// By a reset in the middle of the message under way, after so many bytes of it.
    Reset(usize),
    /// Everything was said.
    Said,
}

/// A message under way: what follows of it.
#[derive(Debug)]
struct Message {
    sample: Sample,
    sent: usize,
    frames: usize,
    frames_left: usize,
    frame: Option<Frame>,
}

/// A frame under way.
#[derive(Debug)]
struct Frame {
    key: mask::Key,
    remaining: usize,
    fin: bool,
}

impl Speech {
    pub(crate) fn new(random: Random, temper: Temper) -> Self {
        Self {
            random,
            temper,
            bytes: Vec::new(),
            written: 0,
            message: None,
            debts: VecDeque::new(),
            echoes: 0,
            window: 1,
            begun: 0,
            end: End::Open,
            deaf: false,
        }
    }

    /// Bytes to write, as many as there are at hand; none if everything is said for now.
    pub(crate) fn pending(&mut self, content: &Content, tally: &mut Tally) -> &[u8] {
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
            self.encode(content, tally);
        }
        &self.bytes[self.written..]
    }

    /// Marks `len` of the pending bytes as written.
    pub(crate) fn advance(&mut self, len: usize) {
        self.written += len;
    }

    /// The oldest debt, paid by what just arrived.
    pub(crate) fn settle(&mut self) -> Option<Debt> {
        let debt = self.debts.pop_front();
        self.echoes -= usize::from(matches!(debt, Some(Debt::Echo(_))));
        debt
    }

    /// Begins nothing new and ends with a Close.
    pub(crate) fn conclude(&mut self) {
        if self.end == End::Open {
            self.end = End::Close;
        }
    }

    /// Listens again: what would be written was written, as far as the socket takes it.
    pub(crate) fn listen(&mut self) {
        self.deaf = false;
    }

    /// Whether nothing is read until there is nothing more to write.
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Whether the point is reached at which the connection is to be reset.
    pub(crate) fn is_cut(&self) -> bool {
        match (self.end, &self.message) {
            (End::Reset(after), Some(message)) => message.sent >= after,
            _ => false,
        }
    }

    /// What the server owes.
    pub(crate) fn debts(&self) -> &VecDeque<Debt> {
        &self.debts
    }

    /// How many echoes are owed.
    pub(crate) fn echoes(&self) -> usize {
        self.echoes
    }

    fn encode(&mut self, content: &Content, tally: &mut Tally) {
        while self.bytes.len() < CHUNK_LEN && !self.is_cut() {
            match &self.message {
                Some(message) if message.frame.is_some() => self.go_on(content),
                Some(_) => self.begin_frame(content, tally),
                None if self.end == End::Close => self.say_close(),
                None if self.may_begin() => self.begin_message(content),
                None => return,
            }
        }
    }

    fn may_begin(&self) -> bool {
        let patient = match self.temper {
            Temper::Wild => true,
            Temper::Calm => self.begun == 0,
        };
        self.end == End::Open && self.echoes < self.window && patient
    }

    fn begin_message(&mut self, content: &Content) {
        let sample = content.message(&mut self.random);
        let frames = if self.random.one_in(2) { 1 } else { 2 + self.random.below(FRAMES_MAX - 1) };
        self.message = Some(Message { sample, sent: 0, frames, frames_left: frames, frame: None });
        self.begun += 1;
        self.window = 1 + self.random.below(WINDOW_MAX);
        if self.temper == Temper::Wild {
            if self.random.one_in(CLOSE_ONE_IN) {
                self.end = End::Close;
            } else if self.random.one_in(RESET_ONE_IN) {
                self.end = End::Reset(self.random.below(sample.len.max(1)));
            } else if self.random.one_in(DEAF_ONE_IN) {
                self.deaf = true;
                self.window = WINDOW_MAX;
            }
        }
    }

    /// Begins the next frame of the message, perhaps with a Ping before it.
    fn begin_frame(&mut self, content: &Content, tally: &mut Tally) {
        let message = self.message.as_mut().expect("a message is under way");
        if self.random.one_in(PING_ONE_IN) {
            let ping = content.ping(&mut self.random);
            encoder::frame(&mut self.bytes, Opcode::Ping, content.bytes(ping), Some(self.random.bytes()));
            self.debts.push_back(Debt::Pong(ping));
        }
        let remaining = message.sample.len - message.sent;
        let (len, fin) = frame_len(remaining, message.frames_left, &mut self.random);
        let opcode = if message.frames_left < message.frames {
            Opcode::Continuation
        } else {
            MessageKind::opcode(message.sample.kind)
        };
        let key = self.random.bytes();
        encoder::fragment_header(&mut self.bytes, opcode, fin, len, Some(key));
        message.frames_left -= 1;
        message.frame = Some(Frame { key, remaining: len, fin });
        tally.fragments += 1;
    }

    /// Encodes what there is room for of the frame under way.
    fn go_on(&mut self, content: &Content) {
        let message = self.message.as_mut().expect("a message is under way");
        let frame = message.frame.as_mut().expect("a frame is under way");
        let room = CHUNK_LEN.saturating_sub(self.bytes.len());
        let len = match self.end {
            End::Reset(after) => frame.remaining.min(after - message.sent),
            _ => frame.remaining,
        };
        let piece = &content.bytes(message.sample)[message.sent..][..len.min(room)];
        frame.key = mask::append(&mut self.bytes, piece, frame.key);
        frame.remaining -= piece.len();
        message.sent += piece.len();
        if frame.remaining == 0 {
            let fin = frame.fin;
            message.frame = None;
            if fin {
                self.debts.push_back(Debt::Echo(message.sample));
                self.echoes += 1;
                self.message = None;
            }
        }
    }

    fn say_close(&mut self) {
        let code = CloseCode::new(self.random.pick(&CLOSE_CODES));
        let reason = self.random.pick(&["", "enough", "schön wär’s, 😀"]);
        encoder::close(&mut self.bytes, code, reason, Some(self.random.bytes()));
        self.debts.push_back(Debt::Close(code));
        self.end = End::Said;
    }
}

/// The length of the next frame of a message, and whether it is the last.
fn frame_len(remaining: usize, frames_left: usize, random: &mut Random) -> (usize, bool) {
    if frames_left == 1 {
        (remaining, true)
    } else if random.one_in(EMPTY_ONE_IN) {
        (0, false)
    } else if remaining == 0 {
        (0, true)
    } else {
        (1 + random.below(remaining.min(1 + 2 * remaining / frames_left)), false)
    }
}

/// How much is encoded at once.
const CHUNK_LEN: usize = 64 << 10;
const FRAMES_MAX: usize = 20;
const WINDOW_MAX: usize = 8;
const PING_ONE_IN: usize = 8;
/// Rare enough that the server's limit of 16 empty frames in a row is out of reach.
const EMPTY_ONE_IN: usize = 16;
const CLOSE_ONE_IN: usize = 200;
const RESET_ONE_IN: usize = 1000;
const DEAF_ONE_IN: usize = 32;
/// Codes that may be sent, and one that may not: it stands for a Close without a code.
const CLOSE_CODES: [u16; 8] = [1000, 1001, 1003, 1011, 3000, 4000, 4999, 1005];
