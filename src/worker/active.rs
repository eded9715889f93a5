//! What a connection needs while something of it is under way, and gives back when it is quiet.

use crate::buf::{Block, SendQueue};
use crate::handler::{CloseCause, Handler};
use crate::proto::http::HeadScanner;
use crate::proto::ws::{CONTROL_PAYLOAD_LEN_MAX, HEADER_LEN_MAX};
use crate::proto::ws::{CloseCode, Limits, Role, Session, encoder};
use crate::worker::context::Context;

/// The working state of a connection.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) session: Session,
    pub(super) queue: SendQueue,
    /// A request head that is cut by the end of a receive buffer, and how far it was looked at.
    pub(super) head: Option<(HeadScanner, Block)>,
    /// Received bytes that wait until the queue has drained, and how many of them are done.
    pub(super) stash: Option<(Block, usize)>,
    /// When the message under way must be complete.
    pub(super) assembly_deadline_ms: Option<u64>,
    /// How many bytes of a send the socket had no room for.
    pub(super) blocked_bytes: usize,
    /// When something of the blocked send must have gone out.
    pub(super) stall_deadline_ms: Option<u64>,
    /// When it began to close: what waits may then be sent as long as it goes on, within bounds.
    pub(super) closing_since_ms: Option<u64>,
    /// Why it is closing.
    pub(super) cause: Option<CloseCause>,
}

impl Active {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            session: Session::new(Role::Server, limits),
            queue: SendQueue::default(),
            head: None,
            stash: None,
            assembly_deadline_ms: None,
            blocked_bytes: 0,
            stall_deadline_ms: None,
            closing_since_ms: None,
            cause: None,
        }
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.session.is_at_rest()
            && !self.session.is_ended()
            && self.queue.is_empty()
            && self.head.is_none()
            && self.stash.is_none()
            && self.cause.is_none()
            && self.stall_deadline_ms.is_none()
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.queue.bytes() + self.blocked_bytes
    }

    /// Returns all memory that it holds.
    pub(super) fn clear<H: Handler>(&mut self, context: &mut Context<H>) {
        self.give_back_input(context);
        self.queue.clear(&mut context.pool);
    }

    /// Drops what was received and not processed.
    pub(super) fn give_back_input<H: Handler>(&mut self, context: &mut Context<H>) {
        self.session.end(&mut context.pool);
        self.assembly_deadline_ms = None;
        let head = self.head.take().map(|(_, block)| block);
        let stash = self.stash.take().map(|(block, _)| block);
        for block in head.into_iter().chain(stash) {
            context.pool.give(block);
        }
    }

    /// Queues a Close.
    pub(super) fn write_close<H: Handler>(&mut self, code: Option<CloseCode>, reason: &str, context: &mut Context<H>) {
        let len = HEADER_LEN_MAX + CONTROL_PAYLOAD_LEN_MAX;
        self.queue.write(&mut context.pool, len, |out| encoder::close(out, code, reason, None));
    }
}
