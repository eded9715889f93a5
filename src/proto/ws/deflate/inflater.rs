//! From the payload of compressed frames to a message (RFC 7692 section 7.2.2).

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use crate::proto::ws::deflate::{Context, WindowBits};

/// A decompressor for any number of connections, one message at a time.
///
/// Nothing of a message stays in it: each is begun with the [`Context`] of its connection, so that
/// it can't refer to a message of another.
///
/// Within a message, references are bounded by 32 KiB and not by the negotiated window, since that
/// memory is there anyway; what an earlier message said is known only as far as its window.
///
/// ```
/// use ringsock::proto::ws::deflate::{Context, Inflater, Takeover, WindowBits};
///
/// let mut context = Context::new(WindowBits::MAX, Takeover::Yes);
/// let (mut inflater, mut message) = (Inflater::new(), Vec::new());
/// inflater.begin(&context, 64 << 10);
/// inflater.push(b"\xf2\x48\xcd", &mut message).expect("the first frame");
/// inflater.push(b"\xc9\xc9\x07\x00", &mut message).expect("the last frame");
/// inflater.finish(&message, &mut context).expect("the end of a block");
/// assert_eq!(message, b"Hello");
/// ```
pub struct Inflater {
    engine: Inflate,
    len_max: usize,
    work: Work,
    failure: Option<InflateError>,
}

/// Why a message could not be inflated. Its connection is to be closed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum InflateError {
    /// The data are not DEFLATE, refer to what was never sent, or end inside a block: code 1007.
    Corrupt,
    /// The message is longer than its limit: code 1009.
    TooBig,
}

/// What a message has cost so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Work {
    /// The bytes that were read. Tables are built from few of them, so that they cost more.
    pub compressed_len: usize,
    /// The bytes that were written.
    pub inflated_len: usize,
}

impl Inflater {
    /// The bytes of memory of one inflater, apart from itself.
    pub const MEMORY_LEN: usize = 48 << 10;

    /// An inflater, which allocates [`MEMORY_LEN`](Self::MEMORY_LEN) bytes now and never again.
    #[must_use]
    pub fn new() -> Self {
        Self { engine: Inflate::new(RAW, WindowBits::MAX.get()), len_max: 0, work: Work::default(), failure: None }
    }

    /// Begins a message of at most `len_max` inflated bytes, and drops what is left of another.
    pub fn begin(&mut self, context: &Context, len_max: usize) {
        self.engine.reset(RAW);
        for part in context.window().into_iter().filter(|part| !part.is_empty()) {
            self.engine.set_dictionary(part).expect("a raw stream may begin with any window");
        }
        self.len_max = len_max;
        self.work = Work::default();
        self.failure = None;
    }

    /// Appends what the next piece of the payload, unmasked, inflates to.
    ///
    /// Pieces may be cut anywhere. `out` grows with what is inflated, not past the limit, and must
    /// not be changed between [`begin`](Self::begin) and [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// The first [`InflateError`] of the message, also if it is asked again. What was inflated up to
    /// there is in `out`.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) -> Result<(), InflateError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        loop {
            let step = self.step(piece, out)?;
            piece = &piece[step.read..];
            if step.is_final {
                // Blocks may follow a final one (section 7.2.3.4). They are a stream of their own, as
                // wherever zlib is used, so that a few bytes can't make a window be copied.
                self.engine.reset(RAW);
            }
            if piece.is_empty() && !step.is_full {
                return Ok(());
            }
            if step.read == 0 && step.written == 0 {
                return Err(self.fail(InflateError::Corrupt));
            }
        }
    }

    /// Ends the message, and lets the `context` know it.
    ///
    /// # Errors
    ///
    /// [`InflateError::Corrupt`] for a message that ends inside a block, or has no block at all. The
    /// empty message is one byte long when it is compressed (section 7.2.3.6).
    ///
    /// # Panics
    ///
    /// If `out` is shorter than what was appended to it.
    pub fn finish(&mut self, out: &[u8], context: &mut Context) -> Result<(), InflateError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let mut probe = [0];
        let (status, read, written) = self.run(END, &mut probe);
        if status != Ok(Status::StreamEnd) || read != END.len() || written != 0 {
            return Err(self.fail(InflateError::Corrupt));
        }
        context.remember_received(&out[out.len() - self.work.inflated_len..]);
        Ok(())
    }

    /// Inflates a message whose payload is in one piece: the three calls in one.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push) and [`finish`](Self::finish).
    pub fn inflate(
        &mut self,
        payload: &[u8],
        context: &mut Context,
        len_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        self.begin(context, len_max);
        self.push(payload, out)?;
        self.finish(out, context)
    }

    /// What the message has cost since [`begin`](Self::begin), also if it failed.
    #[must_use]
    pub const fn work(&self) -> Work {
        self.work
    }

    /// Inflates until the input is used up, the space is full or a final block ends.
    fn step(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<Step, InflateError> {
        let start = out.len();
        let room = self.len_max - self.work.inflated_len;
        let mut probe = [0];
        // Whether a further byte would come, only the engine knows.
        let space = if room == 0 { &mut probe } else { extend(out, room, piece.len()) };
        let space_len = space.len();
        let (status, read, written) = self.run(piece, space);
        let kept = written.min(room);
        out.truncate(start + kept);
        self.work.compressed_len += read;
        self.work.inflated_len += kept;
        let Ok(status) = status else { return Err(self.fail(InflateError::Corrupt)) };
        if written > room {
            return Err(self.fail(InflateError::TooBig));
        }
        Ok(Step { read, written, is_full: written == space_len, is_final: status == Status::StreamEnd })
    }

    /// One call of the engine: its status, the bytes read and the bytes written.
    fn run(&mut self, input: &[u8], space: &mut [u8]) -> (Result<Status, InflateError>, usize, usize) {
        let (read, written) = (self.engine.total_in(), self.engine.total_out());
        let status = self.engine.decompress(input, space, InflateFlush::NoFlush);
        let len = |after: u64, before: u64| usize::try_from(after - before).expect("no more than a slice");
        let (read, written) = (len(self.engine.total_in(), read), len(self.engine.total_out(), written));
        (status.map_err(|_| InflateError::Corrupt), read, written)
    }

    fn fail(&mut self, failure: InflateError) -> InflateError {
        self.failure = Some(failure);
        failure
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Inflater").field("work", &self.work).finish_non_exhaustive()
    }
}

struct Step {
    read: usize,
    written: usize,
    is_full: bool,
    is_final: bool,
}

/// Zeroed space behind `out`, at most `room` bytes, for what `piece_len` bytes may inflate to.
///
/// Memory doubles with what is in it already, and is never more than `room` asks for: a few bytes
/// that promise a lot get little. From a mebibyte on it is asked for once, to the limit: doubling on would
/// have up to three times as much in use, since every part is copied to a larger one, and what is not
/// written to yet is only a promise of the kernel's.
fn extend(out: &mut Vec<u8>, room: usize, piece_len: usize) -> &mut [u8] {
    let start = out.len();
    let wanted = piece_len.saturating_mul(USUAL_RATIO).clamp(SPACE_LEN_MIN, SPACE_LEN_MAX).min(room);
    if out.capacity() - start < wanted {
        let more = if start < PROMISED_LEN_MIN { wanted.max(start).min(room) } else { room };
        out.reserve_exact(more);
    }
    out.resize(start + wanted, 0);
    &mut out[start..]
}

const RAW: bool = false;
/// The four bytes that the sender has left out (section 7.2.2), and a final block without bytes: the
/// engine reports the end of that one only if the message has come to the end of a block.
const END: &[u8] = b"\x00\x00\xff\xff\x01\x00\x00\xff\xff";

/// How many times as long as its compressed form a message mostly is: it takes one call then.
const USUAL_RATIO: usize = 5;
const SPACE_LEN_MIN: usize = 512;
const SPACE_LEN_MAX: usize = 64 << 10;
/// The length from which on a message has memory for all that it may become.
pub(in crate::proto::ws) const PROMISED_LEN_MIN: usize = 1 << 20;
