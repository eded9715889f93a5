//! Connections without a protocol of the worker's own: bytes go to the handler as they come.

use std::mem;

use crate::handler::{Handler, Transport};
use crate::slab::Key;
use crate::worker::active::Active;
use crate::worker::connection::{Connection, Farewell, Phase};
use crate::worker::context::Context;
use crate::worker::pause::Pause;

/// So many bytes of a stream count as a frame of a WebSocket in what a connection gets of a turn.
const BYTES_PER_FRAME: usize = 256;
/// So few bytes are but a sign of life, such as the end of a line now and then: they don't end a hibernation.
const SIGN_OF_LIFE_LEN_MAX: usize = 2;

impl Connection {
    /// Opens a connection that has just been accepted: there is nothing to agree on first.
    pub(super) fn open_stream<H: Handler>(&mut self, key: Key, context: &mut Context<H>) {
        self.transport = Transport::Stream;
        self.phase = Phase::Open;
        context.counters.opened += 1;
        let mut active = context.take_active(None);
        self.call(key, &mut active, context, H::on_open);
        self.active = Some(active);
    }

    /// Hands bytes on until the input ends, the queue is over its bound, the turn's share is used up, the handler
    /// pauses or the connection ends; returns what is left of the input.
    pub(super) fn receive_bytes<'b, H: Handler>(
        &mut self,
        key: Key,
        active: &mut Active,
        mut input: &'b mut [u8],
        context: &mut Context<H>,
    ) -> &'b mut [u8] {
        while self.phase == Phase::Open {
            if self.pause.is_some() {
                return input;
            }
            if active.pending_bytes() > context.options.send_queue_bytes_max {
                self.pause(Pause::Queue, active, context);
                return input;
            }
            if input.is_empty() {
                return input;
            }
            let frames_left = context.options.frames_per_turn_max.saturating_sub(self.turn_frames);
            if frames_left == 0 {
                self.pause(Pause::Turn, active, context);
                context.yielded.push(key);
                return input;
            }
            let len = input.len().min(BYTES_PER_FRAME.saturating_mul(frames_left as usize));
            let (bytes, rest) = mem::take(&mut input).split_at_mut(len);
            input = rest;
            self.turn_frames += u32::try_from(len.div_ceil(BYTES_PER_FRAME)).expect("no more than were left");
            if len > SIGN_OF_LIFE_LEN_MAX {
                self.is_lively = true;
                self.hibernates = false;
            }
            context.counters.stream_bytes += len as u64;
            self.call(key, active, context, |handler, id, effects| handler.on_bytes(id, bytes, effects));
        }
        if !input.is_empty() {
            self.farewell = Farewell::Linger;
        }
        &mut []
    }
}
