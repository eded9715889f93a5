//! One connection to the server: its life, and what it sends and receives.
//!
//! ```text
//! Free ──► Opening ──► (Greeting) ──► Open ──► Closing ──► Dying ──► (Free)
//!             └────────────┴────────────┴──────────────────┘
//! ```

use crate::load::Plan;
use crate::load::active::{Active, Expected, limits};
use crate::load::broadcast::{Ledger, MARK_LEN};
use crate::load::context::Context;
use crate::load::deflate;
use crate::load::fault::Fault;
use crate::load::message::Message;
use crate::load::part::Part;
use crate::load::payload::Content;
use crate::load::stomp;
use crate::load::url::Transport;
use crate::proto::http::{Accepted, ClientRequest, HandshakeError, HeadLimits, HeadScanner, write_upgrade_request};
use crate::proto::ws::{CONTROL_PAYLOAD_LEN_MAX, CloseCode, Event, HEADER_LEN_MAX, Opcode, ReservedBits, encoder};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// It has no socket.
    Free,
    /// It connects, or waits for the answer to its upgrade request.
    Opening,
    /// It can carry STOMP, of which the first frames are under way.
    Greeting,
    /// Messages go both ways.
    Open,
    /// A Close was sent; the end of the connection is awaited.
    Closing,
    /// It ends now.
    Dying,
}

/// When a message counts as sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum SentAt {
    /// When this turn's sends are handed to the kernel.
    Flush,
    /// When it was due.
    Due(u64),
}

/// What every connection has, idle or not.
#[derive(Debug)]
pub(super) struct Connection {
    /// The last progress: it was opened, asked from rest, was answered, or began to close.
    pub(super) since_ns: u64,
    /// What it needs while it is busy.
    pub(super) active: Option<Box<Active>>,
    /// Its messages in broadcast mode and with STOMP.
    pub(super) ledger: Option<Box<Ledger>>,
    windows: Option<Box<deflate::Windows>>,
    /// Which life of its slot this is.
    pub(super) generation: u32,
    pub(super) part: Part,
    pub(super) phase: Phase,
    /// It is in the list of this turn.
    pub(super) touched: bool,
    /// It is in the list of those that are looked at for time-outs.
    pub(super) watched: bool,
    /// A receive is armed.
    pub(super) receiving: bool,
    /// The armed receive was told to end.
    pub(super) receive_cancelled: bool,
    /// A slow reader is in its pause.
    pub(super) pausing: bool,
    /// A send is under way.
    pub(super) sending: bool,
    /// Its operations were cancelled.
    pub(super) cancelled: bool,
    /// Its close was asked for.
    pub(super) close_sent: bool,
    /// It is not to be opened again.
    pub(super) retired: bool,
}

/// The budget for an idle connection: of millions, on the machine of the server that is measured.
const _: () = assert!(size_of::<Connection>() <= 48);

/// The longest answer to an upgrade request.
const ANSWER_LEN: usize = 1024;
/// The room for the upgrade request beside host and path.
const REQUEST_LEN: usize = 512;
/// What a turn's messages are expected to take at most in one block.
const ROOM_MAX: usize = 64 << 10;
/// The length of a slow reader's messages.
pub(super) const FLOOD_LEN: u32 = 16 << 10;

impl Connection {
    /// The connection with this number over all threads.
    pub(super) fn new(number: u32, part: Part, plan: &Plan) -> Self {
        let is_broadcast = matches!(part, Part::Publisher | Part::Subscriber);
        Self {
            since_ns: 0,
            active: None,
            ledger: is_broadcast.then(|| Box::new(ledger(number, part, plan))),
            windows: None,
            generation: 0,
            part,
            phase: Phase::Free,
            touched: false,
            watched: false,
            receiving: false,
            receive_cancelled: false,
            pausing: false,
            sending: false,
            cancelled: false,
            close_sent: false,
            retired: false,
        }
    }

    /// Begins its life on a socket that is connected or connecting: writes the upgrade request.
    pub(super) fn begin(&mut self, context: &mut Context) {
        self.phase = Phase::Opening;
        (self.receiving, self.receive_cancelled, self.pausing) = (false, false, false);
        (self.sending, self.cancelled, self.close_sent) = (false, false, false);
        self.windows = None;
        self.since_ns = context.now_ns;
        context.opening += 1;
        context.alive += 1;
        if context.plan.url.transport() == Transport::Tcp {
            self.greet(context);
            return;
        }
        let mut active = context.take_active(ReservedBits::Unused);
        active.nonce[..8].copy_from_slice(&context.random.next().to_le_bytes());
        active.nonce[8..].copy_from_slice(&context.random.next().to_le_bytes());
        let offer = context.plan.deflate.map(deflate::offer);
        let request = upgrade_request(&context.plan, active.nonce, offer.as_deref());
        let len = REQUEST_LEN + request.host.len() + request.path.len();
        active.queue.write(&mut context.pool, len, |out| write_upgrade_request(out, &request));
        self.active = Some(active);
    }

    /// Takes bytes that arrived.
    pub(super) fn receive(&mut self, mut input: &mut [u8], context: &mut Context) {
        if context.plan.url.transport() == Transport::Tcp {
            if self.phase == Phase::Opening {
                self.phase = Phase::Greeting;
            }
            self.receive_frames(input, context);
            self.rest(context);
            return;
        }
        if self.phase == Phase::Opening {
            input = self.receive_head(input, context);
        }
        while matches!(self.phase, Phase::Greeting | Phase::Open | Phase::Closing) {
            match self.wake(context).session.receive(&mut input, &mut context.pool) {
                Ok(Some(event)) => self.handle_event(event, context),
                Ok(None) => break,
                Err(error) => self.fail(Fault::Protocol(error), context),
            }
        }
        self.rest(context);
    }

    /// Sends a message of its own choice.
    pub(super) fn request(&mut self, at: SentAt, context: &mut Context) {
        let len = match self.part {
            Part::SlowReader => FLOOD_LEN,
            _ => context.plan.sizes.pick(&mut context.random),
        };
        let at_ns = match at {
            SentAt::Flush => context.now_ns,
            SentAt::Due(due_ns) => {
                let late_ns = context.now_ns.saturating_sub(due_ns);
                context.totals.lateness_ns_max = context.totals.lateness_ns_max.max(late_ns);
                due_ns
            }
        };
        let mark;
        let (head, piece) = match &mut self.ledger {
            Some(ledger) if self.part == Part::Publisher => {
                let next = ledger.publish(at_ns);
                mark = next.to_bytes();
                (&mark[..], next.piece(len - MARK_LEN))
            }
            _ => (&[][..], Content::pick(len, &mut context.random)),
        };
        let now_ns = context.now_ns;
        if self.part == Part::SlowReader {
            context.totals.flood_sent += 1;
        } else {
            context.totals.sent += 1;
            *context.awaited(self.part) += 1;
        }
        self.wake(context);
        let active = self.active.as_mut().expect("it was just woken");
        if active.expected.is_empty() {
            self.since_ns = now_ns;
        }
        active.expected.push_back(Expected { at_ns, piece });
        active.unstamped += usize::from(matches!(at, SentAt::Flush));
        if context.plan.mode.is_stomp() {
            return self.publish(head, piece, context);
        }
        let Context { plan, content, pool, random, deflate, .. } = context;
        let (kind, fragments, body) = (content.kind(), plan.fragments, content.bytes(piece));
        let place = head.is_empty().then(|| content.start(piece));
        let compressed = self.windows.as_ref().and_then(|windows| deflate.deflate(head, body, place, windows));
        let message = match compressed {
            Some(body) => Message { kind, head: &[], body, compressed: true, fragments },
            None => Message { kind, head, body, compressed: false, fragments },
        };
        let room = (plan.depth as usize * (len as usize + HEADER_LEN_MAX)).min(ROOM_MAX);
        message.write(&mut active.queue, pool, random, room);
    }

    /// Begins the close handshake.
    pub(super) fn close(&mut self, context: &mut Context) {
        match (self.phase, context.plan.url.transport()) {
            (Phase::Open, Transport::WebSocket) => self.write_close(Some(CloseCode::NORMAL), context),
            (Phase::Open, Transport::Tcp) => {
                self.begin_closing(context);
                self.disconnect(context);
            }
            _ => {}
        }
    }

    /// Ends the connection for a fault.
    pub(super) fn fail(&mut self, fault: Fault, context: &mut Context) {
        if matches!(self.phase, Phase::Free | Phase::Dying) {
            return;
        }
        self.count_fault(fault, context);
        self.die(context);
    }

    /// Ends the connection at once.
    pub(super) fn die(&mut self, context: &mut Context) {
        self.leave_phase(context);
        self.phase = Phase::Dying;
        self.forget_expected(context);
        if let Some(active) = self.active.take() {
            context.retire(active);
        }
    }

    /// Gives its working state back if it is open and nothing of it is under way.
    pub(super) fn rest(&mut self, context: &mut Context) {
        if self.phase == Phase::Open
            && let Some(active) = self.active.take_if(|active| active.is_at_rest())
        {
            context.give_active(active);
        }
    }

    /// Notes when this turn's messages are handed to the kernel.
    pub(super) fn stamp(&mut self, at_ns: u64) {
        if let Some(active) = &mut self.active {
            active.stamp(at_ns);
        }
    }

    /// Its receive should be armed.
    pub(super) fn wants_receive(&self) -> bool {
        match self.phase {
            Phase::Opening => !self.sending && self.has_sent_all(),
            Phase::Greeting | Phase::Open | Phase::Closing => !self.pausing,
            Phase::Free | Phase::Dying => false,
        }
    }

    /// Nothing waits to be sent.
    pub(super) fn has_sent_all(&self) -> bool {
        self.active.as_ref().is_none_or(|active| active.queue.is_empty())
    }

    /// How many replies it waits for.
    pub(super) fn expected_count(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.expected.len())
    }

    /// What went wrong if it makes no progress from here on; `None` if nobody waits for it.
    pub(super) fn awaits(&self) -> Option<Fault> {
        match self.phase {
            Phase::Opening | Phase::Greeting => Some(Fault::OpenTimeout),
            // What others have not got of a STOMP publisher's is missing in the end, and told as that.
            Phase::Open if self.part == Part::SlowReader || self.speaks_stomp() => None,
            Phase::Open if self.expected_count() > 0 => Some(Fault::ReplyTimeout),
            Phase::Closing => Some(Fault::CloseTimeout),
            Phase::Free | Phase::Open | Phase::Dying => None,
        }
    }

    fn speaks_stomp(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.stomp.is_some())
    }

    /// Its working state, which it gets if it has none.
    pub(super) fn wake(&mut self, context: &mut Context) -> &mut Active {
        let reserved = self.windows.as_ref().map_or(ReservedBits::Unused, |_| ReservedBits::Deflate);
        self.active.get_or_insert_with(|| context.take_active(reserved))
    }

    fn receive_head<'b>(&mut self, input: &'b mut [u8], context: &mut Context) -> &'b mut [u8] {
        let (mut scanner, held) = match self.wake(context).head.take() {
            Some((scanner, block)) => (scanner, Some(block)),
            None => (HeadScanner::response(), None),
        };
        match scanner.scan(input, &HeadLimits::DEFAULT) {
            Ok(Some(len)) => {
                let (head, rest) = input.split_at_mut(len);
                let answer = match held {
                    None => self.read_answer(head, context),
                    Some(mut block) => {
                        block.extend_from_slice(head);
                        let answer = self.read_answer(&block, context);
                        context.pool.give(block);
                        answer
                    }
                };
                match answer {
                    Ok(()) if context.plan.mode.is_stomp() => {
                        self.phase = Phase::Greeting;
                        self.greet(context);
                    }
                    Ok(()) => self.handle_opened(context),
                    Err(fault) => self.fail(fault, context),
                }
                rest
            }
            Ok(None) => {
                let mut block = held.unwrap_or_else(|| context.pool.take(ANSWER_LEN));
                block.extend_from_slice(input);
                self.wake(context).head = Some((scanner, block));
                &mut []
            }
            Err(_) => {
                if let Some(block) = held {
                    context.pool.give(block);
                }
                self.fail(Fault::Handshake(HandshakeError::MalformedHead), context);
                &mut []
            }
        }
    }

    fn read_answer(&mut self, head: &[u8], context: &mut Context) -> Result<(), Fault> {
        let nonce = self.wake(context).nonce;
        let accepted = Accepted::parse(head, nonce).map_err(Fault::Handshake)?;
        let offer = context.plan.deflate.map(deflate::offer);
        let request = upgrade_request(&context.plan, nonce, offer.as_deref());
        accepted.check_offered(&request).map_err(Fault::Handshake)?;
        if accepted.subprotocol() != request.subprotocols.first().copied() {
            return Err(Fault::NoStomp);
        }
        if let Some(offered) = context.plan.deflate {
            let windows = deflate::agree(offered, accepted.extensions()).map_err(Fault::Deflate)?;
            self.windows = Some(Box::new(windows.ok_or(Fault::Uncompressed)?));
            self.wake(context).session.set_reserved_bits(ReservedBits::Deflate);
        }
        Ok(())
    }

    pub(super) fn handle_opened(&mut self, context: &mut Context) {
        context.opening -= 1;
        context.failed_in_a_row = 0;
        context.totals.opened += 1;
        context.open += 1;
        self.phase = Phase::Open;
        if self.part == Part::Storm {
            context.record(self.since_ns, 0);
            self.close(context);
        }
    }

    fn handle_event(&mut self, event: Event<'_>, context: &mut Context) {
        let event = match (event, &mut self.windows) {
            (Event::Compressed(message), Some(windows)) => {
                let len_max = limits(&context.plan).message_bytes_max;
                let compressed_len = message.payload.len();
                match context.deflate.inflate(message, windows, len_max, &mut context.pool) {
                    Ok(message) => {
                        // As everything of slow readers, what they receive counts nowhere else.
                        if self.part != Part::SlowReader {
                            context.totals.compressed_bytes += compressed_len as u64;
                            context.totals.inflated_bytes += message.bytes().len() as u64;
                        }
                        Event::Message(message)
                    }
                    Err(error) => return self.fail(Fault::Protocol(error), context),
                }
            }
            (event, _) => event,
        };
        let is_up = matches!(self.phase, Phase::Greeting | Phase::Open);
        match &event {
            Event::Message(message) if is_up && context.plan.mode.is_stomp() => {
                self.receive_frames(message.bytes(), context);
            }
            Event::Message(message) if is_up => self.handle_message(message, context),
            Event::Ping(payload) if is_up => {
                context.totals.pings += 1;
                let key = context.random.mask();
                self.wake(context).queue.write(&mut context.pool, HEADER_LEN_MAX + payload.len(), |out| {
                    encoder::frame(out, Opcode::Pong, payload, Some(key));
                });
            }
            Event::Close { code, .. } if is_up => {
                let code = *code;
                self.count_fault(Fault::Closed(code.map_or(1005, CloseCode::get)), context);
                self.write_close(code, context);
            }
            _ => {}
        }
        event.give_back(&mut context.pool);
    }

    fn write_close(&mut self, code: Option<CloseCode>, context: &mut Context) {
        self.begin_closing(context);
        let key = context.random.mask();
        let len = HEADER_LEN_MAX + CONTROL_PAYLOAD_LEN_MAX;
        self.wake(context).queue.write(&mut context.pool, len, |out| encoder::close(out, code, "", Some(key)));
    }

    fn begin_closing(&mut self, context: &mut Context) {
        self.forget_expected(context);
        self.leave_phase(context);
        self.phase = Phase::Closing;
        context.closing += 1;
        self.since_ns = context.now_ns;
        // A slow reader must see the answer.
        self.pausing = false;
    }

    fn leave_phase(&mut self, context: &mut Context) {
        match self.phase {
            Phase::Opening | Phase::Greeting => {
                context.opening -= 1;
                context.count_failed();
            }
            Phase::Open => {
                context.open -= 1;
                if self.part == Part::Subscriber {
                    context.lose_receiver();
                }
            }
            Phase::Closing => context.closing -= 1,
            Phase::Free | Phase::Dying => {}
        }
    }

    fn count_fault(&mut self, fault: Fault, context: &mut Context) {
        self.retired = true;
        if self.part == Part::SlowReader && self.phase == Phase::Open {
            // That is what the server's limits are for.
            context.totals.slow_readers_cut += 1;
        } else {
            context.faults.add(fault, 1);
        }
    }

    fn forget_expected(&mut self, context: &mut Context) {
        let Some(active) = &mut self.active else { return };
        if self.part != Part::SlowReader {
            *context.awaited(self.part) -= active.expected.len() as u64;
        }
        if self.part == Part::Echo && context.is_scheduled {
            // No reply at all is no better than a late one.
            for expected in &active.expected {
                context.recorder.measure_due(expected.at_ns, context.now_ns, 1);
            }
        }
        active.expected.clear();
        active.unstamped = 0;
    }
}

fn ledger(number: u32, part: Part, plan: &Plan) -> Ledger {
    let mut ledger = Ledger::new(number, plan.publishers);
    if let Some(destination) = plan.destination(number, part) {
        ledger.stomp = Some(Box::new(stomp::Client::new(plan, destination, part == Part::Subscriber)));
    }
    ledger
}

fn upgrade_request<'a>(plan: &'a Plan, nonce: [u8; 16], offer: Option<&'a str>) -> ClientRequest<'a> {
    ClientRequest {
        host: plan.url.authority(),
        path: plan.url.path(),
        key: nonce,
        subprotocols: if plan.mode.is_stomp() { &[stomp::SUBPROTOCOL] } else { &[] },
        extensions: offer,
        origin: None,
    }
}
