//! What the deflater makes of messages, and that nothing of one gets into the next.

use crate::proto::ws::deflate::tests::context;
use crate::proto::ws::deflate::tests::deflater;
use crate::proto::ws::deflate::tests::feed;
use crate::proto::ws::deflate::tests::inflate_elsewhere;
use crate::proto::ws::deflate::tests::noise;
use crate::proto::ws::deflate::{Context, Deflater, ENGINE_WORK, Level, Outcome, RESET_WORK, Takeover};

fn deflate(deflater: &mut Deflater, message: &[u8], context: &mut Context) -> Option<Vec<u8>> {
    // What was there before is no business of the deflater's, even if it looks like a tail.
    let mut out = b"\x00\x00\xff\xff".to_vec();
    let outcome = deflater.deflate(message, context, &mut out);
    let payload = out.split_off(4);
    assert_eq!(out, b"\x00\x00\xff\xff");
    assert_eq!(outcome == Outcome::Compressed, !payload.is_empty());
    assert!(payload.is_empty() || payload.len() < message.len());
    (outcome == Outcome::Compressed).then_some(payload)
}

#[test]
fn a_text_of_the_rfc_is_coded_as_there() {
    let (mut deflater, mut context) = (deflater(1), context(15, Takeover::Yes));
    // It begins like "Hello" in section 7.2.3.1, and goes on with a reference.
    let payload = deflate(&mut deflater, b"HelloHelloHelloHello", &mut context).unwrap();
    assert_eq!(payload, b"\xf2\x48\xcd\xc9\xc9\x47\x23\x00\x00");
    assert_eq!(inflate_elsewhere(&[payload], 8), b"HelloHelloHelloHello");
}

#[test]
fn with_takeover_the_second_copy_is_a_reference() {
    let message = noise(1, 300, 64);
    for level in 1..=9 {
        let mut deflater = deflater(level);
        let (mut with, mut without) = (context(15, Takeover::Yes), context(15, Takeover::No));
        let mut both =
            || [&mut with, &mut without].map(|context| deflate(&mut deflater, &[&message[..]; 2].concat(), context));
        let first = both();
        assert_eq!(first[0], first[1], "level {level}");
        let [with, without] = both();
        assert_eq!(without, first[0], "level {level}");
        assert!(with.unwrap().len() < 30, "level {level}");
    }
}

#[test]
fn who_is_remembered_refers_to_all_of_the_window() {
    let first = noise(1, 30_000, 64);
    for is_remembered in [false, true] {
        let (mut deflater, mut ours) = (deflater(6), context(15, Takeover::Yes));
        let before = deflate(&mut deflater, &first, &mut ours).unwrap();
        if !is_remembered {
            deflate(&mut deflater, &first, &mut context(15, Takeover::Yes));
        }
        // Farther back than the context itself knows.
        let payload = deflate(&mut deflater, &first[..300], &mut ours).unwrap();
        assert_eq!(payload.len() < 30, is_remembered, "{} bytes", payload.len());
        assert_eq!(inflate_elsewhere(&[before, payload], 15), [&first, &first[..300]].concat());
    }
}

#[test]
fn who_is_remembered_is_served_without_further_work() {
    let (mut deflater, mut ours, mut other) = (deflater(1), context(15, Takeover::Yes), context(15, Takeover::Yes));
    let mut work = |message: &[u8], context: &mut Context| {
        let before = deflater.work();
        assert!(deflate(&mut deflater, message, context).is_some());
        deflater.work() - before
    };
    let text = feed(1, 1_000);
    assert_eq!(work(&text, &mut ours), 1_000 + ENGINE_WORK);
    assert_eq!(work(&text, &mut ours), 1_000);
    assert_eq!(work(&text, &mut context(15, Takeover::No)), 1_000 + RESET_WORK);
    assert_eq!(work(&text, &mut ours), 1_000, "one that stands alone does not disturb");
    assert_eq!(work(&text, &mut other), 1_000 + ENGINE_WORK);
    assert_eq!(work(&text, &mut ours), 1_000 + ENGINE_WORK + 3_000);
    ours.push(&text);
    assert_eq!(work(&text, &mut ours), 1_000 + ENGINE_WORK + 4_096, "it does not know what was sent to many");
    ours.forget();
    assert_eq!(work(&text, &mut ours), 1_000 + ENGINE_WORK);
    // Noise is sent as it is, so the peer does not know it.
    let noise = noise(1, 1_000, 256);
    assert_eq!(deflate(&mut deflater, &noise, &mut ours), None);
    let before = deflater.work();
    assert!(deflate(&mut deflater, &text, &mut ours).is_some());
    assert_eq!(deflater.work() - before, 1_000 + ENGINE_WORK + 1_000);
}

#[test]
fn what_would_not_get_shorter_is_left_alone_and_unknown_to_the_context() {
    let mut deflater = deflater(6);
    let mut context = context(15, Takeover::Yes);
    for message in [b"".to_vec(), b"a".to_vec(), b"Hello".to_vec(), noise(1, 125, 256), noise(2, 100_000, 256)] {
        assert_eq!(deflate(&mut deflater, &message, &mut context), None, "{} bytes", message.len());
        assert_eq!(context.memory_len(), 0);
    }
    let text = feed(1, 1_000);
    assert!(deflate(&mut deflater, &text, &mut context).is_some());
    assert_eq!(deflate(&mut deflater, &noise(3, 1_000, 256), &mut context), None);
    assert_eq!(context.window().concat(), text);
}

#[test]
fn what_another_connection_sent_changes_nothing() {
    for level in 1..=9 {
        for window_bits in 8..=15 {
            let mut used = deflater(level);
            let text = feed(1, if window_bits == 8 { 256 } else { 3_000 });
            for other in [b"".to_vec(), text.clone(), noise(2, 200, 256), noise(3, 70_000, 256), feed(4, 70_000)] {
                let (mut theirs, mut ours) = (context(window_bits, Takeover::Yes), context(window_bits, Takeover::Yes));
                deflate(&mut used, &other, &mut theirs);
                let payload = deflate(&mut used, &text, &mut ours);
                let fresh = deflate(&mut deflater(level), &text, &mut context(window_bits, Takeover::Yes));
                assert!(fresh.is_some());
                assert_eq!(payload, fresh, "level {level}, {window_bits} bits, after {} bytes", other.len());
            }
        }
    }
}

#[test]
fn giving_up_inside_a_block_does_not_spoil_the_next_message() {
    // So long that there is no room for the result before the message is read.
    let long = noise(1, 1_000_000, 256);
    for level in [1, 2, 6] {
        let (mut deflater, mut context) = (deflater(level), context(15, Takeover::No));
        assert_eq!(deflate(&mut deflater, &long, &mut context), None);
        let text = feed(2, 1_000);
        let payload = deflate(&mut deflater, &text, &mut context).unwrap();
        assert!(inflate_elsewhere(&[payload], 15) == text, "level {level}");
    }
}

#[test]
fn to_a_peer_with_256_bytes_each_message_up_to_that_stands_alone() {
    let (mut deflater, mut context) = (deflater(6), context(8, Takeover::Yes));
    assert_eq!(deflate(&mut deflater, &feed(1, 257), &mut context), None);
    for seed in 1..4 {
        let message = feed(seed, 256);
        let payload = deflate(&mut deflater, &message, &mut context).unwrap();
        assert_eq!(inflate_elsewhere(&[payload], 8), message);
    }
}

#[test]
fn levels_are_1_to_9() {
    let levels: Vec<_> = (0..=u8::MAX).filter_map(Level::new).map(Level::get).collect();
    assert_eq!(levels, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!((Level::FASTEST.get(), Level::SHORTEST.get()), (1, 9));
}

#[test]
fn what_a_deflater_did_before_does_not_show() {
    for (level, window_bits) in [1, 3, 6, 9].into_iter().flat_map(|level| [9, 12, 15].map(|bits| (level, bits))) {
        for takeover in [Takeover::No, Takeover::Yes] {
            check_that_the_past_does_not_show(level, window_bits, takeover);
        }
    }
}

#[track_caller]
fn check_that_the_past_does_not_show(level: u8, window_bits: u8, takeover: Takeover) {
    let text = |seed: u64, len: u64| noise(seed, usize::try_from(len).unwrap(), 6);
    let (mut used, mut other) = (deflater(level), context(window_bits, Takeover::Yes));
    for round in 0..60 {
        deflate(&mut used, &text(round + 5_000, round * 970 % 9_000), &mut other);
        let mut fresh = deflater(level);
        let mut contexts = [0, 1].map(|_| context(window_bits, takeover));
        for message in [text(round, 300), text(round + 1, round * 310 % 5_000), text(round, 900)] {
            let [after, before] = &mut contexts;
            let payloads = [deflate(&mut used, &message, after), deflate(&mut fresh, &message, before)];
            let case =
                format!("level {level}, {window_bits} bits, {takeover:?}, round {round}, {} bytes", message.len());
            assert!(payloads[0] == payloads[1], "{case}");
        }
    }
}
