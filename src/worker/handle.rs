//! All workers of a server as the rest of the program sees them.

use std::io;

use crate::buf::SharedFrame;
use crate::handler::{ConnectionId, Parcel};
use crate::proto::ws::CloseCode;
use crate::ring::Doorbell;
use crate::worker::{Mail, Peer, Pressure};

/// Reaches every connection of a running server from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    peers: Vec<Peer>,
    doorbell: Doorbell,
}

/// Why something did not reach a worker.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The worker's mailbox is full: it is told more than it can do. Nothing was queued for it.
    #[error("the mailbox of worker {worker} is full")]
    Full {
        /// The worker's index.
        worker: usize,
    },
    /// The worker has ended, as all do when a server stops.
    #[error("worker {worker} has stopped")]
    Stopped {
        /// The worker's index.
        worker: usize,
    },
    /// There is no such worker.
    #[error("there is no worker {worker}")]
    NoWorker {
        /// The index asked for.
        worker: usize,
    },
    /// The worker could not be woken.
    #[error("worker {worker} could not be woken: {source}")]
    Wake {
        /// The worker's index.
        worker: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Handle {
    /// A handle on `peers`, woken by `doorbell`.
    #[must_use]
    pub fn new(peers: Vec<Peer>, doorbell: Doorbell) -> Self {
        Self { peers, doorbell }
    }

    /// Sends a frame to one connection; nothing happens if it is gone.
    ///
    /// # Errors
    ///
    /// If the connection's worker can't be reached.
    pub fn send(&self, to: ConnectionId, frame: &SharedFrame) -> Result<(), PostError> {
        self.leave(usize::from(to.worker), Mail::Send { to: to.key, frame: frame.clone() })
    }

    /// Sends a frame to every open connection.
    ///
    /// # Errors
    ///
    /// The first worker that can't be reached. The others are told nevertheless.
    pub fn broadcast(&self, frame: &SharedFrame) -> Result<(), PostError> {
        let posts = (0..self.peers.len()).map(|worker| self.leave(worker, Mail::Broadcast { frame: frame.clone() }));
        posts.fold(Ok(()), Result::and)
    }

    /// Hands something to the handler of a worker, which gets it by [`on_parcel`](crate::Handler::on_parcel). It is
    /// gone if there is an error.
    ///
    /// # Errors
    ///
    /// If the worker can't be reached.
    pub fn post(&self, worker: u16, parcel: Parcel) -> Result<(), PostError> {
        self.leave(usize::from(worker), Mail::Parcel(parcel))
    }

    /// Begins the close handshake of a connection; nothing happens if it is gone.
    ///
    /// # Errors
    ///
    /// If the connection's worker can't be reached.
    pub fn close(&self, connection: ConnectionId, code: CloseCode, reason: &str) -> Result<(), PostError> {
        let mail = Mail::Close { key: connection.key, code, reason: reason.into() };
        self.leave(usize::from(connection.worker), mail)
    }

    /// Tells every worker how short memory is.
    ///
    /// # Errors
    ///
    /// The first worker that can't be woken. The others are told nevertheless.
    pub fn press(&self, pressure: Pressure) -> Result<(), PostError> {
        self.order(|peer| peer.mailbox.press(pressure))
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> u64 {
        self.peers.len() as u64
    }

    /// How many connections there are, open, opening or closing.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.peers.iter().map(|peer| u64::from(peer.mailbox.connections())).sum()
    }

    /// Has every worker close its connections with 1001 and end.
    ///
    /// # Errors
    ///
    /// The first worker that can't be woken. The others are told nevertheless.
    pub fn stop(&self) -> Result<(), PostError> {
        self.order(|peer| peer.mailbox.stop())
    }

    /// Has every worker end at once.
    ///
    /// # Errors
    ///
    /// The first worker that can't be woken. The others are told nevertheless.
    pub fn abort(&self) -> Result<(), PostError> {
        self.order(|peer| peer.mailbox.abort())
    }

    fn order(&self, order: impl Fn(&Peer)) -> Result<(), PostError> {
        let orders = self.peers.iter().enumerate().map(|(worker, peer)| {
            order(peer);
            if peer.mailbox.has_ended() { Ok(()) } else { self.wake(worker, peer) }
        });
        orders.fold(Ok(()), Result::and)
    }

    fn leave(&self, worker: usize, mail: Mail) -> Result<(), PostError> {
        let peer = self.peers.get(worker).ok_or(PostError::NoWorker { worker })?;
        if peer.mailbox.has_ended() {
            return Err(PostError::Stopped { worker });
        }
        match peer.mailbox.post(mail) {
            Ok(true) => self.wake(worker, peer),
            Ok(false) => Ok(()),
            Err(_) => Err(PostError::Full { worker }),
        }
    }

    fn wake(&self, worker: usize, peer: &Peer) -> Result<(), PostError> {
        self.doorbell.ring(&peer.ring).map_err(|source| {
            // The next post must try again.
            peer.mailbox.unring();
            PostError::Wake { worker, source }
        })
    }
}
