//! One connection: where it stands in its life, and what it needs while it is busy.
//!
//! ```text
//! Upgrading ──► Open ──► Closing ──► Finishing ──► Dying ──► (slot free)
//!     └──────────┴──────────────────────┘
//! ```
//!
//! A stream is `Open` from the beginning and never `Closing`. No phase is entered twice, and each but `Open` has a deadline from its beginning.

use crate::buf::{Block, SendQueue};
use crate::handler::{CloseCause, ConnectionId, Effects, Handler, Transport};
use crate::proto::ws::{
    Adoption, CloseCode, Compressed, Event, HEADER_LEN_MAX, Message, Opcode, ProtocolError, Role, Session, encoder,
};
use crate::slab::Key;
use crate::worker::active::Active;
use crate::worker::compression::Agreement;
use crate::worker::context::{Context, Outlet};
use crate::worker::pause::Pause;
use crate::worker::shortage::RECEIVES_PER_PLACE;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Its request is being read.
    Upgrading,
    /// Messages go both ways.
    Open,
    /// Our Close is on its way and theirs is awaited; their messages are dropped.
    Closing,
    /// Nothing more is read; what waits is sent, then the connection ends.
    Finishing,
    /// It ends now: operations under way are ended, then the slot is given back.
    Dying,
}

/// Whether the end of sending is followed at once by the end of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Farewell {
    /// Both sides have said all: close.
    Close,
    /// The peer may still be sending, and closing would answer that with a reset, which could
    /// destroy what it has not read yet: send FIN and discard what comes until its own.
    Linger,
}

/// Where what is being received goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Target {
    /// To receive buffers.
    Buffers,
    /// Nowhere yet: a poll tells when there is something.
    Poll,
    /// To the block of the message under way.
    Message,
    /// To a block that the next message is expected to fill.
    Block,
}

/// What every connection has, idle or not.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    pub(super) transport: Transport,
    pub(super) farewell: Farewell,
    /// The phase for which its deadline was set.
    pub(super) deadline_of: Option<Phase>,
    /// It is in the list of this turn.
    pub(super) touched: bool,
    /// A receive is under way.
    pub(super) receiving: Option<Target>,
    /// The armed receive was told to end.
    pub(super) receive_cancelled: bool,
    /// A send is under way.
    pub(super) sending: bool,
    /// The peer's FIN was seen.
    pub(super) eof: bool,
    /// Our FIN was sent.
    pub(super) fin_sent: bool,
    /// Its operations were cancelled.
    pub(super) cancelled: bool,
    /// Its close was asked for.
    pub(super) close_sent: bool,
    /// Nothing of it is read.
    pub(super) pause: Option<Pause>,
    /// Its queue has come to be over the bound by what the handler sent, and has not drained since.
    pub(super) is_full: bool,
    /// It has sent more than could be processed at once: it gets one receive buffer a time until
    /// that has gone well for so many receives.
    pub(super) probation: u8,
    /// The length of the last message, if it was long: as long a one may come again.
    pub(super) long_bytes: u32,
    /// It waits for its turn to receive.
    pub(super) queues: bool,
    /// It is polled rather than received from, since it has been quiet for long, or has said nothing yet.
    pub(super) hibernates: bool,
    /// The poll has told that something is there, and it was not received yet.
    pub(super) is_readable: bool,
    /// Messages came since that was last looked at.
    pub(super) is_lively: bool,
    /// A ping was sent, and nothing heard since.
    pub(super) was_asked: bool,
    /// Its next ping has been given its time.
    pub(super) has_turn: bool,
    /// The wheel has an entry for the next look at it.
    pub(super) is_scheduled: bool,
    /// The tick after which nothing was heard of it; if it was asked, that of our ping.
    pub(super) quiet_since: u32,
    /// The turn in which a message of it last began or ended: its place while there is a shortage.
    pub(super) place: u32,
    /// How many receives it has kept its place for.
    pub(super) place_receives: u8,
    /// What was agreed on about compression.
    pub(super) deflate: Option<Agreement>,
    /// How many frames were processed in which turn.
    pub(super) turn: u32,
    pub(super) turn_frames: u32,
    /// What it needs while it is busy.
    pub(super) active: Option<Box<Active>>,
}

/// The budget for an idle connection, beside its entry in the wheel.
const _: () = assert!(size_of::<Option<Connection>>() <= 56);

impl Connection {
    /// A connection that was accepted in `turn`.
    pub(super) const fn new(turn: u32, hibernates: bool) -> Self {
        Self {
            phase: Phase::Upgrading,
            transport: Transport::WebSocket,
            farewell: Farewell::Close,
            deadline_of: None,
            touched: false,
            receiving: None,
            receive_cancelled: false,
            sending: false,
            eof: false,
            fin_sent: false,
            cancelled: false,
            close_sent: false,
            pause: None,
            is_full: false,
            probation: 0,
            long_bytes: 0,
            queues: false,
            hibernates,
            is_readable: false,
            is_lively: false,
            was_asked: false,
            has_turn: false,
            is_scheduled: false,
            quiet_since: 0,
            place: turn,
            place_receives: 0,
            deflate: None,
            turn,
            turn_frames: 0,
            active: None,
        }
    }

    /// Takes bytes that arrived. What can't be processed yet is stashed.
    pub(super) fn receive<H: Handler>(&mut self, key: Key, input: &mut [u8], context: &mut Context<H>) {
        let mut active = self.active.take().unwrap_or_else(|| context.take_active(self.deflate));
        self.probation = self.probation.saturating_sub(1);
        self.hear(context.tick);
        self.begin_turn(context.turn_mark());
        let messages = context.counters.messages;
        let was_within = active.session.is_assembling();
        active.queue.expect(input.len());
        let rest = if self.pause.is_some() {
            input
        } else {
            let mut input = input;
            if self.phase == Phase::Upgrading {
                input = self.receive_head(key, &mut active, input, context);
            }
            self.receive_input(key, &mut active, input, context)
        };
        let went_on = was_within && active.session.is_assembling() && messages == context.counters.messages;
        self.keep_place(went_on, context.turn_mark());
        if !rest.is_empty() {
            let (stash, _) = active.stash.get_or_insert_with(|| (context.pool.take(rest.len()), 0));
            stash.extend_from_slice(rest);
            context.pool.count_copy(rest.len());
        }
        self.active = Some(active);
    }

    /// Takes a block back into which something was received: `received` more bytes at its end.
    pub(super) fn receive_block<H: Handler>(
        &mut self,
        key: Key,
        block: Block,
        received: usize,
        target: Target,
        context: &mut Context<H>,
    ) {
        let mut active = self.active.take().unwrap_or_else(|| context.take_active(self.deflate));
        self.hear(context.tick);
        self.begin_turn(context.turn_mark());
        let adoption = if self.pause.is_some() {
            self.hold_block(&mut active, block, received, target, context)
        } else if target == Target::Message {
            active.session.restore(block, received, &mut context.pool).map(Adoption::Taken)
        } else {
            active.session.adopt(block, &mut context.pool)
        };
        match adoption {
            Ok(Adoption::Taken(Some(event))) => {
                self.place = context.turn_mark();
                self.handle_event(key, &mut active, event, context);
            }
            Ok(Adoption::Taken(None)) => {}
            Ok(Adoption::Declined(mut block)) => {
                self.active = Some(active);
                if !block.is_empty() {
                    self.receive(key, &mut block, context);
                }
                context.pool.give(block);
                return;
            }
            Err(error) => self.fail(key, &mut active, error, context),
        }
        if received > 0 && !matches!(self.phase, Phase::Open | Phase::Closing) {
            self.farewell = Farewell::Linger;
        }
        // There is no more, but what was answered may be too much for the queue.
        self.receive_frames(key, &mut active, &mut [], context);
        self.active = Some(active);
    }

    /// Takes a block back that was received into while the handler has paused, so that no message of it is
    /// complete before that is over.
    fn hold_block<H: Handler>(
        &mut self,
        active: &mut Active,
        mut block: Block,
        received: usize,
        target: Target,
        context: &mut Context<H>,
    ) -> Result<Adoption, ProtocolError> {
        if target == Target::Block {
            return Ok(Adoption::Declined(block));
        }
        // Its last byte waits, as if it had not been received into the block.
        if let Some(last) = block.pop_if(|_| received > 0) {
            let (stash, _) = active.stash.get_or_insert_with(|| (context.pool.take(1), 0));
            stash.push(last);
        }
        active.session.restore(block, received.saturating_sub(1), &mut context.pool).map(Adoption::Taken)
    }

    /// How many bytes to wait for before they are received into a block; `None` if receive buffers are
    /// the place for what comes. They are for whatever is short.
    pub(super) fn waits_for<H: Handler>(&self, context: &Context<H>) -> Option<usize> {
        let session = self.active.as_ref().map(|active| &active.session);
        let to_come = session.map_or(0, Session::payload_to_come);
        if to_come > 0 {
            let is_long = to_come >= context.options.straight_bytes_min || self.long_bytes > 0;
            is_long.then(|| session.map_or(0, Session::bytes_to_await))
        } else {
            let between_messages = self.phase == Phase::Open && session.is_none_or(Session::is_at_rest);
            (between_messages && self.long_bytes > 0).then_some(1)
        }
    }

    /// Lends the block that the next bytes are to be received into, as [`Connection::waits_for`] has it,
    /// and says how many that may be.
    pub(super) fn lend<H: Handler>(&mut self, context: &mut Context<H>) -> Option<(Target, Block, usize)> {
        self.waits_for(context)?;
        let long_len = self.long_bytes as usize;
        if let Some(active) = &mut self.active
            && let to_come @ 1.. = active.session.payload_to_come()
        {
            let block = active.session.lend(long_len, &mut context.pool)?;
            return Some((Target::Message, block, to_come));
        }
        // Another one like the last fills it to the end, and nothing of the one after it comes along.
        let len = encoder::header_len(long_len, Role::Client) + long_len;
        Some((Target::Block, context.pool.take(len), len))
    }

    /// Moves to the end of the queue, unless what was received only `went_on` with a message.
    fn keep_place(&mut self, went_on: bool, turn: u32) {
        if went_on && self.place_receives < RECEIVES_PER_PLACE {
            self.place_receives += 1;
        } else {
            self.place = turn;
            self.place_receives = 0;
        }
    }

    /// Whether something is expected of the peer, be it only its FIN, and not asked for yet.
    pub(super) fn wants_to_receive(&self) -> bool {
        let expected = self.pause.is_none() && !self.eof && self.phase != Phase::Dying;
        expected && self.receiving.is_none() && !self.queues
    }

    /// Whether the next bytes are polled for.
    pub(super) fn sleeps(&self) -> bool {
        self.hibernates && self.phase == Phase::Open
    }

    /// Notes that something came from the peer: it is alive.
    fn hear(&mut self, tick: u32) {
        self.quiet_since = tick;
        self.was_asked = false;
        self.has_turn = false;
    }

    /// Whether nothing is under way but waiting for what the peer may say.
    pub(super) fn is_idle(&self) -> bool {
        self.receiving.is_some()
            && self.phase == Phase::Open
            && self.active.is_none()
            && !self.sending
            && self.pause.is_none()
    }

    pub(super) fn begin_turn(&mut self, turn: u32) {
        if self.turn != turn {
            self.turn = turn;
            self.turn_frames = 0;
        }
    }

    /// Processes what was received, as far as that may be now; returns what is left of it.
    pub(super) fn receive_input<'b, H: Handler>(
        &mut self,
        key: Key,
        active: &mut Active,
        input: &'b mut [u8],
        context: &mut Context<H>,
    ) -> &'b mut [u8] {
        match self.transport {
            Transport::WebSocket => self.receive_frames(key, active, input, context),
            Transport::Stream => self.receive_bytes(key, active, input, context),
        }
    }

    /// Processes frames until the input ends, the queue is over its bound, the turn's share is used
    /// up, the handler pauses or the session ends; returns what is left of the input.
    fn receive_frames<'b, H: Handler>(
        &mut self,
        key: Key,
        active: &mut Active,
        mut input: &'b mut [u8],
        context: &mut Context<H>,
    ) -> &'b mut [u8] {
        while matches!(self.phase, Phase::Open | Phase::Closing) {
            if self.pause.is_some() {
                return input;
            }
            if active.pending_bytes() > context.options.send_queue_bytes_max {
                self.pause(Pause::Queue, active, context);
                return input;
            }
            if self.turn_frames >= context.options.frames_per_turn_max && !input.is_empty() {
                self.pause(Pause::Turn, active, context);
                context.yielded.push(key);
                return input;
            }
            self.turn_frames += 1;
            match active.session.receive(&mut input, &mut context.pool) {
                Ok(Some(event)) => self.handle_event(key, active, event, context),
                Ok(None) => break,
                Err(error) => self.fail(key, active, error, context),
            }
        }
        if self.phase == Phase::Finishing && !input.is_empty() {
            self.farewell = Farewell::Linger;
        }
        let deadline = context.now_ms + context.options.assembly_timeout_ms;
        active.assembly_deadline_ms =
            (!active.session.is_at_rest()).then(|| active.assembly_deadline_ms.unwrap_or(deadline));
        &mut []
    }

    fn handle_event<H: Handler>(&mut self, key: Key, active: &mut Active, event: Event<'_>, context: &mut Context<H>) {
        // What comes next may be as long again, on the wire.
        let received_len = match &event {
            Event::Message(message) => message.bytes().len(),
            Event::Compressed(message) => message.payload.len(),
            _ => 0,
        };
        let mut event = match event {
            Event::Compressed(message) if self.phase == Phase::Open => match self.inflate(key, message, context) {
                Ok(message) => Event::Message(message),
                Err(error) => return self.fail(key, active, error, context),
            },
            event => event,
        };
        match &mut event {
            Event::Message(message) if self.phase == Phase::Open => {
                // What speaks once is likely to speak again, and is received from at once from now on.
                self.is_lively = true;
                self.hibernates = false;
                context.counters.messages += 1;
                context.counters.message_bytes += message.bytes().len() as u64;
                let is_long = received_len >= context.options.block_bytes_min;
                self.long_bytes = if is_long { u32::try_from(received_len).unwrap_or(u32::MAX) } else { 0 };
                self.call(key, active, context, |handler, id, effects| handler.on_message(id, message, effects));
            }
            Event::Ping(payload) if self.phase == Phase::Open => {
                active.queue.write(&mut context.pool, HEADER_LEN_MAX + payload.len(), |out| {
                    encoder::frame(out, Opcode::Pong, payload, None);
                });
            }
            Event::Message(_) | Event::Compressed(_) | Event::Ping(_) | Event::Pong(_) => {}
            Event::Close { code, .. } => {
                let code = *code;
                if self.phase == Phase::Open {
                    active.write_close(code, "", context);
                }
                self.finish(key, active, CloseCause::Peer(code), Farewell::Close, context);
            }
        }
        event.give_back(&mut context.pool);
    }

    fn inflate<H: Handler>(
        &mut self,
        key: Key,
        message: Compressed<'_>,
        context: &mut Context<H>,
    ) -> Result<Message<'static>, ProtocolError> {
        let agreement = self.deflate.expect("a compressed message is let in only where that was agreed");
        let len_max = context.options.messages.message_bytes_max;
        context.compression.inflate(key, agreement, message, len_max, &mut context.pool)
    }

    /// Calls the handler about this connection, which it may close.
    pub(super) fn call<H: Handler>(
        &mut self,
        key: Key,
        active: &mut Active,
        context: &mut Context<H>,
        call: impl FnOnce(&mut H, ConnectionId, &mut Effects<'_>),
    ) {
        let outlet = self.outlet(active);
        let (close, pauses) = context.call(key, outlet, call);
        if self.phase != Phase::Open {
            return;
        }
        if let Some((code, reason)) = close {
            return self.start_close(key, active, code, &reason, CloseCause::Handler(code), context);
        }
        if pauses {
            self.pause(Pause::Handler, active, context);
        }
        self.note_full(key, active, context);
    }

    /// Where what is sent to it goes.
    pub(super) fn outlet<'q>(&self, active: &'q mut Active) -> Outlet<'q> {
        let Active { queue, blocked_bytes, .. } = active;
        Outlet { queue, blocked_bytes: *blocked_bytes, agreement: self.deflate, transport: self.transport }
    }

    /// Ends the session with the Close frame that `error` calls for.
    pub(super) fn fail<H: Handler>(
        &mut self,
        key: Key,
        active: &mut Active,
        error: ProtocolError,
        context: &mut Context<H>,
    ) {
        context.counters.protocol_errors += 1;
        if self.phase == Phase::Open {
            active.write_close(Some(error.close_code()), error.reason(), context);
        }
        self.finish(key, active, CloseCause::Protocol(error), Farewell::Linger, context);
    }

    /// Ends a connection that is silent. It is told why, in case that it can still hear.
    pub(super) fn end_silence<H: Handler>(&mut self, key: Key, context: &mut Context<H>) {
        let mut active = self.active.take().unwrap_or_else(|| context.take_active(self.deflate));
        active.write_close(Some(CloseCode::INTERNAL_ERROR), "nothing heard, not even a pong", context);
        self.finish(key, &mut active, CloseCause::Silent, Farewell::Close, context);
        self.active = Some(active);
    }

    /// Begins the close handshake from our side. Over a stream there is none: what waits is sent, then FIN.
    pub(super) fn start_close<H: Handler>(
        &mut self,
        key: Key,
        active: &mut Active,
        code: CloseCode,
        reason: &str,
        cause: CloseCause,
        context: &mut Context<H>,
    ) {
        if self.transport == Transport::Stream {
            return self.finish(key, active, cause, Farewell::Linger, context);
        }
        active.write_close(Some(code), reason, context);
        active.cause = Some(cause);
        self.phase = Phase::Closing;
        // Their Close may be among what waits.
        self.end_handler_pause(key, context);
    }

    /// Ends reading for good and tells the handler, once.
    pub(super) fn finish<H: Handler>(
        &mut self,
        key: Key,
        active: &mut Active,
        cause: CloseCause,
        farewell: Farewell,
        context: &mut Context<H>,
    ) {
        let was_open = matches!(self.phase, Phase::Open | Phase::Closing);
        if matches!(self.phase, Phase::Finishing | Phase::Dying) {
            return;
        }
        self.phase = Phase::Finishing;
        self.farewell = farewell;
        self.pause = None;
        active.give_back_input(context);
        if let Some(agreement) = self.deflate.take() {
            context.compression.end(key, agreement);
        }
        if was_open {
            let cause = active.cause.take().unwrap_or(cause);
            let mut nowhere = SendQueue::default();
            let outlet = Outlet::nowhere(&mut nowhere, self.transport);
            context.call(key, outlet, |handler, id, effects| handler.on_close(id, cause, effects));
            nowhere.clear(&mut context.pool);
        }
    }

    /// Ends the connection without sending what waits.
    pub(super) fn die<H: Handler>(&mut self, key: Key, cause: CloseCause, context: &mut Context<H>) {
        let mut active = self.active.take().unwrap_or_else(|| context.take_active(self.deflate));
        self.finish(key, &mut active, cause, Farewell::Close, context);
        active.queue.clear(&mut context.pool);
        self.active = Some(active);
        self.phase = Phase::Dying;
    }

    /// Whether the end of a send is followed by something else than rest.
    pub(super) fn waits_for_send(&self) -> bool {
        self.waits_to_drain() || self.phase == Phase::Finishing || self.queued_bytes() > 0
    }

    /// How many bytes wait for a peer that does not take them, or takes them too slowly.
    pub(super) fn refused_bytes(&self) -> usize {
        let is_slow =
            self.waits_to_drain() || self.active.as_ref().is_some_and(|active| active.stall_deadline_ms.is_some());
        if is_slow { self.queued_bytes() } else { 0 }
    }

    /// How many bytes wait to be sent.
    pub(super) fn queued_bytes(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.pending_bytes())
    }

    /// Gives the working state back if nothing is under way.
    pub(super) fn rest<H: Handler>(&mut self, context: &mut Context<H>) {
        if self.phase == Phase::Open
            && let Some(mut active) = self.active.take_if(|active| active.is_at_rest())
        {
            active.assembly_deadline_ms = None;
            active.stall_deadline_ms = None;
            context.give_active(active);
        }
    }
}
