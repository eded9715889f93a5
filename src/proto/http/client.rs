//! The client's half of the handshake (RFC 6455 section 4.1), for the load generator and tests.

use std::str;

use httparse::EMPTY_HEADER;
use httparse::Status;
use thiserror::Error;

use crate::proto::http::accept;
use crate::proto::http::extension;
use crate::proto::http::extension::Extension;
use crate::proto::http::fields::Fields;
use crate::proto::http::fields::HEADER_COUNT_MAX;
use crate::proto::http::octet;
use crate::proto::http::response;

/// What a client asks for. The strings are the caller's own and go out as they are.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// The host, with its port unless it is the scheme's own.
    pub host: &'a str,
    /// The path, with the query if there is one. It begins with a slash.
    pub path: &'a str,
    /// Sixteen random bytes, new for every connection.
    pub key: [u8; 16],
    /// The subprotocols, the one liked best first.
    pub subprotocols: &'a [&'a str],
    /// The value of Sec-WebSocket-Extensions.
    pub extensions: Option<&'a str>,
    /// The origin that a browser would send.
    pub origin: Option<&'a str>,
}

/// Appends the request that asks for a WebSocket.
///
/// ```
/// use ringsock::proto::http::{ClientRequest, write_upgrade_request};
///
/// let request = ClientRequest {
///     host: "localhost:9001",
///     path: "/echo",
///     key: *b"the sample nonce",
///     subprotocols: &[],
///     extensions: None,
///     origin: None,
/// };
/// let mut out = Vec::new();
/// write_upgrade_request(&mut out, &request);
/// assert!(out.starts_with(b"GET /echo HTTP/1.1\r\nHost: localhost:9001\r\n"));
/// ```
pub fn write_upgrade_request(out: &mut Vec<u8>, request: &ClientRequest<'_>) {
    debug_assert!(request.path.starts_with('/'), "a path begins with a slash");
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(request.path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_field(out, "Host", request.host);
    out.extend_from_slice(
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
    );
    out.extend_from_slice(&accept::encode_key(&request.key));
    out.extend_from_slice(b"\r\n");
    if let Some((first, rest)) = request.subprotocols.split_first() {
        out.extend_from_slice(b"Sec-WebSocket-Protocol: ");
        out.extend_from_slice(first.as_bytes());
        for name in rest {
            out.extend_from_slice(b", ");
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    if let Some(extensions) = request.extensions {
        write_field(out, "Sec-WebSocket-Extensions", extensions);
    }
    if let Some(origin) = request.origin {
        write_field(out, "Origin", origin);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(response::is_field_value(value), "a header value is one line");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A handshake that the server has accepted.
#[derive(Clone, Debug)]
pub struct Accepted<'a> {
    subprotocol: Option<&'a str>,
    fields: Fields<'a>,
}

impl<'a> Accepted<'a> {
    /// Reads the server's answer to a request with `key`, as long as
    /// [`HeadScanner::response`](crate::proto::http::HeadScanner::response) has found it to be.
    ///
    /// # Errors
    ///
    /// The first condition of RFC 6455 section 4.1 that the answer does not meet.
    pub fn parse(head: &'a [u8], key: [u8; 16]) -> Result<Self, HandshakeError> {
        let mut headers = [EMPTY_HEADER; HEADER_COUNT_MAX];
        let mut parsed = httparse::Response::new(&mut headers);
        let outcome = parsed.parse(head).map_err(|_| HandshakeError::MalformedHead)?;
        let (Status::Complete(_), Some(version), Some(status)) = (outcome, parsed.version, parsed.code) else {
            return Err(HandshakeError::TruncatedHead);
        };
        let header_count = parsed.headers.len();
        let fields = Fields::new(headers, header_count);
        if status != 101 {
            return Err(HandshakeError::Status(status));
        }
        if version != 1 {
            return Err(HandshakeError::UnsupportedHttpVersion);
        }
        check_switch(&fields)?;
        check_accept_key(&fields, key)?;
        let subprotocol = subprotocol_of(&fields)?;
        extension::check(&fields).map_err(|extension::Malformed| HandshakeError::InvalidExtensions)?;
        Ok(Self { subprotocol, fields })
    }

    /// Checks that the server chose among what `request` had offered (RFC 6455 section 4.1).
    ///
    /// # Errors
    ///
    /// A subprotocol or an extension that was not offered.
    pub fn check_offered(&self, request: &ClientRequest<'_>) -> Result<(), HandshakeError> {
        if self.subprotocol.is_some_and(|chosen| !request.subprotocols.contains(&chosen)) {
            return Err(HandshakeError::UnofferedSubprotocol);
        }
        let offered = request.extensions.unwrap_or_default().as_bytes();
        let is_offered = |chosen: Extension<'_>| {
            extension::elements(offered)
                .filter_map(|element| element.ok()?)
                .any(|extension| extension.name() == chosen.name())
        };
        if self.extensions().all(is_offered) { Ok(()) } else { Err(HandshakeError::UnofferedExtension) }
    }

    /// The subprotocol that the server chose.
    #[must_use]
    pub const fn subprotocol(&self) -> Option<&'a str> {
        self.subprotocol
    }

    /// The extensions that the server accepted.
    pub fn extensions(&self) -> impl Iterator<Item = Extension<'a>> {
        extension::offers(&self.fields)
    }
}

fn check_switch(fields: &Fields<'_>) -> Result<(), HandshakeError> {
    let upgrade = fields.single("upgrade", HandshakeError::InvalidUpgrade)?;
    if !upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(HandshakeError::InvalidUpgrade);
    }
    if fields.has_token("connection", "upgrade") { Ok(()) } else { Err(HandshakeError::InvalidConnection) }
}

fn check_accept_key(fields: &Fields<'_>, key: [u8; 16]) -> Result<(), HandshakeError> {
    let accepted = fields.single("sec-websocket-accept", HandshakeError::InvalidAcceptKey)?;
    let key = accept::encode_key(&key);
    let key = str::from_utf8(&key).expect("base64 is ASCII");
    if accepted == Some(&accept::accept_key(key)) { Ok(()) } else { Err(HandshakeError::InvalidAcceptKey) }
}

fn subprotocol_of<'a>(fields: &Fields<'a>) -> Result<Option<&'a str>, HandshakeError> {
    let Some(value) = fields.single("sec-websocket-protocol", HandshakeError::InvalidSubprotocol)? else {
        return Ok(None);
    };
    match str::from_utf8(value) {
        Ok(name) if octet::is_whole_token(value) => Ok(Some(name)),
        _ => Err(HandshakeError::InvalidSubprotocol),
    }
}

/// What is wrong with a server's answer.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum HandshakeError {
    /// The head is not one of an HTTP/1 response, or has too many headers.
    #[error("the answer is not an HTTP response")]
    MalformedHead,
    /// The head does not end.
    #[error("the answer ended before its head was complete")]
    TruncatedHead,
    /// The status is not 101: the server refused, or wants something else first.
    #[error("the server answered with status {0} instead of 101")]
    Status(u16),
    /// A 101 of HTTP/1.0, which cannot switch protocols.
    #[error("the answer is not HTTP/1.1")]
    UnsupportedHttpVersion,
    /// The Upgrade header is missing, repeated or not `websocket`.
    #[error("the Upgrade header of the answer is not websocket")]
    InvalidUpgrade,
    /// The Connection header lacks the token `upgrade`.
    #[error("the Connection header of the answer does not contain Upgrade")]
    InvalidConnection,
    /// The Sec-WebSocket-Accept is missing, repeated or not that of the key.
    #[error("the Sec-WebSocket-Accept header does not answer the key")]
    InvalidAcceptKey,
    /// The Sec-WebSocket-Protocol is repeated or not one token.
    #[error("the Sec-WebSocket-Protocol header of the answer is not one token")]
    InvalidSubprotocol,
    /// A subprotocol that the client did not ask for.
    #[error("the server chose a subprotocol that was not offered")]
    UnofferedSubprotocol,
    /// A Sec-WebSocket-Extensions that breaks the grammar.
    #[error("the Sec-WebSocket-Extensions header of the answer is malformed")]
    InvalidExtensions,
    /// An extension that the client did not ask for.
    #[error("the server chose an extension that was not offered")]
    UnofferedExtension,
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: ClientRequest<'_> = ClientRequest {
        host: "server.example.com",
        path: "/chat",
        key: *b"the sample nonce",
        subprotocols: &[],
        extensions: None,
        origin: None,
    };

    #[track_caller]
    fn check_request(request: &ClientRequest<'_>, expect: &str) {
        let mut out = Vec::new();
        write_upgrade_request(&mut out, request);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn a_request_has_what_the_rfc_demands() {
        check_request(
            &REQUEST,
            "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
    }

    #[test]
    fn a_request_has_what_is_offered() {
        check_request(
            &ClientRequest {
                subprotocols: &["chat", "superchat"],
                extensions: Some("permessage-deflate"),
                origin: Some("http://example.com"),
                ..REQUEST
            },
            "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
             Origin: http://example.com\r\n\r\n",
        );
    }

    const LINES: [&str; 3] =
        ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="];

    /// Parses a 101 with the line that begins like `name` replaced by `lines`.
    #[track_caller]
    fn check_with(name: &str, lines: &[&str], expect: Result<(), HandshakeError>) {
        let others = LINES.iter().filter(|line| !line.starts_with(&format!("{name}: ")));
        let lines: String = others.chain(lines).map(|line| format!("{line}\r\n")).collect();
        check(&format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n"), expect);
    }

    #[track_caller]
    fn check(head: &str, expect: Result<(), HandshakeError>) {
        assert_eq!(Accepted::parse(head.as_bytes(), REQUEST.key).map(|_| ()), expect, "{head}");
    }

    #[test]
    fn an_answer_that_meets_every_condition_is_accepted() {
        check_with("", &[], Ok(()));
        check_with("Upgrade", &["UPGRADE: WebSocket"], Ok(()));
        check_with("Connection", &["Connection: keep-alive", "connection: x, UPGRADE"], Ok(()));
        check(
            "HTTP/1.1 101\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
               Sec-WebSocket-Accept:s3pPLMBiTxaQ9kYGzzhZRbK+xOo=  \r\n\r\nframes",
            Ok(()),
        );
    }

    #[test]
    fn an_answer_without_the_switch_is_refused() {
        check_with("Upgrade", &[], Err(HandshakeError::InvalidUpgrade));
        check_with("Upgrade", &["Upgrade: h2c"], Err(HandshakeError::InvalidUpgrade));
        check_with("", &["Upgrade: websocket"], Err(HandshakeError::InvalidUpgrade));
        check_with("Connection", &[], Err(HandshakeError::InvalidConnection));
        check_with("Connection", &["Connection: close"], Err(HandshakeError::InvalidConnection));
    }

    #[test]
    fn an_accept_key_that_is_not_ours_is_refused() {
        check_with("Sec-WebSocket-Accept", &[], Err(HandshakeError::InvalidAcceptKey));
        check_with("", &["Sec-WebSocket-Accept: x"], Err(HandshakeError::InvalidAcceptKey));
        for value in ["", "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=="] {
            let line = format!("Sec-WebSocket-Accept: {value}");
            check_with("Sec-WebSocket-Accept", &[&line], Err(HandshakeError::InvalidAcceptKey));
        }
    }

    #[test]
    fn another_status_is_named() {
        check("HTTP/1.1 403 Forbidden\r\n\r\n", Err(HandshakeError::Status(403)));
        check("HTTP/1.0 200 OK\r\n\r\n", Err(HandshakeError::Status(200)));
        check("HTTP/1.0 101 OK\r\n\r\n", Err(HandshakeError::UnsupportedHttpVersion));
        assert_eq!(HandshakeError::Status(403).to_string(), "the server answered with status 403 instead of 101");
    }

    #[test]
    fn what_is_no_response_is_named() {
        check("SSH-2.0\r\n\r\n", Err(HandshakeError::MalformedHead));
        check("HTTP/2 101\r\n\r\n", Err(HandshakeError::MalformedHead));
        check("", Err(HandshakeError::TruncatedHead));
        check("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n", Err(HandshakeError::TruncatedHead));
        check(&format!("HTTP/1.1 101 x\r\n{}\r\n", "a: b\r\n".repeat(65)), Err(HandshakeError::MalformedHead));
    }

    #[test]
    fn the_server_chooses_one_subprotocol_and_any_extensions() {
        check_with("", &["Sec-WebSocket-Protocol: a"], Ok(()));
        check_with("", &["Sec-WebSocket-Protocol: a, b"], Err(HandshakeError::InvalidSubprotocol));
        check_with("", &["Sec-WebSocket-Protocol:"], Err(HandshakeError::InvalidSubprotocol));
        check_with(
            "",
            &["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"],
            Err(HandshakeError::InvalidSubprotocol),
        );
        check_with("", &["Sec-WebSocket-Extensions: a; b, c"], Ok(()));
        check_with("", &["Sec-WebSocket-Extensions: a b"], Err(HandshakeError::InvalidExtensions));
    }

    #[track_caller]
    fn check_choice(subprotocol: Option<&str>, extensions: Option<&str>, expect: Result<(), HandshakeError>) {
        let mut out = Vec::new();
        response::write_switching_protocols(&mut out, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", subprotocol, extensions);
        let accepted = Accepted::parse(&out, REQUEST.key).unwrap();
        let request = ClientRequest { subprotocols: &["a", "b"], extensions: Some("c; d, e"), ..REQUEST };
        assert_eq!(accepted.check_offered(&request), expect);
        assert_eq!(accepted.subprotocol(), subprotocol);
    }

    #[test]
    fn the_choice_must_be_among_the_offers() {
        check_choice(None, None, Ok(()));
        check_choice(Some("b"), Some("e; f=1"), Ok(()));
        check_choice(Some("b"), Some("c, e"), Ok(()));
        check_choice(Some("c"), None, Err(HandshakeError::UnofferedSubprotocol));
        check_choice(Some("B"), None, Err(HandshakeError::UnofferedSubprotocol));
        check_choice(None, Some("f"), Err(HandshakeError::UnofferedExtension));
        check_choice(None, Some("c, d"), Err(HandshakeError::UnofferedExtension));
    }
}
