//! Connections that are not read for a while, and queues that are full and drain.

use crate::handler::{CloseCause, Handler};
use crate::slab::Key;
use crate::worker::active::Active;
use crate::worker::connection::{Connection, Farewell, Phase, Target};
use crate::worker::context::Context;

/// Why what was received from a connection is not processed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pause {
    /// Its queue is over the bound: until it has drained.
    Queue,
    /// It has had its share of this turn: until the next.
    Turn,
    /// The handler has asked for it: until it asks for more.
    Handler,
}

/// How many receives in a row must stay within bounds before a greedy peer is trusted again.
const PROBATION: u8 = 64;

impl Connection {
    /// Leaves the rest of what was received for later.
    pub(super) fn pause<H: Handler>(&mut self, pause: Pause, active: &mut Active, context: &mut Context<H>) {
        self.pause = Some(pause);
        self.probation = PROBATION;
        // The peer can't be late while it is we who don't read.
        active.assembly_deadline_ms = None;
        context.counters.pauses += u64::from(pause == Pause::Queue);
    }

    /// Goes on with what was stashed, now that the queue has drained, a new turn has begun or the handler wants more.
    pub(super) fn resume<H: Handler>(&mut self, key: Key, context: &mut Context<H>) {
        let pause = self.pause.take();
        self.begin_turn(context.turn_mark());
        // The working state was given back if nothing was left to be done but the send.
        let mut active = self.active.take().unwrap_or_else(|| context.take_active(self.deflate));
        if pause == Some(Pause::Queue) {
            self.handle_drained(key, &mut active, context);
        }
        if let Some((mut stash, start)) = active.stash.take() {
            let rest_len = self.receive_input(key, &mut active, &mut stash[start..], context).len();
            if rest_len > 0 {
                let start = stash.len() - rest_len;
                active.stash = Some((stash, start));
            } else {
                context.pool.give(stash);
            }
        } else if self.receiving != Some(Target::Message) {
            // A message under way has its deadline again. One whose block is with the kernel gets it when that is
            // back.
            self.receive_input(key, &mut active, &mut [], context);
        }
        if self.eof && self.pause.is_none() {
            context.counters.lost += u64::from(matches!(self.phase, Phase::Open | Phase::Closing));
            self.finish(key, &mut active, CloseCause::Lost, Farewell::Close, context);
        }
        self.active = Some(active);
    }

    /// Goes on if it is the handler that has paused it, in the next turn.
    pub(super) fn end_handler_pause<H: Handler>(&mut self, key: Key, context: &mut Context<H>) {
        if self.pause == Some(Pause::Handler) {
            self.pause = Some(Pause::Turn);
            context.yielded.push(key);
        }
    }

    /// Takes notice of a queue that has come to be over its bound by what the handler has sent.
    pub(super) fn note_full<H: Handler>(&mut self, key: Key, active: &Active, context: &mut Context<H>) {
        if !self.is_full && active.pending_bytes() > context.options.send_queue_bytes_max {
            self.is_full = true;
            context.full.push_back(key);
        }
    }

    /// Whether somebody waits for the queue to drain.
    pub(super) fn waits_to_drain(&self) -> bool {
        self.is_full || self.pause == Some(Pause::Queue)
    }

    /// Does what had to wait until the queue was drained.
    pub(super) fn drain<H: Handler>(&mut self, key: Key, context: &mut Context<H>) {
        if self.pause == Some(Pause::Queue) {
            return self.resume(key, context);
        }
        let mut active = self.active.take().unwrap_or_else(|| context.take_active(self.deflate));
        self.handle_drained(key, &mut active, context);
        self.active = Some(active);
    }

    fn handle_drained<H: Handler>(&mut self, key: Key, active: &mut Active, context: &mut Context<H>) {
        self.is_full = false;
        if self.phase == Phase::Open {
            self.call(key, active, context, H::on_drain);
        }
    }
}
