//! The commands of STOMP.

/// What a frame asks for or tells.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Command {
    /// Opens a session.
    Connect,
    /// Opens a session: what 1.2 has for a client to say instead of CONNECT, so that a server can tell STOMP
    /// from other protocols.
    Stomp,
    /// Answers CONNECT.
    Connected,
    /// Publishes a message.
    Send,
    /// Asks for the messages of a destination.
    Subscribe,
    /// Ends a subscription.
    Unsubscribe,
    /// Confirms a message, or all up to it.
    Ack,
    /// Declines a message, or all up to it (from 1.1 on).
    Nack,
    /// Begins a transaction.
    Begin,
    /// Has a transaction take effect.
    Commit,
    /// Drops a transaction.
    Abort,
    /// Says that nothing follows.
    Disconnect,
    /// Delivers a message.
    Message,
    /// Confirms a frame that asked for it.
    Receipt,
    /// Tells what went wrong, before the connection ends.
    Error,
}

impl Command {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::Stomp,
        Self::Connected,
        Self::Send,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Ack,
        Self::Nack,
        Self::Begin,
        Self::Commit,
        Self::Abort,
        Self::Disconnect,
        Self::Message,
        Self::Receipt,
        Self::Error,
    ];

    /// Reads a command as it stands in a frame, in capitals.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"SEND" => Self::Send,
            b"ACK" => Self::Ack,
            b"MESSAGE" => Self::Message,
            b"NACK" => Self::Nack,
            b"SUBSCRIBE" => Self::Subscribe,
            b"UNSUBSCRIBE" => Self::Unsubscribe,
            b"BEGIN" => Self::Begin,
            b"COMMIT" => Self::Commit,
            b"ABORT" => Self::Abort,
            b"RECEIPT" => Self::Receipt,
            b"CONNECT" => Self::Connect,
            b"STOMP" => Self::Stomp,
            b"CONNECTED" => Self::Connected,
            b"DISCONNECT" => Self::Disconnect,
            b"ERROR" => Self::Error,
            _ => return None,
        })
    }

    /// The command as it stands in a frame.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Stomp => "STOMP",
            Self::Connected => "CONNECTED",
            Self::Send => "SEND",
            Self::Subscribe => "SUBSCRIBE",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Ack => "ACK",
            Self::Nack => "NACK",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Abort => "ABORT",
            Self::Disconnect => "DISCONNECT",
            Self::Message => "MESSAGE",
            Self::Receipt => "RECEIPT",
            Self::Error => "ERROR",
        }
    }

    /// Whether its headers are written without escapes, in every version: those of the frames that agree on
    /// one.
    #[must_use]
    pub const fn is_of_handshake(self) -> bool {
        matches!(self, Self::Connect | Self::Stomp | Self::Connected)
    }

    /// Whether a frame of it may have a body.
    #[must_use]
    pub const fn may_have_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_read_as_it_is_written() {
        for command in Command::ALL {
            assert_eq!(Command::parse(command.name().as_bytes()), Some(command));
            assert!(command.name().len() <= crate::proto::stomp::COMMAND_LEN_MAX);
        }
    }

    #[test]
    fn commands_are_in_capitals_and_whole() {
        for name in ["connect", "Send", "SEND ", " SEND", "SENDX", "SEN", ""] {
            assert_eq!(Command::parse(name.as_bytes()), None, "{name:?}");
        }
    }
}
