//! One WebSocket connection after its handshake: frames in, events out.

use std::mem;

use crate::buf::{Block, Pool};
use crate::proto::ws::assembly::Assembly;
use crate::proto::ws::close;
use crate::proto::ws::event::event_of;
use crate::proto::ws::{Event, FrameHeader, HEADER_LEN_MAX, MessageKind, Opcode, Payload, ProtocolError, ReservedBits};
use crate::simd::mask;
use crate::simd::mask::Key;
use crate::simd::utf8;

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// We accepted the connection: the peer masks, we do not.
    Server,
    /// We opened it: we mask, the peer does not.
    Client,
}

/// What a peer may make us hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The longest message in bytes, over all its fragments, inflated.
    pub message_bytes_max: usize,
    /// The most fragments of a message.
    pub fragments_max: u32,
    /// The most fragments without a byte in a row.
    pub empty_fragments_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes_max: 64 << 10, fragments_max: 1024, empty_fragments_max: 16 }
    }
}

/// The state of a connection between two receive buffers.
///
/// At rest (between messages) it holds nothing of the peer's, see [`Session::is_at_rest`].
///
/// ```
/// use ringsock::buf::Pool;
/// use ringsock::proto::ws::{Event, Limits, Role, Session};
///
/// let mut session = Session::new(Role::Server, Limits::default());
/// let mut pool = Pool::default();
/// let mut bytes = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x89\x80\0\0\0\0";
/// let mut input = &mut bytes[..];
///
/// let first = session.receive(&mut input, &mut pool)?;
/// assert!(matches!(first, Some(Event::Message(hello)) if hello.text() == Some("Hello")));
/// let second = session.receive(&mut input, &mut pool)?;
/// assert!(matches!(second, Some(Event::Ping(payload)) if payload.is_empty()));
/// assert!(session.receive(&mut input, &mut pool)?.is_none());
/// # Ok::<(), ringsock::proto::ws::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct Session {
    role: Role,
    reserved: ReservedBits,
    /// Set by the peer's Close or an error: what comes after it is discarded (section 1.4).
    ended: bool,
    limits: Limits,
    /// The frame that is under way.
    frame: Option<Frame>,
    /// The message that is under way.
    message: Option<Assembly>,
    /// The payload of a control frame that is cut by the end of a receive buffer.
    control: Option<Block>,
    /// A header that is cut by the end of a receive buffer.
    header: [u8; HEADER_LEN_MAX],
    header_len: usize,
}

/// What became of a block that was offered to a session.
#[derive(Debug)]
pub enum Adoption {
    /// It is the message's, which may be complete with it.
    Taken(Option<Event<'static>>),
    /// It is back.
    Declined(Block),
}

/// A frame whose payload is under way.
#[derive(Clone, Copy, Debug)]
struct Frame {
    fin: bool,
    compressed: bool,
    opcode: Opcode,
    /// Rotated to the next byte of the payload.
    key: Option<Key>,
    remaining: usize,
}

impl Session {
    /// Begins a session right after the handshake.
    #[must_use]
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            reserved: ReservedBits::Unused,
            ended: false,
            limits,
            frame: None,
            message: None,
            control: None,
            header: [0; HEADER_LEN_MAX],
            header_len: 0,
        }
    }

    /// Says what was agreed on in the handshake. Between messages only.
    pub fn set_reserved_bits(&mut self, reserved: ReservedBits) {
        self.reserved = reserved;
    }

    /// Consumes `input` up to the end of the next event and unmasks it in place; `None` when all
    /// of it is consumed.
    ///
    /// The event borrows the bytes it lies in, or owns a block of `pool`: see [`Event::give_back`].
    ///
    /// # Errors
    ///
    /// The rule that the peer broke. The session has ended then: further input is discarded.
    pub fn receive<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        pool: &mut Pool,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        while !self.ended {
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.receive_header(input, pool) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => return Ok(None),
                    Err(error) => return Err(self.fail(error, pool)),
                },
            };
            let event = if frame.opcode.is_control() {
                self.receive_control(frame, input, pool)
            } else {
                self.receive_data(frame, input, pool)
            };
            match event {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) if self.frame.is_some() => return Ok(None),
                Ok(None) => {}
                Err(error) => return Err(self.fail(error, pool)),
            }
        }
        *input = &mut [];
        Ok(None)
    }

    /// How many bytes of a data frame's payload are still to come, zero between frames.
    #[must_use]
    pub fn payload_to_come(&self) -> usize {
        self.frame.filter(|frame| !frame.opcode.is_control()).map_or(0, |frame| frame.remaining)
    }

    /// How many more bytes of a data frame have to arrive before something can be said of them: any of a
    /// text, which may be wrong, all of others. Zero between frames.
    #[must_use]
    pub fn bytes_to_await(&self) -> usize {
        let is_text = |frame: &Frame| match &self.message {
            Some(message) => message.is_plain_text(),
            None => frame.opcode == Opcode::Text && !frame.compressed,
        };
        let to_come = self.payload_to_come();
        if self.frame.as_ref().is_some_and(is_text) { to_come.min(1) } else { to_come }
    }

    /// Lends the block of the message under way, so that what is still to come of its frame can be
    /// received straight into it: [`Session::payload_to_come`] bytes at the most, behind what it
    /// holds, within its capacity. `None` if no data frame is under way.
    ///
    /// The room grows with what has arrived, lest memory be had for announcements. But a message of
    /// up to `trusted` bytes gets room at once: the peer has sent as many before.
    ///
    /// Nothing may be received otherwise until it is back, see [`Session::restore`].
    ///
    /// ```
    /// use ringsock::buf::Pool;
    /// use ringsock::proto::ws::{Event, Limits, Role, Session};
    ///
    /// let (mut session, mut pool) = (Session::new(Role::Server, Limits::default()), Pool::default());
    /// let mut head = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f"; // "Hello", cut after two letters
    /// assert!(session.receive(&mut &mut head[..], &mut pool)?.is_none());
    ///
    /// let mut block = session.lend(0, &mut pool).expect("a frame is under way");
    /// block.extend_from_slice(b"\x4d\x51\x58");
    /// let event = session.restore(block, 3, &mut pool)?;
    /// assert!(matches!(event, Some(Event::Message(hello)) if hello.text() == Some("Hello")));
    /// # Ok::<(), ringsock::proto::ws::ProtocolError>(())
    /// ```
    pub fn lend(&mut self, trusted: usize, pool: &mut Pool) -> Option<Block> {
        let to_come = self.payload_to_come();
        let message = self.message.as_mut().filter(|_| to_come > 0)?;
        Some(message.lend(to_come, trusted, pool))
    }

    /// Takes the block back from [`Session::lend`], with `received` more bytes at its end.
    ///
    /// # Errors
    ///
    /// As [`Session::receive`].
    ///
    /// # Panics
    ///
    /// If more was received than was to come.
    pub fn restore(
        &mut self,
        block: Block,
        received: usize,
        pool: &mut Pool,
    ) -> Result<Option<Event<'static>>, ProtocolError> {
        let (Some(mut frame), Some(message)) = (self.frame.take(), &mut self.message) else {
            // The session has ended meanwhile.
            pool.give(block);
            return Ok(None);
        };
        assert!(received <= frame.remaining, "no more was asked for than was to come");
        frame.remaining -= received;
        let start = block.len() - received;
        match message.restore(block, start, frame.key) {
            Ok(key) => frame.key = key,
            Err(error) => return Err(self.fail(error, pool)),
        }
        self.end_of_piece(frame, pool).map_err(|error| self.fail(error, pool))
    }

    /// Takes a block that bytes of the peer were received into, as the message that begins there. If it is
    /// whole, it is the event; if not, the rest can be received behind it, see [`Session::lend`].
    ///
    /// Gives the block back unless it begins with the first frame of a message and holds nothing else:
    /// then its bytes are for [`Session::receive`].
    ///
    /// # Errors
    ///
    /// As [`Session::receive`].
    pub fn adopt(&mut self, block: Block, pool: &mut Pool) -> Result<Adoption, ProtocolError> {
        let Some((header, kind)) = self.header_of_whole(&block) else { return Ok(Adoption::Declined(block)) };
        let arrived = block.len() - header.len;
        let (start, begun) = (header.len, self.begin_frame(header, pool));
        let mut frame = match begun {
            Ok(frame) => frame,
            Err(error) => {
                pool.give(block);
                return Err(self.fail(error, pool));
            }
        };
        frame.remaining -= arrived;
        let message = self.message.get_or_insert_with(|| Assembly::new(kind, frame.compressed, pool));
        match message.adopt(block, start, frame.key, pool) {
            Ok(key) => frame.key = key,
            Err(error) => return Err(self.fail(error, pool)),
        }
        self.end_of_piece(frame, pool).map(Adoption::Taken).map_err(|error| self.fail(error, pool))
    }

    /// The header at the front of `bytes`, if all the rest is the payload of its data frame, and the kind
    /// of message that begins with it.
    fn header_of_whole(&self, bytes: &[u8]) -> Option<(FrameHeader, MessageKind)> {
        if self.ended || !self.is_at_rest() {
            return None;
        }
        // What is wrong with it is for the ordinary way to tell.
        let header = FrameHeader::parse(bytes, self.role, self.reserved).ok()??;
        let kind = kind_of(header.opcode)?;
        ((bytes.len() - header.len) as u64 <= header.payload_len).then_some((header, kind))
    }

    /// Ends the session from our side: further input is discarded.
    pub fn end(&mut self, pool: &mut Pool) {
        self.ended = true;
        self.frame = None;
        self.header_len = 0;
        if let Some(message) = self.message.take() {
            message.give_back(pool);
        }
        if let Some(control) = self.control.take() {
            pool.give(control);
        }
    }

    /// Whether nothing of the peer's is held: no cut header, no frame and no message under way.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.frame.is_none() && self.message.is_none() && self.control.is_none() && self.header_len == 0
    }

    /// Whether the first part of a data message has arrived and the last has not.
    #[must_use]
    pub fn is_assembling(&self) -> bool {
        self.message.is_some()
    }

    /// Whether the peer's Close or an error has ended the session.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    fn fail(&mut self, error: ProtocolError, pool: &mut Pool) -> ProtocolError {
        self.end(pool);
        error
    }

    fn receive_header(&mut self, input: &mut &mut [u8], pool: &mut Pool) -> Result<Option<Frame>, ProtocolError> {
        if self.header_len == 0 {
            if let Some(header) = FrameHeader::parse(input, self.role, self.reserved)? {
                take(input, header.len);
                return self.begin_frame(header, pool).map(Some);
            }
        } else {
            while let Some(&mut byte) = input.first_mut() {
                take(input, 1);
                self.header[self.header_len] = byte;
                self.header_len += 1;
                if let Some(header) = FrameHeader::parse(&self.header[..self.header_len], self.role, self.reserved)? {
                    self.header_len = 0;
                    return self.begin_frame(header, pool).map(Some);
                }
            }
            return Ok(None);
        }
        let rest = take(input, input.len());
        self.header[..rest.len()].copy_from_slice(rest);
        self.header_len = rest.len();
        Ok(None)
    }

    /// Checks a header against what came before it, so that no payload of a wrong frame is held.
    fn begin_frame(&mut self, header: FrameHeader, pool: &mut Pool) -> Result<Frame, ProtocolError> {
        let FrameHeader { fin, compressed, opcode, payload_len, key, .. } = header;
        match (opcode, &self.message) {
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(ProtocolError::InterleavedMessage),
            _ => {}
        }
        if !opcode.is_control() {
            let before = self.message.as_ref().map_or(0, Assembly::len);
            let compressed = self.message.as_ref().map_or(compressed, Assembly::compressed);
            let len_max = self.limits.message_bytes_max;
            let len_max = if compressed { compressed_len_max(len_max) } else { len_max };
            let room = len_max.saturating_sub(before);
            if payload_len > room as u64 {
                return Err(ProtocolError::MessageTooBig);
            }
            if let (Some(kind), false) = (kind_of(opcode), fin) {
                self.message = Some(Assembly::new(kind, compressed, pool));
            }
            if let Some(message) = &mut self.message {
                message.begin_fragment(payload_len, &self.limits)?;
            }
        }
        // Control frames are at most 125 bytes long, others were just compared with a `usize`.
        let remaining = usize::try_from(payload_len).map_err(|_| ProtocolError::MessageTooBig)?;
        Ok(Frame { fin, compressed, opcode, key, remaining })
    }

    fn receive_data<'b>(
        &mut self,
        mut frame: Frame,
        input: &mut &'b mut [u8],
        pool: &mut Pool,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        if let (Some(kind), None) = (kind_of(frame.opcode), &self.message) {
            if input.len() >= frame.remaining {
                return whole_message(kind, frame, input).map(Some);
            }
            self.message = Some(Assembly::new(kind, frame.compressed, pool));
        }
        let piece = take(input, frame.remaining.min(input.len()));
        frame.remaining -= piece.len();
        let message = self.message.as_mut().expect("every data frame but a whole message has an assembly");
        frame.key = message.append(piece, frame.key, frame.remaining, pool)?;
        self.end_of_piece(frame, pool)
    }

    /// Goes on with a frame of which a piece was added to its message: it, and the message, may be
    /// complete now.
    fn end_of_piece(&mut self, frame: Frame, pool: &mut Pool) -> Result<Option<Event<'static>>, ProtocolError> {
        if frame.remaining > 0 {
            self.frame = Some(frame);
            return Ok(None);
        }
        match self.message.take_if(|_| frame.fin) {
            Some(message) => Ok(Some(message.finish(pool)?)),
            None => Ok(None),
        }
    }

    fn receive_control<'b>(
        &mut self,
        mut frame: Frame,
        input: &mut &'b mut [u8],
        pool: &mut Pool,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let piece = take(input, frame.remaining.min(input.len()));
        frame.remaining -= piece.len();
        if let Some(key) = frame.key {
            frame.key = Some(mask::apply(piece, key));
        }
        if frame.remaining == 0 && self.control.is_none() {
            return self.control_event(frame.opcode, Payload::View(piece), pool).map(Some);
        }
        self.control.get_or_insert_with(|| pool.take(frame.remaining)).extend_from_slice(piece);
        if frame.remaining > 0 {
            self.frame = Some(frame);
            return Ok(None);
        }
        let block = self.control.take().expect("the pieces of this frame were just gathered");
        self.control_event(frame.opcode, Payload::Block { block, start: 0 }, pool).map(Some)
    }

    fn control_event<'b>(
        &mut self,
        opcode: Opcode,
        payload: Payload<'b>,
        pool: &mut Pool,
    ) -> Result<Event<'b>, ProtocolError> {
        match opcode {
            Opcode::Ping => return Ok(Event::Ping(payload)),
            Opcode::Pong => return Ok(Event::Pong(payload)),
            _ => {}
        }
        match close::parse_payload(&payload) {
            Ok(code) => {
                self.end(pool);
                let reason = payload.skip(if code.is_some() { 2 } else { 0 });
                Ok(Event::Close { code, reason })
            }
            Err(error) => {
                payload.give_back(pool);
                Err(error)
            }
        }
    }
}

/// The message that lies whole at the front of `input`.
fn whole_message<'b>(kind: MessageKind, frame: Frame, input: &mut &'b mut [u8]) -> Result<Event<'b>, ProtocolError> {
    let payload = take(input, frame.remaining);
    let is_text = kind == MessageKind::Text && !frame.compressed;
    let is_valid = match frame.key {
        Some(key) if is_text => utf8::apply(payload, key),
        Some(key) => {
            mask::apply(payload, key);
            true
        }
        None => !is_text || utf8::is_valid(payload),
    };
    if !is_valid {
        return Err(ProtocolError::InvalidUtf8);
    }
    Ok(event_of(kind, frame.compressed, Payload::View(payload)))
}

/// How long the compressed form of a message of `len_max` bytes may be: one that does not become shorter
/// is stored in blocks, each with a head.
const fn compressed_len_max(len_max: usize) -> usize {
    len_max.saturating_add(len_max / 64).saturating_add(64)
}

/// The kind of message that a frame begins.
fn kind_of(opcode: Opcode) -> Option<MessageKind> {
    match opcode {
        Opcode::Text => Some(MessageKind::Text),
        Opcode::Binary => Some(MessageKind::Binary),
        _ => None,
    }
}

/// Cuts `len` bytes off the front of `input`.
fn take<'b>(input: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    let (front, rest) = mem::take(input).split_at_mut(len);
    *input = rest;
    front
}

#[cfg(test)]
mod tests;
