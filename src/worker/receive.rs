//! Bytes that arrived, and the ends of receiving.

use std::mem;

use crate::buf::Block;
use crate::handler::{CloseCause, Handler};
use crate::ring::{Driver, Lease, ReceiveEnd};
use crate::slab::Key;
use crate::worker::Worker;
use crate::worker::connection::{Farewell, Pause, Phase};

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

    /// Takes a block back into which a connection received.
    pub(super) fn handle_filled(&mut self, key: Key, block: Block, result: Result<usize, i32>) {
        let connection = self.connections.get_mut(key).expect("a slot is freed only after its last completion");
        connection.receive_straight(key, block, result.unwrap_or(0), &mut self.context);
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
            ReceiveEnd::Cancelled | ReceiveEnd::Exhausted => {}
            ReceiveEnd::NoBuffers => {
                self.context.counters.buffer_shortages += 1;
                connection.queues = true;
                self.shortage.join(connection.place, key);
            }
            ReceiveEnd::Eof => {
                connection.eof = true;
                // What waits for the queue to drain came before the FIN and is answered first.
                if connection.pause.is_none()
                    && matches!(connection.phase, Phase::Upgrading | Phase::Open | Phase::Closing)
                {
                    self.context.counters.lost += 1;
                    // What was answered before may still reach a peer that only stopped sending.
                    let mut active = connection.active.take().unwrap_or_else(|| self.context.take_active());
                    connection.finish(key, &mut active, CloseCause::Lost, Farewell::Close, &mut self.context);
                    connection.active = Some(active);
                }
            }
            ReceiveEnd::Failed(_) => {
                self.context.counters.lost += u64::from(connection.phase != Phase::Dying);
                connection.die(key, CloseCause::Lost, &mut self.context);
            }
        }
        self.touch(key);
    }
}
