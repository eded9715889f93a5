//! From a message to the payload of a compressed frame (RFC 7692 section 7.2.1).

use std::fmt;

use zlib_rs::{Deflate, DeflateFlush, Status};

use crate::proto::ws::deflate::engines;
use crate::proto::ws::deflate::engines::{ENGINE_BITS_MIN, Engines, engine_bits};
use crate::proto::ws::deflate::{Context, WindowBits};

/// A compressor for any number of connections.
///
/// Each message is begun with the [`Context`] of its connection; nothing of another's gets into it.
///
/// There is no window of 256 bytes in zlib. To a peer that insists on one, only messages that are
/// not longer are compressed, each on its own: no reference can be too long then.
///
/// ```
/// use ringsock::proto::ws::deflate::{Context, Deflater, Level, Outcome, Takeover, WindowBits};
///
/// let mut context = Context::new(WindowBits::MAX, Takeover::Yes);
/// let (mut deflater, mut payload) = (Deflater::new(Level::FASTEST), Vec::new());
/// let outcome = deflater.deflate(b"to be or not to be or not to be", &mut context, &mut payload);
/// assert_eq!(outcome, Outcome::Compressed);
/// assert!(payload.len() < 31);
/// ```
pub struct Deflater {
    level: Level,
    /// For messages that stand alone. One for each size of window, from [`ENGINE_BITS_MIN`] on, made when it
    /// is first needed.
    alone: [Option<Deflate>; ENGINE_COUNT],
    engines: Engines,
    work: u64,
}

/// The pains that a compressor takes, as zlib counts them: 1 (fast) to 9 (short).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Level(u8);

impl Level {
    /// Short of time: level 1.
    pub const FASTEST: Self = Self(1);
    /// What zlib does, and browsers do, unless told otherwise: level 6.
    pub const USUAL: Self = Self(6);
    /// Short of bandwidth: level 9.
    pub const SHORTEST: Self = Self(9);

    /// A level of 1 to 9, or `None` if zlib knows no such level.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if level >= Self::FASTEST.0 && level <= Self::SHORTEST.0 { Some(Self(level)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Outcome {
    /// Its compressed form was appended. It has to be sent, with RSV1 set.
    Compressed,
    /// Compression would not make it shorter. Nothing was appended: it has to be sent as it is.
    ///
    /// The context does not know the message then, as the peer's does not.
    NotShorter,
}

impl Deflater {
    /// A compressor that takes more or less pains.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self::with_memory(level, 0)
    }

    /// A compressor that uses `memory_max` bytes to remember the connections that it serves, but at least as
    /// much as for one: a message of these is begun faster, and may refer to more.
    #[must_use]
    pub fn with_memory(level: Level, memory_max: usize) -> Self {
        Self { level, alone: [const { None }; ENGINE_COUNT], engines: Engines::new(level, memory_max), work: 0 }
    }

    /// Appends the compressed form of a message to `out`, unless it is not shorter.
    ///
    /// For a connection that it does not remember, with a window, it makes ready anew what takes
    /// [`engine_memory_len`](Self::engine_memory_len) bytes, and learns what the `context` knows. Nothing else
    /// is allocated, apart from what `out` and the `context` have to grow: `out` by little more than the length
    /// of the message.
    pub fn deflate(&mut self, message: &[u8], context: &mut Context, out: &mut Vec<u8>) -> Outcome {
        let bits = context.window_bits();
        let is_small = bits.get() < ENGINE_BITS_MIN;
        if is_small && message.len() > bits.window_len() {
            return Outcome::NotShorter;
        }
        self.work += message.len() as u64;
        let room = message.len() + TAIL.len(); // not more, so that a result that fits is shorter
        let outcome = if context.sent_memory_max() == 0 {
            run(self.alone(bits), message, room, out)
        } else {
            let (stream, place, is_new) = self.engines.take(context.take_place(), bits);
            if is_new {
                let window = context.whole_window();
                self.work += ENGINE_WORK + window.len() as u64;
                stream.set_dictionary(window).expect("a raw stream may begin with any window");
            }
            let outcome = run(stream, message, room, out);
            match outcome {
                Outcome::Compressed => context.set_place(place),
                // It has learned what the peer does not know.
                Outcome::NotShorter => self.engines.spoil(place),
            }
            outcome
        };
        if outcome == Outcome::Compressed {
            context.remember_sent(message);
        }
        outcome
    }

    /// Lets go of what is remembered of connections that were not served since the last call.
    pub fn trim(&mut self) {
        self.engines.trim();
    }

    /// Whether there is nothing to [`trim`](Self::trim).
    #[must_use]
    pub fn is_trim(&self) -> bool {
        self.engines.is_empty()
    }

    /// What it has done so far: the bytes of the messages and those of windows that had to be learned,
    /// [`RESET_WORK`] for each message that stands alone, and [`ENGINE_WORK`] for each of a connection with a
    /// window that it did not remember.
    #[must_use]
    pub const fn work(&self) -> u64 {
        self.work
    }

    /// The bytes of memory that it takes for a size of window: once for all messages that stand alone, and
    /// once for each connection that it remembers.
    #[must_use]
    pub const fn engine_memory_len(window_bits: WindowBits) -> usize {
        engines::memory_len_of(window_bits)
    }

    /// The engine for messages that stand alone, ready for one.
    fn alone(&mut self, window_bits: WindowBits) -> &mut Deflate {
        self.work += RESET_WORK;
        let slot = &mut self.alone[usize::from(engine_bits(window_bits) - ENGINE_BITS_MIN)];
        let stream = slot.get_or_insert_with(|| engines::make(self.level, window_bits));
        stream.reset();
        stream
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Deflater").field("level", &self.level).finish_non_exhaustive()
    }
}

/// Appends the compressed form of `message`, without its last four bytes, if that and those four
/// take less than `room` bytes.
fn run(engine: &mut Deflate, message: &[u8], room: usize, out: &mut Vec<u8>) -> Outcome {
    let start = out.len();
    let space_len = room.max(SPACE_LEN_MIN);
    out.resize(start + space_len, 0);
    let mut rest = message;
    let mut written = flush(engine, &mut rest, &mut out[start..]);
    let fits = rest.is_empty() && written < room && out[start..start + written].ends_with(TAIL);
    // What comes late is of no use, but has to come: an engine that is reset inside a block would
    // leave the first block of the next message without its header.
    while written == space_len || written > 0 && !rest.is_empty() {
        written = flush(engine, &mut rest, &mut out[start..]);
    }
    out.truncate(if fits { start + written - TAIL.len() } else { start });
    if fits { Outcome::Compressed } else { Outcome::NotShorter }
}

/// One call of the engine, which passes over what it has read of `rest`: the bytes written.
fn flush(engine: &mut Deflate, rest: &mut &[u8], space: &mut [u8]) -> usize {
    let (read, written) = (engine.total_in(), engine.total_out());
    let status = engine.compress(rest, space, DeflateFlush::SyncFlush);
    debug_assert!(matches!(status, Ok(Status::Ok | Status::BufError)), "an engine can't fail");
    let len = |after: u64, before: u64| usize::try_from(after - before).expect("no more than a slice");
    *rest = &rest[len(engine.total_in(), read)..];
    len(engine.total_out(), written)
}

/// What it takes to begin a message that stands alone, in bytes compressed in that time at level 1.
pub const RESET_WORK: u64 = 1 << 10;
/// What it takes to begin with another connection that has a window, in the same measure.
pub const ENGINE_WORK: u64 = 4 << 10;
/// With less space, the engine could end each call with another empty block, for ever.
const SPACE_LEN_MIN: usize = 64;
/// The end of a flushed stream, which is left out (section 7.2.1).
const TAIL: &[u8] = b"\x00\x00\xff\xff";

const ENGINE_COUNT: usize = (WindowBits::MAX.get() - ENGINE_BITS_MIN + 1) as usize;
