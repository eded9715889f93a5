//! A server on a port of its own, which ends in bounded time and tells what it counted.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use ringsock::worker::Counters;
use ringsock::{Error, Handler, Options, Server};

/// How long a server may take to end. It only passes when a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
pub(crate) struct Host {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
}

/// What the workers of a server have counted.
pub(crate) struct Tally(Vec<Counters>);

impl Host {
    /// Starts a server of two workers whose options were changed by `adjust`.
    ///
    /// Lingering connections are given plenty of time, so that a busy machine changes no outcome.
    #[track_caller]
    pub(crate) fn start<H: Handler + 'static>(
        adjust: impl FnOnce(&mut Options),
        make_handler: impl Fn(u16) -> H + Clone + Send + 'static,
    ) -> Self {
        let mut options = Options::default();
        options.listen.set_port(0);
        options.workers = Some(2);
        options.worker.handshake_timeout_ms = 60_000;
        options.worker.close_timeout_ms = 60_000;
        adjust(&mut options);
        let server = Server::start(options, make_handler).expect("the server starts");
        let address = server.address();
        Self { server, address }
    }

    /// Stops the server, and expects every slot to be free at the end.
    #[track_caller]
    pub(crate) fn stop(self) -> Tally {
        self.server.stop();
        let tally = Tally(self.end().expect("the server ends well"));
        assert_eq!(tally.sum(|worker| worker.closed), tally.sum(|worker| worker.accepted), "every slot is free again");
        tally
    }

    /// Waits for the end of a server that has been told to stop, or stops by itself.
    #[track_caller]
    pub(crate) fn end(self) -> Result<Vec<Counters>, Error> {
        let (sender, ended) = channel();
        thread::spawn(move || sender.send(self.server.join()));
        ended.recv_timeout(PATIENCE).expect("the server ends")
    }
}

impl Tally {
    /// What all workers have counted together.
    pub(crate) fn sum(&self, count: impl Fn(&Counters) -> u64) -> u64 {
        self.0.iter().map(count).sum()
    }
}
