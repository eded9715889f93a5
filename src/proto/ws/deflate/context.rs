//! What one direction of a connection keeps from one message for the next.

use std::fmt;

use crate::proto::ws::deflate::WindowBits;

/// The sliding window of one direction between two messages: the end of what was sent so far.
///
/// Its memory grows with what is sent, up to 2^`window_bits` bytes, and is used again then. Without
/// [`Takeover`] it has none.
pub struct Context {
    window: Vec<u8>,
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
        Self { window: Vec::new(), window_bits, takeover }
    }

    /// Gives the memory back. Only for sending: a sender need not refer to what it has sent, but a
    /// receiver has to know what the peer may refer to.
    pub fn forget(&mut self) {
        self.window = Vec::new();
    }

    /// Takes the text of a further message, which was compressed by itself: the next one may refer to it.
    pub fn push(&mut self, message: &[u8]) {
        if self.takeover == Takeover::No {
            return;
        }
        let len_max = self.window_bits.window_len();
        let message = &message[message.len().saturating_sub(len_max)..];
        let excess = (self.window.len() + message.len()).saturating_sub(len_max);
        self.window.drain(..excess);
        let len = self.window.len() + message.len();
        if len > self.window.capacity() {
            // Never past the window: that is a power of two, as what is asked for.
            self.window.reserve_exact(len.next_power_of_two() - self.window.len());
        }
        self.window.extend_from_slice(message);
    }

    /// The bytes of memory that it holds now.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.window.capacity()
    }

    /// The bytes of memory that it may come to hold.
    #[must_use]
    pub const fn memory_max(&self) -> usize {
        match self.takeover {
            Takeover::No => 0,
            Takeover::Yes => self.window_bits.window_len(),
        }
    }

    /// How far back a message may refer, as a power of two.
    #[must_use]
    pub const fn window_bits(&self) -> WindowBits {
        self.window_bits
    }

    pub(super) fn window(&self) -> &[u8] {
        &self.window
    }
}

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
            context.push(message);
        }
        assert_eq!(context.window(), expect);
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
        context.push(&[1; 100_000]);
        assert_eq!((context.window().len(), context.memory_len(), context.memory_max()), (0, 0, 0));
    }

    #[test]
    fn a_context_that_forgets_has_no_memory() {
        let mut context = context(15, Takeover::Yes);
        context.push(&[1; 100_000]);
        assert_eq!((context.memory_len(), context.memory_max()), (32_768, 32_768));
        context.forget();
        assert_eq!(context.memory_len(), 0);
    }

    #[test]
    fn debug_shows_no_text() {
        let mut context = context(9, Takeover::Yes);
        context.push(b"secret");
        let shown = format!("{context:?}");
        assert_eq!(shown, "Context { window_bits: WindowBits(9), takeover: Yes, window_len: 6 }");
    }
}
