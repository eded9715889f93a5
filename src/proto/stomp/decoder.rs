//! Frames out of bytes, wherever those are cut.

use memchr::memchr;

use crate::buf::{Block, Pool};
use crate::proto::stomp::head::{HeadScan, Writing, check_headers};
use crate::proto::stomp::{Command, Frame, StompError, Version};
use crate::simd::utf8;

/// What a peer may make us hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The most headers of a frame.
    pub headers_max: usize,
    /// The longest header line in bytes, as it is written, without its end.
    pub header_bytes_max: usize,
    /// The longest body in bytes.
    pub body_bytes_max: usize,
    /// Whether a frame of a command that has no body may have one, which is then passed by, as brokers
    /// commonly do. 1.0 says so, later versions forbid it.
    pub allows_any_body: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { headers_max: 64, header_bytes_max: 4 << 10, body_bytes_max: 64 << 10, allows_any_body: true }
    }
}

/// The state of a stream of frames between two inputs.
///
/// Between frames it holds nothing of the peer's.
///
/// ```
/// use ringsock::buf::Pool;
/// use ringsock::proto::stomp::{Command, Decoder, Limits, Version};
///
/// let (mut decoder, mut pool) = (Decoder::new(Limits::default()), Pool::default());
/// decoder.set_version(Version::V1_2);
/// let mut input = &b"SEND\ndestination:/queue/a\nnote:a\\cb\n\nhello\0\n\nSE"[..];
///
/// let frame = decoder.receive(&mut input, &mut pool)?.expect("one frame is whole");
/// assert_eq!((frame.command(), frame.body()), (Command::Send, &b"hello"[..]));
/// assert_eq!(frame.header("note").as_deref(), Some("a:b"));
/// assert!(decoder.receive(&mut input, &mut pool)?.is_none(), "the next one is cut");
/// assert!(input.is_empty());
/// # Ok::<(), ringsock::proto::stomp::StompError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    version: Option<Version>,
    stage: Stage,
    /// The frame under way, if it is cut by the end of an input: its head, and what there is of its body.
    block: Option<Block>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Between frames, where ends of lines are heart-beats; within one if a CR was the last byte.
    Between {
        within_eol: bool,
    },
    Head(HeadScan),
    Body(Layout),
    /// The frame in the block is given out.
    Done,
    /// What comes after an error is discarded.
    Ended,
}

/// What is known of a frame whose head is whole.
#[derive(Clone, Copy, Debug)]
struct Layout {
    command: Command,
    /// Where the headers begin, and where the body does.
    headers_at: usize,
    body_at: usize,
    content_length: Option<usize>,
}

/// How a frame lies in bytes that begin with it.
struct Whole {
    layout: Layout,
    body_len: usize,
}

impl Decoder {
    /// Begins a stream. No version is agreed on yet: headers are read as those of CONNECT and CONNECTED, which
    /// have no escapes.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, version: None, stage: Stage::Between { within_eol: false }, block: None }
    }

    /// Says which version was agreed on. It holds from the next frame on.
    pub fn set_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// Sets the limits that hold from the next frame on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Consumes `input` up to the end of the next frame; `None` when all of it is consumed. Ends of lines
    /// between frames, which are heart-beats, and stray NULs there are passed by.
    ///
    /// The frame is a view of the bytes that it came in, or of a block of `pool` that goes back with the next
    /// call: so this is to be called until it returns `None`.
    ///
    /// # Errors
    ///
    /// The first rule that the bytes break, the same wherever they are cut. The stream has ended then:
    /// further input is discarded.
    pub fn receive<'f, 'b: 'f>(
        &'f mut self,
        input: &mut &'b [u8],
        pool: &mut Pool,
    ) -> Result<Option<Frame<'f>>, StompError> {
        if let Stage::Done = self.stage {
            self.give_back(pool);
            self.stage = Stage::Between { within_eol: false };
        }
        let whole = match self.advance(input, pool) {
            Ok(Some(whole)) => whole,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.end(pool);
                *input = &[];
                return Err(error);
            }
        };
        let Layout { command, headers_at, body_at, .. } = whole.layout;
        let body_end = body_at + whole.body_len;
        let bytes = match &self.block {
            Some(block) => {
                self.stage = Stage::Done;
                &block[..]
            }
            None => {
                let (frame, rest) = input.split_at(body_end + 1);
                *input = rest;
                self.stage = Stage::Between { within_eol: false };
                frame
            }
        };
        let head = utf8::text(&bytes[headers_at..body_at]).expect("the head was checked when it was whole");
        Ok(Some(Frame::new(command, head, Writing::of(command, self.version), &bytes[body_at..body_end])))
    }

    /// Ends the stream: further input is discarded, and what was held goes back.
    pub fn end(&mut self, pool: &mut Pool) {
        self.give_back(pool);
        self.stage = Stage::Ended;
    }

    /// Whether no frame is under way and nothing is held.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        matches!(self.stage, Stage::Between { .. } | Stage::Ended) && self.block.is_none()
    }

    /// How many bytes of a frame under way are held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.len())
    }

    /// Goes on until a frame is whole, in the block if there is one, else at the front of `input`.
    fn advance(&mut self, input: &mut &[u8], pool: &mut Pool) -> Result<Option<Whole>, StompError> {
        loop {
            match self.stage {
                Stage::Between { within_eol } => {
                    self.skip_eols(input, within_eol)?;
                    if input.is_empty() {
                        return Ok(None);
                    }
                    self.stage = Stage::Head(HeadScan::default());
                }
                Stage::Head(mut scan) => {
                    let Some(len) = scan.advance(input, &self.limits)? else {
                        self.stage = Stage::Head(scan);
                        self.hold(input, input.len(), pool);
                        return Ok(None);
                    };
                    let layout = match &self.block {
                        Some(_) => {
                            self.hold(input, len, pool);
                            self.layout(&scan, self.block.as_deref().expect("it was there"))?
                        }
                        None => self.layout(&scan, &input[..len])?,
                    };
                    self.stage = Stage::Body(layout);
                }
                Stage::Body(layout) if self.block.is_none() => {
                    if let Some(body_len) = self.find_end(layout, 0, &input[layout.body_at..])? {
                        return Ok(Some(Whole { layout, body_len }));
                    }
                    self.hold(input, input.len(), pool);
                    return Ok(None);
                }
                Stage::Body(layout) => {
                    let held = self.held_bytes() - layout.body_at;
                    let body_len = self.find_end(layout, held, input)?;
                    let more = body_len.map_or(input.len(), |body_len| body_len + 1 - held);
                    self.hold(input, more, pool);
                    return Ok(body_len.map(|body_len| Whole { layout, body_len }));
                }
                Stage::Done | Stage::Ended => {
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    fn skip_eols(&mut self, input: &mut &[u8], mut within_eol: bool) -> Result<(), StompError> {
        while let Some((&byte, rest)) = input.split_first() {
            match byte {
                b'\n' => within_eol = false,
                _ if within_eol => return Err(StompError::StrayCarriageReturn),
                b'\r' => within_eol = true,
                0 => {}
                _ => break,
            }
            *input = rest;
        }
        self.stage = Stage::Between { within_eol };
        Ok(())
    }

    fn layout(&self, scan: &HeadScan, head: &[u8]) -> Result<Layout, StompError> {
        let (command, headers_at) = (scan.command(), scan.command_line_len());
        let content_length = check_headers(&head[headers_at..], Writing::of(command, self.version))?;
        let announced = content_length.unwrap_or(0);
        if announced > 0 && !command.may_have_body() && !self.limits.allows_any_body {
            return Err(StompError::UnexpectedBody);
        }
        if announced > self.limits.body_bytes_max {
            return Err(StompError::BodyTooBig);
        }
        Ok(Layout { command, headers_at, body_at: head.len(), content_length })
    }

    /// How long the body is, if its end is in `more`, which comes behind `held` bytes of it.
    fn find_end(&self, layout: Layout, held: usize, more: &[u8]) -> Result<Option<usize>, StompError> {
        if let Some(len) = layout.content_length {
            return match more.get(len - held) {
                Some(0) => Ok(Some(len)),
                Some(_) => Err(StompError::MissingNul),
                None => Ok(None),
            };
        }
        let end = memchr(0, more);
        let len = held + end.unwrap_or(more.len());
        if len > 0 && !layout.command.may_have_body() && !self.limits.allows_any_body {
            return Err(StompError::UnexpectedBody);
        }
        if len > self.limits.body_bytes_max {
            return Err(StompError::BodyTooBig);
        }
        Ok(end.map(|_| len))
    }

    /// Moves `len` bytes from `input` to the block.
    fn hold(&mut self, input: &mut &[u8], len: usize, pool: &mut Pool) {
        let (bytes, rest) = input.split_at(len);
        self.block.get_or_insert_with(|| pool.take(len)).extend_from_slice(bytes);
        *input = rest;
    }

    fn give_back(&mut self, pool: &mut Pool) {
        if let Some(block) = self.block.take() {
            pool.give(block);
        }
    }
}
