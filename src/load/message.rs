//! Messages as masked frames in a send queue.

use std::ops::Range;

use crate::buf::{Pool, SendQueue};
use crate::load::random::Random;
use crate::proto::ws::{HEADER_LEN_MAX, MessageKind, Opcode, encoder};
use crate::simd::mask;

/// Messages up to this length are gathered in one block; longer ones get one each.
const GATHER_LEN_MAX: usize = 64 << 10;
/// Room that a block of the pool has beside the length asked for.
const SLACK: usize = 64;

/// A message in two parts, so that none is copied to join them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: MessageKind,
    pub(super) head: &'a [u8],
    pub(super) body: &'a [u8],
    /// What the parts are is the compressed form of the message.
    pub(super) compressed: bool,
    /// Frames wanted; no more than one for each byte are made.
    pub(super) fragments: u32,
}

impl Message<'_> {
    /// Appends the frames, each masked with a key of its own. `room` is how many bytes the caller
    /// expects to append in this turn.
    pub(super) fn write(&self, queue: &mut SendQueue, pool: &mut Pool, random: &mut Random, room: usize) {
        let headers_len = self.fragment_count() * HEADER_LEN_MAX;
        if self.len() <= GATHER_LEN_MAX {
            let len = headers_len + self.len();
            let len = if queue.is_empty() { len.max(room) } else { len };
            queue.write(pool, len, |out| self.append(out, random));
        } else {
            // A block of the message's own size class holds the headers too, if they are few.
            let extra = if headers_len <= SLACK { 0 } else { headers_len };
            let mut block = pool.take(self.len() + extra);
            self.append(&mut block, random);
            queue.push_block(pool, block, 0);
        }
    }

    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn fragment_count(&self) -> usize {
        (self.fragments as usize).min(self.len()).max(1)
    }

    fn append(&self, out: &mut Vec<u8>, random: &mut Random) {
        let (count, len) = (self.fragment_count(), self.len());
        for index in 0..count {
            let range = len * index / count..len * (index + 1) / count;
            let opcode = if index == 0 { self.kind.opcode() } else { Opcode::Continuation };
            let key = random.mask();
            let start = out.len();
            encoder::fragment_header(out, opcode, index + 1 == count, range.len(), Some(key));
            if self.compressed && index == 0 {
                encoder::mark_compressed(&mut out[start..]);
            }
            let (head, body) = self.parts(range);
            let key = mask::append(out, head, key);
            mask::append(out, body, key);
        }
    }

    /// What lies in a range of the message, in each part.
    fn parts(&self, range: Range<usize>) -> (&[u8], &[u8]) {
        let split = self.head.len();
        let head = &self.head[range.start.min(split)..range.end.min(split)];
        let body = &self.body[range.start.max(split) - split..range.end.max(split) - split];
        (head, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ws::{Event, Limits, Role, Session};

    #[track_caller]
    fn check(head: &[u8], body: &[u8], fragments: u32) {
        let (mut pool, mut queue) = (Pool::default(), SendQueue::default());
        let message = Message { kind: MessageKind::Binary, head, body, fragments, compressed: false };
        message.write(&mut queue, &mut pool, &mut Random::new(1), 0);
        let mut bytes = Vec::new();
        while let Some(payload) = queue.take(&mut pool) {
            bytes.extend(payload.pieces().flatten());
            payload.give_back(&mut pool);
        }
        let limits = Limits { message_bytes_max: 1 << 20, ..Limits::default() };
        let (mut session, mut input) = (Session::new(Role::Server, limits), &mut bytes[..]);
        match session.receive(&mut input, &mut pool) {
            Ok(Some(Event::Message(message))) => assert_eq!(message.bytes(), [head, body].concat()),
            other => panic!("{other:?}"),
        }
        assert!(input.is_empty(), "one message");
    }

    #[test]
    fn a_server_reads_what_was_written_however_it_is_cut() {
        for fragments in [1, 2, 3, 7, 100] {
            check(b"", b"", fragments);
            check(b"", b"x", fragments);
            check(b"head", b"", fragments);
            check(b"head", b"and body", fragments);
            check(b"head", &[7; GATHER_LEN_MAX - 4], fragments);
            check(b"head", &[7; GATHER_LEN_MAX], fragments);
            check(b"", &[7; 1 << 20], fragments);
        }
    }

    #[test]
    fn long_messages_come_back_to_the_pool_and_are_used_again() {
        let (mut pool, mut queue) = (Pool::default(), SendQueue::default());
        let body = vec![1; 1 << 20];
        let message = Message { kind: MessageKind::Binary, head: b"", body: &body, compressed: false, fragments: 1 };
        message.write(&mut queue, &mut pool, &mut Random::new(1), 0);
        queue.take(&mut pool).expect("it waits").give_back(&mut pool);
        assert!(pool.take_ready(1 << 20).is_some());
    }
}
