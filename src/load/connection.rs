//! One connection to the server: its life, and what it sends and receives.
//!
//! ```text
//! Free ──► Opening ──► Open ──► Closing ──► Dying ──► (Free)
//!             └──────────┴──────────────────┘
//! ```

use std::collections::VecDeque;

use crate::buf::{Block, SendQueue};
use crate::load::broadcast::{MARK_LEN, Mark};
use crate::load::connector::Pace;
use crate::load::context::Context;
use crate::load::deflate;
use crate::load::fault::Fault;
use crate::load::message::Message;
use crate::load::payload::{Content, Piece};
use crate::load::{Mode, Plan};
use crate::proto::http::{Accepted, ClientRequest, HandshakeError, HeadLimits, HeadScanner, write_upgrade_request};
use crate::proto::ws::{CONTROL_PAYLOAD_LEN_MAX, CloseCode, Event, HEADER_LEN_MAX};
use crate::proto::ws::{Limits, Opcode, ReservedBits, Role, Session, encoder};
use crate::ring::ReceiveMode;

/// What a connection is there for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// Sends and expects each message back.
    Echo,
    /// Opens and closes.
    Storm,
    /// Holds, until it is asked for an echo.
    Idle,
    /// Floods the server and reads slowly.
    SlowReader,
    /// Sends to everybody, itself included.
    Publisher,
    /// Receives what publishers send.
    Subscriber,
}

impl Part {
    pub(super) const fn pace(self) -> Pace {
        match self {
            Self::SlowReader => Pace::Slow,
            Self::Echo | Self::Storm | Self::Idle | Self::Publisher | Self::Subscriber => Pace::Full,
        }
    }

    /// A slow reader takes what one receive gives and then pauses.
    pub(super) const fn receive_mode(self) -> ReceiveMode {
        match self.pace() {
            Pace::Slow => ReceiveMode::Bounded,
            Pace::Full => ReceiveMode::Series,
        }
    }

    /// The part of connection number `index` over all threads.
    pub(super) const fn of(plan: &Plan, index: u32) -> Self {
        match plan.mode {
            Mode::PingPong | Mode::Pipeline | Mode::Rate => Self::Echo,
            Mode::Connect => Self::Storm,
            Mode::Idle => Self::Idle,
            Mode::Slow if index < plan.slow_readers => Self::SlowReader,
            Mode::Slow => Self::Echo,
            Mode::Broadcast if index < plan.publishers => Self::Publisher,
            Mode::Broadcast => Self::Subscriber,
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// It has no socket.
    Free,
    /// It connects, or waits for the answer to its upgrade request.
    Opening,
    /// Messages go both ways.
    Open,
    /// A Close was sent; the end of the connection is awaited.
    Closing,
    /// It ends now.
    Dying,
}

/// A message whose reply is awaited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// When it was due, or when it was handed to the kernel.
    pub(super) at_ns: u64,
    pub(super) piece: Piece,
}

/// When a message counts as sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum SentAt {
    /// When this turn's sends are handed to the kernel.
    Flush,
    /// When it was due.
    Due(u64),
}

#[derive(Debug)]
pub(super) struct Connection {
    /// Its number over all threads.
    pub(super) index: u32,
    pub(super) part: Part,
    pub(super) phase: Phase,
    /// Which life of its slot this is.
    pub(super) generation: u32,
    /// It is in the list of this turn.
    pub(super) touched: bool,
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
    /// The last progress: it was opened, asked from rest, was answered, or began to close.
    pub(super) since_ns: u64,
    pub(super) queue: SendQueue,
    /// The oldest first.
    pub(super) expected: VecDeque<Expected>,
    /// How many of the newest are sent at the end of this turn.
    pub(super) unstamped: usize,
    /// The sequence number that each publisher's next message must have.
    pub(super) next_sequences: Box<[u32]>,
    /// Messages of publishers that have arrived.
    pub(super) delivered: u64,
    published: u32,
    nonce: [u8; 16],
    head: Option<(HeadScanner, Block)>,
    session: Session,
    windows: Option<Box<deflate::Windows>>,
}

/// The longest answer to an upgrade request.
const ANSWER_LEN: usize = 1024;
/// The room for the upgrade request beside host and path.
const REQUEST_LEN: usize = 512;
/// What a turn's messages are expected to take at most in one block.
const ROOM_MAX: usize = 64 << 10;
/// The length of a slow reader's messages.
pub(super) const FLOOD_LEN: u32 = 16 << 10;
/// What a server may put around a message of a publisher.
const ENVELOPE_LEN_MAX: usize = 4 << 10;

impl Connection {
    pub(super) fn new(index: u32, part: Part, context: &Context) -> Self {
        let publishers = if matches!(part, Part::Publisher | Part::Subscriber) { context.plan.publishers } else { 0 };
        Self {
            index,
            part,
            phase: Phase::Free,
            generation: 0,
            touched: false,
            receiving: false,
            receive_cancelled: false,
            pausing: false,
            sending: false,
            cancelled: false,
            close_sent: false,
            retired: false,
            since_ns: 0,
            queue: SendQueue::default(),
            expected: VecDeque::new(),
            unstamped: 0,
            next_sequences: vec![0; publishers as usize].into(),
            delivered: 0,
            published: 0,
            nonce: [0; 16],
            head: None,
            session: Session::new(Role::Client, limits(context)),
            windows: None,
        }
    }

    /// Begins its life on a socket that is connected or connecting: writes the upgrade request.
    pub(super) fn begin(&mut self, context: &mut Context) {
        let session = Session::new(Role::Client, limits(context));
        self.phase = Phase::Opening;
        (self.receiving, self.receive_cancelled, self.pausing) = (false, false, false);
        (self.sending, self.cancelled, self.close_sent) = (false, false, false);
        self.session = session;
        self.windows = None;
        self.since_ns = context.now_ns;
        self.nonce[..8].copy_from_slice(&context.random.next().to_le_bytes());
        self.nonce[8..].copy_from_slice(&context.random.next().to_le_bytes());
        context.opening += 1;
        context.alive += 1;
        let offer = context.plan.deflate.map(deflate::offer);
        let request = self.upgrade_request(&context.plan, offer.as_deref());
        let len = REQUEST_LEN + request.host.len() + request.path.len();
        self.queue.write(&mut context.pool, len, |out| write_upgrade_request(out, &request));
    }

    fn upgrade_request<'a>(&self, plan: &'a Plan, offer: Option<&'a str>) -> ClientRequest<'a> {
        ClientRequest {
            host: plan.url.authority(),
            path: plan.url.path(),
            key: self.nonce,
            subprotocols: &[],
            extensions: offer,
            origin: None,
        }
    }

    /// Takes bytes that arrived.
    pub(super) fn receive(&mut self, mut input: &mut [u8], context: &mut Context) {
        if self.phase == Phase::Opening {
            input = self.receive_head(input, context);
        }
        while matches!(self.phase, Phase::Open | Phase::Closing) {
            match self.session.receive(&mut input, &mut context.pool) {
                Ok(Some(event)) => self.handle_event(event, context),
                Ok(None) => break,
                Err(error) => self.fail(Fault::Protocol(error), context),
            }
        }
    }

    /// Sends a message of its own choice.
    pub(super) fn request(&mut self, at: SentAt, context: &mut Context) {
        let len = match self.part {
            Part::SlowReader => FLOOD_LEN,
            _ => context.plan.sizes.pick(&mut context.random),
        };
        let at_ns = match at {
            SentAt::Flush => {
                self.unstamped += 1;
                context.now_ns
            }
            SentAt::Due(due_ns) => {
                let late_ns = context.now_ns.saturating_sub(due_ns);
                context.totals.lateness_ns_max = context.totals.lateness_ns_max.max(late_ns);
                due_ns
            }
        };
        let mark;
        let (head, piece) = match self.part {
            Part::Publisher => {
                mark = Mark { publisher: self.index, sequence: self.published, sent_ns: at_ns }.to_bytes();
                let piece = Content::derive(len - MARK_LEN, self.index, self.published);
                self.published = self.published.wrapping_add(1);
                (&mark[..], piece)
            }
            _ => (&[][..], Content::pick(len, &mut context.random)),
        };
        if self.expected.is_empty() {
            self.since_ns = context.now_ns;
        }
        self.expected.push_back(Expected { at_ns, piece });
        let Context { plan, content, pool, random, deflate, .. } = context;
        let (kind, fragments, body) = (content.kind(), plan.fragments, content.bytes(piece));
        let place = head.is_empty().then(|| content.start(piece));
        let compressed = self.windows.as_ref().and_then(|windows| deflate.deflate(head, body, place, windows));
        let message = match compressed {
            Some(body) => Message { kind, head: &[], body, compressed: true, fragments },
            None => Message { kind, head, body, compressed: false, fragments },
        };
        let room = (plan.depth as usize * (len as usize + HEADER_LEN_MAX)).min(ROOM_MAX);
        message.write(&mut self.queue, pool, random, room);
        if self.part == Part::SlowReader {
            context.totals.flood_sent += 1;
        } else {
            context.totals.sent += 1;
            context.under_way += 1;
        }
    }

    /// Begins the close handshake.
    pub(super) fn close(&mut self, context: &mut Context) {
        if self.phase == Phase::Open {
            self.write_close(Some(CloseCode::NORMAL), context);
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
        match self.phase {
            Phase::Opening => {
                context.opening -= 1;
                context.count_failed();
            }
            Phase::Closing => context.closing -= 1,
            Phase::Free | Phase::Open | Phase::Dying => {}
        }
        self.phase = Phase::Dying;
        self.forget_expected(context);
        self.session.end(&mut context.pool);
        self.queue.clear(&mut context.pool);
        if let Some((_, block)) = self.head.take() {
            context.pool.give(block);
        }
    }

    /// Notes when this turn's messages are handed to the kernel.
    pub(super) fn stamp(&mut self, at_ns: u64) {
        for expected in self.expected.iter_mut().rev().take(self.unstamped) {
            expected.at_ns = at_ns;
        }
        self.unstamped = 0;
    }

    /// Its receive should be armed.
    pub(super) fn wants_receive(&self) -> bool {
        match self.phase {
            Phase::Opening => !self.sending && self.queue.is_empty(),
            Phase::Open | Phase::Closing => !self.pausing,
            Phase::Free | Phase::Dying => false,
        }
    }

    fn receive_head<'b>(&mut self, input: &'b mut [u8], context: &mut Context) -> &'b mut [u8] {
        let (mut scanner, held) = match self.head.take() {
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
                    Ok(()) => self.handle_opened(context),
                    Err(fault) => self.fail(fault, context),
                }
                rest
            }
            Ok(None) => {
                let mut block = held.unwrap_or_else(|| context.pool.take(ANSWER_LEN));
                block.extend_from_slice(input);
                self.head = Some((scanner, block));
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

    fn read_answer(&mut self, head: &[u8], context: &Context) -> Result<(), Fault> {
        let accepted = Accepted::parse(head, self.nonce).map_err(Fault::Handshake)?;
        let offer = context.plan.deflate.map(deflate::offer);
        accepted.check_offered(&self.upgrade_request(&context.plan, offer.as_deref())).map_err(Fault::Handshake)?;
        if let Some(offered) = context.plan.deflate {
            let windows = deflate::agree(offered, accepted.extensions()).map_err(Fault::Deflate)?;
            self.windows = Some(Box::new(windows.ok_or(Fault::Uncompressed)?));
            self.session.set_reserved_bits(ReservedBits::Deflate);
        }
        Ok(())
    }

    fn handle_opened(&mut self, context: &mut Context) {
        context.opening -= 1;
        context.failed_in_a_row = 0;
        context.totals.opened += 1;
        self.phase = Phase::Open;
        if self.part == Part::Storm {
            context.record(self.since_ns, 0);
            self.close(context);
        }
    }

    fn handle_event(&mut self, event: Event<'_>, context: &mut Context) {
        let event = match (event, &mut self.windows) {
            (Event::Compressed(message), Some(windows)) => {
                let len_max = limits(context).message_bytes_max;
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
        match &event {
            Event::Message(message) if self.phase == Phase::Open => self.handle_message(message, context),
            Event::Ping(payload) if self.phase == Phase::Open => {
                let key = context.random.mask();
                self.queue.write(&mut context.pool, HEADER_LEN_MAX + payload.len(), |out| {
                    encoder::frame(out, Opcode::Pong, payload, Some(key));
                });
            }
            Event::Close { code, .. } if self.phase == Phase::Open => {
                let code = *code;
                self.count_fault(Fault::Closed(code.map_or(1005, CloseCode::get)), context);
                self.write_close(code, context);
            }
            _ => {}
        }
        event.give_back(&mut context.pool);
    }

    fn write_close(&mut self, code: Option<CloseCode>, context: &mut Context) {
        self.forget_expected(context);
        self.phase = Phase::Closing;
        context.closing += 1;
        self.since_ns = context.now_ns;
        // A slow reader must see the answer.
        self.pausing = false;
        let key = context.random.mask();
        let len = HEADER_LEN_MAX + CONTROL_PAYLOAD_LEN_MAX;
        self.queue.write(&mut context.pool, len, |out| encoder::close(out, code, "", Some(key)));
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
        if self.part != Part::SlowReader {
            context.under_way -= self.expected.len() as u64;
        }
        if context.plan.mode == Mode::Rate {
            // No reply at all is no better than a late one.
            for expected in &self.expected {
                context.recorder.measure_due(expected.at_ns, context.now_ns, 1);
            }
        }
        self.expected.clear();
        self.unstamped = 0;
    }
}

/// Any server is measured, so what it may send is bounded by what was asked of it, amply.
fn limits(context: &Context) -> Limits {
    let longest = context.plan.sizes.max().max(FLOOD_LEN) as usize;
    Limits { message_bytes_max: longest + ENVELOPE_LEN_MAX, fragments_max: 1 << 20, empty_fragments_max: 1 << 10 }
}
