//! Compression of a worker's connections: one inflater and one deflater for all of them, and what each
//! connection has to remember.

mod fan_out;
mod windows;

use std::collections::HashMap;

use crate::buf::{Pool, SharedFrame};
use crate::proto::ws::deflate::{
    Context, Deflater, Inflater, Level, Outcome, Outgoing, Parameters, Takeover, Thrift, WindowBits,
};
use crate::proto::ws::{Compressed, HEADER_LEN_MAX, Message, ProtocolError, encoder};
use crate::slab::Key;
use crate::worker::compression::fan_out::{FanOut, Form, whole_message};
use crate::worker::compression::windows::{Table, Windows, shrink};

/// How a worker compresses, on the routes that ask for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// The pains that are taken with messages to send; the fastest unless it is said.
    pub level: Level,
    /// Shorter messages are sent as they are; 256 unless it is said.
    pub bytes_min: usize,
    /// What the windows of all connections may take. Whoever comes when it is spent is agreed with as
    /// [`Policy::Shared`](crate::Policy::Shared) has it. 64 MiB a worker unless it is said.
    pub memory_max: usize,
    /// What the compressor may take to remember the connections with windows that it serves: up to 380 KiB for
    /// each. It serves those better and faster as long as all that fits into the processor's cache. 4 MiB unless
    /// it is said.
    pub engines_max: usize,
    /// For how long a connection with windows has to be sent nothing, until what it was sent before is
    /// forgotten: its next message refers to nothing then. In milliseconds; 30 s unless it is said.
    pub forget_after_ms: u64,
    /// How much a worker may compress in a second, in the bytes of [`Deflater::work`], of which level 1 does
    /// some 350 in a microsecond, and higher ones a tenth of that. What is more is sent as it is, to whomever
    /// it goes. 192 MiB unless it is said: half of a processor's time.
    pub deflate_work_max: u64,
    /// How much work the messages of one connection may make in a second: a thousand for each of them, sixteen
    /// for each byte that came, and one for each byte that it was inflated to. Once it is spent, the next
    /// message ends the connection with code 1008. 256 MiB unless it is said, which is 15 MB of what can't be
    /// compressed, or 30 MB of JSON. There is no bound for all connections of a worker together.
    pub inflate_work_max: u64,
}

/// What reading a compressed byte costs, in bytes written: a few of them may have tables built.
const READ_COST: u64 = 16;
/// What beginning to inflate a message costs, in the same measure.
const BEGIN_COST: u64 = 1 << 10;
/// Space for compressed messages that is kept while nobody uses it.
const SCRATCH_LEN_MAX: usize = 1 << 20;

impl Default for Options {
    fn default() -> Self {
        Self {
            level: Level::FASTEST,
            bytes_min: 256,
            memory_max: 64 << 20,
            engines_max: 4 << 20,
            forget_after_ms: 30_000,
            deflate_work_max: 192 << 20,
            inflate_work_max: 256 << 20,
        }
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
    /// Made when it is first needed.
    inflater: Option<Inflater>,
    deflater: Deflater,
    /// For messages that stand alone.
    alone: Context,
    windows: Table,
    fan_out: Option<FanOut>,
    scratch: Vec<u8>,
    /// The present second, by which work is bounded.
    second: u64,
    /// What each connection has had inflated in it.
    inflate_work: HashMap<Key, u64>,
    /// What the deflater may have done by its end.
    deflate_work_max: u64,
    /// What it had done when the last call of a handler began.
    deflate_work_before: u64,
}

impl Compression {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            inflater: None,
            deflater: Deflater::with_memory(options.level, options.engines_max),
            alone: Context::new(WindowBits::MAX, Takeover::No),
            windows: Table::default(),
            fan_out: None,
            scratch: Vec::new(),
            second: 0,
            inflate_work: HashMap::new(),
            deflate_work_max: options.deflate_work_max,
            deflate_work_before: 0,
        }
    }

    /// Begins a turn.
    pub(super) fn set_time(&mut self, now_ms: u64) {
        let second = now_ms / 1_000;
        if self.second != second {
            self.second = second;
            self.inflate_work.clear();
            self.deflate_work_max = self.deflater.work().saturating_add(self.options.deflate_work_max);
        }
    }

    /// What may still be promised to a connection for its windows.
    pub(super) fn memory_left(&self) -> usize {
        self.options.memory_max.saturating_sub(self.windows.memory_len() + size_of::<Windows>())
    }

    /// Keeps what was agreed with a connection.
    pub(super) fn agree(&mut self, key: Key, parameters: &Parameters) -> Agreement {
        let windows = Windows::new(parameters);
        let window_bits = windows.ours.window_bits();
        Agreement { window_bits, has_windows: self.windows.insert(key, windows) }
    }

    /// Forgets a connection.
    pub(super) fn end(&mut self, key: Key, agreement: Agreement) {
        if agreement.has_windows {
            self.windows.remove(key);
        }
    }

    /// What it takes to compress for a connection. Messages that are not compressed because there was too
    /// much to do in this second are counted in `skipped`.
    pub(super) fn outgoing<'w>(&'w mut self, key: Key, agreement: Agreement, skipped: &'w mut u64) -> Outgoing<'w> {
        let context = if agreement.has_windows {
            &mut self.windows.of(key).ours
        } else {
            self.alone = Context::new(agreement.window_bits, Takeover::No);
            &mut self.alone
        };
        self.deflate_work_before = self.deflater.work();
        let thrift = Thrift { bytes_min: self.options.bytes_min, work_max: self.deflate_work_max, skipped };
        Outgoing::new(&mut self.deflater, context, &mut self.scratch, thrift)
    }

    /// Takes notice of what a connection was sent by [`outgoing`](Self::outgoing).
    pub(super) fn sent(&mut self, key: Key, agreement: Agreement, now_ms: u64) {
        if agreement.has_windows && self.deflater.work() != self.deflate_work_before {
            self.windows.sent(key, now_ms);
        }
    }

    /// The compressed form of a frame for a connection, or `None` if it is to be sent as it is. It is made
    /// once for all connections with the same size of window, and refers to nothing before it.
    pub(super) fn shared(
        &mut self,
        key: Key,
        agreement: Agreement,
        frame: &SharedFrame,
        now_ms: u64,
        skipped: &mut u64,
    ) -> Option<SharedFrame> {
        let (opcode, message) = whole_message(frame).filter(|_| frame.may_compress())?;
        if message.len() < self.options.bytes_min {
            return None;
        }
        let fan_out = match &mut self.fan_out {
            Some(fan_out) if fan_out.is_of(frame) => fan_out,
            other => other.insert(FanOut::new(frame)),
        };
        let form = fan_out.form(agreement.window_bits);
        if matches!(form, Form::Unknown) {
            if self.deflater.work() >= self.deflate_work_max {
                *skipped += 1;
                return None;
            }
            let mut alone = Context::new(agreement.window_bits, Takeover::No);
            self.scratch.clear();
            *form = match self.deflater.deflate(message, &mut alone, &mut self.scratch) {
                Outcome::Compressed => {
                    let mut out = Vec::with_capacity(HEADER_LEN_MAX + self.scratch.len());
                    encoder::compressed_frame(&mut out, opcode, &self.scratch, None);
                    Form::Compressed(SharedFrame::new(&out))
                }
                Outcome::NotShorter => Form::NotShorter,
            };
        }
        let Form::Compressed(compressed) = form else { return None };
        if agreement.has_windows {
            // The peer's window has it now, so ours must too.
            self.windows.of(key).ours.push(message);
            self.windows.sent(key, now_ms);
        }
        Some(compressed.clone())
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
        pool: &mut Pool,
    ) -> Result<Message<'static>, ProtocolError> {
        let spent = self.inflate_work.entry(key).or_default();
        if *spent >= self.options.inflate_work_max {
            message.payload.give_back(pool);
            return Err(ProtocolError::InflateBudget);
        }
        let inflater = self.inflater.get_or_insert_default();
        let context = if agreement.has_windows { &mut self.windows.of(key).theirs } else { &mut self.alone };
        let inflated = message.inflate(inflater, context, len_max, pool);
        let work = inflater.work();
        *spent += BEGIN_COST + work.inflated_len as u64 + READ_COST * work.compressed_len as u64;
        inflated
    }

    /// Lets go of what is not in use any more.
    pub(super) fn trim(&mut self, now_ms: u64) {
        self.fan_out = None;
        self.deflater.trim();
        self.windows.trim(now_ms, self.options.forget_after_ms);
        shrink(&mut self.inflate_work);
        if self.scratch.capacity() > SCRATCH_LEN_MAX {
            self.scratch = Vec::new();
        }
    }

    /// When there may be something to trim, if ever.
    pub(super) fn trim_at_ms(&self) -> Option<u64> {
        let now = self.fan_out.is_some() || !self.deflater.is_trim() || self.scratch.capacity() > SCRATCH_LEN_MAX;
        if now { Some(0) } else { self.windows.trim_at_ms() }
    }

    /// Whether no connection has windows.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.windows.is_at_rest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ws::{MessageKind, Payload};

    const KEY: Key = Key { slot: 0, generation: 0 };
    const FULL: Parameters = Parameters {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: None,
        client_max_window_bits: None,
    };

    fn compression() -> (Compression, Agreement) {
        let mut compression = Compression::new(Options::default());
        let agreement = compression.agree(KEY, &FULL);
        (compression, agreement)
    }

    fn kept(compression: &mut Compression, now_ms: u64) -> usize {
        compression.trim(now_ms);
        compression.windows.of(KEY).ours.memory_len()
    }

    #[test]
    fn what_was_sent_is_forgotten_whether_to_one_or_to_many() {
        for is_shared in [true, false] {
            let (mut compression, agreement) = compression();
            assert_eq!(kept(&mut compression, 0), 0);
            let (message, mut skipped) = (vec![b'a'; 1_000], 0);
            if is_shared {
                let frame = encoder::shared(MessageKind::Text, &message);
                assert!(compression.shared(KEY, agreement, &frame, 1_000, &mut skipped).is_some());
            } else {
                assert!(compression.outgoing(KEY, agreement, &mut skipped).compress(&message).is_some());
                compression.sent(KEY, agreement, 1_000);
            }
            assert_eq!(kept(&mut compression, 30_999), 1_024, "to many: {is_shared}");
            assert_eq!(kept(&mut compression, 50_000), 0, "to many: {is_shared}");
            assert_eq!((compression.trim_at_ms(), skipped), (None, 0));
        }
    }

    #[test]
    fn the_length_of_a_message_decides_whether_it_is_compressed_not_that_of_its_frame() {
        let bytes_min = Options::default().bytes_min;
        for (len, is_compressed) in [(bytes_min - 1, false), (bytes_min, true)] {
            let (mut compression, agreement) = compression();
            let (message, mut skipped) = (vec![b'a'; len], 0);
            assert_eq!(compression.outgoing(KEY, agreement, &mut skipped).compress(&message).is_some(), is_compressed);
            let frame = encoder::shared(MessageKind::Text, &message);
            assert_eq!(compression.shared(KEY, agreement, &frame, 0, &mut skipped).is_some(), is_compressed);
        }
    }

    #[test]
    fn windows_take_no_more_than_they_may() {
        let options = Options { memory_max: 3 * FULL.memory_max() + 2 * size_of::<Windows>(), ..Options::default() };
        let mut compression = Compression::new(options);
        let mut slot = 0;
        while FULL.memory_max() <= compression.memory_left() {
            compression.agree(Key { slot, generation: 0 }, &FULL);
            slot += 1;
        }
        assert!(compression.windows.memory_len() <= options.memory_max, "{slot} connections");
        assert_eq!(slot, 2);
    }

    #[test]
    fn a_message_costs_work_even_if_it_is_empty() {
        let (mut compression, agreement) = compression();
        compression.options.inflate_work_max = 10 * BEGIN_COST;
        let mut pool = Pool::default();
        let mut inflate = || {
            let message = Compressed { kind: MessageKind::Binary, payload: Payload::View(b"\0") };
            compression
                .inflate(KEY, agreement, message, 100, &mut pool)
                .map(|message| message.payload.give_back(&mut pool))
        };
        let taken = (0..100).take_while(|_| inflate().is_ok()).count();
        assert!((9..=10).contains(&taken), "{taken}");
    }
}
