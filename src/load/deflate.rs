//! Compression on the load's side of a connection.

use std::collections::HashMap;

use crate::buf::Pool;
use crate::load::Deflate;
use crate::proto::http::Extension;
use crate::proto::ws::deflate::{
    AnswerError, Context, Deflater, Inflater, Level, Offer, Outcome, Parameters, Takeover, WindowBits,
};
use crate::proto::ws::{Compressed, Message, ProtocolError};

/// The memory for compressed forms that each thread keeps.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// How many of them.
const KEPT_MAX: usize = 1 << 20;

/// What a thread needs, for all its connections.
///
/// The load has to be quicker than the server, so each message is compressed once and then kept. Therefore it
/// refers to nothing before it, which a sender is free to do.
#[derive(Debug)]
pub(super) struct Tools {
    inflater: Inflater,
    deflater: Deflater,
    kept: HashMap<Form, Option<Box<[u8]>>>,
    kept_bytes: usize,
    /// A message in two parts, and a compressed form that is not kept.
    whole: Vec<u8>,
    compressed: Vec<u8>,
}

/// Which form of which message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Form {
    place: usize,
    len: usize,
    window_bits: WindowBits,
}

/// What a connection remembers of the messages of the server, and how far its own may refer.
#[derive(Debug)]
pub(super) struct Windows {
    window_bits: WindowBits,
    theirs: Context,
}

/// The value of the header by which compression is offered.
pub(super) fn offer(deflate: Deflate) -> String {
    words(deflate).header_value().as_str().to_owned()
}

fn words(deflate: Deflate) -> Offer {
    let alone = deflate == Deflate::NoTakeover;
    Offer {
        server_no_context_takeover: alone,
        client_no_context_takeover: alone,
        server_max_window_bits: None,
        client_max_window_bits: Some(WindowBits::MAX),
    }
}

/// Reads the answer to the offer; `None` if the server declined.
pub(super) fn agree<'a>(
    deflate: Deflate,
    answer: impl IntoIterator<Item = Extension<'a>>,
) -> Result<Option<Windows>, AnswerError> {
    let agreed = words(deflate).check(answer)?;
    Ok(agreed.map(|parameters: Parameters| Windows {
        window_bits: parameters.client_context().window_bits(),
        theirs: parameters.server_context(),
    }))
}

impl Tools {
    pub(super) fn new() -> Self {
        Self {
            inflater: Inflater::new(),
            deflater: Deflater::new(Level::USUAL),
            kept: HashMap::new(),
            kept_bytes: 0,
            whole: Vec::new(),
            compressed: Vec::new(),
        }
    }

    /// The compressed form of a message in two parts, or `None` if it is to be sent as it is. A message that is
    /// whole in the block of contents says at which `place`.
    pub(super) fn deflate(
        &mut self,
        head: &[u8],
        body: &[u8],
        place: Option<usize>,
        windows: &Windows,
    ) -> Option<&[u8]> {
        let window_bits = windows.window_bits;
        let Some(place) = place else {
            self.whole.clear();
            self.whole.extend_from_slice(head);
            self.whole.extend_from_slice(body);
            let compressed = compress(&mut self.deflater, &self.whole, window_bits, &mut self.compressed);
            return compressed.then_some(&self.compressed);
        };
        let form = Form { place, len: body.len(), window_bits };
        if !self.kept.contains_key(&form) {
            let compressed = compress(&mut self.deflater, body, window_bits, &mut self.compressed);
            let kept: Option<Box<[u8]>> = compressed.then(|| Box::from(&self.compressed[..]));
            let len = kept.as_ref().map_or(0, |kept| kept.len());
            if self.kept_bytes + len > KEPT_BYTES_MAX || self.kept.len() == KEPT_MAX {
                return compressed.then_some(&self.compressed);
            }
            self.kept_bytes += len;
            self.kept.insert(form, kept);
        }
        self.kept.get(&form)?.as_deref()
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

/// Compresses a message that stands alone into `out`, if that makes it shorter.
fn compress(deflater: &mut Deflater, message: &[u8], window_bits: WindowBits, out: &mut Vec<u8>) -> bool {
    out.clear();
    deflater.deflate(message, &mut Context::new(window_bits, Takeover::No), out) == Outcome::Compressed
}
