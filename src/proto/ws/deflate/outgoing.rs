//! The sending side of a connection, as an encoder of messages needs it.

use crate::proto::ws::deflate::{Context, Deflater, Outcome};

/// What it takes to compress the messages of one connection.
#[derive(Debug)]
pub struct Outgoing<'w> {
    deflater: &'w mut Deflater,
    context: &'w mut Context,
    /// Where compressed messages are put together.
    scratch: &'w mut Vec<u8>,
    bytes_min: usize,
}

impl<'w> Outgoing<'w> {
    /// Has messages from `bytes_min` bytes on compressed.
    pub fn new(
        deflater: &'w mut Deflater,
        context: &'w mut Context,
        scratch: &'w mut Vec<u8>,
        bytes_min: usize,
    ) -> Self {
        Self { deflater, context, scratch, bytes_min }
    }

    /// The compressed form of `message`, or `None` if it is to be sent as it is.
    pub fn compress(&mut self, message: &[u8]) -> Option<&[u8]> {
        if message.len() < self.bytes_min {
            return None;
        }
        self.scratch.clear();
        match self.deflater.deflate(message, self.context, self.scratch) {
            Outcome::Compressed => Some(self.scratch),
            Outcome::NotShorter => None,
        }
    }
}
