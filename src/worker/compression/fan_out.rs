//! The compressed forms of a frame that goes to many.

use crate::buf::SharedFrame;
use crate::proto::ws::deflate::WindowBits;
use crate::proto::ws::{FrameHeader, Opcode, ReservedBits, Role};

/// The frame that was last sent to many, and what became of it for each size of window.
#[derive(Debug)]
pub(super) struct FanOut {
    frame: SharedFrame,
    compressed: [Form; WINDOW_SIZES],
}

/// A compressed form of a frame.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// Nobody has asked for it yet.
    Unknown,
    /// It would not be shorter.
    NotShorter,
    Compressed(SharedFrame),
}

const WINDOW_SIZES: usize = (WindowBits::MAX.get() - WindowBits::MIN.get() + 1) as usize;

impl FanOut {
    pub(super) fn new(frame: &SharedFrame) -> Self {
        Self { frame: frame.clone(), compressed: [const { Form::Unknown }; WINDOW_SIZES] }
    }

    pub(super) fn is_of(&self, frame: &SharedFrame) -> bool {
        self.frame.is(frame)
    }

    pub(super) fn form(&mut self, window_bits: WindowBits) -> &mut Form {
        &mut self.compressed[usize::from(window_bits.get() - WindowBits::MIN.get())]
    }
}

/// The message that a frame is, unless it is but a part of one, or none: a fragment or a control frame.
pub(super) fn whole_message(frame: &[u8]) -> Option<(Opcode, &[u8])> {
    let header = FrameHeader::parse(frame, Role::Client, ReservedBits::Unused).ok()??;
    let message = &frame[header.len..];
    let is_message = header.fin && matches!(header.opcode, Opcode::Text | Opcode::Binary);
    (is_message && header.payload_len == message.len() as u64).then_some((header.opcode, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ws::encoder;

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
