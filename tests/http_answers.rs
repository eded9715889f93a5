//! What a server answers to requests, good and hostile, over real sockets.
//!
//! The rows are those of the list of hostile inputs, by their numbers. Each is sent as one write,
//! byte by byte, and with a valid upgrade behind it that must not be read.

mod client;
mod host;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use ringsock::handler::{Accept, Echo, Page};
use ringsock::proto::http::{Refusal, Request, Upgrade, write_refusal};
use ringsock::proto::ws::Opcode;
use ringsock::{ConnectionId, Effects, Handler, Message, Options};
use socket2::SockRef;

use client::{Client, connect, frame, request};
use host::Host;

/// The answer to the key of every upgrade here, which is the one of RFC 6455.
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// The lines of an acceptable upgrade after its request line.
const UPGRADE_LINES: [&str; 5] = [
    "Host: example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// A head with this request line and these header lines.
fn head(request_line: &str, lines: &[&str]) -> Vec<u8> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{request_line}\r\n{lines}\r\n").into_bytes()
}

/// An upgrade with the header called `name` replaced by `lines`.
fn upgrade_with(name: &str, lines: &[&str]) -> Vec<u8> {
    let others = UPGRADE_LINES.iter().filter(|line| !line.starts_with(&format!("{name}: ")));
    head("GET / HTTP/1.1", &others.chain(lines).copied().collect::<Vec<_>>())
}

/// An upgrade with a header of any bytes.
fn upgrade_with_bytes(name: &str, value: &[u8]) -> Vec<u8> {
    let mut input = upgrade_with(name, &[]);
    input.truncate(input.len() - 2);
    input.extend_from_slice(name.as_bytes());
    input.extend_from_slice(b": ");
    input.extend_from_slice(value);
    input.extend_from_slice(b"\r\n\r\n");
    input
}

/// An upgrade and a message: what must have no effect behind a request that was refused.
fn smuggled() -> Vec<u8> {
    let mut bytes = request();
    bytes.extend(frame(Opcode::Text, b"smuggled"));
    bytes
}

/// Sends `pieces`, each in a write of its own, and returns all that comes back until the FIN.
#[track_caller]
fn answer<'a>(stream: &mut TcpStream, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    for piece in pieces {
        stream.write_all(piece).expect("the server discards what it does not read");
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("a FIN follows the answer");
    answer
}

/// A server, and how many requests it was sent that it must refuse.
struct Trial {
    host: Host,
    refused: u64,
}

impl Trial {
    fn start() -> Self {
        Self { host: Host::start(|_| {}, |_| Echo::default()), refused: 0 }
    }

    /// Expects `request` to be refused with `status`, however it comes and whatever follows it.
    #[track_caller]
    fn check_refused(&mut self, request: &[u8], status: u16) {
        let smuggled = smuggled();
        let with_tail = [request, &smuggled].concat();
        let whole = self.refusal(&[request], status);
        assert_eq!(self.refusal(&[&with_tail], status), whole, "with an upgrade behind it");
        let bytes: Vec<&[u8]> = request.chunks(1).collect();
        assert_eq!(self.refusal(&bytes, status), whole, "byte by byte");
    }

    #[track_caller]
    fn refusal(&mut self, pieces: &[&[u8]], status: u16) -> String {
        let mut stream = connect(self.host.address);
        let answer = answer(&mut stream, pieces.iter().copied());
        // Too late is too late as well.
        stream.write_all(&smuggled()).expect("the server still discards");
        assert_eq!(stream.read_to_end(&mut Vec::new()).expect("the FIN stands"), 0);
        self.refused += 1;
        check_is_refusal(&answer, status)
    }

    /// Expects `request` to be answered with a 101 that says no more than it must, and an echo.
    #[track_caller]
    fn check_switched(&self, request: &[u8]) {
        let message = frame(Opcode::Text, b"Hello");
        let expect = format!("{SWITCHING}\r\n\u{81}\u{5}Hello");
        let whole = [request, &message].concat();
        for pieces in [vec![&whole[..]], vec![request, &message], whole.chunks(1).collect()] {
            let mut stream = connect(self.host.address);
            for piece in pieces {
                stream.write_all(piece).expect("the server reads");
            }
            let mut answer = vec![0; SWITCHING.len() + 2 + 7];
            stream.read_exact(&mut answer).expect("an answer and an echo");
            assert_eq!(answer.iter().copied().map(char::from).collect::<String>(), expect);
        }
    }

    /// Expects every slot to be free, and that nothing was counted but the refusals.
    #[track_caller]
    fn end(self) {
        let tally = self.host.stop();
        assert_eq!(tally.sum(|worker| worker.refused), self.refused);
        let effects = tally.sum(|worker| worker.opened + worker.messages + worker.pages);
        assert_eq!((effects, tally.sum(|worker| worker.close_timeouts)), (0, 0));
    }
}

/// Expects a refusal with `status` that repeats nothing of the request: one of the server's own.
#[track_caller]
fn check_is_refusal(answer: &[u8], status: u16) -> String {
    let text = String::from_utf8(answer.to_vec()).expect("a refusal is text");
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{status} was expected: {text}");
    let field = if status == 426 { "\r\nConnection: close, Upgrade\r\n" } else { "\r\nConnection: close\r\n" };
    assert!(text.contains(field), "{text}");
    let is_own = Refusal::ALL.iter().any(|&refusal| {
        let mut own = Vec::new();
        write_refusal(&mut own, refusal);
        own == answer
    });
    assert!(is_own, "this is not one of the server's texts: {text}");
    text
}

/// Runs the rows of one kind of refusal.
#[track_caller]
fn check_all_refused(rows: impl IntoIterator<Item = (Vec<u8>, u16)>) {
    let mut trial = Trial::start();
    for (request, status) in rows {
        trial.check_refused(&request, status);
    }
    trial.end();
}

#[test]
fn h1_a_head_that_dribbles_is_cut_at_the_deadline_while_it_still_comes() {
    let host = Host::start(|options| options.worker.handshake_timeout_ms = 300, |_| Echo::default());
    let mut stream = connect(host.address);
    // The pace of the attack; what is awaited is the cut.
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket takes this option");
    let bytes = b"GET / HTTP/1.1\r\n".iter().chain(b"a: bbbbbbbbbb\r\n".iter().cycle()).take(800);
    let was_cut = bytes.copied().any(|byte| {
        if stream.write_all(&[byte]).is_err() {
            return true;
        }
        match stream.read(&mut [0; 64]) {
            Ok(count) => {
                assert_eq!(count, 0, "a peer that is late gets no answer");
                true
            }
            Err(error) => {
                let waits = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
                !waits.contains(&error.kind())
            }
        }
    });
    assert!(was_cut, "each byte has put the deadline off");
    assert_eq!(host.stop().sum(|worker| worker.handshake_timeouts), 1);
}

#[test]
fn h1_silence_and_half_a_head_are_cut_without_an_answer() {
    let host = Host::start(|options| options.worker.handshake_timeout_ms = 300, |_| Echo::default());
    let request = request();
    let mut streams: Vec<TcpStream> = (0..40).map(|_| connect(host.address)).collect();
    for (len, stream) in streams.iter_mut().enumerate() {
        // On a busy machine the cut may come first.
        let _ = stream.write_all(&request[..len * 3]);
    }
    for stream in &mut streams {
        let mut answer = Vec::new();
        // Closing over unread bytes would be a reset, and that is a cut as well.
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert_eq!(answer, b"", "a peer that is late gets no answer");
    }
    assert_eq!(host.stop().sum(|worker| worker.handshake_timeouts), 40);
}

#[test]
fn h1_the_deadline_ends_with_the_handshake() {
    let host = Host::start(|options| options.worker.handshake_timeout_ms = 1_500, |_| Echo::default());
    let mut open = Client::open(host.address);
    let mut late = connect(host.address);
    // By the time that one is cut, the deadline of the other would have passed.
    let mut answer = Vec::new();
    assert_eq!(late.read_to_end(&mut answer).expect("a silent peer gets a FIN"), 0);
    open.check_echo("still here");
    drop(open);
    assert_eq!(host.stop().sum(|worker| worker.handshake_timeouts), 1);
}

#[test]
fn h2_an_endless_header_is_refused_before_it_ends() {
    let mut input = b"GET / HTTP/1.1\r\nHost: ".to_vec();
    input.resize(1 << 20, b'a');
    let mut trial = Trial::start();
    for piece_len in [1 << 20, 1024, 100] {
        let pieces: Vec<&[u8]> = input.chunks(piece_len).collect();
        trial.refusal(&pieces, 431);
    }
    let bytes: Vec<&[u8]> = input[..8192].chunks(1).collect();
    trial.refusal(&bytes, 431);
    trial.end();
}

#[test]
fn h3_the_number_of_headers_is_limited_and_none_may_be_missing() {
    let lines = |count: usize| [vec!["Host: a"], vec!["b: c"; count - 1]].concat();
    let without = |name| upgrade_with(name, &[]);
    check_all_refused([
        (head("GET / HTTP/1.1", &lines(65)), 431),
        (head("GET / HTTP/1.1", &lines(2000)), 431),
        (upgrade_with("", &["b: c"; 60]), 431),
        (without("Host"), 400),
        (without("Connection"), 400),
        (without("Sec-WebSocket-Key"), 400),
        (without("Sec-WebSocket-Version"), 426),
    ]);
    let trial = Trial::start();
    trial.check_switched(&upgrade_with("", &["b: c"; 59]));
    trial.host.stop();
}

#[test]
fn h4_h5_h8_bad_subprotocols_and_extensions_are_refused() {
    let long_space = format!("b{}x", " ".repeat(3900));
    let unclosed = format!("a; b=\"{}", "\\c".repeat(1900));
    let mut rows = vec![
        (upgrade_with_bytes("Sec-WebSocket-Protocol", long_space.as_bytes()), 400),
        (upgrade_with_bytes("Sec-WebSocket-Extensions", unclosed.as_bytes()), 400),
        (upgrade_with_bytes("Sec-WebSocket-Extensions", b"a; b=\"c\\"), 400),
        (upgrade_with("", &["Sec-WebSocket-Protocol: a, b, a"]), 400),
        (upgrade_with("", &["Sec-WebSocket-Protocol: ,"]), 400),
        (upgrade_with_bytes("Sec-WebSocket-Version", b"\x80"), 426),
        (upgrade_with_bytes("Upgrade", b"\x80"), 426),
    ];
    for value in [b"\x80".as_slice(), b"\xff\xfe", b"a,\xc3", "caf\u{e9}".as_bytes(), "a, \u{1f980}".as_bytes()] {
        for name in ["Sec-WebSocket-Protocol", "Host", "Origin", "Sec-WebSocket-Key", "Sec-WebSocket-Extensions"] {
            rows.push((upgrade_with_bytes(name, value), 400));
        }
    }
    check_all_refused(rows);
}

#[test]
fn h6_h21_h22_odd_extensions_are_declined() {
    let offers: Vec<String> = (0..500).map(|number| format!("x{number}; a")).collect();
    let first = format!("Sec-WebSocket-Extensions: {}", offers[..400].join(", "));
    let second = format!("Sec-WebSocket-Extensions: {}", offers[400..].join(", "));
    let trial = Trial::start();
    for value in ["constructor", "__proto__; constructor=1", ",;x", ";", "", "a;", "a; =1", "x-webkit-deflate-frame"] {
        trial.check_switched(&upgrade_with("", &[&format!("Sec-WebSocket-Extensions: {value}")]));
    }
    for bits in ["7", "16", "08", "abc", "8; server_max_window_bits=8", "\"15\""] {
        let line = format!("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}");
        trial.check_switched(&upgrade_with("", &[&line]));
    }
    trial.check_switched(&upgrade_with("", &[&first, &second]));
    trial.host.stop();
}

#[test]
fn h7_upgrades_to_something_else_are_refused() {
    let upgrades = ["", "websocket2", "h2c", ",", "web socket"].map(|value| format!("Upgrade: {value}"));
    let upgrades = upgrades.iter().map(|line| (upgrade_with("Upgrade", &[line]), 426));
    let connections = ["", "keep-alive", "upgrades", "up, grade"].map(|value| format!("Connection: {value}"));
    let connections = connections.iter().map(|line| (upgrade_with("Connection", &[line]), 400));
    check_all_refused(upgrades.chain(connections));
}

#[test]
fn h7_websocket_may_stand_in_a_list_and_in_any_case() {
    let trial = Trial::start();
    for lines in [&["Upgrade: h2c, websocket"] as &[&str], &["Upgrade: ,,\twEBSOCKET ,"], &["upgrade: h2c, WebSocket"]]
    {
        trial.check_switched(&upgrade_with("Upgrade", lines));
    }
    for lines in [&["Connection: keep-alive, Upgrade"] as &[&str], &["Connection: keep-alive", "CONNECTION: , UPGRADE"]]
    {
        trial.check_switched(&upgrade_with("Connection", lines));
    }
    trial.check_switched(&request());
    trial.host.stop();
}

#[test]
fn h9_another_version_is_told_ours_and_nothing_behind_it_is_read() {
    let mut trial = Trial::start();
    for value in ["777", "8", "0", "013", "+13", "13, 8", "", "0x0d"] {
        let line = format!("Sec-WebSocket-Version: {value}");
        let request = upgrade_with("Sec-WebSocket-Version", &[&line]);
        trial.check_refused(&request, 426);
        // As in the attack through a proxy: plain requests on a tunnel that the proxy thinks open.
        let plain = head("GET / HTTP/1.1", &["Host: a"]);
        let answer = trial.refusal(&[&request, &plain, &plain], 426);
        assert!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{answer}");
    }
    trial.check_refused(&upgrade_with("", &["Sec-WebSocket-Version: 13"]), 400);
    trial.end();
}

#[test]
fn h10_h12_bodies_are_refused() {
    let lengths = ["5", "1", "00", "+0", "-0", "+5", "-1", "0x5", "0, 0", "0,5", "", "12345678901234567890", "0 0"];
    let mut rows: Vec<_> =
        lengths.iter().map(|value| (upgrade_with("", &[&format!("Content-Length: {value}")]), 400)).collect();
    for value in ["chunked", "identity", "chunked, identity", "", "xchunked"] {
        let line = format!("Transfer-Encoding: {value}");
        rows.push((upgrade_with("", &[&line]), 400));
        rows.push((upgrade_with("", &["Content-Length: 0", &line]), 400));
    }
    rows.push((upgrade_with("", &["Content-Length: 0", "Content-Length: 0"]), 400));
    rows.push((upgrade_with("", &["Content-Length: 0", "content-length: 5"]), 400));
    let mut chunked = upgrade_with("", &["Transfer-Encoding: chunked"]);
    chunked.extend_from_slice(b"fffffffffffffffff\r\nsmuggled\r\n0\r\n\r\n");
    rows.push((chunked, 400));
    rows.push((head("GET / HTTP/1.1", &["Host: a", "Content-Length: 5"]), 413));
    rows.push((head("GET / HTTP/1.1", &["Host: a", "Content-Length: 05"]), 400));
    check_all_refused(rows);
}

#[test]
fn h11_what_follows_an_accepted_upgrade_is_frames() {
    let host = Host::start(|_| {}, |_| Echo::default());
    let input = [request(), head("GET / HTTP/1.1", &["Host: a"])].concat();
    // The letter G has a reserved bit set.
    let expect = format!("{SWITCHING}\r\n\u{88}\u{2a}\u{3}\u{ea}reserved bit set that means nothing here");
    for piece_len in [input.len(), 1] {
        let mut stream = connect(host.address);
        let answer = answer(&mut stream, input.chunks(piece_len));
        assert_eq!(answer.iter().copied().map(char::from).collect::<String>(), expect);
    }
    let tally = host.stop();
    assert_eq!((tally.sum(|worker| worker.opened), tally.sum(|worker| worker.pages)), (2, 0));
    assert_eq!(tally.sum(|worker| worker.protocol_errors), 2);
}

#[test]
fn h13_ambiguous_lines_are_refused() {
    let lines = [
        "a: b\rc: d",
        "a: \rTransfer-Encoding: chunked",
        "a: b\nc: d",
        "a: b\n\r\nGET",
        "\na: b",
        "a: b\0c",
        "a: b\x7f",
        "a\0b: c",
        "\"a\": c",
        "a: b\r\n c",
        "a: b\r\n \r\n",
        " a: b",
        "a : b",
        "Transfer-Encoding : chunked",
        ": b",
        ":",
        "a",
        "a\n",
    ];
    check_all_refused(lines.iter().map(|line| (upgrade_with("", &[line]), 400)));
}

#[test]
fn h14_targets_and_hosts_that_are_not_ours_are_refused() {
    let authority = "a".repeat(10 << 10);
    let mut rows = vec![
        (head("GET / HTTP/1.1", &[]), 400),
        (head("GET http://a/ HTTP/1.1", &[]), 400),
        (head("GET / HTTP/1.1", &["Host: a", "HOST: b"]), 400),
        (head("GET / HTTP/1.1", &[&format!("Host: {}", "a".repeat(256))]), 400),
        (head("GET / HTTP/1.1", &[&format!("Host: {authority}")]), 431),
        (head(&format!("GET http://{authority}/ HTTP/1.1"), &[]), 414),
    ];
    for target in [
        "/#",
        "/a?b#c",
        "http://example.com/#a",
        "http://other.example.com/",
        "http://example.com:80/",
        "http://user@example.com/",
        "http:///chat",
        "ws://example.com/",
        "example.com",
        "*",
        "?a",
        "",
        "/a\tb",
        "/a\0",
        "/caf\u{e9}",
    ] {
        rows.push((head(&format!("GET {target} HTTP/1.1"), &["Host: example.com"]), 400));
    }
    for host in ["", "a b", "a/b", "user@a", "a:port", "a:65536", "[::1", "a\\b", "<script>"] {
        rows.push((head("GET / HTTP/1.1", &[&format!("Host: {host}")]), 400));
    }
    check_all_refused(rows);
}

#[test]
fn h15_h16_h20_what_is_no_get_of_http_1_1_is_refused() {
    let mut rows = vec![
        (head(&format!("GET /{} HTTP/1.1", "a".repeat(4096)), &["Host: a"]), 414),
        (head(&format!("{} / HTTP/1.1", "A".repeat(1024)), &["Host: a"]), 400),
        ([0; 4096].to_vec(), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01".to_vec(), 400),
        (b"\x9d\x1c\xe5G\x80\xff\n\r\n\r\n".to_vec(), 400),
        (b"\r\nGET / HTTP/1.1\r\n\r\n".to_vec(), 400),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1 \r\n".to_vec(), 400),
        (b"GET  / HTTP/1.1\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\n".to_vec(), 400),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(), 400),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(), 400),
    ];
    for line in ["GET /", "GET / HTTP/1.0", "GET / HTTP/2.0", "POST / HTTP/1.0", "PRI * HTTP/2.0\r\n\r\nSM"] {
        rows.push((head(line, &[]), 505));
    }
    for method in ["POST", "HEAD", "OPTIONS", "CONNECT", "get", "BREW"] {
        rows.push((head(&format!("{method} / HTTP/1.1"), &["Host: a"]), 405));
    }
    check_all_refused(rows);
}

#[test]
fn h17_bad_keys_are_refused() {
    let keys = [
        "",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZWU=",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZR==",
        "!!!!!!!!!!!!!!!!!!!!!!==",
    ];
    let rows = keys.map(|key| (upgrade_with("Sec-WebSocket-Key", &[&format!("Sec-WebSocket-Key: {key}")]), 400));
    let twice = upgrade_with("", &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]);
    check_all_refused(rows.into_iter().chain([(twice, 400)]));
}

/// Refuses some paths and knows two subprotocols.
#[derive(Default)]
struct Gate {
    /// Whose upgrade was the last, and whether it was accepted.
    last: Option<(ConnectionId, bool)>,
}

impl Handler for Gate {
    fn on_upgrade(
        &mut self,
        connection: ConnectionId,
        request: &Request<'_>,
        upgrade: &Upgrade<'_>,
    ) -> Result<Accept, Refusal> {
        let answer = match request.path() {
            "/forbidden" => Err(Refusal::Forbidden),
            "/full" => Err(Refusal::ServiceUnavailable),
            _ => Ok(Accept { subprotocol: upgrade.choose_subprotocol(&["chat", "v12.stomp"]), ..Accept::default() }),
        };
        self.last = Some((connection, answer.is_ok()));
        answer
    }

    fn on_open(&mut self, connection: ConnectionId, _: &mut Effects<'_>) {
        assert_eq!(self.last, Some((connection, true)), "who opens was just accepted");
    }

    fn on_get(&mut self, request: &Request<'_>) -> Result<Page, Refusal> {
        assert!(!request.path().contains("upgrade"), "what follows a refused upgrade is not a request");
        Err(Refusal::Forbidden)
    }

    fn on_message(&mut self, _: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        effects.echo(message);
    }
}

#[test]
fn h19_h22_the_subprotocol_is_the_servers_own_word() {
    let trial = Trial { host: Host::start(|_| {}, |_| Gate::default()), refused: 0 };
    let many: Vec<String> = (0..1000).map(|number| format!("p{number}")).collect();
    let first = format!("Sec-WebSocket-Protocol: {}", many[..500].join(","));
    let second = format!("Sec-WebSocket-Protocol: {},chat", many[500..].join(","));
    for (lines, expect) in [
        (&["Sec-WebSocket-Protocol: evil, v12.stomp, chat"] as &[&str], "Sec-WebSocket-Protocol: v12.stomp\r\n"),
        (&[&first, &second], "Sec-WebSocket-Protocol: chat\r\n"),
        (&["Sec-WebSocket-Protocol: evil"], ""),
        (&["Sec-WebSocket-Protocol: Chat"], ""),
    ] {
        let mut stream = connect(trial.host.address);
        stream.write_all(&upgrade_with("", lines)).expect("the server reads");
        stream.shutdown(Shutdown::Write).expect("the connection is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer and a FIN");
        assert_eq!(answer, format!("{SWITCHING}{expect}\r\n"));
    }
    trial.host.stop();
    check_all_refused([
        (upgrade_with("", &["Sec-WebSocket-Protocol: chat\rX: y"]), 400),
        (upgrade_with("", &["Sec-WebSocket-Protocol: chat%0d%0aX: y"]), 400),
        (head("GET /\rX: HTTP/1.1", &["Host: a"]), 505),
    ]);
}

#[test]
fn h23_an_upgrade_that_the_handler_refuses_ends_there() {
    let mut trial = Trial { host: Host::start(|_| {}, |_| Gate::default()), refused: 0 };
    for (path, status) in [("/forbidden", 403), ("/full", 503)] {
        let request = head(&format!("GET {path} HTTP/1.1"), &UPGRADE_LINES);
        trial.check_refused(&request, status);
        let plain = head("GET /upgrade-refused HTTP/1.1", &["Host: a"]);
        trial.refusal(&[&[request, plain].concat()], status);
    }
    trial.check_refused(&head("GET / HTTP/1.1", &["Host: a"]), 403);
    trial.end();
    check_all_refused([(head("GET /elsewhere HTTP/1.1", &UPGRADE_LINES), 404)]);
}

/// Connects, sends `bytes` and is gone: with a reset or with a FIN.
fn vanish(address: SocketAddr, bytes: &[u8], by_reset: bool) {
    let mut stream = connect(address);
    stream.write_all(bytes).expect("the server reads");
    if by_reset {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket takes this option");
    }
}

#[test]
fn h24_a_peer_that_vanishes_at_any_offset_leaves_its_slot_free() {
    // With a table of two, a slot that is lost is soon missed.
    let adjust = |options: &mut Options| {
        options.workers = Some(1);
        options.connections_max = Some(2);
        // The kernel may keep a reset to itself, see `Driver::receive`: the deadline finds it then.
        options.worker.handshake_timeout_ms = 2_000;
    };
    let host = Host::start(adjust, |_| Echo::default());
    let input = [request(), frame(Opcode::Text, b"Hello")].concat();
    for len in 0..=input.len() {
        vanish(host.address, &input[..len], false);
        vanish(host.address, &input[..len], true);
    }
    let refused = upgrade_with("Sec-WebSocket-Version", &["Sec-WebSocket-Version: 8"]);
    for by_reset in [false, true] {
        vanish(host.address, &refused, by_reset);
        vanish(host.address, &head("GET / HTTP/1.1", &["Host: a"]), by_reset);
    }
    Client::open(host.address).check_echo("there is room");
    // Peers that broke the connection before it was accepted may not have been seen at all.
    let callers = u64::try_from(2 * (input.len() + 1) + 4 + 1).expect("a small number");
    let tally = host.stop();
    let accepted = tally.sum(|worker| worker.accepted);
    assert!(accepted <= callers && accepted > callers / 2, "{accepted} of {callers}");
    assert_eq!(tally.sum(|worker| worker.closed), accepted);
}

#[test]
fn a_plain_get_shows_the_page() {
    let host = Host::start(|_| {}, |_| Echo::default());
    let request = head("GET / HTTP/1.1", &["Host: localhost:9001", "User-Agent: curl/8.5.0", "Accept: */*"]);
    let page = include_str!("../src/handler/page.html");
    let expect = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\r\n{page}",
        page.len()
    );
    for piece_len in [request.len(), 1] {
        let answer = answer(&mut connect(host.address), request.chunks(piece_len));
        assert_eq!(String::from_utf8(answer).expect("a page is text"), expect);
    }
    // Half-closed after the request, as some health checks are, and twice in one write: one page.
    let mut stream = connect(host.address);
    stream.write_all(&[&request[..], &request].concat()).expect("the server reads");
    stream.shutdown(Shutdown::Write).expect("the connection is open");
    let answer = answer(&mut stream, []);
    assert_eq!(String::from_utf8(answer).expect("a page is text"), expect);
    let tally = host.stop();
    assert_eq!((tally.sum(|worker| worker.pages), tally.sum(|worker| worker.opened)), (3, 0));
}

#[test]
fn other_plain_gets_are_told_what_is_there() {
    check_all_refused([
        (head("GET /ws HTTP/1.1", &["Host: a"]), 426),
        (head("GET /echo?a=b HTTP/1.1", &["Host: a"]), 426),
        (head("GET /favicon.ico HTTP/1.1", &["Host: a"]), 404),
        (head("GET /ws/ HTTP/1.1", &["Host: a"]), 404),
        (head("GET /../ws HTTP/1.1", &["Host: a"]), 404),
    ]);
}
