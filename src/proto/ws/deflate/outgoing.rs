//! The sending side of a connection, as an encoder of messages needs it.

use crate::proto::ws::deflate::{Context, Deflater, Outcome};

/// What it takes to compress the messages of one connection.
#[derive(Debug)]
pub struct Outgoing<'w> {
    deflater: &'w mut Deflater,
    context: &'w mut Context,
    /// Where compressed messages are put together.
    scratch: &'w mut Vec<u8>,
    thrift: Thrift<'w>,
}

/// Which messages are sent as they are.
#[derive(Debug)]
pub struct Thrift<'w> {
    /// Shorter ones.
    pub bytes_min: usize,
    /// All from when [`Deflater::work`] has come to that.
    pub work_max: u64,
    /// Where those are counted that would have been too much work.
    pub skipped: &'w mut u64,
}

impl<'w> Outgoing<'w> {
    /// Has messages compressed that `thrift` lets be.
    pub fn new(
        deflater: &'w mut Deflater,
        context: &'w mut Context,
        scratch: &'w mut Vec<u8>,
        thrift: Thrift<'w>,
    ) -> Self {
        Self { deflater, context, scratch, thrift }
    }

    /// The compressed form of `message`, or `None` if it is to be sent as it is.
    pub fn compress(&mut self, message: &[u8]) -> Option<&[u8]> {
        if message.len() < self.thrift.bytes_min {
            return None;
        }
        if self.deflater.work() >= self.thrift.work_max {
            *self.thrift.skipped += 1;
            return None;
        }
        self.scratch.clear();
        match self.deflater.deflate(message, self.context, self.scratch) {
            Outcome::Compressed => Some(self.scratch),
            Outcome::NotShorter => None,
        }
    }
}
