//! Bodies and their lengths.

use super::*;

/// Items 30 and 33, row S27: an announced body has that many octets, NULs and all.
#[test]
fn an_announced_body_has_as_many_octets() {
    check(
        Version::V1_2,
        "SEND\ncontent-length:5\n\na\0\n\0b\0SEND\ncontent-length:4\n\néé\0".as_bytes(),
        &[send(&[("content-length", "5")], b"a\0\n\0b"), send(&[("content-length", "4")], "éé".as_bytes())],
    );
    check(Version::V1_1, b"SEND\ncontent-length:0\n\n\0", &[send(&[("content-length", "0")], b"")]);
}

/// Item 31 and row S5: it is followed by a NUL.
#[test]
fn an_announced_body_is_followed_by_a_nul() {
    check_error(Version::V1_2, b"SEND\ncontent-length:2\n\nabc\0", StompError::MissingNul);
    check_error(Version::V1_2, b"SEND\ncontent-length:0\n\na\0", StompError::MissingNul);
}

/// Item 32: without a length it ends at the first NUL.
#[test]
fn a_body_without_a_length_ends_at_its_first_nul() {
    check(Version::V1_2, b"SEND\n\na\nb\r\n\0\n\0", &[send(&[], b"a\nb\r\n")]);
}

/// Item 34 and row S4: a length is a decimal number.
#[test]
fn a_length_is_a_decimal_number() {
    for value in ["-1", "+5", "1e3", "5 ", " 5", "", "0x5", "5,5", "123456789012345678", "100000000000000000000"] {
        let input = format!("SEND\ncontent-length:{value}\n\n");
        check_error(Version::V1_2, input.as_bytes(), StompError::InvalidContentLength);
    }
    check(Version::V1_2, b"SEND\ncontent-length:0002\n\nab\0", &[send(&[("content-length", "0002")], b"ab")]);
}

/// Item 35: a length of zero may stand in any frame.
#[test]
fn any_frame_may_have_a_length_of_zero() {
    let strict = Limits { allows_any_body: false, ..Limits::default() };
    for command in Command::ALL {
        let input = format!("{}\ncontent-length:0\n\n\0", command.name());
        let frame = seen(command, &[("content-length", "0")], b"");
        check_with(Some(Version::V1_2), strict, input.as_bytes(), &[frame], None);
    }
}

/// Item 36: a body where there may be none is passed by, or an error if that is asked for.
#[test]
fn a_body_where_none_belongs_is_passed_by_or_an_error() {
    let strict = Limits { allows_any_body: false, ..Limits::default() };
    for headers in ["", "content-length:3\n"] {
        let input = format!("SUBSCRIBE\n{headers}\nabc\0");
        let frames = observe(Some(Version::V1_2), Limits::default(), input.as_bytes(), &[]).0;
        assert_eq!((frames[0].command, &frames[0].body[..]), (Command::Subscribe, &b"abc"[..]));
        check_with(Some(Version::V1_2), strict, input.as_bytes(), &[], Some(StompError::UnexpectedBody));
    }
    check_with(Some(Version::V1_2), strict, b"SEND\n\nabc\0", &[send(&[], b"abc")], None);
}

/// Item 37: a body that is written has its length, once.
#[test]
fn a_body_is_written_with_its_length() {
    let mut out = Vec::new();
    encoder::begin(&mut out, Version::V1_2, Command::Message).finish(b"a\0b");
    encoder::begin(&mut out, Version::V1_2, Command::Receipt).finish(b"");
    encoder::heart_beat(&mut out);
    assert_eq!(out, b"MESSAGE\ncontent-length:3\n\na\0b\0RECEIPT\n\n\0\n");
    let frames = [seen(Command::Message, &[("content-length", "3")], b"a\0b"), seen(Command::Receipt, &[], b"")];
    check(Version::V1_2, &out, &frames);
}

#[test]
fn numbers_are_written_in_decimal() {
    for (number, digits) in [(0, "0"), (9, "9"), (10, "10"), (4_711, "4711"), (u64::MAX, "18446744073709551615")] {
        let mut out = Vec::new();
        let mut receipt = encoder::begin(&mut out, Version::V1_2, Command::Receipt);
        receipt.number("receipt-id", number);
        receipt.finish(b"");
        assert_eq!(String::from_utf8(out).expect("it is text"), format!("RECEIPT\nreceipt-id:{digits}\n\n\0"));
    }
}
