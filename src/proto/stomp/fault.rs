//! What ends a session with an ERROR.

use crate::proto::stomp::{Command, StompError, Version, encoder};

/// What a client did that ends its session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Fault {
    /// Bytes that are no frame.
    Frame(StompError),
    /// A frame other than CONNECT or STOMP before the session is open.
    NotConnected,
    /// A second CONNECT.
    AlreadyConnected,
    /// A command that only servers use.
    ServerCommand,
    /// No version that both sides know.
    NoCommonVersion,
    /// A `heart-beat` that is not two decimal numbers.
    InvalidHeartBeat,
    /// A login or passcode that is not right; which of the two is not said.
    AccessRefused,
    /// No CONNECT in time.
    LoginTimeout,
    /// Nothing heard from the client for two of the periods that it agreed to.
    Silent,
    /// SEND or SUBSCRIBE without a `destination`.
    MissingDestination,
    /// A frame without the `id` that it needs.
    MissingId,
    /// An ACK or NACK without a `message-id`.
    MissingMessageId,
    /// An ACK or NACK of 1.1 without a `subscription`.
    MissingSubscription,
    /// BEGIN, COMMIT or ABORT without a `transaction`.
    MissingTransaction,
    /// An `ack` that is no mode of acknowledgement.
    UnknownAckMode,
    /// A `prefetch-count` that is no number.
    InvalidPrefetch,
    /// A `requeue` that is neither true nor false.
    InvalidRequeue,
    /// A `selector`.
    Selector,
    /// Something that the server behind the session refuses, in its words: text that no version escapes.
    Refused(&'static str),
}

impl Fault {
    /// The text for the header `message` of the ERROR frame. It has no octet that any version would escape.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Frame(error) => error.message(),
            Self::NotConnected => "the first frame is CONNECT or STOMP",
            Self::AlreadyConnected => "the session is open already",
            Self::ServerCommand => "only servers send this command",
            Self::NoCommonVersion => "supported versions are 1.0, 1.1 and 1.2",
            Self::InvalidHeartBeat => "heart-beat is not two decimal numbers",
            Self::AccessRefused => "access refused",
            Self::LoginTimeout => "no CONNECT in time",
            Self::Silent => "nothing heard, not even a heart-beat",
            Self::MissingDestination => "header destination is missing",
            Self::MissingId => "header id is missing",
            Self::MissingMessageId => "header message-id is missing",
            Self::MissingSubscription => "header subscription is missing",
            Self::MissingTransaction => "header transaction is missing",
            Self::UnknownAckMode => "header ack is auto, client or client-individual",
            Self::InvalidPrefetch => "header prefetch-count is not a number",
            Self::InvalidRequeue => "header requeue is true or false",
            Self::Selector => "selectors are not supported",
            Self::Refused(message) => message,
        }
    }
}

/// The end of a session by a client's fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What was wrong.
    pub fault: Fault,
    /// The id of the receipt that the frame asked for.
    pub receipt: Option<Box<str>>,
}

impl Failure {
    /// Writes the ERROR frame, the last one of the session, for a client that speaks `version`; none if that is not
    /// agreed on.
    pub fn write(&self, version: Option<Version>, out: &mut Vec<u8>) {
        let text = self.fault.message();
        let mut error = encoder::begin(out, version.unwrap_or(Version::V1_0), Command::Error);
        error.header("message", text).header("content-type", "text/plain");
        if self.fault == Fault::NoCommonVersion {
            error.header("version", "1.0,1.1,1.2");
        }
        if let Some(receipt) = &self.receipt {
            error.header("receipt-id", receipt);
        }
        error.finish(text.as_bytes());
    }
}
