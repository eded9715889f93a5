//! Properties that hold for any input. A failure prints the input and its seed.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::sample::select;

use crate::proto::http::Accepted;
use crate::proto::http::ClientRequest;
use crate::proto::http::HeadLimits;
use crate::proto::http::HeadScanner;
use crate::proto::http::Refusal;
use crate::proto::http::Request;
use crate::proto::http::octet::work;
use crate::proto::http::tests::LIMITS;
use crate::proto::http::tests::scan;
use crate::proto::http::tests::upgrade_with;
use crate::proto::http::write_switching_protocols;
use crate::proto::http::write_upgrade_request;

/// Limits that short inputs reach.
const TIGHT: HeadLimits =
    HeadLimits { head_bytes_max: 160, header_count_max: 4, line_bytes_max: 48, method_bytes_max: 5 };

/// Cuts `input` into pieces of these lengths, again and again.
fn pieces<'a>(mut input: &'a [u8], lens: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    lens.iter().cycle().map_while(move |&len| {
        let piece = input.split_off(..len.min(input.len())).filter(|piece| !piece.is_empty())?;
        Some(piece)
    })
}

/// Everything that can be asked of a request, for the panics that must not be.
fn visit(input: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
    let request = Request::parse(input, limits)?;
    assert!(request.path().starts_with('/'));
    assert!(!format!("{request:?}").is_empty());
    if let Some(upgrade) = request.upgrade()? {
        assert_eq!(upgrade.accept_key().len(), 28);
        assert!(upgrade.subprotocols().all(|name| !name.is_empty()));
        assert!(upgrade.extensions().count() <= 16);
        for extension in upgrade.extensions() {
            assert!(!extension.name().is_empty());
            assert!(extension.params().all(|(name, value)| !name.is_empty() && value != Some("".into())));
        }
    }
    Ok(())
}

/// Checks every relation between the scanner, its cuts and the parser.
fn check(input: &[u8], lens: &[usize], limits: &HeadLimits) {
    work::take();
    let outcome = scan(HeadScanner::new(), [input], limits);
    let passed = work::take();
    assert!(passed <= input.len());
    assert_eq!(scan(HeadScanner::new(), pieces(input, lens), limits), outcome);
    assert_eq!(work::take(), passed);
    let parsed = visit(input, limits);
    match outcome {
        Err(refusal) => assert_eq!(parsed, Err(refusal)),
        Ok(None) => assert_eq!(parsed, Err(Refusal::TruncatedHead)),
        Ok(Some(head_len)) => {
            assert!(!matches!(parsed, Err(Refusal::TruncatedHead | Refusal::MalformedHead)), "{parsed:?}");
            assert_eq!(visit(&input[..head_len], limits), parsed);
        }
    }
}

/// Pieces of heads, good and bad, in any order.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "GET ",
        "GET / HTTP/1.1\r\n",
        "POST ",
        "/",
        "/a?b",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        "\r\n",
        "\r\n\r\n",
        "\r",
        "\n",
        ":",
        ": ",
        " ",
        "\t",
        "\0",
        ",",
        ";",
        "=",
        "\"",
        "\\",
        "#",
        "Host: a\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Protocol: ",
        "Sec-WebSocket-Extensions: ",
        "permessage-deflate",
        "Origin: ",
        "Content-Length: 0\r\n",
        "http://a/",
        "x",
    ]);
    let piece = prop_oneof![6 => known.prop_map(|text| text.as_bytes().to_vec()), 1 => vec(any::<u8>(), 0..4)];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A good upgrade with fragments written over it.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let lines = [
        "Sec-WebSocket-Protocol: chat, v12.stomp",
        "Sec-WebSocket-Extensions: a; b=\"c\\d\", e; f=g",
        "Origin: http://a",
    ];
    let damage = (any::<Index>(), 0..3usize, prop_oneof![vec(any::<u8>(), 0..3), fragments()]);
    vec(damage, 0..4).prop_map(move |damages| {
        let mut head = upgrade_with("", &lines);
        for (place, removed, inserted) in damages {
            let start = place.index(head.len());
            let end = (start + removed).min(head.len());
            head.splice(start..end, inserted.into_iter().take(12));
        }
        head
    })
}

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}"
}

fn extension() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just(String::new()),
        token().prop_map(|value| format!("={value}")),
        token().prop_map(|value| format!(" = \"{value}\"")),
        token().prop_map(|value| format!("=\"\\{value}\"")),
    ];
    (token(), vec((token(), value), 0..3))
        .prop_map(|(name, params)| params.iter().fold(name, |text, (name, value)| format!("{text};{name}{value}")))
}

prop_compose! {
    /// The lines of an acceptable upgrade in any order, case and spacing.
    fn good_lines()(
        host in "[a-z0-9.-]{1,20}(:[0-9]{1,4})?",
        space in "[ \t]{0,3}",
        nonce in any::<[u8; 16]>(),
        protocols in proptest::collection::btree_set(token(), 0..20),
        extensions in vec(extension(), 0..5),
        extra in vec(("[a-z]{1,8}", "[ -~\u{80}-\u{7ff}]{0,30}"), 0..8),
        upper in any::<bool>(),
    )(
        lines in {
            let mut request = Vec::new();
            let unused = ClientRequest {
                host: &host, path: "/", key: nonce, subprotocols: &[], extensions: None, origin: Some("https://a"),
            };
            write_upgrade_request(&mut request, &unused);
            let text = String::from_utf8(request).unwrap();
            let mut fields: Vec<(String, String)> = text.lines().skip(1)
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            if !protocols.is_empty() {
                fields.push(("Sec-WebSocket-Protocol".to_owned(), Vec::from_iter(protocols.clone()).join(" ,")));
            }
            fields.extend(extensions.iter().map(|value| ("Sec-WebSocket-Extensions".to_owned(), value.clone())));
            fields.extend(extra.iter().map(|(name, value)| (format!("x-{name}"), value.clone())));
            let lines: Vec<String> = fields.iter()
                .map(|(name, value)| (if upper { name.to_uppercase() } else { name.to_lowercase() }, value))
                .map(|(name, value)| format!("{name}:{space}{value}{space}\r\n"))
                .collect();
            Just(lines).prop_shuffle()
        },
    ) -> Vec<String> { lines }
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_have_one_outcome(input in vec(any::<u8>(), 0..300), lens in vec(1..40usize, 1..8)) {
        check(&input, &lens, &LIMITS);
        check(&input, &lens, &TIGHT);
    }

    #[test]
    fn fragments_of_heads_in_any_pieces_have_one_outcome(input in fragments(), lens in vec(1..40usize, 1..8)) {
        check(&input, &lens, &LIMITS);
        check(&input, &lens, &TIGHT);
    }

    #[test]
    fn damaged_upgrades_in_any_pieces_have_one_outcome(input in damaged(), lens in vec(1..40usize, 1..8)) {
        check(&input, &lens, &LIMITS);
        check(&input, &lens, &TIGHT);
        check(&input, &lens, &HeadLimits { header_count_max: 7, line_bytes_max: 60, ..LIMITS });
    }

    #[test]
    fn well_formed_upgrades_are_accepted(
        path in "/[!$-;=?-~]{0,60}",
        lines in good_lines(),
        lens in vec(1..40usize, 1..8),
    ) {
        let input = format!("GET {path} HTTP/1.1\r\n{}\r\n", lines.concat()).into_bytes();
        check(&input, &lens, &LIMITS);
        let request = Request::parse(&input, &LIMITS).unwrap();
        prop_assert!(request.upgrade().unwrap().is_some());
        let target = request.query().map_or(request.path().to_owned(), |query| format!("{}?{query}", request.path()));
        prop_assert_eq!(target, path);
    }

    #[test]
    fn both_halves_agree(
        key in any::<[u8; 16]>(),
        protocols in proptest::collection::btree_set(token(), 0..20),
        extensions in proptest::option::of(extension()),
    ) {
        let protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
        let asked = ClientRequest {
            host: "localhost", path: "/a", key, subprotocols: &protocols, extensions: extensions.as_deref(), origin: None,
        };
        let mut input = Vec::new();
        write_upgrade_request(&mut input, &asked);
        let request = Request::parse(&input, &LIMITS).unwrap();
        let upgrade = request.upgrade().unwrap().unwrap();
        prop_assert!(upgrade.subprotocols().eq(protocols.iter().copied()));
        let chosen = upgrade.choose_subprotocol(&protocols);
        let mut output = Vec::new();
        write_switching_protocols(&mut output, &upgrade.accept_key(), chosen, extensions.as_deref());
        prop_assert_eq!(HeadScanner::response().scan(&output, &LIMITS), Ok(Some(output.len())));
        let accepted = Accepted::parse(&output, key).unwrap();
        prop_assert_eq!(accepted.check_offered(&asked), Ok(()));
        prop_assert_eq!(accepted.subprotocol(), protocols.first().copied());
        prop_assert!(accepted.extensions().eq(upgrade.extensions()));
    }

    #[test]
    fn any_answer_is_read_without_a_panic(front in select(vec!["", "HTTP/1.1 101 ok\r\n"]), input in fragments()) {
        let input = [front.as_bytes(), &input].concat();
        if let Ok(accepted) = Accepted::parse(&input, [0; 16]) {
            prop_assert!(accepted.extensions().count() <= 16);
        }
    }
}
