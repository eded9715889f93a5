//! The head of a request: its limits, and the scanner that finds its end.

use crate::proto::http::fields::HEADER_COUNT_MAX;
use crate::proto::http::octet;
use crate::proto::http::refusal::Refusal;

/// How large a head may be. The maximum is accepted, one more is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    /// The whole head, with the empty line that ends it.
    pub head_bytes_max: usize,
    /// The header lines. More than [`HEADER_COUNT_MAX`] counts as that many.
    pub header_count_max: usize,
    /// One line, the request line too, without its line end.
    pub line_bytes_max: usize,
    /// The method, which fails fast on what is not HTTP.
    pub method_bytes_max: usize,
}

impl HeadLimits {
    /// 8 KiB, 64 headers, 4 KiB a line, 32 bytes of method.
    pub const DEFAULT: Self =
        Self { head_bytes_max: 8192, header_count_max: HEADER_COUNT_MAX, line_bytes_max: 4096, method_bytes_max: 32 };

    pub(super) const fn header_count(&self) -> usize {
        if self.header_count_max < HEADER_COUNT_MAX { self.header_count_max } else { HEADER_COUNT_MAX }
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Finds the end of a head in bytes that arrive in pieces, and the first byte that breaks a rule.
///
/// It keeps no bytes and passes over each one once, so the way the input is cut changes neither the
/// outcome nor the work (RFC 9112 sections 2 to 5). A line must end with CR LF, and a request
/// must begin with its method: the empty lines that RFC 9112 lets a server skip are refused.
///
/// ```
/// use ringsock::proto::http::{HeadLimits, HeadScanner, Refusal};
///
/// let limits = HeadLimits::default();
/// let mut scanner = HeadScanner::new();
/// assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r", &limits), Ok(None));
/// assert_eq!(scanner.scan(b"\n\x81\x80", &limits), Ok(Some(1)));
///
/// assert_eq!(HeadScanner::new().scan(b"\x16\x03\x01", &limits), Err(Refusal::InvalidMethod));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadScanner {
    state: State,
    head_bytes: usize,
    line_bytes: usize,
    header_count: usize,
}

impl HeadScanner {
    /// A scanner at the first byte of a request.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Method, head_bytes: 0, line_bytes: 0, header_count: 0 }
    }

    /// A scanner at the first byte of a response, for a client. The status line is not examined.
    #[must_use]
    pub const fn response() -> Self {
        Self { state: State::StatusLine, ..Self::new() }
    }

    /// Scans the bytes that follow those of the calls before, to the end of the head at most.
    ///
    /// `Some(len)` when the head ends `len` bytes into `input`, `None` when all of `input` belongs
    /// to the head and more is needed. Once it has answered, the scanner is done: after a refusal
    /// it gives the same one again, and after the end it takes no further byte.
    ///
    /// # Errors
    ///
    /// The rule or the limit that the first bad byte breaks.
    pub fn scan(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        let outcome = self.advance(input, limits);
        if let Err(refusal) = outcome {
            self.state = State::Refused(refusal);
        }
        outcome
    }

    fn advance(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        match self.state {
            State::Ended => return Ok(Some(0)),
            State::Refused(refusal) => return Err(refusal),
            _ => {}
        }
        let room = limits.head_bytes_max.saturating_sub(self.head_bytes);
        let window = &input[..input.len().min(room)];
        let mut at = 0;
        while at < window.len() {
            let run_len = self.run_len(&window[at..], limits);
            at += run_len;
            self.line_bytes += run_len;
            let Some(&byte) = window.get(at) else { break };
            self.state = self.step(byte, limits)?;
            self.line_bytes = if byte == b'\n' { 0 } else { self.line_bytes + 1 };
            at += octet::work::counted(1);
            if self.state == State::Ended {
                return Ok(Some(at));
            }
        }
        self.head_bytes += at;
        // A head without an end this far is over the limit, whatever comes next.
        if self.head_bytes >= limits.head_bytes_max { Err(Refusal::HeadTooLarge) } else { Ok(None) }
    }

    /// How many bytes at the front of `rest` leave the state as it is.
    fn run_len(&self, rest: &[u8], limits: &HeadLimits) -> usize {
        let len_max = match self.state {
            State::Method => limits.method_bytes_max.min(limits.line_bytes_max),
            _ => limits.line_bytes_max,
        };
        let window = &rest[..rest.len().min(len_max.saturating_sub(self.line_bytes))];
        match self.state {
            State::Method | State::Name => octet::token_len(window),
            State::Target => octet::target_len(window),
            State::Value | State::StatusLine => octet::text_len(window),
            _ => 0,
        }
    }

    /// The state after `byte`.
    fn step(&mut self, byte: u8, limits: &HeadLimits) -> Result<State, Refusal> {
        if self.line_bytes >= limits.line_bytes_max
            && !matches!(byte, b'\r' | b'\n')
            && let Some(refusal) = self.state.line_too_long()
        {
            return Err(refusal);
        }
        match self.state {
            State::Method => match byte {
                b' ' if self.line_bytes > 0 => Ok(State::TargetStart),
                byte if octet::is_token(byte) => Err(Refusal::MethodTooLong),
                _ => Err(Refusal::InvalidMethod),
            },
            State::TargetStart | State::Target | State::Version(_) => self.state.step_request_line(byte),
            State::LineStart => match byte {
                b'\r' => Ok(State::HeadEnd),
                byte if octet::is_token(byte) => self.count_header(limits),
                _ => Err(refusal_at_line_start(byte)),
            },
            State::Name if byte == b':' => Ok(State::Value),
            State::Name => Err(refusal_in_name(byte)),
            State::Value | State::StatusLine => match byte {
                b'\r' => Ok(State::LineEnd),
                b'\t' => Ok(self.state),
                b'\n' => Err(Refusal::BareLineFeed),
                byte if byte.is_ascii_control() => Err(Refusal::InvalidHeaderValue),
                _ => Ok(self.state),
            },
            State::LineEnd if byte == b'\n' => Ok(State::LineStart),
            State::HeadEnd if byte == b'\n' => Ok(State::Ended),
            State::LineEnd | State::HeadEnd => Err(Refusal::BareCarriageReturn),
            State::Ended => Ok(State::Ended),
            State::Refused(refusal) => Err(refusal),
        }
    }

    fn count_header(&mut self, limits: &HeadLimits) -> Result<State, Refusal> {
        if self.header_count >= limits.header_count() {
            return Err(Refusal::TooManyHeaders);
        }
        self.header_count += 1;
        Ok(State::Name)
    }
}

impl Default for HeadScanner {
    fn default() -> Self {
        Self::new()
    }
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Method,
    TargetStart,
    Target,
    /// The next byte is the one at this index of [`VERSION`], or the CR after it.
    Version(u8),
    StatusLine,
    /// A CR was seen, and its LF is due.
    LineEnd,
    LineStart,
    Name,
    Value,
    /// The CR of the empty line was seen.
    HeadEnd,
    Ended,
    Refused(Refusal),
}

impl State {
    fn step_request_line(self, byte: u8) -> Result<Self, Refusal> {
        match (self, byte) {
            (_, b'\n') => Err(Refusal::BareLineFeed),
            (Self::Target, b' ') => Ok(Self::Version(0)),
            // HTTP/0.9 names no version.
            (Self::Target, b'\r') => Err(Refusal::UnsupportedHttpVersion),
            (Self::TargetStart | Self::Target, b'#') => Err(Refusal::FragmentInTarget),
            (Self::TargetStart, byte) if octet::is_target(byte) => Ok(Self::Target),
            (Self::Version(index), byte) => step_version(index, byte),
            _ => Err(Refusal::InvalidTarget),
        }
    }

    /// The refusal of one more byte in a line that is full, `None` between lines.
    const fn line_too_long(self) -> Option<Refusal> {
        match self {
            Self::Method | Self::TargetStart | Self::Target | Self::Version(_) => Some(Refusal::RequestLineTooLong),
            Self::StatusLine | Self::LineStart | Self::Name | Self::Value => Some(Refusal::HeaderLineTooLong),
            Self::LineEnd | Self::HeadEnd | Self::Ended | Self::Refused(_) => None,
        }
    }
}

fn step_version(index: u8, byte: u8) -> Result<State, Refusal> {
    match VERSION.get(usize::from(index)) {
        Some(&expected) if byte == expected => Ok(State::Version(index + 1)),
        // Another digit in the place of a digit is another version.
        Some(b'1') if byte.is_ascii_digit() => Err(Refusal::UnsupportedHttpVersion),
        None if byte == b'\r' => Ok(State::LineEnd),
        _ => Err(Refusal::InvalidRequestLine),
    }
}

const fn refusal_at_line_start(byte: u8) -> Refusal {
    match byte {
        b' ' | b'\t' => Refusal::FoldedHeader,
        b':' => Refusal::EmptyHeaderName,
        b'\n' => Refusal::BareLineFeed,
        _ => Refusal::InvalidHeaderName,
    }
}

const fn refusal_in_name(byte: u8) -> Refusal {
    match byte {
        b' ' | b'\t' => Refusal::SpaceBeforeColon,
        b'\r' | b'\n' => Refusal::MissingColon,
        _ => Refusal::InvalidHeaderName,
    }
}

/// The only version that has a WebSocket handshake (RFC 6455 section 4.1).
const VERSION: &[u8; 8] = b"HTTP/1.1";

const _: () = assert!(HeadLimits::DEFAULT.line_bytes_max < HeadLimits::DEFAULT.head_bytes_max);
const _: () = assert!(HeadLimits::DEFAULT.method_bytes_max < HeadLimits::DEFAULT.line_bytes_max);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::tests::head;
    use crate::proto::http::tests::head_of_len;
    use crate::proto::http::tests::scan_every_cut;

    #[track_caller]
    fn check(input: &[u8], limits: &HeadLimits, expect: Result<Option<usize>, Refusal>) {
        assert_eq!(scan_every_cut(HeadScanner::new(), input, limits), expect);
    }

    const SMALL: HeadLimits =
        HeadLimits { head_bytes_max: 64, header_count_max: 3, line_bytes_max: 20, method_bytes_max: 4 };

    #[test]
    fn a_head_ends_after_its_empty_line() {
        check(b"", &HeadLimits::DEFAULT, Ok(None));
        check(b"GET / HTTP/1.1\r\n", &HeadLimits::DEFAULT, Ok(None));
        check(b"GET / HTTP/1.1\r\n\r\n", &HeadLimits::DEFAULT, Ok(Some(18)));
        check(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &HeadLimits::DEFAULT, Ok(Some(27)));
        check(b"GET / HTTP/1.1\r\na:\r\nb: \t\x80 c\r\n\r\n\x81\x80", &HeadLimits::DEFAULT, Ok(Some(31)));
    }

    #[test]
    fn any_method_and_target_are_scanned() {
        check(b"M-SEARCH * HTTP/1.1\r\n\r\n", &HeadLimits::DEFAULT, Ok(Some(23)));
        check(b"OPTIONS http://a/b?c HTTP/1.1\r\n\r\n", &HeadLimits::DEFAULT, Ok(Some(33)));
    }

    #[test]
    fn the_largest_head_is_accepted_and_one_byte_more_refused() {
        check(&head_of_len(8192), &HeadLimits::DEFAULT, Ok(Some(8192)));
        check(&head_of_len(8193), &HeadLimits::DEFAULT, Err(Refusal::HeadTooLarge));
        check(&head_of_len(64), &HeadLimits { line_bytes_max: 64, ..SMALL }, Ok(Some(64)));
        check(&head_of_len(65), &HeadLimits { line_bytes_max: 64, ..SMALL }, Err(Refusal::HeadTooLarge));
        // Nothing can end in time any more, so the refusal does not wait for another byte.
        check(&head_of_len(9000)[..8192], &HeadLimits::DEFAULT, Err(Refusal::HeadTooLarge));
        check(&head_of_len(9000)[..8191], &HeadLimits::DEFAULT, Ok(None));
    }

    #[test]
    fn a_bad_byte_beyond_the_limit_is_not_seen() {
        let mut input = head_of_len(9000);
        input[8192] = 0;
        check(&input, &HeadLimits::DEFAULT, Err(Refusal::HeadTooLarge));
        input[8191] = 0;
        check(&input, &HeadLimits::DEFAULT, Err(Refusal::InvalidHeaderValue));
    }

    #[test]
    fn the_last_header_is_accepted_and_one_more_refused() {
        check(&head("GET / HTTP/1.1", &["a:"; 3]), &SMALL, Ok(Some(30)));
        check(&head("GET / HTTP/1.1", &["a:"; 4]), &SMALL, Err(Refusal::TooManyHeaders));
        check(&head("GET / HTTP/1.1", &["a:"; 64]), &HeadLimits::DEFAULT, Ok(Some(274)));
        check(&head("GET / HTTP/1.1", &["a:"; 65]), &HeadLimits::DEFAULT, Err(Refusal::TooManyHeaders));
    }

    #[test]
    fn no_more_headers_are_taken_than_a_table_has_room_for() {
        let limits = HeadLimits { header_count_max: 1000, ..HeadLimits::DEFAULT };
        check(&head("GET / HTTP/1.1", &["a:"; 64]), &limits, Ok(Some(274)));
        check(&head("GET / HTTP/1.1", &["a:"; 65]), &limits, Err(Refusal::TooManyHeaders));
    }

    #[test]
    fn the_longest_lines_are_accepted_and_one_byte_more_refused() {
        check(b"GET /aaaaaa HTTP/1.1\r\n", &SMALL, Ok(None));
        check(b"GET /aaaaaaa HTTP/1.1\r\n", &SMALL, Err(Refusal::RequestLineTooLong));
        check(b"GET / HTTP/1.1\r\na: bbbbbbbbbbbbbbbbb\r\n", &SMALL, Ok(None));
        check(b"GET / HTTP/1.1\r\na: bbbbbbbbbbbbbbbbbb\r\n", &SMALL, Err(Refusal::HeaderLineTooLong));
        check(b"GET / HTTP/1.1\r\naaaaaaaaaaaaaaaaaaa:\r\n", &SMALL, Ok(None));
        check(b"GET / HTTP/1.1\r\naaaaaaaaaaaaaaaaaaaaa:\r\n", &SMALL, Err(Refusal::HeaderLineTooLong));
        let long = format!("a:{}", "b".repeat(4094));
        check(&head("GET / HTTP/1.1", &[&long]), &HeadLimits::DEFAULT, Ok(Some(4116)));
        check(&head("GET / HTTP/1.1", &[&format!("{long}b")]), &HeadLimits::DEFAULT, Err(Refusal::HeaderLineTooLong));
    }

    #[test]
    fn a_line_end_after_a_full_line_is_checked_as_any_other() {
        check(b"GET / HTTP/1.1\r\na: bbbbbbbbbbbbbbbbb\rc", &SMALL, Err(Refusal::BareCarriageReturn));
        check(b"GET /aaaaaa HTTP/1.1\rc", &SMALL, Err(Refusal::BareCarriageReturn));
        check(b"GET / HTTP/1.1\r\na: bbbbbbbbbbbbbbbbb\n", &SMALL, Err(Refusal::BareLineFeed));
        check(b"GET /aaaaaa HTTP/1.1\n", &SMALL, Err(Refusal::BareLineFeed));
    }

    #[test]
    fn the_longest_method_is_accepted_and_one_byte_more_refused() {
        check(b"POST / HTTP/1.1\r\n\r\n", &SMALL, Ok(Some(19)));
        check(b"PATCH / HTTP/1.1\r\n\r\n", &SMALL, Err(Refusal::MethodTooLong));
        check(b"PATCH", &SMALL, Err(Refusal::MethodTooLong));
        check(b"PATC", &SMALL, Ok(None));
    }

    #[test]
    fn a_scanner_that_has_answered_keeps_its_answer() {
        let mut scanner = HeadScanner::new();
        assert_eq!(scanner.scan(b"\0", &SMALL), Err(Refusal::InvalidMethod));
        assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\n\r\n", &SMALL), Err(Refusal::InvalidMethod));
        let mut scanner = HeadScanner::default();
        assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\n\r\n\0", &SMALL), Ok(Some(18)));
        assert_eq!(scanner.scan(b"\0", &SMALL), Ok(Some(0)));
    }

    #[track_caller]
    fn check_response(input: &[u8], expect: Result<Option<usize>, Refusal>) {
        assert_eq!(scan_every_cut(HeadScanner::response(), input, &SMALL), expect);
    }

    #[test]
    fn a_response_begins_with_any_status_line() {
        check_response(b"HTTP/1.1 101 \xc3\xa9\r\na: b\r\n\r\n\x81", Ok(Some(25)));
        check_response(b"HTTP/1.1 101\n\r\n", Err(Refusal::BareLineFeed));
        check_response(b"HTTP/1.1 101 Too long\r\n", Err(Refusal::HeaderLineTooLong));
    }
}
