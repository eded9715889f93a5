//! Limits: what is at one passes, what is over it ends the stream before it is held.

use super::*;

const TIGHT: Limits = Limits { headers_max: 2, header_bytes_max: 8, body_bytes_max: 5, allows_any_body: true };

#[track_caller]
fn check_tight(input: &[u8], expect: Result<Seen, StompError>) {
    let (frames, error) = match expect {
        Ok(frame) => (vec![frame], None),
        Err(error) => (Vec::new(), Some(error)),
    };
    check_with(Some(Version::V1_2), TIGHT, input, &frames, error);
}

/// Item 109 and row S7.
#[test]
fn so_many_headers_and_no_more() {
    check_tight(b"SEND\na:1\nb:2\n\n\0", Ok(send(&[("a", "1"), ("b", "2")], b"")));
    check_tight(b"SEND\na:1\nb:2\nc:3\n\n\0", Err(StompError::TooManyHeaders));
}

/// Item 110, rows S3 and S7: a header may be so long and no longer, whether or not it ever ends.
#[test]
fn so_long_a_header_and_no_longer() {
    check_tight(b"SEND\nabcd:678\n\n\0", Ok(send(&[("abcd", "678")], b"")));
    check_tight(b"SEND\nabcd:678\r\n\n\0", Ok(send(&[("abcd", "678")], b"")));
    check_tight(b"SEND\nabcd:6789\n\n\0", Err(StompError::HeaderTooLong));
    check_tight(b"SEND\nabcd:6789\r\n\n\0", Err(StompError::HeaderTooLong));
    check_tight(b"SEND\nabcd:67890", Err(StompError::HeaderTooLong));
    check_tight(b"SEND\nabcd:67890\0", Err(StompError::HeaderTooLong));
    check_tight(b"SEND\nabcd:678\0", Err(StompError::NulInHead));
}

/// A limit that is no limit is none, wherever a line is cut.
#[test]
fn a_header_is_of_any_length_without_a_limit() {
    let none = Limits {
        headers_max: usize::MAX,
        header_bytes_max: usize::MAX,
        body_bytes_max: usize::MAX,
        allows_any_body: true,
    };
    let frame = send(&[("abcd", "6789012345")], b"x");
    for input in [&b"SEND\nabcd:6789012345\n\nx\0"[..], b"SEND\r\nabcd:6789012345\r\n\r\nx\0"] {
        check_with(Some(Version::V1_2), none, input, std::slice::from_ref(&frame), None);
    }
}

/// Item 111 and row S6: so may a body, announced or not.
#[test]
fn so_long_a_body_and_no_longer() {
    check_tight(b"SEND\n\n12345\0", Ok(send(&[], b"12345")));
    check_tight(b"SEND\n\n123456", Err(StompError::BodyTooBig));
    check_tight(b"SEND\n\n123456\0", Err(StompError::BodyTooBig));
    let wide = Limits { header_bytes_max: 99, ..TIGHT };
    for (len, error) in [(6, StompError::BodyTooBig), (99_999_999_999_999_999_usize, StompError::BodyTooBig)] {
        let input = format!("SEND\ncontent-length:{len}\n\n");
        check_with(Some(Version::V1_2), wide, input.as_bytes(), &[], Some(error));
    }
}

/// Item 112 and row S7: a command that is longer than any is not waited for.
#[test]
fn so_long_a_command_and_no_longer() {
    let command = "A".repeat(COMMAND_LEN_MAX);
    check_error(Version::V1_2, format!("{command}\n").as_bytes(), StompError::UnknownCommand);
    check_error(Version::V1_2, format!("{command}A\n").as_bytes(), StompError::CommandTooLong);
    check_error(Version::V1_2, format!("{command}AA").as_bytes(), StompError::CommandTooLong);
}

/// Item 114: an endless flood of ends of lines holds nothing.
#[test]
fn a_flood_of_ends_of_lines_holds_nothing() {
    let mut pool = Pool::default();
    let mut decoder = Decoder::new(TIGHT);
    for _ in 0..1_000 {
        let mut input = &b"\n\r\n\n\n\0\r\n"[..];
        assert!(decoder.receive(&mut input, &mut pool).expect("no error").is_none());
        assert!(decoder.is_at_rest());
    }
    assert_eq!(pool.lent(), 0);
}

/// Row S21: the first error is the last: nothing that follows is read.
#[test]
fn after_an_error_nothing_is_read() {
    let mut pool = Pool::default();
    let mut decoder = Decoder::new(TIGHT);
    assert!(decoder.receive(&mut &b"NONSENSE\n"[..], &mut pool).is_err());
    for _ in 0..3 {
        let mut input = &b"NONSENSE\nSEND\n\n\0"[..];
        assert!(decoder.receive(&mut input, &mut pool).expect("no second error").is_none());
        assert!(input.is_empty());
    }
}

/// What is held of a frame under way goes back when it is whole, and when the stream ends.
#[test]
fn a_cut_frame_is_held_until_it_is_whole() {
    let mut pool = Pool::default();
    let mut decoder = Decoder::new(Limits::default());
    assert!(decoder.receive(&mut &b"SEND\n\nab"[..], &mut pool).expect("no error").is_none());
    assert_eq!((decoder.held_bytes(), decoder.is_at_rest(), pool.lent()), (8, false, 1));
    let mut input = &b"cd\0"[..];
    let frame = decoder.receive(&mut input, &mut pool).expect("no error").expect("it is whole");
    assert_eq!(frame.body(), b"abcd");
    assert!(decoder.receive(&mut input, &mut pool).expect("no error").is_none());
    assert_eq!((decoder.held_bytes(), decoder.is_at_rest(), pool.lent()), (0, true, 0));
}
