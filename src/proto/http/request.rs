//! A request head, read and checked as far as any request must be.

use std::str;

use httparse::EMPTY_HEADER;
use httparse::Header;
use httparse::Status;

use crate::proto::http::authority;
use crate::proto::http::fields::Fields;
use crate::proto::http::fields::HEADER_COUNT_MAX;
use crate::proto::http::head::HeadLimits;
use crate::proto::http::head::HeadScanner;
use crate::proto::http::octet;
use crate::proto::http::refusal::Refusal;
use crate::proto::http::upgrade::Upgrade;

/// A GET request of HTTP/1.1 without a body (RFC 9112).
#[derive(Clone, Debug)]
pub struct Request<'a> {
    path: &'a str,
    query: Option<&'a str>,
    host: &'a str,
    origin: Option<&'a str>,
    fields: Fields<'a>,
}

impl<'a> Request<'a> {
    /// Reads the head at the front of `head`, whose end a [`HeadScanner`] has found.
    ///
    /// Bytes after the head are left alone. The call is safe without a scanner: a head that the
    /// scanner refuses is refused here, for the same reason.
    ///
    /// # Errors
    ///
    /// The refusal of the scanner, or else the first rule broken of: method, Host, target, Origin,
    /// and no body (RFC 9112 sections 3.2 and 6, RFC 6455 section 4.2.1).
    pub fn parse(head: &'a [u8], limits: &HeadLimits) -> Result<Self, Refusal> {
        let head = &head[..head.len().min(limits.head_bytes_max)];
        let mut headers = [EMPTY_HEADER; HEADER_COUNT_MAX];
        let mut parsed = httparse::Request::new(&mut headers[..limits.header_count()]);
        let outcome = parsed.parse(head);
        let (Ok(Status::Complete(head_len)), Some(method), Some(target), Some(1)) =
            (outcome, parsed.method, parsed.path, parsed.version)
        else {
            return Err(refusal_of(head, limits));
        };
        let header_count = parsed.headers.len();
        let fields = Fields::new(headers, header_count);
        if !is_strict(&head[..head_len], method, target, fields.as_slice(), limits) {
            return Err(refusal_of(head, limits));
        }
        if method != "GET" {
            return Err(Refusal::MethodNotAllowed);
        }
        let host = host_of(&fields)?;
        let (path, query) = split_target(target, host)?;
        let origin = origin_of(&fields)?;
        check_no_body(&fields)?;
        Ok(Self { path, query, host, origin, fields })
    }

    /// The path, which begins with a slash, as it was sent: percent-encoded and with any dots.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// What follows the first `?` of the target.
    #[must_use]
    pub const fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The Host header: a host with an optional port, at most 255 bytes.
    #[must_use]
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// The Origin header, in visible ASCII, for the layer above to compare.
    #[must_use]
    pub const fn origin(&self) -> Option<&'a str> {
        self.origin
    }

    /// The value of the first header called `name`, in any case. It may have bytes above ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.first(name)
    }

    /// The values of every header called `name`, in any case, in the order of the head.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.all(name)
    }

    /// The upgrade that the request asks for, or `None` if it has no Upgrade header.
    ///
    /// # Errors
    ///
    /// The first rule of RFC 6455 section 4.2.1 that an upgrade breaks.
    pub fn upgrade(&self) -> Result<Option<Upgrade<'_>>, Refusal> {
        match self.fields.first("upgrade") {
            Some(_) => Upgrade::parse(&self.fields).map(Some),
            None => Ok(None),
        }
    }
}

/// What the scanner says of a head that the second reading does not take.
fn refusal_of(head: &[u8], limits: &HeadLimits) -> Refusal {
    match HeadScanner::new().scan(head, limits) {
        Err(refusal) => refusal,
        Ok(None) => Refusal::TruncatedHead,
        Ok(Some(_)) => Refusal::MalformedHead,
    }
}

/// Whether a head keeps those rules and limits of the scanner that `httparse` does not know.
///
/// `httparse` takes a bare LF as a line end and skips empty lines in front. Every line ends
/// before the next header's name or at the end of the head, so those places show them all.
fn is_strict(head: &[u8], method: &str, target: &str, headers: &[Header<'_>], limits: &HeadLimits) -> bool {
    let offset_of = |part: &str| part.as_ptr().addr() - head.as_ptr().addr();
    let starts = headers.iter().map(|header| offset_of(header.name)).chain([head.len() - 2]);
    let mut line_start = 0;
    for next_start in starts {
        let line = &head[line_start..next_start];
        if !line.ends_with(b"\r\n") || line.len() - 2 > limits.line_bytes_max {
            return false;
        }
        line_start = next_start;
    }
    head.ends_with(b"\r\n")
        && offset_of(method) == 0
        && method.len() <= limits.method_bytes_max
        && octet::target_len(target.as_bytes()) == target.len()
}

fn host_of<'a>(fields: &Fields<'a>) -> Result<&'a str, Refusal> {
    let value = fields.single("host", Refusal::DuplicateHost)?.ok_or(Refusal::MissingHost)?;
    match str::from_utf8(value) {
        Ok(host) if authority::is_valid(host) => Ok(host),
        _ => Err(Refusal::InvalidHost),
    }
}

/// The path and the query of an origin-form target, or of an absolute-form one for `host`.
fn split_target<'a>(target: &'a str, host: &str) -> Result<(&'a str, Option<&'a str>), Refusal> {
    let path_and_query = if target.starts_with('/') {
        target
    } else {
        let rest = SCHEMES.iter().find_map(|scheme| strip_scheme(target, scheme)).ok_or(Refusal::InvalidTarget)?;
        let authority_len = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(authority_len);
        if !authority.eq_ignore_ascii_case(host) {
            return Err(Refusal::TargetHostMismatch);
        }
        path_and_query
    };
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    // An empty path, which only the absolute form can have, means the root.
    Ok((if path.is_empty() { "/" } else { path }, query))
}

fn strip_scheme<'a>(target: &'a str, scheme: &str) -> Option<&'a str> {
    let (front, rest) = target.split_at_checked(scheme.len())?;
    front.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn origin_of<'a>(fields: &Fields<'a>) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = fields.single("origin", Refusal::DuplicateOrigin)? else {
        return Ok(None);
    };
    match str::from_utf8(value) {
        Ok(origin) if !origin.is_empty() && origin.bytes().all(|octet| octet.is_ascii_graphic()) => Ok(Some(origin)),
        _ => Err(Refusal::InvalidOrigin),
    }
}

fn check_no_body(fields: &Fields<'_>) -> Result<(), Refusal> {
    if fields.first("transfer-encoding").is_some() {
        return Err(Refusal::TransferEncoding);
    }
    match fields.single("content-length", Refusal::ContentLength)? {
        None | Some(b"0") => Ok(()),
        // A length that is well-formed is no attack, just more than a page's request may carry.
        Some([b'1'..=b'9', digits @ ..])
            if digits.iter().all(u8::is_ascii_digit) && fields.first("upgrade").is_none() =>
        {
            Err(Refusal::ContentTooLarge)
        }
        Some(_) => Err(Refusal::ContentLength),
    }
}

/// The schemes that a handshake's target can have (RFC 6455 section 4.2.1).
const SCHEMES: [&str; 2] = ["http://", "https://"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::tests::LIMITS;
    use crate::proto::http::tests::head;
    use crate::proto::http::tests::head_of_len;

    /// Path, query, host and origin.
    type Parts<'a> = (&'a str, Option<&'a str>, &'a str, Option<&'a str>);

    #[track_caller]
    fn check(request_line: &str, lines: &[&str], expect: Result<Parts<'_>, Refusal>) {
        let head = head(request_line, lines);
        let request = Request::parse(&head, &LIMITS);
        let parts = request.map(|request| (request.path(), request.query(), request.host(), request.origin()));
        assert_eq!(parts, expect);
    }

    #[test]
    fn a_target_is_a_path_and_a_query() {
        check("GET / HTTP/1.1", &["Host: a"], Ok(("/", None, "a", None)));
        check("GET /b/../%00c HTTP/1.1", &["Host: a:1"], Ok(("/b/../%00c", None, "a:1", None)));
        check("GET /b?c=d?e HTTP/1.1", &["Host: a"], Ok(("/b", Some("c=d?e"), "a", None)));
        check("GET /? HTTP/1.1", &["Host: a"], Ok(("/", Some(""), "a", None)));
        check("GET //b/c HTTP/1.1", &["Host: a"], Ok(("//b/c", None, "a", None)));
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        check("GET http://a/b?c HTTP/1.1", &["Host: a"], Ok(("/b", Some("c"), "a", None)));
        check("GET HTTPS://A:1/ HTTP/1.1", &["Host: a:1"], Ok(("/", None, "a:1", None)));
        check("GET http://a HTTP/1.1", &["Host: a"], Ok(("/", None, "a", None)));
        check("GET http://a?b HTTP/1.1", &["Host: a"], Ok(("/", Some("b"), "a", None)));
        check("GET http://[::1]:1/ HTTP/1.1", &["Host: [::1]:1"], Ok(("/", None, "[::1]:1", None)));
        check("GET http://a:1/ HTTP/1.1", &["Host: a"], Err(Refusal::TargetHostMismatch));
    }

    #[test]
    fn an_origin_is_handed_on_as_it_is() {
        check("GET / HTTP/1.1", &["Host: a", "Origin: null"], Ok(("/", None, "a", Some("null"))));
        check("GET / HTTP/1.1", &["Host: a", "ORIGIN:\thttp://b:1 "], Ok(("/", None, "a", Some("http://b:1"))));
        check("GET / HTTP/1.1", &["Host: a", "Origin:"], Err(Refusal::InvalidOrigin));
        check("GET / HTTP/1.1", &["Host: a", "Origin: http://b http://c"], Err(Refusal::InvalidOrigin));
        check("GET / HTTP/1.1", &["Host: a", "Origin: http://\u{e9}"], Err(Refusal::InvalidOrigin));
        check("GET / HTTP/1.1", &["Host: a", "Origin: b", "origin: b"], Err(Refusal::DuplicateOrigin));
    }

    #[test]
    fn headers_are_found_in_any_case_and_without_their_white_space() {
        let head = head("GET / HTTP/1.1", &["Host: a", "Cookie:  b=c\t", "x: 1", "COOKIE: d", "y: \u{e9}"]);
        let request = Request::parse(&head, &LIMITS).unwrap();
        assert_eq!(request.header("cookie"), Some(b"b=c".as_slice()));
        assert_eq!(request.headers("Cookie").collect::<Vec<_>>(), [b"b=c".as_slice(), b"d"]);
        assert_eq!(request.header("y"), Some(b"\xc3\xa9".as_slice()));
        assert_eq!(request.header("z"), None);
        assert!(request.upgrade().unwrap().is_none());
    }

    #[track_caller]
    fn check_limits(input: &[u8], limits: &HeadLimits, expect: Result<(), Refusal>) {
        assert_eq!(Request::parse(input, limits).map(|_| ()), expect);
    }

    #[test]
    fn the_limits_hold_without_a_scanner() {
        check_limits(&head_of_len(8192), &LIMITS, Ok(()));
        check_limits(&head_of_len(8193), &LIMITS, Err(Refusal::HeadTooLarge));
        let lines = |count| ["Host: a"].into_iter().chain(["a:"; 64]).take(count).collect::<Vec<_>>();
        check_limits(&head("GET / HTTP/1.1", &lines(64)), &LIMITS, Ok(()));
        check_limits(&head("GET / HTTP/1.1", &lines(65)), &LIMITS, Err(Refusal::TooManyHeaders));
        let limits = HeadLimits { header_count_max: 2, line_bytes_max: 20, method_bytes_max: 3, ..LIMITS };
        check_limits(&head("GET / HTTP/1.1", &lines(2)), &limits, Ok(()));
        check_limits(&head("GET / HTTP/1.1", &lines(3)), &limits, Err(Refusal::TooManyHeaders));
        check_limits(&head("GET /aaaaaa HTTP/1.1", &["Host: a"]), &limits, Ok(()));
        check_limits(&head("GET /aaaaaaa HTTP/1.1", &["Host: a"]), &limits, Err(Refusal::RequestLineTooLong));
        check_limits(&head("GET / HTTP/1.1", &["Host: aaaaaaaaaaaaaa"]), &limits, Ok(()));
        check_limits(&head("GET / HTTP/1.1", &["Host: aaaaaaaaaaaaaaa"]), &limits, Err(Refusal::HeaderLineTooLong));
        check_limits(&head("HEAD / HTTP/1.1", &["Host: a"]), &limits, Err(Refusal::MethodTooLong));
    }
}
