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
use crate::worker::compression::windows::{Table, Windows};

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
    /// What the compressor may take to remember the connections with windows that it serves: up to 380 KiB for
    /// each. It serves those better and faster as long as all that fits into the processor's cache.
    pub engines_max: usize,
    /// For how long a connection with windows has to be sent nothing, until what it was sent before is
    /// forgotten: its next message refers to nothing then. In milliseconds.
    pub forget_after_ms: u64,
    /// How much may be compressed in a second, in the bytes of [`Deflater::work`], of which level 1 does
    /// some 350 in a microsecond. What is more is sent as it is.
    pub deflate_work_max: u64,
    /// How much work the messages of one connection may make in a second: bytes inflated, and each that
    /// they are inflated from for sixteen. A message more than that ends the connection.
    pub inflate_work_max: u64,
}

/// What reading a compressed byte costs, in bytes written: a few of them may have tables built.
const READ_COST: u64 = 16;
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
            inflate_work_max: 64 << 20,
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
    /// What it had done when the last call of a handler had ended.
    deflate_work_seen: u64,
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
            deflate_work_seen: 0,
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

    /// What may still be promised to connections.
    pub(super) fn memory_left(&self) -> usize {
        self.options.memory_max.saturating_sub(self.windows.memory_len())
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
        let thrift = Thrift { bytes_min: self.options.bytes_min, work_max: self.deflate_work_max, skipped };
        Outgoing::new(&mut self.deflater, context, &mut self.scratch, thrift)
    }

    /// Takes notice of what a connection was sent by [`outgoing`](Self::outgoing).
    pub(super) fn sent(&mut self, key: Key, agreement: Agreement, now_ms: u64) {
        let work = self.deflater.work();
        if work != self.deflate_work_seen && agreement.has_windows {
            self.windows.sent(key, now_ms);
        }
        self.deflate_work_seen = work;
    }

    /// The compressed form of a frame for a connection, or `None` if it is to be sent as it is. It is made
    /// once for all connections with the same size of window, and refers to nothing before it.
    pub(super) fn shared(
        &mut self,
        key: Key,
        agreement: Agreement,
        frame: &SharedFrame,
        skipped: &mut u64,
    ) -> Option<SharedFrame> {
        if !frame.may_compress() || frame.len() < self.options.bytes_min {
            return None;
        }
        let (opcode, message) = whole_message(frame)?;
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
        *spent += work.inflated_len as u64 + READ_COST * work.compressed_len as u64;
        inflated
    }

    /// Lets go of what is not in use any more.
    pub(super) fn trim(&mut self, now_ms: u64) {
        self.fan_out = None;
        self.deflater.trim();
        self.windows.trim(now_ms, self.options.forget_after_ms);
        if self.scratch.capacity() > SCRATCH_LEN_MAX {
            self.scratch = Vec::new();
        }
    }

    /// Whether there is nothing to trim, now or later.
    pub(super) fn is_trim(&self) -> bool {
        self.fan_out.is_none()
            && self.deflater.is_trim()
            && self.windows.is_trim()
            && self.scratch.capacity() <= SCRATCH_LEN_MAX
    }

    /// Whether no connection has windows.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.windows.is_at_rest()
    }
}
