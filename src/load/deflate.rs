//! Compression on the load's side of a connection.

use crate::buf::Pool;
use crate::proto::http::Extension;
use crate::proto::ws::deflate::{AnswerError, Context, Deflater, Inflater, Level, Offer, Outcome, WindowBits};
use crate::proto::ws::{Compressed, Message, ProtocolError};

/// What a load offers: what browsers offer.
const OFFER: Offer = Offer {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: None,
    client_max_window_bits: Some(WindowBits::MAX),
};

/// What a thread needs, for all its connections.
#[derive(Debug)]
pub(super) struct Tools {
    inflater: Inflater,
    deflater: Deflater,
    /// A message in one part, and its compressed form.
    whole: Vec<u8>,
    compressed: Vec<u8>,
}

/// What a connection remembers of the messages of either side.
#[derive(Debug)]
pub(super) struct Windows {
    ours: Context,
    theirs: Context,
}

/// The value of the header by which compression is offered.
pub(super) fn offer() -> String {
    OFFER.header_value().as_str().to_owned()
}

/// Reads the answer to the offer; `None` if the server declined.
pub(super) fn agree<'a>(answer: impl IntoIterator<Item = Extension<'a>>) -> Result<Option<Windows>, AnswerError> {
    let parameters = OFFER.check(answer)?;
    Ok(parameters.map(|parameters| Windows { ours: parameters.client_context(), theirs: parameters.server_context() }))
}

impl Tools {
    pub(super) fn new() -> Self {
        Self {
            inflater: Inflater::new(),
            deflater: Deflater::new(Level::FASTEST),
            whole: Vec::new(),
            compressed: Vec::new(),
        }
    }

    /// The compressed form of a message in two parts, or `None` if it is to be sent as it is.
    pub(super) fn deflate(&mut self, head: &[u8], body: &[u8], windows: &mut Windows) -> Option<&[u8]> {
        let message = if head.is_empty() {
            body
        } else {
            self.whole.clear();
            self.whole.extend_from_slice(head);
            self.whole.extend_from_slice(body);
            &self.whole
        };
        self.compressed.clear();
        match self.deflater.deflate(message, &mut windows.ours, &mut self.compressed) {
            Outcome::Compressed => Some(&self.compressed),
            Outcome::NotShorter => None,
        }
    }

    pub(super) fn inflate(
        &mut self,
        message: Compressed<'_>,
        windows: &mut Windows,
        len_max: usize,
        pool: &mut Pool,
    ) -> Result<Message<'static>, ProtocolError> {
        message.inflate(&mut self.inflater, &mut windows.theirs, len_max, pool)
    }
}
