//! Bytes that arrived, and the ends of receiving.

use std::mem;

use crate::buf::Block;
use crate::handler::{CloseCause, Handler};
use crate::ring::{Driver, Lease, ReceiveEnd};
use crate::slab::Key;
use crate::worker::Worker;
use crate::worker::connection::{Farewell, Phase};
use crate::worker::pause::Pause;

/// How many bytes are received into blocks in a turn, but for the last one of them: what fits the cache
/// until it is answered.
const FILL_BYTES_PER_TURN: usize = 256 << 10;

impl<D: Driver, H: Handler> Worker<D, H> {
    pub(super) fn handle_received(&mut self, key: Key, mut lease: Lease) {
        match self.connections.get_mut(key) {
            Some(connection) if matches!(connection.phase, Phase::Upgrading | Phase::Open | Phase::Closing) => {
                connection.receive(key, self.driver.bytes_mut(&mut lease), &mut self.context);
                self.touch(key);
            }
            // It says more than it should: so it may say still more.
            Some(connection) => connection.farewell = Farewell::Linger,
            None => {}
        }
        self.driver.give_back(lease);
    }

    /// Has a connection receive that was polled: at once if it hibernates; else in its turn, for what is
    /// received then is long, and is best answered while it is in the cache.
    pub(super) fn handle_readable(&mut self, key: Key) {
        let connection = self.connections.get_mut(key).expect("a slot is freed only after its last completion");
        connection.receiving = None;
        if connection.waits_for(&self.context).is_some() {
            connection.queues = true;
            self.readable.push_back(key);
        } else {
            connection.is_readable = connection.hibernates;
        }
        self.touch(key);
    }

    /// Receives from connections that have something, as much as a turn may hold.
    pub(super) fn fill_readable(&mut self) {
        let mut bytes = 0;
        while bytes < FILL_BYTES_PER_TURN
            && let Some(key) = self.readable.pop_front()
        {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.queues = false;
            if let Some((target, block, len)) =
                connection.wants_to_receive().then(|| connection.lend(&mut self.context)).flatten()
            {
                bytes += len;
                connection.receiving = Some(target);
                self.driver.fill(key, block, len);
            } else {
                // It was paused or closed meanwhile.
                self.touch(key);
            }
        }
    }

    /// Takes a block back into which a connection received.
    pub(super) fn handle_filled(&mut self, key: Key, block: Block, result: Result<usize, i32>) {
        let connection = self.connections.get_mut(key).expect("a slot is freed only after its last completion");
        let target = connection.receiving.expect("a block comes back from a receive under way");
        connection.receive_block(key, block, result.unwrap_or(0), target, &mut self.context);
        self.handle_receive_ended(
            key,
            match result {
                Ok(0) => ReceiveEnd::Eof,
                Ok(_) => ReceiveEnd::Exhausted,
                Err(libc::ECANCELED) => ReceiveEnd::Cancelled,
                Err(errno) => ReceiveEnd::Failed(errno),
            },
        );
    }

    /// Processes what connections had left over from the last turn, whose share they had used up.
    pub(super) fn go_on_with_yielded(&mut self) {
        let mut yielded = mem::take(&mut self.context.yielded);
        for key in yielded.drain(..) {
            if let Some(connection) = self.connections.get_mut(key)
                && connection.pause == Some(Pause::Turn)
            {
                connection.resume(key, &mut self.context);
                self.touch(key);
                self.apply_commands();
            }
        }
        // Those that go on yielding have put themselves on the list again.
        if self.context.yielded.is_empty() {
            self.context.yielded = yielded;
        }
    }

    pub(super) fn handle_receive_ended(&mut self, key: Key, end: ReceiveEnd) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.receiving = None;
        connection.receive_cancelled = false;
        match end {
            // Settling asks again, if there is still something to be received.
            ReceiveEnd::Exhausted => connection.is_readable = connection.hibernates,
            ReceiveEnd::Cancelled | ReceiveEnd::Drained => {}
            ReceiveEnd::NoBuffers => {
                self.context.counters.buffer_shortages += 1;
                connection.queues = true;
                // If it was polled, what that told of is still there.
                connection.is_readable = connection.hibernates;
                self.shortage.join(self.context.turn_of(connection.place), key);
            }
            ReceiveEnd::Eof => {
                connection.eof = true;
                // What waits for the queue to drain came before the FIN and is answered first.
                if connection.pause.is_none()
                    && matches!(connection.phase, Phase::Upgrading | Phase::Open | Phase::Closing)
                {
                    self.context.counters.lost += 1;
                    // What was answered before may still reach a peer that only stopped sending.
                    let mut active =
                        connection.active.take().unwrap_or_else(|| self.context.take_active(connection.deflate));
                    connection.finish(key, &mut active, CloseCause::Lost, Farewell::Close, &mut self.context);
                    connection.active = Some(active);
                }
            }
            // The peer has not answered the kernel's keepalive, or not confirmed what was sent to it.
            ReceiveEnd::Failed(libc::ETIMEDOUT) if connection.phase == Phase::Open => {
                self.context.counters.silent += 1;
                connection.die(key, CloseCause::Silent, &mut self.context);
            }
            ReceiveEnd::Failed(_) => {
                self.context.counters.lost += u64::from(connection.phase != Phase::Dying);
                connection.die(key, CloseCause::Lost, &mut self.context);
            }
        }
        self.touch(key);
    }
}
