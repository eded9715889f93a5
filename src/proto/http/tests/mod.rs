//! Tests of the whole handshake, and what the unit tests share.

mod hostile;
mod interop;
mod property;

use crate::proto::http::HeadLimits;
use crate::proto::http::HeadScanner;
use crate::proto::http::Refusal;
use crate::proto::http::Request;
use crate::proto::http::write_page;
use crate::proto::http::write_refusal;
use crate::proto::http::write_switching_protocols;

pub(super) const LIMITS: HeadLimits = HeadLimits::DEFAULT;

/// The lines of an acceptable upgrade after its request line.
const UPGRADE_LINES: [&str; 5] = [
    "Host: example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// A head with this request line and these header lines.
pub(super) fn head(request_line: &str, lines: &[&str]) -> Vec<u8> {
    let mut head = format!("{request_line}\r\n");
    for line in lines {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// An upgrade with the header called `name` replaced by `lines`.
pub(super) fn upgrade_with(name: &str, lines: &[&str]) -> Vec<u8> {
    let others = UPGRADE_LINES.iter().filter(|line| !line.starts_with(&format!("{name}: ")));
    head("GET /chat HTTP/1.1", &others.chain(lines).copied().collect::<Vec<_>>())
}

/// A request for `/` with padding in its headers, `len` bytes in all.
pub(super) fn head_of_len(len: usize) -> Vec<u8> {
    let mut lines = vec!["Host: a".to_owned()];
    loop {
        let rest = len - head("GET / HTTP/1.1", &lines.iter().map(String::as_str).collect::<Vec<_>>()).len();
        match rest {
            0 => break,
            // Leaves room for the shortest line, which is four bytes.
            1..2000 => lines.push(format!("p:{}", "x".repeat(rest - 4))),
            _ => lines.push(format!("p:{}", "x".repeat(1000))),
        }
    }
    head("GET / HTTP/1.1", &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Scans pieces one after the other. The length counts from the first byte of all.
pub(super) fn scan<'a>(
    mut scanner: HeadScanner,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &HeadLimits,
) -> Result<Option<usize>, Refusal> {
    let mut before = 0;
    for piece in pieces {
        if let Some(len) = scanner.scan(piece, limits)? {
            return Ok(Some(before + len));
        }
        before += piece.len();
    }
    Ok(None)
}

/// Scans `input` whole, cut in two at every offset, and byte by byte: all must agree.
#[track_caller]
pub(super) fn scan_every_cut(
    scanner: HeadScanner,
    input: &[u8],
    limits: &HeadLimits,
) -> Result<Option<usize>, Refusal> {
    let outcome = scan(scanner, [input], limits);
    for split in 0..=input.len() {
        let (front, back) = input.split_at(split);
        assert_eq!(scan(scanner, [front, back], limits), outcome, "split at {split}");
    }
    assert_eq!(scan(scanner, input.chunks(1), limits), outcome, "byte by byte");
    outcome
}

/// What a server sends for `input`, with every cut of it: the 101, a page, or a refusal.
#[track_caller]
pub(super) fn answer(input: &[u8]) -> Result<String, Refusal> {
    let mut out = Vec::new();
    let outcome = scan_every_cut(HeadScanner::new(), input, &LIMITS).and_then(|head_len| {
        let head_len = head_len.ok_or(Refusal::HandshakeTimeout)?;
        let request = Request::parse(&input[..head_len], &LIMITS)?;
        match request.upgrade()? {
            Some(upgrade) => {
                let subprotocol = upgrade.choose_subprotocol(&["chat", "v12.stomp"]);
                write_switching_protocols(&mut out, &upgrade.accept_key(), subprotocol, None);
            }
            None => write_page(&mut out, "text/plain", b"page"),
        }
        Ok(())
    });
    // Without a scanner the reason is the same.
    let direct = Request::parse(input, &LIMITS).and_then(|request| request.upgrade().map(|_| ()));
    match outcome {
        Err(Refusal::HandshakeTimeout) => assert_eq!(direct, Err(Refusal::TruncatedHead)),
        _ => assert_eq!(direct, outcome),
    }
    outcome.map(|()| String::from_utf8(out).unwrap())
}

/// Checks the refusal of `input` and the status on the wire.
#[track_caller]
pub(super) fn check_refused(input: &[u8], status: &str, refusal: Refusal) {
    assert_eq!(answer(input), Err(refusal));
    let mut out = Vec::new();
    write_refusal(&mut out, refusal);
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with(&format!("HTTP/1.1 {status} ")), "{out}");
    assert!(out.contains("\r\nConnection: close"), "{out}");
}

/// Checks that `input` is answered with a 101 that says `expect` after the accept key.
#[track_caller]
pub(super) fn check_switched(input: &[u8], expect: &str) {
    let front = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    assert_eq!(answer(input), Ok(format!("{front}{expect}\r\n")));
}
