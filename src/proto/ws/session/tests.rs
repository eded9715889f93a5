//! Every rule of the session, each under every way to cut its input.
//!
//! The names F1 to F21 are the rows of the list of hostile inputs that a test covers.

mod feeding;
mod memory;

use super::*;
use crate::proto::ws::Message;

use feeding::*;

#[test]
fn the_examples_of_section_5_7_are_read() {
    check(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &[text("Hello")]);
    check(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &[Expect::Pong(b"Hello".to_vec())]);
    let check_client = |input: &[u8], expect| check_as(Role::Client, Limits::default(), input, &[expect]);
    check_client(b"\x81\x05Hello", text("Hello"));
    check_client(b"\x01\x03Hel\x80\x02lo", text("Hello"));
    check_client(b"\x89\x05Hello", Expect::Ping(b"Hello".to_vec()));
    check_client(&[&b"\x82\x7e\x01\x00"[..], &[5; 256]].concat(), Expect::Binary(vec![5; 256]));
    let header = b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00";
    check_client(&[&header[..], &[6; 65_536]].concat(), Expect::Binary(vec![6; 65_536]));
}

#[test]
fn messages_of_every_form_of_length_arrive() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
        check(&frame(0x82, &vec![0xfe; len]), &[Expect::Binary(vec![0xfe; len])]);
        check(&frame(0x81, &vec![b'x'; len]), &[Expect::Text("x".repeat(len))]);
    }
}

#[test]
fn a_message_may_span_many_buffers() {
    let payload = "многобуквенный".repeat(12_000);
    let input = [frame(0x81, payload.as_bytes()), frame(0x89, b"next")].concat();
    let expect = [text(&payload), Expect::Ping(b"next".to_vec())];
    for buffer_len in [97, 1_460, 4_096, 16_384, 65_536] {
        let cuts = Vec::from_iter((buffer_len..input.len()).step_by(buffer_len));
        for feed in [feed as Feed, feed_straight] {
            let observed = observe(Role::Server, limits(1 << 20), &input, &cuts, feed, &mut Pool::default());
            assert_eq!(observed, expect);
        }
    }
}

#[test]
fn control_frames_come_between_fragments() {
    let input = [
        frame(0x01, "ж".as_bytes()),
        frame(0x89, b"a"),
        frame(0x00, b"\xd0"),
        frame(0x8a, &[7; 125]),
        frame(0x89, b""),
        frame(0x00, b""),
        frame(0x80, b"\xb6!"),
        frame(0x82, b"next"),
    ];
    let expect = [
        Expect::Ping(b"a".to_vec()),
        Expect::Pong(vec![7; 125]),
        Expect::Ping(vec![]),
        text("жж!"),
        Expect::Binary(b"next".to_vec()),
    ];
    check(&input.concat(), &expect);
}

#[test]
fn an_input_that_ends_anywhere_in_a_message_leaves_it_under_way() {
    check(b"", &[]);
    check(&[0x81], &[Expect::UnderWay]);
    check(&frame(0x82, b"cut")[..5], &[Expect::UnderWay]);
    check(&frame(0x82, b"cut")[..6], &[Expect::UnderWay]);
    check(&frame(0x89, b"cut")[..8], &[Expect::UnderWay]);
    check(&frame(0x01, b""), &[Expect::UnderWay]);
    let ping_inside = [frame(0x01, b"a"), frame(0x89, b"p")].concat();
    check(&ping_inside, &[Expect::Ping(b"p".to_vec()), Expect::UnderWay]);
}

#[test]
fn a_session_is_at_rest_between_messages_only() {
    let input = [frame(0x89, b"p"), frame(0x02, b"a"), frame(0x89, b""), frame(0x80, b"")].concat();
    let (mut session, mut pool) = (Session::new(Role::Server, Limits::default()), Pool::default());
    let mut at_rest = Vec::new();
    let mut assembling = Vec::new();
    for (index, &byte) in input.iter().enumerate() {
        feed(&mut session, &[byte], &mut pool);
        at_rest.extend(session.is_at_rest().then_some(index + 1));
        assembling.extend(session.is_assembling().then_some(index + 1));
    }
    assert_eq!(at_rest, [7, 26], "after the first Ping and after the message");
    assert_eq!(assembling, Vec::from_iter(13..26), "from the first header of the message to its last");
}

#[test]
fn a_message_whole_in_the_buffer_is_a_view_of_it() {
    let (mut session, mut pool) = (Session::new(Role::Server, Limits::default()), Pool::default());
    let mut buffer = [frame(0x81, b"Hello"), frame(0x89, b"ping")].concat();
    let mut input = &mut buffer[..];
    for expect in [&b"Hello"[..], b"ping"] {
        match session.receive(&mut input, &mut pool) {
            Ok(Some(
                Event::Message(Message { payload: Payload::View(view), .. }) | Event::Ping(Payload::View(view)),
            )) => assert_eq!(view, expect),
            other => panic!("not a view: {other:?}"),
        }
    }
    assert_eq!((pool.lent(), pool.retained_bytes()), (0, 0));
}

#[test]
fn f1_a_length_with_its_top_bit_set_is_refused_before_the_key() {
    let input = [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4];
    check_refused(&input, 10, ProtocolError::LengthTopBit);
    check_refused(&[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255], 10, ProtocolError::LengthTopBit);
}

#[test]
fn f2_a_huge_length_is_refused_at_the_header_without_memory() {
    let input = announced(0x82, 1 << 62);
    check_refused(&input, 14, ProtocolError::MessageTooBig);
    let mut pool = Pool::default();
    for _ in 0..10_000 {
        let events = feed(&mut Session::new(Role::Server, Limits::default()), &input, &mut pool);
        assert_eq!(events, [Expect::Error(ProtocolError::MessageTooBig)]);
    }
    assert_eq!((pool.lent(), pool.retained_bytes()), (0, 0));
}

#[test]
fn f3_lengths_that_are_not_minimal_are_refused() {
    check_refused(&[0x81, 0xfe, 0, 5, 1, 2, 3, 4], 4, ProtocolError::NonMinimalLength);
    check_refused(&[0x81, 0xfe, 0, 125, 1, 2, 3, 4], 4, ProtocolError::NonMinimalLength);
    check_refused(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 1, 44], 10, ProtocolError::NonMinimalLength);
    check_refused(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 255, 255], 10, ProtocolError::NonMinimalLength);
}

#[test]
fn f4_reserved_bits_are_refused_on_every_opcode() {
    for opcode in [0x0, 0x1, 0x2, 0x8, 0x9, 0xa] {
        for bits in [0x40, 0x20, 0x10, 0x70] {
            check_refused(&frame(0x80 | bits | opcode, b"hi"), 1, ProtocolError::ReservedBit);
        }
    }
    let input = [frame(0x01, b"a"), frame(0xc0, b"b")].concat();
    check_refused(&input, 8, ProtocolError::ReservedBit);
}

#[test]
fn f5_unknown_opcodes_are_refused_at_once_whatever_they_announce() {
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        check_refused(&frame(0x80 | opcode, b""), 1, ProtocolError::UnknownOpcode);
        check_refused(&announced(opcode, 1 << 62), 1, ProtocolError::UnknownOpcode);
    }
}

#[test]
fn f6_unmasked_client_frames_are_refused_at_their_second_byte() {
    for first in [0x81, 0x82, 0x01, 0x88, 0x89, 0x8a] {
        check_refused(&[first, 0], 2, ProtocolError::UnmaskedFrame);
        check_refused(&[first, 2, b'h', b'i'], 2, ProtocolError::UnmaskedFrame);
    }
}

#[test]
fn a_client_refuses_masked_frames_and_takes_unmasked_ones() {
    for first in [0x81, 0x82, 0x01, 0x88, 0x89, 0x8a] {
        let input = frame(first, b"hi");
        check_as(Role::Client, Limits::default(), &input, &[Expect::Error(ProtocolError::MaskedFrame)]);
        assert_eq!(refused_at(Role::Client, &input), Some(2));
    }
    let input = b"\x02\x01a\x89\x00\x80\x01b\x88\x04\x03\xe8ok";
    let expect = [Expect::Ping(vec![]), Expect::Binary(b"ab".to_vec()), Expect::Close(Some(1000), "ok".to_owned())];
    check_as(Role::Client, Limits::default(), input, &expect);
}

#[test]
fn f7_control_frames_that_are_long_cut_or_compressed_are_refused() {
    for opcode in [0x8, 0x9, 0xa] {
        check_refused(&frame(0x80 | opcode, &[b'x'; 126]), 2, ProtocolError::OversizedControl);
        check_refused(&announced(0x80 | opcode, 1 << 62), 2, ProtocolError::OversizedControl);
        check_refused(&frame(opcode, b""), 1, ProtocolError::FragmentedControl);
        check_refused(&frame(0xc0 | opcode, b""), 1, ProtocolError::ReservedBit);
    }
    check(&frame(0x89, &[b'x'; 125]), &[Expect::Ping(vec![b'x'; 125])]);
}

#[test]
fn a_close_carries_any_code_of_the_wire_and_a_reason() {
    check(&frame(0x88, b""), &[Expect::Close(None, String::new())]);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999_u16] {
        check(&frame(0x88, &code.to_be_bytes()), &[Expect::Close(Some(code), String::new())]);
        let payload = [&code.to_be_bytes()[..], "прощай".as_bytes()].concat();
        check(&frame(0x88, &payload), &[Expect::Close(Some(code), "прощай".to_owned())]);
    }
    let longest = "é".repeat(61) + "!";
    let payload = [b"\x03\xe8", longest.as_bytes()].concat();
    check(&frame(0x88, &payload), &[Expect::Close(Some(1000), longest)]);
}

#[test]
fn f8_a_close_with_a_cut_or_reserved_code_or_a_bad_reason_is_refused() {
    check_refused(&frame(0x88, &[0x03]), 7, ProtocolError::TruncatedCloseCode);
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 0xffff_u16] {
        check_refused(&frame(0x88, &code.to_be_bytes()), 8, ProtocolError::InvalidCloseCode);
    }
    check_refused(&frame(0x88, b"\x03\xe8ok\xff"), 11, ProtocolError::InvalidUtf8);
    check_refused(&frame(0x88, b"\x03\xe8cut \xd0"), 13, ProtocolError::InvalidUtf8);
    check_refused(&frame(0x88, b"\x03\xed\xff"), 9, ProtocolError::InvalidCloseCode);
}

#[test]
fn f9_fragments_out_of_order_are_refused_at_the_header() {
    check_refused(&frame(0x80, b"x"), 6, ProtocolError::UnexpectedContinuation);
    check_refused(&frame(0x00, b""), 6, ProtocolError::UnexpectedContinuation);
    for first in [0x81, 0x82, 0x01, 0x02] {
        let input = [frame(0x01, b"a"), frame(first, b"b")].concat();
        check_refused(&input, 13, ProtocolError::InterleavedMessage);
    }
    let after_a_message = [frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")].concat();
    check(&after_a_message, &[text("ab"), Expect::Error(ProtocolError::UnexpectedContinuation)]);
}

#[test]
fn f10_fragments_of_one_byte_are_joined_and_counted() {
    let fragments = |count: usize, last: u8| {
        let mut input = frame(0x02, b"x");
        (2..count).for_each(|_| input.extend(frame(0x00, b"x")));
        input.extend(frame(last, b"x"));
        input
    };
    let few = Limits { fragments_max: 5, ..Limits::default() };
    check_as(Role::Server, few, &fragments(5, 0x80), &[Expect::Binary(vec![b'x'; 5])]);
    check_as(Role::Server, few, &fragments(6, 0x80), &[Expect::Error(ProtocolError::TooManyFragments)]);

    let (mut session, mut pool) = (Session::new(Role::Server, Limits::default()), Pool::default());
    assert_eq!(feed(&mut session, &fragments(1024, 0x00), &mut pool), []);
    assert_eq!(pool.lent(), 1);
    assert_eq!(held_bytes(session, &mut pool), 1024 + 64);
    check_refused(&fragments(1025, 0x00), 1024 * 7 + 6, ProtocolError::TooManyFragments);
}

#[test]
fn f11_a_run_of_empty_fragments_is_refused_past_its_limit() {
    let few = Limits { empty_fragments_max: 3, ..Limits::default() };
    let empty = |first: u8, count: usize| frame(first, b"").repeat(count);
    let check = |input: &[Vec<u8>], expect| check_as(Role::Server, few, &input.concat(), &[expect]);
    let refused = Expect::Error(ProtocolError::TooManyEmptyFragments);
    check(&[empty(0x01, 1), empty(0x00, 2)], Expect::UnderWay);
    check(&[empty(0x01, 1), empty(0x00, 1), empty(0x80, 1)], text(""));
    check(&[empty(0x01, 1), empty(0x00, 3)], refused.clone());
    check(&[empty(0x01, 1), empty(0x00, 2), empty(0x80, 1)], refused.clone());
    check(&[frame(0x01, b"a"), empty(0x00, 3), frame(0x00, b"b"), empty(0x00, 2), empty(0x80, 1)], text("ab"));
    check(&[frame(0x01, b"a"), empty(0x00, 4)], refused);
    let input = [empty(0x01, 1), empty(0x00, 1_000_000 / 6)].concat();
    assert_eq!(refused_at(Role::Server, &input), Some(17 * 6));
}

#[test]
fn f12_f13_a_message_of_exactly_the_limit_passes_and_one_byte_more_is_refused_at_its_header() {
    for max in [0, 1, 125, 126, 300, 65_536] {
        let check = |input: &[Vec<u8>], expect| check_as(Role::Server, limits(max), &input.concat(), &[expect]);
        let refused = Expect::Error(ProtocolError::MessageTooBig);
        let whole = Expect::Binary(vec![1; max]);
        check(&[frame(0x82, &vec![1; max])], whole.clone());
        check(&[announced(0x82, max + 1)], refused.clone());
        check(&[frame(0x02, &vec![1; max]), frame(0x80, b"")], whole.clone());
        check(&[announced(0x02, max + 1)], refused.clone());
        let (half, rest) = (max / 2, max - max / 2);
        check(&[frame(0x02, &vec![1; half]), frame(0x80, &vec![1; rest])], whole);
        check(&[frame(0x02, &vec![1; half]), announced(0x80, rest + 1)], refused.clone());
        check(&[frame(0x02, &vec![1; half]), frame(0x00, &vec![1; rest]), announced(0x00, 1)], refused);
    }
}

#[test]
fn control_frames_do_not_count_as_part_of_the_message() {
    let input = [frame(0x02, b"ab"), frame(0x89, &[0; 125]), frame(0x80, b"cd"), frame(0x8a, &[0; 125])].concat();
    let expect = [Expect::Ping(vec![0; 125]), Expect::Binary(b"abcd".to_vec()), Expect::Pong(vec![0; 125])];
    let tight = Limits { message_bytes_max: 4, fragments_max: 2, empty_fragments_max: 0 };
    check_as(Role::Server, tight, &input, &expect);
}

#[test]
fn f14_bad_text_is_refused_at_its_first_bad_byte_though_more_is_to_come() {
    check_bad_text(b"\xff", 1);
    check_bad_text(b"\x80", 1);
    check_bad_text(b"ok\xc0\xaf", 3);
    check_bad_text(b"ok\xc1\xbf", 3);
    check_bad_text(b"\xc3\x28", 2);
    check_bad_text(b"\xe0\x9f\xbf", 2);
    check_bad_text(b"\xe2\x82\x28", 3);
    check_bad_text(b"\xed\xa0\x80", 2);
    check_bad_text(b"\xed\xbf\xbf", 2);
    check_bad_text(b"\xf0\x8f\xbf\xbf", 2);
    check_bad_text(b"\xf0\x9f\x92\x28", 4);
    check_bad_text(b"\xf4\x90\x80\x80", 2);
    check_bad_text(b"\xf5\x80\x80\x80", 1);
    check_bad_text(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", 13);
}

/// Checks that `text` fails at byte `bad_at` of the payload, in a frame and across two fragments.
#[track_caller]
fn check_bad_text(text: &[u8], bad_at: usize) {
    let input = [&announced(0x81, text.len() + 60)[..], &frame(0, text)[6..]].concat();
    check_refused(&input, 6 + bad_at, ProtocolError::InvalidUtf8);
    for split in 0..=text.len() {
        let (first, second) = text.split_at(split);
        let input = [frame(0x01, first), frame(0x89, b""), announced(0x00, second.len() + 60)].concat();
        let input = [&input, &frame(0, second)[6..]].concat();
        let (expect, at) = if bad_at <= split {
            (vec![Expect::Error(ProtocolError::InvalidUtf8)], 6 + bad_at)
        } else {
            (vec![Expect::Ping(vec![]), Expect::Error(ProtocolError::InvalidUtf8)], 6 + 6 + 6 + bad_at)
        };
        check(&input, &expect);
        assert_eq!(refused_at(Role::Server, &input), Some(at), "{text:x?} split at {split}");
    }
}

#[test]
fn text_that_ends_inside_a_character_is_refused_at_its_last_byte() {
    check_refused(&frame(0x81, b"cut \xf0\x9f\x92"), 13, ProtocolError::InvalidUtf8);
    let input = [frame(0x01, b"cut \xe2"), frame(0x80, b"\x82")].concat();
    check_refused(&input, 18, ProtocolError::InvalidUtf8);
    let input = [frame(0x01, b"cut \xe2\x82"), frame(0x80, b"")].concat();
    check_refused(&input, 18, ProtocolError::InvalidUtf8);
}

#[test]
fn binary_messages_need_not_be_text() {
    check(&frame(0x82, b"\xff\xed\xa0\x80"), &[Expect::Binary(b"\xff\xed\xa0\x80".to_vec())]);
    let input = [frame(0x02, b"\xff"), frame(0x80, b"\xc0")].concat();
    check(&input, &[Expect::Binary(b"\xff\xc0".to_vec())]);
}

#[test]
fn f18_what_comes_after_a_close_is_discarded() {
    let late = [frame(0x81, b"late"), frame(0x89, b"late"), frame(0x88, b""), vec![0xff; 9]].concat();
    let input = [frame(0x88, b"\x03\xe9"), late.clone()].concat();
    check(&input, &[Expect::Close(Some(1001), String::new())]);
    let input = [frame(0x81, b"a"), vec![0x83], late].concat();
    check(&input, &[text("a"), Expect::Error(ProtocolError::UnknownOpcode)]);
}

#[test]
fn a_close_inside_a_message_drops_it() {
    let input = [frame(0x01, b"never ends"), frame(0x88, b"\x03\xe8bye")].concat();
    check(&input, &[Expect::Close(Some(1000), "bye".to_owned())]);
}

#[test]
fn f20_each_call_gives_one_event_and_leaves_the_rest() {
    let mut buffer = frame(0x82, b"").repeat(8_000);
    let mut input = &mut buffer[..];
    let (mut session, mut pool) = (Session::new(Role::Server, Limits::default()), Pool::default());
    for left in (0..8_000).rev() {
        assert!(matches!(session.receive(&mut input, &mut pool), Ok(Some(Event::Message(_)))));
        assert_eq!(input.len(), left * 6);
    }
    assert!(session.is_at_rest());
    assert_eq!((pool.lent(), pool.retained_bytes()), (0, 0));
}

#[test]
fn f21_a_whole_session_is_the_same_however_it_is_cut() {
    let input = [
        frame(0x81, "Ж и ё".as_bytes()),
        frame(0x89, b"1"),
        frame(0x02, &[9; 200]),
        frame(0x8a, b""),
        frame(0x80, &[8; 300]),
        frame(0x82, b""),
        frame(0x88, b"\x0f\xa0enough"),
        frame(0x81, b"late"),
    ];
    let expect = [
        text("Ж и ё"),
        Expect::Ping(b"1".to_vec()),
        Expect::Pong(vec![]),
        Expect::Binary([[9; 200].as_slice(), &[8; 300]].concat()),
        Expect::Binary(vec![]),
        Expect::Close(Some(4000), "enough".to_owned()),
    ];
    check(&input.concat(), &expect);
}

#[test]
fn each_error_closes_with_its_code() {
    let code = |error: ProtocolError| error.close_code().get();
    for error in [
        ProtocolError::ReservedBit,
        ProtocolError::UnknownOpcode,
        ProtocolError::FragmentedControl,
        ProtocolError::OversizedControl,
        ProtocolError::UnmaskedFrame,
        ProtocolError::MaskedFrame,
        ProtocolError::NonMinimalLength,
        ProtocolError::LengthTopBit,
        ProtocolError::UnexpectedContinuation,
        ProtocolError::InterleavedMessage,
        ProtocolError::TruncatedCloseCode,
        ProtocolError::InvalidCloseCode,
    ] {
        assert_eq!(code(error), 1002, "{error:?}");
    }
    assert_eq!(code(ProtocolError::InvalidUtf8), 1007);
    assert_eq!(code(ProtocolError::TooManyFragments), 1008);
    assert_eq!(code(ProtocolError::TooManyEmptyFragments), 1008);
    assert_eq!(code(ProtocolError::AssemblyTimeout), 1008);
    assert_eq!(code(ProtocolError::MessageTooBig), 1009);
}
