//! Reading an upgrade request and writing the 101, beside a textbook handshake and other libraries.
//! fastwebsockets leaves both to hyper.

mod groups;
mod stream;

use std::collections::HashMap;
use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use criterion::{Criterion, Throughput};
use ringsock::proto::http::{HeadLimits, HeadScanner, Request, write_switching_protocols};
use sha1::{Digest, Sha1};
use tokio_websockets::ServerBuilder;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server;

use groups::{group, measure, run};
use stream::{Stream, ready};

/// What libraries send, and what a browser does.
const REQUESTS: [(&str, &str); 2] = [("library", LIBRARY), ("browser", BROWSER)];
const LIBRARY: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
     Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const BROWSER: &str = "GET /chat?room=general HTTP/1.1\r\nHost: chat.example.com\r\nConnection: Upgrade\r\n\
     Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) \
     AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\n\
     Origin: https://chat.example.com\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
     Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nCookie: session=0f8fad5bd9cb469fa16570867728950e; theme=dark\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
     Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
/// The key of both requests is the one of the RFC.
const ACCEPT: &str = "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

fn main() {
    run(handshake);
}

fn handshake(criterion: &mut Criterion) {
    let mut group = group(criterion, "handshake");
    for (row, request) in REQUESTS {
        let mut out = Vec::new();
        let mut of = |name: &str, answer: fn(&[u8], &mut Vec<u8>)| {
            answer(request.as_bytes(), &mut out);
            let text = String::from_utf8_lossy(&out).replace("sec-websocket-accept", "Sec-WebSocket-Accept");
            assert!(text.starts_with("HTTP/1.1 101") && text.contains(ACCEPT), "{name} answers: {text}");
            measure(&mut group, name, row, Throughput::Elements(1), || {
                out.clear();
                answer(black_box(request.as_bytes()), black_box(&mut out));
            });
        };
        of("textbook", by_textbook);
        of("ringsock", by_ringsock);
        of("tungstenite", by_tungstenite);
        // It answers into a connection only, which it sets up with a buffer of 8 KiB meanwhile.
        measure(&mut group, "tokio-websockets", row, Throughput::Elements(1), || {
            // A stream of its own for each: a copy of the request is what a read costs the others.
            let stream = Stream::new(black_box(request.as_bytes()).to_vec(), request.len());
            ready(ServerBuilder::new().accept(stream)).expect("the request is right")
        });
    }
    group.finish();
}

fn by_ringsock(input: &[u8], out: &mut Vec<u8>) {
    let limits = HeadLimits::DEFAULT;
    let len = HeadScanner::new().scan(input, &limits).expect("the head is right").expect("it is whole");
    let request = Request::parse(&input[..len], &limits).expect("the request is right");
    let upgrade = request.upgrade().expect("the upgrade is right").expect("it is an upgrade");
    write_switching_protocols(out, &upgrade.accept_key(), None, None);
}

fn by_tungstenite(input: &[u8], out: &mut Vec<u8>) {
    let (_, request) = server::Request::try_parse(input).expect("the head is right").expect("it is whole");
    let response = server::create_response(&request).expect("the request is right");
    server::write_response(out, &response).expect("a vector takes all");
}

/// Lines into a map, and the answer from a format.
fn by_textbook(input: &[u8], out: &mut Vec<u8>) {
    let head = str::from_utf8(input).expect("the head is text").split("\r\n\r\n").next().expect("it is whole");
    let mut lines = head.split("\r\n");
    let mut request_line = lines.next().expect("there is a first line").split(' ');
    assert_eq!((request_line.next(), request_line.nth(1)), (Some("GET"), Some("HTTP/1.1")));
    let fields = lines.map(|line| line.split_once(':').expect("a name and a value"));
    let fields: HashMap<String, &str> = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim())).collect();
    assert!(fields["connection"].split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")));
    assert!(fields["upgrade"].eq_ignore_ascii_case("websocket"));
    assert_eq!(fields["sec-websocket-version"], "13");
    let key = fields["sec-websocket-key"];
    assert_eq!(STANDARD.decode(key).expect("the key is base64").len(), 16);
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        STANDARD.encode(digest)
    );
    out.extend_from_slice(answer.as_bytes());
}
