//! SIGINT and SIGTERM.

use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::control;

/// The signals that stop the server, or none.
pub(super) struct Signals(Option<(Signal, Signal)>);

impl Signals {
    pub(super) fn new(signals: control::Signals) -> io::Result<Self> {
        Ok(Self(match signals {
            control::Signals::Ignored => None,
            control::Signals::Handled => Some((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)),
        }))
    }

    /// Completes when the next signal arrives.
    pub(super) async fn next(&mut self) {
        let Some((interrupt, terminate)) = &mut self.0 else { return pending().await };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}
