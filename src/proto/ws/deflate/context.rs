//! What one direction of a connection keeps from one message for the next.

use std::collections::VecDeque;
use std::fmt;

use crate::proto::ws::deflate::WindowBits;
use crate::proto::ws::deflate::engines::{ENGINE_BITS_MIN, Place};

/// The sliding window of one direction between two messages: the end of what was sent so far.
///
/// Its memory grows with what is sent, up to a bound, and is used again then. A receiver has to know all that the
/// peer may refer to, 2^`window_bits` bytes. A sender is free to know less, and knows at most
/// [`SENT_LEN_MAX`]: hashing more for each message costs more time than it saves bytes. Without [`Takeover`]
/// there is no memory.
pub struct Context {
    window: VecDeque<u8>,
    /// Where the deflater may know what was sent, if this is for sending.
    place: Option<Place>,
    window_bits: WindowBits,
    takeover: Takeover,
}

/// Whether a message may refer to those before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Takeover {
    /// Every message stands alone: "no context takeover".
    No,
    /// A message may refer to what lies at most a window behind.
    Yes,
}

impl Context {
    /// The context of a direction in which nothing has been sent.
    #[must_use]
    pub const fn new(window_bits: WindowBits, takeover: Takeover) -> Self {
        Self { window: VecDeque::new(), place: None, window_bits, takeover }
    }

    /// Gives the memory back. Only for sending: a sender need not refer to what it has sent,
    /// but a receiver has to know what the peer may refer to.
    pub fn forget(&mut self) {
        self.window = VecDeque::new();
        self.place = None;
    }

    /// Takes the text of a message that was compressed by itself and sent: the next one may refer to it.
    pub fn push(&mut self, message: &[u8]) {
        self.remember_sent(message);
        self.place = None;
    }

    /// The bytes of memory that the window takes now.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.window.capacity()
    }

    /// The bytes of memory that the window of a receiver may come to take.
    #[must_use]
    pub const fn memory_max(&self) -> usize {
        match self.takeover {
            Takeover::No => 0,
            Takeover::Yes => self.window_bits.window_len(),
        }
    }

    /// The bytes of memory that the window of a sender may come to take.
    #[must_use]
    pub const fn sent_memory_max(&self) -> usize {
        let len = self.memory_max();
        if self.window_bits.get() < ENGINE_BITS_MIN {
            0 // see `Deflater`
        } else if len < SENT_LEN_MAX {
            len
        } else {
            SENT_LEN_MAX
        }
    }

    /// How far back a message may refer, as a power of two.
    #[must_use]
    pub const fn window_bits(&self) -> WindowBits {
        self.window_bits
    }

    /// Takes the text of a message that came: the next one may refer to it.
    pub(super) fn remember_received(&mut self, message: &[u8]) {
        self.remember(message, self.memory_max());
    }

    /// Takes the text of a message that was compressed with this context.
    pub(super) fn remember_sent(&mut self, message: &[u8]) {
        self.remember(message, self.sent_memory_max());
    }

    fn remember(&mut self, message: &[u8], len_max: usize) {
        if len_max == 0 {
            return;
        }
        let message = &message[message.len().saturating_sub(len_max)..];
        let excess = (self.window.len() + message.len()).saturating_sub(len_max);
        self.window.drain(..excess);
        let len = self.window.len() + message.len();
        if len > self.window.capacity() {
            // Never past the window: that is a power of two, as what is asked for.
            self.window.reserve_exact(len.next_power_of_two() - self.window.len());
        }
        self.window.extend(message);
    }

    /// Where the deflater may go on; it says where that is after the message.
    pub(super) fn take_place(&mut self) -> Option<Place> {
        self.place.take()
    }

    pub(super) fn set_place(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// The window in two parts, the older one first.
    pub(super) fn window(&self) -> [&[u8]; 2] {
        <[_; 2]>::from(self.window.as_slices())
    }

    /// The window in one part.
    pub(super) fn whole_window(&mut self) -> &[u8] {
        self.window.make_contiguous()
    }
}

/// The most that a sender keeps of what was sent.
pub const SENT_LEN_MAX: usize = 4 << 10;

/// Without the text, which is the peers' own.
impl fmt::Debug for Context {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Context")
            .field("window_bits", &self.window_bits)
            .field("takeover", &self.takeover)
            .field("window_len", &self.window.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(window_bits: u8, takeover: Takeover) -> Context {
        Context::new(WindowBits::new(window_bits).unwrap(), takeover)
    }

    #[track_caller]
    fn check(messages: &[&[u8]], expect: &[u8], memory_len: usize) {
        let mut context = context(8, Takeover::Yes);
        for message in messages {
            context.remember_received(message);
        }
        assert_eq!(context.window().concat(), expect);
        assert_eq!(context.memory_len(), memory_len);
    }

    #[test]
    fn a_window_holds_the_end_of_what_was_sent_and_little_more_memory() {
        check(&[], b"", 0);
        check(&[b""], b"", 0);
        check(&[b"abc"], b"abc", 4);
        check(&[b"abc", b"de"], b"abcde", 8);
        check(&[&[1; 200], &[2; 56]], &[[1; 200].as_slice(), &[2; 56]].concat(), 256);
        check(&[&[1; 200], &[2; 57]], &[[1; 199].as_slice(), &[2; 57]].concat(), 256);
        check(&[&[1; 200], &[2; 256]], &[2; 256], 256);
        check(&[&[1; 200], &[2; 9_999], &[3; 1]], &[[2; 255].as_slice(), &[3]].concat(), 256);
    }

    #[test]
    fn without_takeover_nothing_is_held() {
        let mut context = context(15, Takeover::No);
        context.remember_received(&[1; 100_000]);
        context.push(&[1; 100_000]);
        assert_eq!((context.window().concat().len(), context.memory_len(), context.memory_max()), (0, 0, 0));
    }

    #[test]
    fn a_context_that_forgets_has_no_memory() {
        let mut context = context(15, Takeover::Yes);
        context.remember_received(&[1; 100_000]);
        assert_eq!((context.memory_len(), context.memory_max()), (32_768, 32_768));
        context.forget();
        assert_eq!(context.memory_len(), 0);
    }

    #[test]
    fn a_sender_keeps_little_of_a_large_window() {
        for (bits, expect) in [(15, 4_096), (13, 4_096), (12, 4_096), (11, 2_048), (9, 512), (8, 0)] {
            let mut context = context(bits, Takeover::Yes);
            context.push(&[1; 100_000]);
            assert_eq!((context.memory_len(), context.sent_memory_max()), (expect, expect), "{bits} bits");
        }
    }

    #[test]
    fn debug_shows_no_text() {
        let mut context = context(9, Takeover::Yes);
        context.push(b"secret");
        let shown = format!("{context:?}");
        assert_eq!(shown, "Context { window_bits: WindowBits(9), takeover: Yes, window_len: 6 }");
    }
}
