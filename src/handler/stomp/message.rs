//! A message between the one who sent it and all who get it.

use std::sync::OnceLock;

use crate::buf::{Pool, SharedFrame};
use crate::proto::stomp::{Command, Decoder, Frame, Limits, Version, encoder};
use crate::proto::ws::MessageKind;
use crate::simd::utf8;

/// Names a message: no two of a server have the same one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct MessageId {
    /// The worker that took it in.
    pub worker: u16,
    /// Which one of that worker's it is.
    pub serial: u64,
}

/// A message that was taken in: encoded once, in the form that all who get it share.
///
/// A MESSAGE begins with what is the receiver's own, its subscription and the id for its ACK. All that follows is
/// the `tail`, in the words of 1.2, which can express everything; most messages read the same in each version.
#[derive(Clone, Debug)]
pub struct Message {
    id: MessageId,
    destination: Box<str>,
    /// From the header `destination` to the NUL.
    tail: SharedFrame,
    body_len: usize,
    /// An escape is in the headers; one of a CR is.
    has_escape: bool,
    has_escaped_cr: bool,
    kind: MessageKind,
    /// The tail in the words of an earlier version, once somebody needs it.
    for_1_0: OnceLock<SharedFrame>,
    for_1_1: OnceLock<SharedFrame>,
}

/// What the frame of the encoder begins with, and the tail does not.
const COMMAND_LINE: &[u8] = b"MESSAGE\n";

impl Message {
    /// Encodes a message. `destination` is the header of that name; `headers` are all others that are passed on.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(
        id: MessageId,
        destination: &str,
        headers: impl IntoIterator<Item = (N, V)>,
        body: &[u8],
    ) -> Self {
        let mut out = Vec::with_capacity(COMMAND_LINE.len() + destination.len() + body.len() + 128);
        let mut frame = encoder::begin(&mut out, Version::V1_2, Command::Message);
        frame.header("destination", destination);
        for (name, value) in headers {
            frame.header(name.as_ref(), value.as_ref());
        }
        frame.finish(body);
        let tail = &out[COMMAND_LINE.len()..];
        let head = &tail[..tail.len() - body.len() - 1];
        let has_escape = memchr::memchr(b'\\', head).is_some();
        Self {
            id,
            destination: destination.into(),
            tail: SharedFrame::new(tail),
            body_len: body.len(),
            has_escape,
            has_escaped_cr: has_escape && head.windows(2).any(|pair| pair == b"\\r"),
            // The headers are strings.
            kind: if utf8::is_valid(body) { MessageKind::Text } else { MessageKind::Binary },
            for_1_0: OnceLock::new(),
            for_1_1: OnceLock::new(),
        }
    }

    /// Which message it is.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Where it was sent to.
    #[must_use]
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// What it is about.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.tail[self.tail.len() - self.body_len - 1..self.tail.len() - 1]
    }

    /// Its headers, `destination` and `content-length` among them.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        self.read(|frame| {
            headers = frame.headers().map(|header| (header.name().into(), header.value().into())).collect();
        });
        headers
    }

    /// About how much memory it has.
    pub(super) fn len(&self) -> usize {
        self.destination.len() + self.tail.len()
    }

    /// Whether a WebSocket message of it is text.
    pub(super) fn kind(&self) -> MessageKind {
        self.kind
    }

    /// What follows the receiver's own headers, for one who speaks `version`.
    pub(super) fn tail(&self, version: Version) -> &SharedFrame {
        match version {
            Version::V1_0 if self.has_escape => self.for_1_0.get_or_init(|| self.rewritten(version)),
            Version::V1_1 if self.has_escaped_cr => self.for_1_1.get_or_init(|| self.rewritten(version)),
            Version::V1_0 | Version::V1_1 | Version::V1_2 => &self.tail,
        }
    }

    /// The same message for another destination, with more headers.
    pub(super) fn moved(&self, destination: &str, more: &[(&str, &str)]) -> Self {
        let headers = self.headers();
        let kept = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let kept = kept.filter(|(name, _)| !matches!(*name, "destination" | "content-length"));
        let added = more.iter().copied().filter(|(_, value)| !value.is_empty());
        Self::new(self.id, destination, added.chain(kept), self.body())
    }

    fn rewritten(&self, version: Version) -> SharedFrame {
        let mut out = Vec::with_capacity(COMMAND_LINE.len() + self.tail.len());
        self.read(|frame| {
            let mut written = encoder::begin(&mut out, version, Command::Message);
            for header in frame.headers().filter(|header| header.name() != "content-length") {
                written.header(&header.name(), &header.value());
            }
            written.finish(frame.body());
        });
        SharedFrame::new(&out[COMMAND_LINE.len()..])
    }

    /// Reads the frame again, which nobody needs to do often.
    fn read(&self, read: impl FnOnce(&Frame<'_>)) {
        let bytes: Vec<u8> = COMMAND_LINE.iter().chain(self.tail.iter()).copied().collect();
        let len = bytes.len();
        let limits = Limits { headers_max: len, header_bytes_max: len, body_bytes_max: len, allows_any_body: true };
        let (mut decoder, mut pool) = (Decoder::new(limits), Pool::default());
        decoder.set_version(Version::V1_2);
        let frame = decoder.receive(&mut bytes.as_slice(), &mut pool).expect("it was written by the encoder");
        read(&frame.expect("it was written whole"));
    }
}

/// Appends what a MESSAGE begins with.
pub(super) struct Opening<'m> {
    pub(super) version: Version,
    pub(super) message: &'m Message,
    /// The id of the subscription, if it has one.
    pub(super) subscription: Option<&'m str>,
    /// The id of the delivery, if it is to be acknowledged: its subscription and number.
    pub(super) delivery: Option<(usize, u64)>,
    pub(super) is_redelivered: bool,
    /// How many messages of the subscription were dropped before this one.
    pub(super) dropped: u32,
}

impl Opening<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut frame = encoder::begin(out, self.version, Command::Message);
        if let Some(subscription) = self.subscription {
            frame.header("subscription", subscription);
        }
        let MessageId { worker, serial } = self.message.id;
        match (self.delivery, self.version) {
            (Some((subscription, number)), Version::V1_2) => {
                frame.numbers("message-id", &[worker.into(), serial]);
                frame.numbers("ack", &[subscription as u64, number, serial]);
            }
            // The id names the delivery, too: there is no other one in an ACK.
            (Some((subscription, number)), Version::V1_0 | Version::V1_1) => {
                frame.numbers("message-id", &[worker.into(), serial, subscription as u64, number]);
            }
            (None, _) => {
                frame.numbers("message-id", &[worker.into(), serial]);
            }
        }
        if self.is_redelivered {
            frame.header("redelivered", "true");
        }
        if self.dropped > 0 {
            frame.number("dropped", self.dropped.into());
        }
    }
}

/// The subscription and number of a delivery, out of an id that an [`Opening`] has written for it: the id of a
/// message that is not to be acknowledged has two numbers, `ack` three and a `message-id` of 1.0 or 1.1 four.
pub(super) fn read_delivery(id: &str) -> Option<(usize, u64)> {
    let mut numbers = id.split('-').map(str::parse::<u64>);
    let mut next = || numbers.next().transpose().ok();
    let (first, second, third, fourth) = (next()??, next()??, next()??, next()?);
    let (place, number) = if let Some(fourth) = fourth { (third, fourth) } else { (first, second) };
    let is_all = numbers.next().is_none();
    Some((usize::try_from(place).ok().filter(|_| is_all)?, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId { worker: 3, serial: 17 };

    #[track_caller]
    fn check(headers: &[(&str, &str)], version: Version, expect: &str) {
        let message = Message::new(ID, "/topic/a", headers.iter().copied(), b"b\0dy");
        assert_eq!(message.body(), b"b\0dy");
        let tail = message.tail(version);
        assert_eq!(std::str::from_utf8(tail), Ok(format!("destination:/topic/a\n{expect}").as_str()), "{version:?}");
    }

    #[test]
    fn a_tail_is_written_in_the_words_of_each_version() {
        let headers = [("colon", "a:b"), ("lf", "a\nb"), ("cr", "a\rb"), ("back", "a\\b")];
        let end = "content-length:4\n\nb\0dy\0";
        check(&headers, Version::V1_2, &format!("colon:a\\cb\nlf:a\\nb\ncr:a\\rb\nback:a\\\\b\n{end}"));
        check(&headers, Version::V1_1, &format!("colon:a\\cb\nlf:a\\nb\nback:a\\\\b\n{end}"));
        check(&headers, Version::V1_0, &format!("colon:a:b\nback:a\\b\n{end}"));
        for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
            check(&[("plain", "text")], version, &format!("plain:text\n{end}"));
        }
    }

    #[test]
    fn a_message_that_moves_keeps_its_headers_and_body() {
        let message = Message::new(ID, "/queue/a", [("note", "a:b")], b"body");
        let moved = message.moved("/queue/DLQ", &[("cause", "age"), ("none", "")]);
        assert_eq!((moved.destination(), moved.body()), ("/queue/DLQ", &b"body"[..]));
        let headers = [("destination", "/queue/DLQ"), ("cause", "age"), ("note", "a:b"), ("content-length", "4")];
        assert_eq!(moved.headers(), headers.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn deliveries_are_read_out_of_the_ids_that_were_written_for_them_and_no_others() {
        let message = Message::new(ID, "/queue/a", [("note", "n")], b"");
        for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
            let mut out = Vec::new();
            let delivery = Some((5, 1 << 40));
            let opening =
                Opening { version, message: &message, subscription: None, delivery, is_redelivered: false, dropped: 0 };
            opening.write(&mut out);
            let text = String::from_utf8(out).expect("text");
            let name = if version == Version::V1_2 { "ack:" } else { "message-id:" };
            let id = text.lines().find_map(|line| line.strip_prefix(name)).expect("it has one");
            assert_eq!(read_delivery(id), delivery, "{text}");
        }
        for id in ["", "1", "3-17", "1-2-3-4-5", "a-1-2", "1--2", "-1-2-3", "1-2-x", "18446744073709551616-1-1"] {
            assert_eq!(read_delivery(id), None, "{id}");
        }
    }
}
