//! What can go wrong, by name, with what to do about it.

use std::collections::HashMap;
use std::io;

use crate::load::Excerpt;
use crate::load::payload::Mismatch;
use crate::proto::http::HandshakeError;
use crate::proto::stomp::StompError;
use crate::proto::ws::ProtocolError;
use crate::proto::ws::deflate::AnswerError;

/// One thing that went wrong with a connection or a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Nobody listens.
    #[error("the connection was refused")]
    Refused,
    /// The peer, or something between, cut the connection.
    #[error("the connection was reset")]
    Reset,
    /// The network has no way there.
    #[error("the host or its network can't be reached")]
    Unreachable,
    /// The process or the system may have no more open files.
    #[error("no more files may be opened")]
    OpenFiles,
    /// Every local port for the target is taken.
    #[error("no local port is left")]
    Ports,
    /// The system has no memory for more sockets.
    #[error("the system has no memory for more sockets")]
    Memory,
    /// No connection, or no answer to the upgrade request, within the limit.
    #[error("connecting and upgrading took too long")]
    OpenTimeout,
    /// No reply within the limit.
    #[error("a reply took too long")]
    ReplyTimeout,
    /// The answer to the upgrade request is not the one asked for.
    #[error("{0}")]
    Handshake(HandshakeError),
    /// The server answered our offer of compression wrongly.
    #[error("{0}")]
    Deflate(AnswerError),
    /// The server declined our offer of compression.
    #[error("the server does not compress")]
    Uncompressed,
    /// The server broke a rule of the protocol.
    #[error("the server broke the protocol: {}", .0.reason())]
    Protocol(ProtocolError),
    /// What came back is not what was sent.
    #[error("an echo is wrong: {0}")]
    WrongEcho(Mismatch),
    /// A message that answers nothing.
    #[error("a message came that nothing had asked for")]
    Unexpected,
    /// A broadcast message without its mark, or with other content.
    #[error("a message was delivered that no publisher sent in this form")]
    WrongDelivery,
    /// A broadcast message is missing, twice there, or before its turn.
    #[error("a publisher's messages were not delivered in order, each once")]
    Disorder,
    /// A message did not reach everybody, or in a queue nobody, in time.
    #[error("a message did not reach a subscriber")]
    Missing,
    /// A message of a queue was given out again.
    #[error("a message of a queue was delivered twice")]
    Doubled,
    /// A message that has to be acknowledged, and does not say how.
    #[error("a message came without the header ack")]
    NoAck,
    /// The server did not choose the subprotocol.
    #[error("the server does not speak STOMP 1.2 here")]
    NoStomp,
    /// The server answered CONNECT with another version.
    #[error("the server speaks another version of STOMP than 1.2")]
    StompVersion,
    /// The server sent an ERROR frame.
    #[error("the server sent an ERROR: {0}")]
    StompError(Excerpt),
    /// The server broke a rule of STOMP.
    #[error("the server broke STOMP: {}", .0.message())]
    Stomp(StompError),
    /// The server sent a Close.
    #[error("the server closed the connection with code {0}")]
    Closed(u16),
    /// The server ended the connection without a Close.
    #[error("the server ended the connection without a Close")]
    Lost,
    /// The server did not answer our Close in time.
    #[error("the server did not end the connection after the closing handshake")]
    CloseTimeout,
    /// Anything else, by its error number.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    System(i32),
}

impl Fault {
    /// The fault that an error number of the system stands for.
    #[must_use]
    pub fn of_errno(errno: i32) -> Self {
        match errno {
            libc::ECONNREFUSED => Self::Refused,
            libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED | libc::ENOTCONN => Self::Reset,
            libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN => Self::Unreachable,
            libc::EMFILE | libc::ENFILE => Self::OpenFiles,
            libc::EADDRNOTAVAIL | libc::EADDRINUSE => Self::Ports,
            libc::ENOBUFS | libc::ENOMEM => Self::Memory,
            libc::ETIMEDOUT => Self::OpenTimeout,
            other => Self::System(other),
        }
    }

    /// A short name that stays the same from one version to the next.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::OpenFiles => "open-files",
            Self::Ports => "ports",
            Self::Memory => "memory",
            Self::OpenTimeout => "open-timeout",
            Self::ReplyTimeout => "reply-timeout",
            Self::Handshake(_) => "handshake",
            Self::Deflate(_) => "deflate-answer",
            Self::Uncompressed => "uncompressed",
            Self::Protocol(_) => "protocol",
            Self::WrongEcho(_) => "wrong-echo",
            Self::Unexpected => "unexpected-message",
            Self::WrongDelivery => "wrong-delivery",
            Self::Disorder => "disorder",
            Self::Missing => "missing-delivery",
            Self::Doubled => "doubled-delivery",
            Self::NoAck => "no-ack",
            Self::NoStomp => "no-stomp",
            Self::StompVersion => "stomp-version",
            Self::StompError(_) => "stomp-error",
            Self::Stomp(_) => "stomp-protocol",
            Self::Closed(_) => "closed",
            Self::Lost => "lost",
            Self::CloseTimeout => "close-timeout",
            Self::System(_) => "system",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::Refused => "start the server, or correct host and port in the URL ('ss -ltn' lists who listens)",
            Self::Reset => "look into the server's log; its queue of new connections may be too short (somaxconn)",
            Self::Unreachable => "check the address and the route ('ip route get ADDRESS')",
            Self::OpenFiles => "raise the limit: 'ulimit -n 1048576', for all processes 'sysctl -w fs.file-max=...'",
            Self::Ports => {
                "widen the range: 'sysctl -w net.ipv4.ip_local_port_range=\"15000 65535\"', or use fewer --connections \
                 for each address of the server"
            }
            Self::Memory => "free memory, or raise net.ipv4.tcp_mem; or ask for fewer --connections",
            Self::OpenTimeout => "the server accepts too slowly: ask for fewer --connections or a longer --timeout",
            Self::ReplyTimeout => {
                "the server does not echo (in broadcast mode: does not send to the publisher itself), or is overloaded: \
                 check the path, lower the load"
            }
            Self::Handshake(_) => "correct the path of the URL; the server must speak WebSocket there",
            Self::Deflate(_) => "this is a bug of the server (RFC 7692 section 7.1); try it without --deflate",
            Self::Uncompressed => {
                "switch compression on in the server (ringsock serve --deflate shared), or leave --deflate out"
            }
            Self::Protocol(_) => "this is a bug of the server; --size and --fragments may show which frames lead to it",
            Self::WrongEcho(_) => "the server must send every message back as it is; else use --no-validate",
            Self::Unexpected => "the server sends messages of its own, or doubles replies; --no-validate ignores it",
            Self::WrongDelivery => "the server must send each message on whole, with at most 63 bytes in front",
            Self::Disorder => {
                "the server drops, doubles or reorders messages under this load; --no-validate ignores it"
            }
            Self::Missing => "the server drops messages, or sends them to some only; or --timeout is too short",
            Self::Doubled => "the server must give out a message again only if its consumer is gone, or by NACK",
            Self::NoAck => "this is a bug of the server (STOMP 1.2, MESSAGE)",
            Self::NoStomp => {
                "correct the path of the URL (/stomp for ringsock, /ws for RabbitMQ), and switch STOMP on in the server"
            }
            Self::StompVersion => "the server must know STOMP 1.2",
            Self::StompError(_) => "see what it says: --login and --passcode, --destination, or a limit of the server",
            Self::Stomp(_) => "this is a bug of the server; or the port is not one of STOMP",
            Self::Closed(1001) => "the server went down during the run",
            Self::Closed(1008) => {
                "look into the server's log: a rule of its own; of a subscriber that fell behind, set a --rate or use \
                 more --threads"
            }
            Self::Closed(1009) => "the server takes no message of this length: lower --size or raise its limit",
            Self::Closed(_) => "look into the server's log: it ended the connection on purpose",
            Self::Lost => "look into the server's log: it ended the connection, perhaps by a limit or a crash",
            Self::CloseTimeout => "the server must answer a Close and end the connection (RFC 6455 section 7.1.1)",
            Self::System(_) => "see the error's description in 'man errno'",
        }
    }
}

/// Faults counted by kind, with the first of each kind as an example.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    kinds: HashMap<&'static str, (Fault, u64)>,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault, count: u64) {
        if count > 0 {
            self.kinds.entry(fault.name()).or_insert((fault, 0)).1 += count;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for &(fault, count) in other.kinds.values() {
            self.add(fault, count);
        }
    }

    /// How many there were of all kinds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.kinds.values().map(|kind| kind.1).sum()
    }

    /// The first fault of each kind and how many there were, the most frequent first.
    #[must_use]
    pub fn by_kind(&self) -> Vec<(Fault, u64)> {
        let mut kinds: Vec<_> = self.kinds.values().copied().collect();
        kinds.sort_by_key(|(fault, count)| (u64::MAX - count, fault.name()));
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_counted_by_kind_with_the_first_as_the_example() {
        let mut faults = Faults::default();
        faults.add(Fault::Closed(1009), 1);
        faults.add(Fault::Refused, 2);
        faults.add(Fault::Closed(1001), 2);
        let mut all = Faults::default();
        all.merge(&faults);
        all.merge(&faults);
        assert_eq!(all.by_kind(), [(Fault::Closed(1009), 6), (Fault::Refused, 4)]);
        assert_eq!(all.count(), 10);
    }

    #[test]
    fn limits_of_the_system_are_named_by_what_mends_them() {
        for (errno, name, fix) in [
            (libc::EMFILE, "open-files", "ulimit -n"),
            (libc::EADDRNOTAVAIL, "ports", "ip_local_port_range"),
            (libc::ECONNREFUSED, "refused", "start the server"),
            (libc::EPIPE, "reset", "log"),
            (libc::EIO, "system", "errno"),
        ] {
            let fault = Fault::of_errno(errno);
            assert_eq!(fault.name(), name);
            assert!(fault.fix().contains(fix), "{name}: {}", fault.fix());
        }
    }
}
