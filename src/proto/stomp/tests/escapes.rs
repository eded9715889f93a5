//! Escapes, in and out.

use super::*;

fn written(version: Version, command: Command, headers: &[(&str, &str)]) -> String {
    let mut out = Vec::new();
    let mut frame = encoder::begin(&mut out, version, command);
    for (name, value) in headers {
        frame.header(name, value);
    }
    frame.finish(b"");
    String::from_utf8(out).expect("headers are text")
}

/// Item 18: 1.2 has four escapes, in names and values.
#[test]
fn version_1_2_has_four_escapes() {
    let input = br"SEND
a\nb\cc:\r\n\c\\

";
    check(Version::V1_2, &[input, &b"\0"[..]].concat(), &[send(&[("a\nb:c", "\r\n:\\")], b"")]);
}

/// Item 19: 1.1 has three; `\r` is none of them.
#[test]
fn version_1_1_has_no_escape_for_cr() {
    check(Version::V1_1, b"SEND\na:\\n\\c\\\\\n\n\0", &[send(&[("a", "\n:\\")], b"")]);
    check_error(Version::V1_1, b"SEND\na:\\r\n\n\0", StompError::InvalidEscape);
}

/// Item 20: 1.0 has none.
#[test]
fn version_1_0_has_no_escapes() {
    check(Version::V1_0, b"SEND\na:\\n\\t\\\n\n\0", &[send(&[("a", r"\n\t\")], b"")]);
    assert_eq!(written(Version::V1_0, Command::Message, &[("a", r"\n")]), "MESSAGE\na:\\n\n\n\0");
}

/// Item 21 and row S8: what is no escape is an error, also at the end of a line.
#[test]
fn undefined_escapes_are_errors() {
    for version in [Version::V1_1, Version::V1_2] {
        for header in [r"a:\t", r"a:\0", r"a:b\", r"a\:b", r"a:\N", r"a:\\\", r"\x:1"] {
            check_error(version, format!("SEND\n{header}\n\n\0").as_bytes(), StompError::InvalidEscape);
        }
        check_error(version, "SEND\na:\\é\n\n\0".as_bytes(), StompError::InvalidEscape);
    }
}

/// Item 22: a backslash and an `n` come back as that, and not as a line feed.
#[test]
fn a_literal_backslash_makes_the_way_there_and_back() {
    assert_eq!(written(Version::V1_2, Command::Message, &[("a", r"\n"), ("b", "\n")]), "MESSAGE\na:\\\\n\nb:\\n\n\n\0");
    for value in ["\\n", "\n", "\\\\n", "\\:\r\n:\\", "", "plain", ":"] {
        let frame = written(Version::V1_2, Command::Message, &[(value, value)]);
        let headers: &[(&str, &str)] = if value.is_empty() { &[] } else { &[(value, value)] };
        check(Version::V1_2, frame.as_bytes(), &[seen(Command::Message, headers, b"")]);
    }
}

/// Item 23 and row S9: what a version can't express makes no line and no frame of its own.
#[test]
fn what_a_version_cannot_express_is_left_out() {
    let hostile = [("a", "x\n\nbody\0MESSAGE\nb:c"), ("e", "x\nf:g"), ("h", "x\r"), ("i:j", "k"), ("l", "m:n")];
    assert_eq!(written(Version::V1_0, Command::Message, &hostile), "MESSAGE\nl:m:n\n\n\0");
    assert_eq!(written(Version::V1_1, Command::Message, &hostile), "MESSAGE\ne:x\\nf\\cg\ni\\cj:k\nl:m\\cn\n\n\0");
    assert_eq!(
        written(Version::V1_2, Command::Message, &hostile),
        "MESSAGE\ne:x\\nf\\cg\nh:x\\r\ni\\cj:k\nl:m\\cn\n\n\0"
    );
}

/// Item 24: the frames of the handshake are without escapes.
#[test]
fn frames_of_the_handshake_have_no_escapes() {
    for command in [Command::Connect, Command::Stomp, Command::Connected] {
        let input = format!("{}\npasscode:a\\cb\\\n\n\0", command.name());
        let frame = seen(command, &[("passcode", r"a\cb\")], b"");
        for version in [None, Some(Version::V1_0), Some(Version::V1_1), Some(Version::V1_2)] {
            check_with(version, Limits::default(), input.as_bytes(), std::slice::from_ref(&frame), None);
        }
        assert_eq!(written(Version::V1_2, command, &[("passcode", r"a\cb\")]), input);
    }
    assert_eq!(written(Version::V1_2, Command::Connected, &[("server", "a:b")]), "CONNECTED\nserver:a:b\n\n\0");
    assert_eq!(written(Version::V1_2, Command::Connected, &[("session", "a\nb:c")]), "CONNECTED\n\n\0");
}

/// Item 26: a receipt's id comes back as it was meant, escaped anew.
#[test]
fn an_id_comes_back_escaped_as_it_was_sent() {
    let input = b"SEND\nreceipt:r\\c1\n\n\0";
    let mut pool = Pool::default();
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(Version::V1_2);
    let frame = decoder.receive(&mut &input[..], &mut pool).expect("a good frame").expect("a whole one");
    let receipt = frame.header("receipt").expect("it asks for one");
    assert_eq!(receipt, "r:1");
    let reply = written(Version::V1_2, Command::Receipt, &[("receipt-id", &receipt)]);
    assert_eq!(reply, "RECEIPT\nreceipt-id:r\\c1\n\n\0");
}
