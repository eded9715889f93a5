//! What attackers and broken clients send, by the rows of the list of hostile inputs.

use crate::proto::http::HeadLimits;
use crate::proto::http::HeadScanner;
use crate::proto::http::Refusal;
use crate::proto::http::Request;
use crate::proto::http::octet::work;
use crate::proto::http::tests::LIMITS;
use crate::proto::http::tests::answer;
use crate::proto::http::tests::check_refused;
use crate::proto::http::tests::check_switched;
use crate::proto::http::tests::head;
use crate::proto::http::tests::head_of_len;
use crate::proto::http::tests::upgrade_with;

/// The most bytes that parsing may pass over in `head`, as a multiple of its length: the scanner
/// once, `httparse` once, and each list of tokens once more when it is checked.
const READINGS_MAX: usize = 3;

/// Runs a whole handshake and returns how many bytes it passed over.
fn work_of(input: &[u8]) -> usize {
    work::take();
    if let Ok(Some(head_len)) = HeadScanner::new().scan(input, &LIMITS) {
        // `httparse` does not count, and reads every byte once.
        work::counted(head_len);
        let _ = Request::parse(&input[..head_len], &LIMITS).and_then(|request| request.upgrade().map(|_| ()));
    }
    work::take()
}

#[test]
fn h1_an_unfinished_head_is_neither_accepted_nor_refused() {
    let head = upgrade_with("", &[]);
    for len in 0..head.len() {
        assert_eq!(answer(&head[..len]), Err(Refusal::HandshakeTimeout), "{len} bytes");
    }
}

#[test]
fn h2_an_endless_header_value_is_refused_at_the_limit_of_its_line() {
    let mut input = b"GET / HTTP/1.1\r\nHost: ".to_vec();
    input.resize(16 * 1024 * 1024, b'a');
    for piece_len in [1, 7, 1024, input.len()] {
        work::take();
        let mut scanner = HeadScanner::new();
        let mut sent = 0;
        let refusal = input.chunks(piece_len).find_map(|piece| {
            sent += piece.len();
            scanner.scan(piece, &LIMITS).err()
        });
        assert_eq!(refusal, Some(Refusal::HeaderLineTooLong));
        assert!(sent < 16 + 4096 + 1 + piece_len, "{sent} bytes in pieces of {piece_len}");
        assert_eq!(work::take(), 16 + 4096, "pieces of {piece_len}");
    }
}

#[test]
fn h2_every_byte_is_examined_twice_whatever_the_pieces() {
    let head = head_of_len(8192);
    for piece_len in [1, 2, 3, 16, 1000, 8192] {
        work::take();
        let mut scanner = HeadScanner::new();
        let ends = head.chunks(piece_len).filter(|piece| scanner.scan(piece, &LIMITS).unwrap().is_some()).count();
        assert_eq!(ends, 1);
        let scanned = work::take();
        let parsed = head.len(); // `httparse`, once
        Request::parse(&head, &LIMITS).unwrap();
        // The target, for its octets that `httparse` does not mind, is the one byte `/`.
        assert_eq!(scanned + parsed + work::take(), 2 * 8192 + 1, "pieces of {piece_len}");
    }
}

#[test]
fn h3_two_thousand_headers_are_refused_at_the_sixty_fifth() {
    let names: Vec<String> = (0..2000).map(|number| format!("a{number}: b")).collect();
    let lines: Vec<&str> = names.iter().map(String::as_str).collect();
    check_refused(&head("GET / HTTP/1.1", &lines[..100]), "431", Refusal::TooManyHeaders);
    let input = head("GET / HTTP/1.1", &lines);
    let before_sixty_fifth = head("GET / HTTP/1.1", &lines[..64]).len() - 2;
    work::take();
    assert_eq!(HeadScanner::new().scan(&input, &LIMITS), Err(Refusal::TooManyHeaders));
    assert_eq!(work::take(), before_sixty_fifth);
}

#[test]
fn h3_missing_headers_are_refused_without_a_panic() {
    check_refused(&upgrade_with("Host", &[]), "400", Refusal::MissingHost);
    check_refused(&upgrade_with("Connection", &[]), "400", Refusal::MissingConnectionUpgrade);
    check_refused(&upgrade_with("Sec-WebSocket-Key", &[]), "400", Refusal::MissingKey);
    check_refused(&upgrade_with("Sec-WebSocket-Version", &[]), "426", Refusal::MissingWebSocketVersion);
}

#[test]
fn h4_spaces_in_a_subprotocol_are_refused_in_linear_time() {
    for spaces in [1, 100, 3900] {
        let line = format!("Sec-WebSocket-Protocol: b{}x", " ".repeat(spaces));
        let input = upgrade_with("", &[&line]);
        check_refused(&input, "400", Refusal::InvalidSubprotocol);
        assert!(work_of(&input) <= READINGS_MAX * input.len());
    }
}

#[test]
fn h5_an_unclosed_quote_is_refused_in_linear_time() {
    for escapes in [1, 100, 2000] {
        for tail in ["", "\\", " ", ","] {
            let line = format!("Sec-WebSocket-Extensions: a; b=\"{}{tail}", "\\c".repeat(escapes));
            let input = upgrade_with("", &[&line]);
            check_refused(&input, "400", Refusal::InvalidExtensions);
            assert!(work_of(&input) <= READINGS_MAX * input.len());
        }
    }
}

#[test]
fn h6_odd_extension_names_are_ignored() {
    for value in [
        "constructor",
        "__proto__; constructor=1",
        ",;x",
        ";",
        "",
        ",",
        "a;",
        "a; =1",
        "a;;b",
        "x-webkit-deflate-frame",
    ] {
        check_switched(&upgrade_with("", &[&format!("Sec-WebSocket-Extensions: {value}")]), "");
    }
}

#[test]
fn h7_upgrades_to_something_else_are_told_to_upgrade_to_websocket() {
    for value in ["Upgrade:", "Upgrade: ", "Upgrade: websocket2", "Upgrade: h2c", "Upgrade: ,", "Upgrade: web socket"] {
        check_refused(&upgrade_with("Upgrade", &[value]), "426", Refusal::UnsupportedUpgrade);
    }
}

#[test]
fn h7_no_upgrade_header_is_a_plain_request() {
    let answer = answer(&upgrade_with("Upgrade", &[])).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\npage"), "{answer}");
}

#[test]
fn h7_websocket_may_stand_in_a_list_and_in_any_case() {
    for lines in [
        &["Upgrade: h2c, websocket"] as &[&str],
        &["Upgrade: WebSocket"],
        &["Upgrade: ,,\twEBSOCKET ,"],
        &["Upgrade: h2c", "upgrade: websocket"],
    ] {
        check_switched(&upgrade_with("Upgrade", lines), "");
    }
    for lines in [
        &["Connection: keep-alive, Upgrade"] as &[&str],
        &["Connection: UPGRADE,keep-alive"],
        &["Connection: keep-alive", "CONNECTION: , upgrade"],
    ] {
        check_switched(&upgrade_with("Connection", lines), "");
    }
}

#[test]
fn h7_a_connection_header_without_upgrade_is_refused() {
    for value in ["Connection:", "Connection: keep-alive", "Connection: upgrades", "Connection: up, grade"] {
        check_refused(&upgrade_with("Connection", &[value]), "400", Refusal::MissingConnectionUpgrade);
    }
}

#[test]
fn h8_bytes_above_ascii_in_a_subprotocol_are_refused_without_a_panic() {
    for value in [b"\x80".as_slice(), b"\xff\xfe", "caf\u{e9}".as_bytes(), "a, \u{1f980}".as_bytes(), b"a,\xc3"] {
        let mut input = upgrade_with("", &[]);
        input.truncate(input.len() - 2);
        input.extend_from_slice(b"Sec-WebSocket-Protocol: ");
        input.extend_from_slice(value);
        input.extend_from_slice(b"\r\n\r\n");
        check_refused(&input, "400", Refusal::InvalidSubprotocol);
    }
}

#[test]
fn h8_bytes_above_ascii_are_refused_wherever_text_is_needed() {
    for (name, refusal) in [
        ("Host", Refusal::InvalidHost),
        ("Origin", Refusal::InvalidOrigin),
        ("Upgrade", Refusal::UnsupportedUpgrade),
        ("Sec-WebSocket-Key", Refusal::InvalidKey),
        ("Sec-WebSocket-Version", Refusal::UnsupportedWebSocketVersion),
        ("Sec-WebSocket-Extensions", Refusal::InvalidExtensions),
    ] {
        for value in [b"\x80".as_slice(), b"a\xff", "caf\u{e9}".as_bytes()] {
            let mut input = upgrade_with(name, &[]);
            input.truncate(input.len() - 2);
            input.extend_from_slice(format!("{name}: ").as_bytes());
            input.extend_from_slice(value);
            input.extend_from_slice(b"\r\n\r\n");
            assert_eq!(answer(&input), Err(refusal));
        }
    }
}

#[test]
fn h9_another_version_is_told_ours_and_what_follows_is_not_read() {
    let mut input = upgrade_with("Sec-WebSocket-Version", &["Sec-WebSocket-Version: 777"]);
    check_refused(&input, "426", Refusal::UnsupportedWebSocketVersion);
    input.extend_from_slice(b"GET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n");
    check_refused(&input, "426", Refusal::UnsupportedWebSocketVersion);
    for value in ["8", "0", "013", "+13", "13, 8", "1 3", "", "130", "0x0d"] {
        let line = format!("Sec-WebSocket-Version: {value}");
        check_refused(&upgrade_with("Sec-WebSocket-Version", &[&line]), "426", Refusal::UnsupportedWebSocketVersion);
    }
    let twice = upgrade_with("", &["Sec-WebSocket-Version: 13"]);
    check_refused(&twice, "400", Refusal::DuplicateWebSocketVersion);
}

#[test]
fn h10_an_upgrade_with_a_body_is_refused() {
    check_refused(&upgrade_with("", &["Content-Length: 5"]), "400", Refusal::ContentLength);
    check_refused(&upgrade_with("", &["Transfer-Encoding: chunked"]), "400", Refusal::TransferEncoding);
    check_switched(&upgrade_with("", &["Content-Length: 0"]), "");
}

#[test]
fn h11_bytes_after_the_head_are_left_alone() {
    let request = upgrade_with("", &[]);
    for tail in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"\x81\x80\0\0\0\0", b"\0", b"\n", &[0xff; 9000]] {
        let mut input = request.clone();
        input.extend_from_slice(tail);
        assert_eq!(HeadScanner::new().scan(&input, &LIMITS), Ok(Some(request.len())));
        work::take();
        assert!(Request::parse(&input, &LIMITS).unwrap().upgrade().unwrap().is_some());
    }
}

#[test]
fn h12_every_other_way_to_announce_a_body_is_refused() {
    for value in ["1", "00", "+0", "-0", "+5", "-1", "0x5", "0, 0", "0,5", "", "12345678901234567890", "0 0", "\u{660}"]
    {
        let line = format!("Content-Length: {value}");
        check_refused(&upgrade_with("", &[&line]), "400", Refusal::ContentLength);
    }
    check_refused(&upgrade_with("", &["Content-Length: 0", "Content-Length: 0"]), "400", Refusal::ContentLength);
    check_refused(&upgrade_with("", &["Content-Length: 0", "content-length: 5"]), "400", Refusal::ContentLength);
    for value in ["identity", "chunked, identity", "", "xchunked", "chunked;a=b"] {
        let line = format!("Transfer-Encoding: {value}");
        check_refused(&upgrade_with("", &[&line]), "400", Refusal::TransferEncoding);
        check_refused(&upgrade_with("", &["Content-Length: 0", &line]), "400", Refusal::TransferEncoding);
    }
}

#[test]
fn h13_ambiguous_lines_are_refused() {
    for (line, refusal) in [
        ("a: b\rc: d", Refusal::BareCarriageReturn),
        ("a: b\r\rc: d", Refusal::BareCarriageReturn),
        ("a: \rTransfer-Encoding: chunked", Refusal::BareCarriageReturn),
        ("a: b\nc: d", Refusal::BareLineFeed),
        ("a: b\n\r\nGET", Refusal::BareLineFeed),
        ("\na: b", Refusal::BareLineFeed),
        ("a: b\0c", Refusal::InvalidHeaderValue),
        ("a: \0", Refusal::InvalidHeaderValue),
        ("a: b\x7f", Refusal::InvalidHeaderValue),
        ("a: b\x1bc", Refusal::InvalidHeaderValue),
        ("a\0b: c", Refusal::InvalidHeaderName),
        ("a(b): c", Refusal::InvalidHeaderName),
        ("\"a\": c", Refusal::InvalidHeaderName),
        ("a: b\r\n c", Refusal::FoldedHeader),
        ("a: b\r\n\tc: d", Refusal::FoldedHeader),
        ("a: b\r\n \r\n", Refusal::FoldedHeader),
        (" a: b", Refusal::FoldedHeader),
        ("a : b", Refusal::SpaceBeforeColon),
        ("a\t: b", Refusal::SpaceBeforeColon),
        ("Transfer-Encoding : chunked", Refusal::SpaceBeforeColon),
        (": b", Refusal::EmptyHeaderName),
        (":", Refusal::EmptyHeaderName),
        ("a", Refusal::MissingColon),
        ("a\n", Refusal::MissingColon),
    ] {
        check_refused(&upgrade_with("", &[line]), "400", refusal);
        check_refused(&head("GET / HTTP/1.1", &[line, "Host: a"]), "400", refusal);
    }
}

#[test]
fn h13_header_values_may_have_tabs_and_bytes_above_ascii() {
    for line in ["a:", "a: ", "a:b", "a:\t b\tc \t", "a: caf\u{e9}", "a: b: c", "a: \"\\\""] {
        check_switched(&upgrade_with("", &[line]), "");
    }
}

#[test]
fn h14_targets_that_are_no_path_of_this_host_are_refused() {
    for (target, refusal) in [
        ("/#", Refusal::FragmentInTarget),
        ("/a?b#c", Refusal::FragmentInTarget),
        ("#", Refusal::FragmentInTarget),
        ("http://example.com/#a", Refusal::FragmentInTarget),
        ("http://other.example.com/", Refusal::TargetHostMismatch),
        ("http://example.com:80/", Refusal::TargetHostMismatch),
        ("http://user@example.com/", Refusal::TargetHostMismatch),
        ("http:///chat", Refusal::TargetHostMismatch),
        ("http://", Refusal::TargetHostMismatch),
        ("ftp://example.com/", Refusal::InvalidTarget),
        ("ws://example.com/", Refusal::InvalidTarget),
        ("http:/example.com", Refusal::InvalidTarget),
        ("example.com", Refusal::InvalidTarget),
        ("example.com:80", Refusal::InvalidTarget),
        ("*", Refusal::InvalidTarget),
        ("?a", Refusal::InvalidTarget),
        ("", Refusal::InvalidTarget),
        ("/a\tb", Refusal::InvalidTarget),
        ("/a\0", Refusal::InvalidTarget),
        ("/caf\u{e9}", Refusal::InvalidTarget),
    ] {
        check_refused(&head(&format!("GET {target} HTTP/1.1"), &["Host: example.com"]), "400", refusal);
    }
}

#[test]
fn h14_a_request_has_one_valid_host() {
    check_refused(&head("GET / HTTP/1.1", &[]), "400", Refusal::MissingHost);
    check_refused(&head("GET http://a/ HTTP/1.1", &[]), "400", Refusal::MissingHost);
    check_refused(&head("GET / HTTP/1.1", &["Host: a", "Host: a"]), "400", Refusal::DuplicateHost);
    check_refused(&head("GET / HTTP/1.1", &["Host: a", "HOST: b"]), "400", Refusal::DuplicateHost);
    for value in ["", "a b", "a/b", "user@a", "a:port", "a:65536", "[::1", "a\\b", "<script>"] {
        check_refused(&head("GET / HTTP/1.1", &[&format!("Host: {value}")]), "400", Refusal::InvalidHost);
    }
}

#[test]
fn h14_a_huge_authority_is_refused() {
    let host = format!("Host: {}", "a".repeat(256));
    check_refused(&head("GET / HTTP/1.1", &[&host]), "400", Refusal::InvalidHost);
    let authority = "a".repeat(10 * 1024);
    check_refused(&head(&format!("GET http://{authority}/ HTTP/1.1"), &[]), "414", Refusal::RequestLineTooLong);
    check_refused(&head("GET / HTTP/1.1", &[&format!("Host: {authority}")]), "431", Refusal::HeaderLineTooLong);
}

#[test]
fn h15_long_request_lines_and_methods_are_refused() {
    let target = "/".repeat(4096 - "GET  HTTP/1.1".len());
    assert!(answer(&head(&format!("GET {target} HTTP/1.1"), &["Host: a"])).is_ok());
    check_refused(&head(&format!("GET /{target} HTTP/1.1"), &["Host: a"]), "414", Refusal::RequestLineTooLong);
    check_refused(
        &head(&format!("GET {} HTTP/1.1", "/".repeat(65536)), &[])[..5000],
        "414",
        Refusal::RequestLineTooLong,
    );
    check_refused(&head(&format!("{} / HTTP/1.1", "A".repeat(32)), &["Host: a"]), "405", Refusal::MethodNotAllowed);
    check_refused(&head(&format!("{} / HTTP/1.1", "A".repeat(33)), &["Host: a"]), "400", Refusal::MethodTooLong);
    check_refused(&head(&format!("{} / HTTP/1.1", "A".repeat(1024)), &["Host: a"]), "400", Refusal::MethodTooLong);
}

#[test]
fn h16_what_is_not_http_is_refused_at_its_first_byte() {
    for input in [
        [0u8; 4096].as_slice(),              // /dev/zero
        b"\x16\x03\x01\x02\x00\x01\x00\x01", // a TLS ClientHello
        b"\x9d\x1c\xe5G",                    // /dev/urandom
        b"\r\nGET / HTTP/1.1\r\n\r\n",
        b"\nGET / HTTP/1.1\r\n\r\n",
        b" GET / HTTP/1.1\r\n\r\n",
        b"\xef\xbb\xbfGET / HTTP/1.1\r\n\r\n",
    ] {
        check_refused(input, "400", Refusal::InvalidMethod);
        assert_eq!(HeadScanner::new().scan(&input[..1], &LIMITS), Err(Refusal::InvalidMethod));
    }
    check_refused(b"SSH-2.0-OpenSSH_9.2\r\n", "400", Refusal::InvalidMethod);
    check_refused(b"GET\r\n", "400", Refusal::InvalidMethod);
    check_refused(b"GET\t/ HTTP/1.1\r\n", "400", Refusal::InvalidMethod);
}

#[test]
fn h16_other_versions_are_refused_before_their_headers() {
    for input in [
        b"GET /\r\n".as_slice(), // HTTP/0.9, which sends no more
        b"GET / HTTP/1.0\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/3\r\n\r\n",
        b"POST / HTTP/1.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        check_refused(input, "505", Refusal::UnsupportedHttpVersion);
    }
    for input in [
        b"GET / HTTP/1.1 \r\n".as_slice(),
        b"GET / HTTP/1.11\r\n",
        b"GET / \r\n",
        b"GET /a b HTTP/1.1\r\n",
        b"GET / http/1.1\r\n",
        b"GET / HTTP/x.1\r\n",
        b"GET / HTTP/1,1\r\n",
    ] {
        check_refused(input, "400", Refusal::InvalidRequestLine);
    }
    check_refused(b"GET  / HTTP/1.1\r\n", "400", Refusal::InvalidTarget);
    check_refused(b"GET / HTTP/1.1\n", "400", Refusal::BareLineFeed);
    check_refused(b"GET /\n", "400", Refusal::BareLineFeed);
}

#[test]
fn h16_other_methods_are_told_to_use_get() {
    for method in ["POST", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PATCH", "get", "GETS", "BREW"] {
        check_refused(&head(&format!("{method} / HTTP/1.1"), &["Host: a"]), "405", Refusal::MethodNotAllowed);
    }
    check_refused(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "405", Refusal::MethodNotAllowed);
    check_refused(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "405", Refusal::MethodNotAllowed);
}

#[test]
fn h17_a_bad_key_is_refused() {
    for value in [
        "",
        "dGhlIHNhbXBsZSBub25j",     // 15 bytes
        "dGhlIHNhbXBsZSBub25jZWU=", // 17 bytes
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZR==",
        "!!!!!!!!!!!!!!!!!!!!!!==",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        let line = format!("Sec-WebSocket-Key: {value}");
        check_refused(&upgrade_with("Sec-WebSocket-Key", &[&line]), "400", Refusal::InvalidKey);
    }
    let twice = upgrade_with("", &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]);
    check_refused(&twice, "400", Refusal::DuplicateKey);
}

#[test]
fn h19_the_chosen_subprotocol_is_the_servers_own_string() {
    let input = upgrade_with("", &["Sec-WebSocket-Protocol: evil, chat, v12.stomp"]);
    check_switched(&input, "Sec-WebSocket-Protocol: chat\r\n");
    let request = Request::parse(&input, &LIMITS).unwrap();
    let supported = ["v12.stomp", "chat"];
    let chosen = request.upgrade().unwrap().unwrap().choose_subprotocol(&supported).unwrap();
    assert_eq!(chosen.as_ptr(), supported[1].as_ptr());
}

#[test]
fn h19_line_ends_cannot_be_smuggled_into_a_subprotocol_or_a_path() {
    check_refused(&upgrade_with("", &["Sec-WebSocket-Protocol: chat\rX: y"]), "400", Refusal::BareCarriageReturn);
    check_refused(&upgrade_with("", &["Sec-WebSocket-Protocol: chat%0d%0aX: y"]), "400", Refusal::InvalidSubprotocol);
    check_refused(&head("GET /\rX: HTTP/1.1", &["Host: a"]), "505", Refusal::UnsupportedHttpVersion);
}

#[test]
fn h21_any_window_bits_are_handed_on_to_be_declined() {
    let line = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7; server_max_window_bits=16; \
                server_max_window_bits=08; server_max_window_bits=abc; server_max_window_bits";
    let input = upgrade_with("", &[line]);
    check_switched(&input, "");
    let request = Request::parse(&input, &LIMITS).unwrap();
    let upgrade = request.upgrade().unwrap().unwrap();
    let offer = upgrade.extensions().next().unwrap();
    let values: Vec<_> = offer.params().map(|(_, value)| value.map_or("none".to_owned(), String::from)).collect();
    assert_eq!(values, ["7", "16", "08", "abc", "none"]);
}

#[test]
fn h22_of_five_hundred_offers_sixteen_are_examined() {
    let offers: Vec<String> = (0..500).map(|number| format!("x{number}; a")).collect();
    let line = format!("Sec-WebSocket-Extensions: {}", offers[..400].join(", "));
    let more = format!("Sec-WebSocket-Extensions: {}", offers[400..].join(", "));
    let input = upgrade_with("", &[&line, &more]);
    assert!(work_of(&input) <= READINGS_MAX * input.len());
    let request = Request::parse(&input, &LIMITS).unwrap();
    let upgrade = request.upgrade().unwrap().unwrap();
    let names: Vec<&str> = upgrade.extensions().map(|extension| extension.name()).collect();
    assert_eq!(names.len(), 16);
    assert_eq!((names[0], names[15]), ("x0", "x15"));
}

#[test]
fn h22_the_first_supported_of_a_thousand_subprotocols_wins() {
    let names: Vec<String> = (0..1000).map(|number| format!("p{number}")).collect();
    let first = format!("Sec-WebSocket-Protocol: {}", names[..500].join(","));
    let second = format!("Sec-WebSocket-Protocol: {}", names[500..].join(","));
    let input = upgrade_with("", &[&first, &second]);
    assert!(work_of(&input) <= READINGS_MAX * input.len());
    let request = Request::parse(&input, &LIMITS).unwrap();
    let upgrade = request.upgrade().unwrap().unwrap();
    assert_eq!(upgrade.subprotocols().count(), 1000);
    assert_eq!(upgrade.choose_subprotocol(&["p999", "p512"]), Some("p512"));
    let again = upgrade_with("", &[&first, &second, "Sec-WebSocket-Protocol: p7"]);
    assert_eq!(answer(&again), Err(Refusal::DuplicateSubprotocol));
}

#[test]
fn limits_of_zero_refuse_everything() {
    let limits = HeadLimits { head_bytes_max: 0, header_count_max: 0, line_bytes_max: 0, method_bytes_max: 0 };
    let input = upgrade_with("", &[]);
    assert_eq!(HeadScanner::new().scan(&input, &limits), Err(Refusal::HeadTooLarge));
    assert_eq!(Request::parse(&input, &limits).map(|_| ()), Err(Refusal::HeadTooLarge));
    let limits = HeadLimits { head_bytes_max: 8192, ..limits };
    assert_eq!(HeadScanner::new().scan(&input, &limits), Err(Refusal::RequestLineTooLong));
    assert_eq!(Request::parse(&input, &limits).map(|_| ()), Err(Refusal::RequestLineTooLong));
}
