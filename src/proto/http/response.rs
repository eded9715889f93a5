//! The answers to a request, as bytes.

use crate::proto::http::accept::ACCEPT_KEY_LEN;
use crate::proto::http::refusal::Refusal;

/// Appends the answer that turns a request away, after which the connection must be closed.
///
/// It says what is wrong and repeats nothing of the request.
pub fn write_refusal(out: &mut Vec<u8>, refusal: Refusal) {
    let status = refusal.status();
    out.extend_from_slice(status_line(status));
    out.extend_from_slice(match status {
        405 => b"Allow: GET\r\nConnection: close\r\n".as_slice(),
        // Whoever sends Upgrade lists it in Connection (RFC 9110 section 7.8).
        426 => b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: close, Upgrade\r\n",
        _ => b"Connection: close\r\n",
    });
    let message = refusal.message().as_bytes();
    write_content_headers(out, "text/plain; charset=utf-8", message.len() + 1);
    out.extend_from_slice(message);
    out.push(b'\n');
}

/// Appends a 200 with a page of the server's own, after which the connection must be closed.
pub fn write_page(out: &mut Vec<u8>, content_type: &str, body: &[u8]) {
    debug_assert!(is_field_value(content_type), "a content type is one line");
    out.extend_from_slice(status_line(200));
    out.extend_from_slice(b"Connection: close\r\n");
    write_content_headers(out, content_type, body.len());
    out.extend_from_slice(body);
}

/// Appends the 101 after which both sides speak WebSocket (RFC 6455 section 4.2.2).
///
/// `subprotocol` and `extensions` are the server's own words, not copies of the client's.
pub fn write_switching_protocols(
    out: &mut Vec<u8>,
    accept: &[u8; ACCEPT_KEY_LEN],
    subprotocol: Option<&str>,
    extensions: Option<&str>,
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept);
    if let Some(subprotocol) = subprotocol {
        debug_assert!(is_field_value(subprotocol), "a subprotocol is a token");
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    if let Some(extensions) = extensions {
        debug_assert!(is_field_value(extensions), "extensions are one line");
        out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
        out.extend_from_slice(extensions.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Whether `value` can stand in a header without ending it.
pub(super) fn is_field_value(value: &str) -> bool {
    !value.bytes().any(|octet| octet.is_ascii_control())
}

/// Appends the headers that describe a body, and the empty line before it.
fn write_content_headers(out: &mut Vec<u8>, content_type: &str, body_len: usize) {
    out.extend_from_slice(b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Type: ");
    out.extend_from_slice(content_type.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: ");
    write_decimal(out, body_len);
    out.extend_from_slice(b"\r\n\r\n");
}

fn write_decimal(out: &mut Vec<u8>, number: usize) {
    let start = out.len();
    let mut left = number;
    loop {
        out.push(DIGITS[left % 10]);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out[start..].reverse();
}

const fn status_line(status: u16) -> &'static [u8] {
    match status {
        200 => b"HTTP/1.1 200 OK\r\n",
        403 => b"HTTP/1.1 403 Forbidden\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\n",
        405 => b"HTTP/1.1 405 Method Not Allowed\r\n",
        408 => b"HTTP/1.1 408 Request Timeout\r\n",
        413 => b"HTTP/1.1 413 Content Too Large\r\n",
        414 => b"HTTP/1.1 414 URI Too Long\r\n",
        426 => b"HTTP/1.1 426 Upgrade Required\r\n",
        431 => b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
        503 => b"HTTP/1.1 503 Service Unavailable\r\n",
        505 => b"HTTP/1.1 505 HTTP Version Not Supported\r\n",
        _ => b"HTTP/1.1 400 Bad Request\r\n",
    }
}

const DIGITS: &[u8; 10] = b"0123456789";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(write: impl FnOnce(&mut Vec<u8>), expect: &str) {
        let mut out = b"before".to_vec();
        write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("before{expect}"));
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_closes() {
        check(
            |out| write_refusal(out, Refusal::MissingHost),
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 37\r\n\r\n\
             The request must have a Host header.\n",
        );
    }

    #[test]
    fn a_wrong_method_is_told_the_right_one() {
        check(
            |out| write_refusal(out, Refusal::MethodNotAllowed),
            "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nConnection: close\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 24\r\n\r\n\
             The method must be GET.\n",
        );
    }

    #[test]
    fn a_wrong_version_is_told_the_right_one() {
        check(
            |out| write_refusal(out, Refusal::UnsupportedWebSocketVersion),
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Connection: close, Upgrade\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: 38\r\n\r\n\
             The Sec-WebSocket-Version must be 13.\n",
        );
    }

    #[test]
    fn every_refusal_has_a_status_line_of_its_own_status() {
        for &refusal in Refusal::ALL {
            let line = std::str::from_utf8(status_line(refusal.status())).unwrap();
            assert_eq!(line.get(..13), Some(format!("HTTP/1.1 {} ", refusal.status()).as_str()));
        }
    }

    #[test]
    fn a_page_has_the_length_of_its_body() {
        check(
            |out| write_page(out, "text/html; charset=utf-8", b"<p>\xc3\xa9\n"),
            "HTTP/1.1 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Type: text/html; charset=utf-8\r\nContent-Length: 6\r\n\r\n<p>\u{e9}\n",
        );
    }

    #[test]
    fn switching_protocols_is_that_of_the_rfc() {
        let accept = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        check(
            |out| write_switching_protocols(out, accept, None, None),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        check(
            |out| write_switching_protocols(out, accept, Some("chat"), Some("permessage-deflate")),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        );
    }

    #[test]
    fn a_field_value_cannot_end_its_line() {
        assert!(is_field_value(""));
        assert!(is_field_value("text/html; charset=utf-8"));
        assert!(!is_field_value("a\r\nb: c"));
        assert!(!is_field_value("a\nb"));
        assert!(!is_field_value("a\0"));
    }

    #[test]
    fn decimals_have_no_leading_zero() {
        for (number, expect) in [(0, "0"), (9, "9"), (10, "10"), (4096, "4096"), (usize::MAX, "18446744073709551615")] {
            let mut out = Vec::new();
            write_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        }
    }
}
