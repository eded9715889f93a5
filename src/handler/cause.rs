//! Why a connection ended.

use crate::proto::ws::{CloseCode, ProtocolError};

/// Why a connection ended, for [`Handler::on_close`](crate::handler::Handler::on_close).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseCause {
    /// The peer closed it with this code, or none.
    Peer(Option<CloseCode>),
    /// The handler closed it with this code.
    Handler(CloseCode),
    /// The peer broke the protocol or a limit of it.
    Protocol(ProtocolError),
    /// Its queue was over the bound when something was published to it.
    SlowConsumer,
    /// It took none of what was sent for longer than the limit.
    Stalled,
    /// Nothing was heard of it for too long, not even an answer to a heartbeat.
    Silent,
    /// The server has too little memory, and parts with the slowest and newest.
    Overload,
    /// The server stops.
    Shutdown,
    /// The peer went away without a Close: FIN, or an error of the network.
    Lost,
}

impl CloseCause {
    /// The code by which RFC 6455 section 7.1.5 reports this end: 1005 for a Close without a code,
    /// 1006 for an end without a Close.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Peer(Some(code)) | Self::Handler(code) => code.get(),
            Self::Peer(None) => 1005,
            Self::Protocol(error) => error.close_code().get(),
            Self::SlowConsumer => CloseCode::POLICY_VIOLATION.get(),
            Self::Overload => CloseCode::TRY_AGAIN_LATER.get(),
            Self::Shutdown => CloseCode::GOING_AWAY.get(),
            Self::Stalled | Self::Silent | Self::Lost => 1006,
        }
    }
}
