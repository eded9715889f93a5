//! Compression of a worker's connections: one inflater and one deflater for all of them, and what each
//! connection has to remember.

use std::collections::HashMap;

use crate::buf::{Pool, SharedFrame};
use crate::proto::ws::deflate::{
    Context, Deflater, Inflater, Level, Outcome, Outgoing, Parameters, Takeover, WindowBits,
};
use crate::proto::ws::{
    Compressed, FrameHeader, HEADER_LEN_MAX, Message, Opcode, ProtocolError, ReservedBits, Role, encoder,
};
use crate::slab::Key;

/// How a worker compresses, on the routes that ask for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// The pains that are taken with messages to send.
    pub level: Level,
    /// Shorter messages are sent as they are.
    pub bytes_min: usize,
    /// What the windows of all connections may take. Whoever comes when it is spent is agreed with as
    /// [`Policy::Shared`](crate::Policy::Shared) has it.
    pub memory_max: usize,
    /// How much work the messages of one connection may make in a second: bytes inflated, and each that
    /// they are inflated from for sixteen. A message more than that ends the connection.
    pub inflate_work_max: u64,
}

/// What reading a compressed byte costs, in bytes written: a few of them may have tables built.
const READ_COST: u64 = 16;

impl Default for Options {
    fn default() -> Self {
        Self { level: Level::FASTEST, bytes_min: 256, memory_max: 64 << 20, inflate_work_max: 64 << 20 }
    }
}

/// What a connection agreed on. Its windows, if it has any, are with the worker's [`Compression`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Agreement {
    /// How far back our messages may refer.
    window_bits: WindowBits,
    has_windows: bool,
}

#[derive(Debug)]
pub(super) struct Compression {
    options: Options,
    /// Both are made when they are first needed.
    inflater: Option<Inflater>,
    deflater: Option<Deflater>,
    scratch: Vec<u8>,
    windows: HashMap<Key, Windows>,
    /// What the windows may come to take.
    memory_len: usize,
    /// What each connection has made us do in the present second.
    work: HashMap<Key, u64>,
    second: u64,
    /// For messages that stand alone.
    alone: Context,
    fan_out: Option<FanOut>,
}

/// The frame that was last sent to many, and its compressed forms.
#[derive(Debug)]
struct FanOut {
    frame: SharedFrame,
    /// By size of window: not compressed yet, or not shorter, or this.
    compressed: [Option<Option<SharedFrame>>; WINDOW_SIZES],
}

const WINDOW_SIZES: usize = (WindowBits::MAX.get() - WindowBits::MIN.get() + 1) as usize;

/// The windows of a connection, one for each direction.
#[derive(Debug)]
struct Windows {
    ours: Context,
    theirs: Context,
}

impl Windows {
    fn memory_max(&self) -> usize {
        self.ours.memory_max() + self.theirs.memory_max()
    }
}

impl Compression {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            inflater: None,
            deflater: None,
            scratch: Vec::new(),
            windows: HashMap::new(),
            memory_len: 0,
            work: HashMap::new(),
            second: 0,
            alone: Context::new(WindowBits::MAX, Takeover::No),
            fan_out: None,
        }
    }

    /// What may still be promised to connections.
    pub(super) fn memory_left(&self) -> usize {
        self.options.memory_max.saturating_sub(self.memory_len)
    }

    /// Keeps what was agreed with a connection.
    pub(super) fn agree(&mut self, key: Key, parameters: &Parameters) -> Agreement {
        let windows = Windows { ours: parameters.server_context(), theirs: parameters.client_context() };
        let window_bits = windows.ours.window_bits();
        let has_windows = windows.memory_max() > 0;
        if has_windows {
            self.memory_len += windows.memory_max();
            self.windows.insert(key, windows);
        }
        Agreement { window_bits, has_windows }
    }

    /// Forgets a connection.
    pub(super) fn end(&mut self, key: Key, agreement: Agreement) {
        if agreement.has_windows
            && let Some(windows) = self.windows.remove(&key)
        {
            self.memory_len -= windows.memory_max();
        }
    }

    /// What it takes to compress for a connection.
    pub(super) fn outgoing(&mut self, key: Key, agreement: Agreement) -> Outgoing<'_> {
        let deflater = self.deflater.get_or_insert_with(|| Deflater::new(self.options.level));
        let context = if agreement.has_windows {
            &mut self.windows.get_mut(&key).expect("windows are kept until the connection ends").ours
        } else {
            self.alone = Context::new(agreement.window_bits, Takeover::No);
            &mut self.alone
        };
        Outgoing::new(deflater, context, &mut self.scratch, self.options.bytes_min)
    }

    /// The compressed form of a frame for a connection, or `None` if it is to be sent as it is. It is made
    /// once for all connections with the same size of window, and refers to nothing before it.
    pub(super) fn shared(&mut self, key: Key, agreement: Agreement, frame: &SharedFrame) -> Option<SharedFrame> {
        if !frame.may_compress() || frame.len() < self.options.bytes_min {
            return None;
        }
        let (opcode, message) = whole_message(frame)?;
        let fan_out = match &mut self.fan_out {
            Some(fan_out) if fan_out.frame.is(frame) => fan_out,
            other => other.insert(FanOut { frame: frame.clone(), compressed: [const { None }; WINDOW_SIZES] }),
        };
        let (deflater, scratch) = (&mut self.deflater, &mut self.scratch);
        let index = usize::from(agreement.window_bits.get() - WindowBits::MIN.get());
        let compressed = fan_out.compressed[index].get_or_insert_with(|| {
            let deflater = deflater.get_or_insert_with(|| Deflater::new(self.options.level));
            let mut alone = Context::new(agreement.window_bits, Takeover::No);
            scratch.clear();
            let outcome = deflater.deflate(message, &mut alone, scratch);
            (outcome == Outcome::Compressed).then(|| {
                let mut out = Vec::with_capacity(HEADER_LEN_MAX + scratch.len());
                encoder::compressed_frame(&mut out, opcode, scratch, None);
                SharedFrame::new(&out)
            })
        });
        if agreement.has_windows && compressed.is_some() {
            // The peer's window has it now, so ours must too.
            self.windows.get_mut(&key).expect("windows are kept until the connection ends").ours.push(message);
        }
        compressed.clone()
    }

    /// Whether no connection has windows.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.windows.is_empty() && self.memory_len == 0
    }

    /// Lets go of what is kept for the frame that was sent last.
    pub(super) fn trim(&mut self) {
        self.fan_out = None;
    }

    /// Inflates a message of a connection to at most `len_max` bytes.
    ///
    /// # Errors
    ///
    /// As [`Compressed::inflate`], and [`ProtocolError::InflateBudget`].
    pub(super) fn inflate(
        &mut self,
        key: Key,
        agreement: Agreement,
        message: Compressed<'_>,
        len_max: usize,
        now_ms: u64,
        pool: &mut Pool,
    ) -> Result<Message<'static>, ProtocolError> {
        if now_ms / 1_000 != self.second {
            self.second = now_ms / 1_000;
            self.work.clear();
        }
        let spent = self.work.entry(key).or_default();
        if *spent >= self.options.inflate_work_max {
            message.payload.give_back(pool);
            return Err(ProtocolError::InflateBudget);
        }
        let inflater = self.inflater.get_or_insert_default();
        let context = if agreement.has_windows {
            &mut self.windows.get_mut(&key).expect("windows are kept until the connection ends").theirs
        } else {
            &mut self.alone
        };
        let inflated = message.inflate(inflater, context, len_max, pool);
        let work = inflater.work();
        *spent += work.inflated_len as u64 + READ_COST * work.compressed_len as u64;
        inflated
    }
}

/// The message that a frame is, unless it is but a part of one, or none: a fragment or a control frame.
fn whole_message(frame: &[u8]) -> Option<(Opcode, &[u8])> {
    let header = FrameHeader::parse(frame, Role::Client, ReservedBits::Unused).ok()??;
    let message = &frame[header.len..];
    let is_message = header.fin && matches!(header.opcode, Opcode::Text | Opcode::Binary);
    (is_message && header.payload_len == message.len() as u64).then_some((header.opcode, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encoder::frame(&mut out, opcode, payload, None);
        out
    }

    #[test]
    fn only_whole_messages_are_compressed() {
        let text = frame(Opcode::Text, &[b'a'; 100]);
        assert_eq!(whole_message(&text), Some((Opcode::Text, [b'a'; 100].as_slice())));
        assert_eq!(whole_message(&frame(Opcode::Binary, b"")), Some((Opcode::Binary, [].as_slice())));
        for opcode in [Opcode::Ping, Opcode::Pong, Opcode::Close, Opcode::Continuation] {
            assert_eq!(whole_message(&frame(opcode, &[b'a'; 100])), None, "{opcode:?}");
        }
        let mut fragment = text.clone();
        fragment[0] &= 0x7f;
        assert_eq!(whole_message(&fragment), None, "a first fragment");
        assert_eq!(whole_message(&text[..50]), None, "less than the header says");
        assert_eq!(whole_message(&[text.clone(), text].concat()), None, "two messages");
        assert_eq!(whole_message(b""), None);
    }
}
