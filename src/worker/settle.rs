//! The end of a turn: the state of each connection touched becomes operations.

use std::mem;

use crate::handler::Handler;
use crate::ring::{Driver, ReceiveMode, SendMode, Waits};
use crate::slab::Key;
use crate::worker::Worker;
use crate::worker::connection::{Connection, Farewell, Phase, Target};
use crate::worker::context::Context;
use crate::worker::shortage::Shortage;

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Has `key` settled at the end of this turn.
    pub(super) fn touch(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !mem::replace(&mut connection.touched, true)
        {
            self.touched.push(key);
        }
    }

    pub(super) fn settle_touched(&mut self) {
        let mut touched = mem::take(&mut self.touched);
        for key in touched.drain(..) {
            self.settle(key);
        }
        self.touched = touched;
        for key in self.shortage.grants() {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.queues = false;
                if connection.wants_to_receive() {
                    receive(connection, key, &mut self.driver);
                }
            }
        }
    }

    /// Asks for whatever the state of a connection calls for and is not under way.
    fn settle(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.touched = false;
        if connection.phase != Phase::Dying {
            if !connection.sending
                && let Some(payload) =
                    connection.active.as_mut().and_then(|active| active.queue.take(&mut self.context.pool))
            {
                connection.sending = true;
                self.driver.send(key, payload, SendMode::Now);
            }
            // A send that is done at once completes with the next turn, but does not wake it: what
            // has to follow the send must not wait for somebody else's event.
            self.hurry |= connection.sending && connection.waits_for_send();
            settle_end(connection, key, &mut self.driver);
            settle_receive(connection, key, &mut self.shortage, &mut self.context, &mut self.driver);
            connection.rest(&mut self.context);
        }
        if connection.phase == Phase::Dying {
            settle_death(connection, key, &mut self.driver);
        }
        self.settle_deadline(key);
    }
}

/// Sends FIN, or ends the connection, when everything was sent.
fn settle_end<D: Driver>(connection: &mut Connection, key: Key, driver: &mut D) {
    if connection.phase != Phase::Finishing || connection.sending || connection.queued_bytes() > 0 {
        return;
    }
    if connection.farewell == Farewell::Close || connection.eof {
        connection.phase = Phase::Dying;
    } else if !mem::replace(&mut connection.fin_sent, true) {
        driver.shutdown(key);
    }
}

/// Receives while something is expected of the peer, be it only its FIN.
fn settle_receive<D: Driver, H: Handler>(
    connection: &mut Connection,
    key: Key,
    shortage: &mut Shortage,
    context: &mut Context<H>,
    driver: &mut D,
) {
    if connection.wants_to_receive() {
        if let Some(bytes) = connection.waits_for(context) {
            connection.receiving = Some(Target::Poll);
            driver.poll(key, bytes);
        } else if connection.sleeps() && !connection.is_readable {
            connection.receiving = Some(Target::Poll);
            driver.poll(key, 1);
        } else if shortage.is_on() {
            connection.queues = true;
            shortage.join(context.turn_of(connection.place), key);
        } else {
            receive(connection, key, driver);
        }
    } else if connection.receiving == Some(Target::Buffers)
        && (connection.pause.is_some() || connection.sleeps() || connection.waits_for(context).is_some())
        && !mem::replace(&mut connection.receive_cancelled, true)
    {
        driver.cancel_receive(key);
    }
}

fn receive<D: Driver>(connection: &mut Connection, key: Key, driver: &mut D) {
    connection.receiving = Some(Target::Buffers);
    let mode = if mem::take(&mut connection.is_readable) && connection.sleeps() {
        ReceiveMode::Now
    } else if connection.phase == Phase::Upgrading && connection.hibernates {
        // The request, and from then on it is polled. A series would have to be cancelled for that.
        ReceiveMode::Once
    } else if connection.probation > 0 {
        ReceiveMode::Bounded
    } else {
        ReceiveMode::Series
    };
    driver.receive(key, mode);
}

/// Ends what is under way, then closes: a slot may not be given out again before its last
/// operation has completed.
fn settle_death<D: Driver>(connection: &mut Connection, key: Key, driver: &mut D) {
    if connection.receiving.is_some() || connection.sending {
        if !mem::replace(&mut connection.cancelled, true) {
            let waits = connection.receiving.map(|target| match target {
                Target::Buffers => Waits::Receive,
                Target::Poll => Waits::Poll,
                Target::Message | Target::Block => Waits::Fill,
            });
            driver.cancel(key, waits);
        }
    } else if !mem::replace(&mut connection.close_sent, true) {
        driver.close(key);
    }
}
