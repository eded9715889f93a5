//! What a connection needs while something of it is under way.
//!
//! Of a million idle connections next to none needs it, so it is lent by the thread and goes back when
//! nothing is under way any more.

use std::collections::VecDeque;

use crate::buf::{Block, Pool, SendQueue};
use crate::load::Plan;
use crate::load::connection::FLOOD_LEN;
use crate::load::payload::Piece;
use crate::proto::http::HeadScanner;
use crate::proto::ws::{Limits, Role, Session};

/// The working state of a busy connection.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) session: Session,
    pub(super) queue: SendQueue,
    /// The oldest first.
    pub(super) expected: VecDeque<Expected>,
    /// How many of the newest are sent at the end of this turn.
    pub(super) unstamped: usize,
    /// What the key of the upgrade request was made of.
    pub(super) nonce: [u8; 16],
    /// An answer that is cut by the end of a receive buffer, and how far it was looked at.
    pub(super) head: Option<(HeadScanner, Block)>,
}

/// A message whose reply is awaited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// When it was due, or when it was handed to the kernel.
    pub(super) at_ns: u64,
    pub(super) piece: Piece,
}

/// What a server may put around a message of a publisher.
const ENVELOPE_LEN_MAX: usize = 4 << 10;
const STOMP_LEN_EXTRA: usize = 1 << 20;

impl Active {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            session: Session::new(Role::Client, limits(plan)),
            queue: SendQueue::default(),
            expected: VecDeque::new(),
            unstamped: 0,
            nonce: [0; 16],
            head: None,
        }
    }

    /// Notes when this turn's messages are handed to the kernel.
    pub(super) fn stamp(&mut self, at_ns: u64) {
        for expected in self.expected.iter_mut().rev().take(self.unstamped) {
            expected.at_ns = at_ns;
        }
        self.unstamped = 0;
    }

    /// Ends what is under way; the next connection begins anew.
    pub(super) fn clear(&mut self, plan: &Plan, pool: &mut Pool) {
        self.session.end(pool);
        self.session = Session::new(Role::Client, limits(plan));
        self.queue.clear(pool);
        self.expected.clear();
        self.unstamped = 0;
        if let Some((_, block)) = self.head.take() {
            pool.give(block);
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_at_rest(&self) -> bool {
        self.expected.is_empty()
            && self.queue.is_empty()
            && self.head.is_none()
            && self.session.is_at_rest()
            && !self.session.is_ended()
    }
}

/// Any server is measured, so what it may send is bounded by what was asked of it, amply.
pub(super) fn limits(plan: &Plan) -> Limits {
    let longest = plan.sizes.max().max(FLOOD_LEN) as usize;
    // A message with STOMP may hold several frames, if a server puts them together.
    let longest = if plan.mode.is_stomp() { longest + STOMP_LEN_EXTRA } else { longest };
    Limits { message_bytes_max: longest + ENVELOPE_LEN_MAX, fragments_max: 1 << 20, empty_fragments_max: 1 << 10 }
}
