//! The echo handler of the development profile: what test suites and load tools expect.

use crate::handler::{Accept, ConnectionId, Effects, Handler, Page};
use crate::proto::http::{Refusal, Request, Upgrade};
use crate::proto::ws::Message;
use crate::proto::ws::deflate::Policy;

/// Paths that upgrade to an echo, as usual among harnesses.
const PATHS: [&str; 3] = ["/", "/ws", "/echo"];

/// Sends every message back, text as text and binary as binary, on `/`, `/ws` and `/echo`, and
/// shows a page on `/` that says what this is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo {
    /// Whether messages are compressed with clients that offer it.
    pub compression: Policy,
}

impl Handler for Echo {
    fn on_upgrade(&mut self, _: ConnectionId, request: &Request<'_>, _: &Upgrade<'_>) -> Result<Accept, Refusal> {
        if PATHS.contains(&request.path()) {
            Ok(Accept { compression: self.compression, ..Accept::default() })
        } else {
            Err(Refusal::NotFound)
        }
    }

    fn on_get(&mut self, request: &Request<'_>) -> Result<Page, Refusal> {
        match request.path() {
            "/" => Ok(Page { content_type: "text/html; charset=utf-8", body: include_str!("page.html") }),
            path if PATHS.contains(&path) => Err(Refusal::UpgradeRequired),
            _ => Err(Refusal::NotFound),
        }
    }

    fn on_message(&mut self, _: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        effects.echo(message);
    }
}
