//! Commands, headers and ends of lines.

use super::*;

/// Item 1: a frame is a command, headers, a blank line, a body and a NUL, wherever it is cut.
#[test]
fn a_frame_is_the_same_wherever_it_is_cut() {
    for version in ALL_VERSIONS {
        check(
            version,
            b"SEND\ndestination:/queue/a\nx:y\n\nhello\0ACK\nid:7\n\n\0",
            &[send(&[("destination", "/queue/a"), ("x", "y")], b"hello"), seen(Command::Ack, &[("id", "7")], b"")],
        );
    }
    check(Version::V1_2, b"BEGIN\n\n\0", &[seen(Command::Begin, &[], b"")]);
}

/// Item 2: lines end with LF or CR LF, mixed within a frame.
#[test]
fn lines_end_with_lf_or_cr_lf() {
    check(Version::V1_2, b"SEND\r\na:1\nb:2\r\n\r\nhi\0", &[send(&[("a", "1"), ("b", "2")], b"hi")]);
    check(Version::V1_2, b"SEND\na:1\r\n\nhi\0", &[send(&[("a", "1")], b"hi")]);
}

/// Item 3: CONNECT may have CR LF though the version is not known yet, and so may any frame of 1.0 and 1.1.
#[test]
fn cr_lf_is_let_pass_before_a_version_is_known_and_in_old_versions() {
    let connect = b"CONNECT\r\naccept-version:1.2\r\n\r\n\0";
    check_with(None, Limits::default(), connect, &[seen(Command::Connect, &[("accept-version", "1.2")], b"")], None);
    for version in [Version::V1_0, Version::V1_1] {
        check(version, b"SEND\r\na:1\r\n\r\n\0", &[send(&[("a", "1")], b"")]);
        check(version, b"SEND\na:1\r2\n\n\0", &[send(&[("a", "1\r2")], b"")]);
    }
}

/// Item 4: a CR that no LF follows is an error in 1.2, and before a version is known.
#[test]
fn a_stray_cr_is_an_error() {
    check_error(Version::V1_2, b"SEND\na:1\r2\n\n\0", StompError::StrayCarriageReturn);
    check_error(Version::V1_2, b"SEND\na:1\r\r\n\n\0", StompError::StrayCarriageReturn);
    check_error(Version::V1_2, b"SEND\r\r\n\n\0", StompError::UnknownCommand);
    check_error(Version::V1_2, b"\rSEND\n\n\0", StompError::StrayCarriageReturn);
    check_with(None, Limits::default(), b"CONNECT\nlogin:a\rb\n\n\0", &[], Some(StompError::StrayCarriageReturn));
}

/// Items 5 and 123: ends of lines between frames are passed by, also before the first frame.
#[test]
fn ends_of_lines_between_frames_are_passed_by() {
    check(Version::V1_2, b"\n\r\n\nSEND\n\na\0\n\n\r\nSEND\n\nb\0\r\n", &[send(&[], b"a"), send(&[], b"b")]);
    check(Version::V1_1, b"\n", &[]);
}

/// Item 6: so are NULs.
#[test]
fn stray_nuls_between_frames_are_passed_by() {
    check(Version::V1_2, b"\0SEND\n\na\0\0\0\nSEND\n\nb\0\0", &[send(&[], b"a"), send(&[], b"b")]);
}

/// Items 8 and 10: commands are in capitals, and unknown ones are errors at the end of their line.
#[test]
fn unknown_commands_are_errors() {
    for command in ["connect", "Send", "FOO", "SEND ", "GET / HTTP/1.1"] {
        check_error(Version::V1_2, format!("{command}\n").as_bytes(), StompError::UnknownCommand);
    }
}

/// Item 9: names of headers are as they are written.
#[test]
fn names_of_headers_are_case_sensitive() {
    let mut decoder = Decoder::new(Limits::default());
    let mut input = &b"SEND\nDestination:/queue/a\n\n\0"[..];
    let mut pool = Pool::default();
    let frame = decoder.receive(&mut input, &mut pool).expect("a good frame").expect("a whole one");
    assert_eq!(frame.header("destination"), None);
    assert_eq!(frame.header("Destination").as_deref(), Some("/queue/a"));
}

/// Item 12: a header line has a colon, and something before it.
#[test]
fn a_header_line_has_a_name_and_a_colon() {
    for version in ALL_VERSIONS {
        check_error(version, b"SEND\nabc\n\n\0", StompError::HeaderWithoutColon);
        check_error(version, b"SEND\n:abc\n\n\0", StompError::EmptyHeaderName);
    }
}

/// Items 13 and 14: a value may be empty, and may have colons.
#[test]
fn a_value_may_be_empty_and_may_have_colons() {
    for version in ALL_VERSIONS {
        check(version, b"SEND\na:\nb:c:d::\n\n\0", &[send(&[("a", ""), ("b", "c:d::")], b"")]);
    }
}

/// Item 15: 1.1 and 1.2 never trim; 1.0 has padded examples.
#[test]
fn blanks_belong_to_values_except_in_1_0() {
    for version in [Version::V1_1, Version::V1_2] {
        check(version, b"SEND\n a : b \n\n\0", &[send(&[(" a ", " b ")], b"")]);
    }
    check(
        Version::V1_0,
        b"SEND\na: b \t\ncontent-length: 2\n\nhi\0",
        &[send(&[("a", "b"), ("content-length", "2")], b"hi")],
    );
}

/// Item 15 for CONNECT, whose version is known only when it has been read.
#[test]
fn a_connect_of_1_0_may_be_padded() {
    let mut decoder = Decoder::new(Limits::default());
    let mut input = &b"CONNECT\nlogin: alice\n\n\0"[..];
    let mut pool = Pool::default();
    let frame = decoder.receive(&mut input, &mut pool).expect("a good frame").expect("a whole one");
    assert_eq!(frame.header("login").as_deref(), Some(" alice"));
    assert_eq!(frame.in_version(Version::V1_1).header("login").as_deref(), Some(" alice"));
    assert_eq!(frame.in_version(Version::V1_0).header("login").as_deref(), Some("alice"));
}

/// Item 16: commands and headers are UTF-8, and what is not is an error.
#[test]
fn headers_are_utf_8() {
    check(Version::V1_2, "SEND\nclé:ключ\n\n\0".as_bytes(), &[send(&[("clé", "ключ")], b"")]);
    check_error(Version::V1_2, b"SEND\na:\xff\n\n\0", StompError::InvalidUtf8);
    check_error(Version::V1_2, b"SEND\na:\xc3\nb:\xa9\n\n\0", StompError::InvalidUtf8);
}

/// Item 17 and row S27: a NUL within the head is an error, and never the end of a frame.
#[test]
fn a_nul_within_the_head_is_an_error() {
    check_error(Version::V1_2, b"SEND\na:b\0\n\n\0", StompError::NulInHead);
    check_error(Version::V1_2, b"SEND\0", StompError::NulInHead);
    check_error(Version::V1_2, b"SEND\n\0", StompError::NulInHead);
}

/// Item 27 and row S22: of headers of one name the first counts.
#[test]
fn the_first_of_repeated_headers_counts() {
    let mut decoder = Decoder::new(Limits::default());
    let mut input = &b"SEND\ndestination:/a\ncontent-length:1\ndestination:/admin\ncontent-length:9\n\nx\0"[..];
    let mut pool = Pool::default();
    let frame = decoder.receive(&mut input, &mut pool).expect("a good frame").expect("a whole one");
    assert_eq!(frame.header("destination").as_deref(), Some("/a"));
    assert_eq!(frame.body(), b"x");
}
