//! What became of a send.

use crate::buf::Payload;
use crate::handler::{CloseCause, Handler};
use crate::ring::{Driver, SendMode};
use crate::slab::Key;
use crate::worker::Worker;
use crate::worker::connection::Phase;

impl<D: Driver, H: Handler> Worker<D, H> {
    pub(super) fn handle_sent(&mut self, key: Key, mut payload: Payload, result: Result<usize, i32>) {
        let connection = self.connections.get_mut(key).expect("a slot is freed only after its last completion");
        let sent = match result {
            Ok(count) => {
                payload.advance(count);
                count
            }
            Err(_) => 0,
        };
        let blocked = matches!(result, Ok(_) | Err(libc::EAGAIN | libc::EINTR)) && payload.remaining() > 0;
        if blocked && connection.phase != Phase::Dying {
            let stall_ms = self.context.now_ms + self.context.options.stall_timeout_ms;
            let active = connection.active.get_or_insert_with(|| self.context.take_active(connection.deflate));
            // Progress moves the deadline, an empty-handed attempt does not.
            if sent > 0 || active.stall_deadline_ms.is_none() {
                active.stall_deadline_ms = Some(stall_ms);
            }
            active.blocked_bytes = payload.remaining();
            self.driver.send(key, payload, SendMode::Wait);
            if sent > 0 {
                self.prolong_closing(key);
            }
            self.touch(key);
            return;
        }
        connection.sending = false;
        payload.give_back(&mut self.context.pool);
        if let Some(active) = &mut connection.active {
            active.stall_deadline_ms = None;
            active.blocked_bytes = 0;
        }
        if let Err(errno) = result {
            let cancelled = errno == libc::ECANCELED && connection.phase == Phase::Dying;
            let is_silent = errno == libc::ETIMEDOUT && connection.phase == Phase::Open;
            self.context.counters.silent += u64::from(is_silent);
            self.context.counters.lost += u64::from(!is_silent && !cancelled && connection.phase != Phase::Dying);
            let cause = if is_silent { CloseCause::Silent } else { CloseCause::Lost };
            connection.die(key, cause, &mut self.context);
        } else if connection.waits_to_drain()
            && connection.queued_bytes() <= self.context.options.send_queue_bytes_max / 2
        {
            connection.drain(key, &mut self.context);
        }
        if result.is_ok() {
            self.prolong_closing(key);
        }
        self.touch(key);
    }
}
