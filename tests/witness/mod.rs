//! A handler that reports everything it is told, and does what messages ask for.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ringsock::{CloseCause, CloseCode, ConnectionId, Effects, Handler, Message};

/// How long a report is waited for. It only passes when a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a handler was told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Report {
    Opened(ConnectionId),
    Message(ConnectionId),
    Drained(ConnectionId),
    Closed(ConnectionId, CloseCause),
}

/// Echoes, except for two orders: `close CODE REASON`, and `burst LEN`, which asks for a message of
/// that many bytes.
#[derive(Clone)]
pub(crate) struct Witness(Sender<Report>);

/// Where the reports of all workers arrive.
pub(crate) struct Reports {
    receiver: Receiver<Report>,
    log: RefCell<Vec<Report>>,
}

/// A witness for each worker to clone, and its reports.
pub(crate) fn witness() -> (Witness, Reports) {
    let (sender, receiver) = channel();
    (Witness(sender), Reports { receiver, log: RefCell::default() })
}

impl Witness {
    fn report(&self, report: Report) {
        // A test that has seen enough does not listen any more.
        let _ = self.0.send(report);
    }
}

impl Handler for Witness {
    fn on_open(&mut self, connection: ConnectionId, _: &mut Effects<'_>) {
        self.report(Report::Opened(connection));
    }

    fn on_message(&mut self, connection: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        self.report(Report::Message(connection));
        let mut words = message.text().unwrap_or_default().splitn(3, ' ');
        match (words.next(), words.next().and_then(|word| word.parse().ok()), words.next()) {
            (Some("close"), Some(code), reason) => {
                let code = u16::try_from(code).ok().and_then(CloseCode::new).expect("tests ask for codes of the wire");
                effects.close(code, reason.unwrap_or_default());
            }
            (Some("burst"), Some(len), None) => effects.send_binary(&vec![7; len]),
            _ => effects.echo(message),
        }
    }

    fn on_drain(&mut self, connection: ConnectionId, _: &mut Effects<'_>) {
        self.report(Report::Drained(connection));
    }

    fn on_close(&mut self, connection: ConnectionId, cause: CloseCause, _: &mut Effects<'_>) {
        self.report(Report::Closed(connection, cause));
    }
}

impl Reports {
    /// Waits for the first report that `wanted` picks something from, and skips others.
    #[track_caller]
    pub(crate) fn find<T>(&self, wanted: impl Fn(Report) -> Option<T>) -> T {
        loop {
            let report = self.receiver.recv_timeout(PATIENCE).expect("a report comes");
            self.log.borrow_mut().push(report);
            if let Some(found) = wanted(report) {
                return found;
            }
        }
    }

    /// Waits for a connection to open.
    #[track_caller]
    pub(crate) fn opened(&self) -> ConnectionId {
        self.find(|report| match report {
            Report::Opened(connection) => Some(connection),
            _ => None,
        })
    }

    /// Waits for a connection to close.
    #[track_caller]
    pub(crate) fn closed(&self) -> (ConnectionId, CloseCause) {
        self.find(|report| match report {
            Report::Closed(connection, cause) => Some((connection, cause)),
            _ => None,
        })
    }

    /// All reports that have come so far, seen or skipped; all there are, once the server has ended.
    pub(crate) fn so_far(&self) -> Vec<Report> {
        let mut log = self.log.borrow_mut();
        log.extend(self.receiver.try_iter());
        log.clone()
    }
}
