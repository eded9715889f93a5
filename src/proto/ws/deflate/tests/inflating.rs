//! Payloads by hand: the examples of the RFC, its borders, and what breaks it.

use miniz_oxide::deflate::compress_to_vec;

use crate::proto::ws::deflate::tests::context;
use crate::proto::ws::deflate::tests::deflater;
use crate::proto::ws::deflate::tests::feed;
use crate::proto::ws::deflate::tests::noise;
use crate::proto::ws::deflate::{Context, InflateError, Inflater, Outcome, Takeover};

const CORRUPT: Result<&[u8], InflateError> = Err(InflateError::Corrupt);
const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
/// "Hello" once more, by reference (section 7.2.3.2).
const HELLO_AGAIN: &[u8] = b"\xf2\x00\x11\x00\x00";
/// "Hello" in a final block (section 7.2.3.4).
const FINAL_HELLO: &[u8] = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00";

fn inflate(
    inflater: &mut Inflater,
    pieces: &[&[u8]],
    context: &mut Context,
    len_max: usize,
) -> Result<Vec<u8>, InflateError> {
    let mut out = b"before".to_vec();
    inflater.begin(context, len_max);
    for piece in pieces {
        inflater.push(piece, &mut out)?;
    }
    inflater.finish(&out, context)?;
    Ok(out.split_off(6))
}

/// Checks a message in one connection after those `before` it, in any chunking.
#[track_caller]
fn check_after(before: &[&[u8]], payload: &[u8], takeover: Takeover, expect: Result<&[u8], InflateError>) {
    let mut inflater = Inflater::new();
    for split in 0..=payload.len() {
        let mut context = context(15, takeover);
        for payload in before {
            inflate(&mut inflater, &[payload], &mut context, 100).unwrap();
        }
        let pieces = [&payload[..split], &payload[split..]];
        let outcome = inflate(&mut inflater, &pieces, &mut context, 1 << 20);
        assert_eq!(outcome.as_deref(), expect.as_ref().copied(), "split at {split}");
    }
}

#[track_caller]
fn check(payload: &[u8], expect: Result<&[u8], InflateError>) {
    check_after(&[], payload, Takeover::Yes, expect);
    check_after(&[], payload, Takeover::No, expect);
}

#[test]
fn the_examples_of_section_7_2_3_are_inflated() {
    check(HELLO, Ok(b"Hello"));
    check_after(&[HELLO], HELLO_AGAIN, Takeover::Yes, Ok(b"Hello"));
    check_after(&[HELLO], HELLO, Takeover::Yes, Ok(b"Hello"));
    check_after(&[HELLO], HELLO, Takeover::No, Ok(b"Hello"));
    check(b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", Ok(b"Hello"));
    check(FINAL_HELLO, Ok(b"Hello"));
    check(b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", Ok(b"Hello"));
    check(b"\x00", Ok(b""));
}

#[test]
fn a_message_refers_to_those_before_only_with_takeover() {
    check_after(&[HELLO], HELLO_AGAIN, Takeover::No, CORRUPT);
    check_after(&[], HELLO_AGAIN, Takeover::Yes, CORRUPT);
    check_after(&[HELLO, b"\x00"], HELLO_AGAIN, Takeover::Yes, Ok(b"Hello"));
}

#[test]
fn a_final_block_may_be_followed_by_blocks_that_refer_to_nothing_before_it() {
    check(&[&FINAL_HELLO[..7], FINAL_HELLO].concat(), Ok(b"HelloHello"));
    check(&[FINAL_HELLO, FINAL_HELLO].concat(), CORRUPT); // 00 begins a stored block
    check(&[&FINAL_HELLO[..7], HELLO].concat(), Ok(b"HelloHello"));
    check(&[FINAL_HELLO, b"\x00\x00\xff\xff", HELLO].concat(), Ok(b"HelloHello"));
    check(&[FINAL_HELLO, b"\x00\x00\xff\xff", HELLO_AGAIN].concat(), CORRUPT);
    check(&[&FINAL_HELLO[..7], HELLO_AGAIN].concat(), CORRUPT);
    check(&[&FINAL_HELLO[..7], b"\xff\xff"].concat(), CORRUPT);
    check_after(&[FINAL_HELLO], HELLO, Takeover::Yes, Ok(b"Hello"));
    check_after(&[FINAL_HELLO], HELLO_AGAIN, Takeover::Yes, Ok(b"Hello"));
}

#[test]
fn a_final_block_needs_the_empty_one_behind_it() {
    check(&FINAL_HELLO[..7], CORRUPT);
    check(b"\x03\x00\x00", Ok(b""));
    check(b"\x03\x00", CORRUPT);
}

#[test]
fn a_message_that_ends_inside_a_block_is_corrupt() {
    check(b"", CORRUPT);
    for len in 1..HELLO.len() {
        check(&HELLO[..len], CORRUPT);
    }
    let long = compress_to_vec(&feed(1, 2_000), 6);
    for len in 1..long.len() {
        let mut out = Vec::new();
        let outcome = Inflater::new().inflate(&long[..len], &mut context(15, Takeover::Yes), 1 << 20, &mut out);
        assert_eq!(outcome, Err(InflateError::Corrupt), "cut at {len}");
    }
}

#[test]
fn what_is_not_deflate_is_corrupt() {
    check(b"\x00\x00\xff\xff", CORRUPT); // the tail is not to be sent
    check(b"\x00\x04\x00\xfb\xff", CORRUPT); // a stored block that would take the tail for its bytes
    check(b"\x00\x09\x00\xf6\xff", CORRUPT);
    check(b"\x00\x05\x00\xfb\xff\x48\x65\x6c\x6c\x6f\x00", CORRUPT); // a length and its complement differ
    check(b"\x06", CORRUPT); // a kind of block that does not exist
    check(b"\xff\xff\xff\xff", CORRUPT);
    check(&[HELLO, b"\x00"].concat(), CORRUPT);
}

#[test]
fn after_an_error_every_call_fails_until_the_next_message() {
    let (mut inflater, mut context, mut out) = (Inflater::new(), context(15, Takeover::Yes), Vec::new());
    inflater.begin(&context, 100);
    assert_eq!(inflater.push(b"\x06", &mut out), Err(InflateError::Corrupt));
    assert_eq!(inflater.push(HELLO, &mut out), Err(InflateError::Corrupt));
    assert_eq!(inflater.finish(&out, &mut context), Err(InflateError::Corrupt));
    assert_eq!(inflater.inflate(HELLO, &mut context, 100, &mut out), Ok(()));
    assert_eq!(out, b"Hello");
}

#[test]
fn a_message_left_half_way_leaves_nothing_to_the_next() {
    let mut inflater = Inflater::new();
    let mut theirs = context(15, Takeover::Yes);
    for len in 0..=HELLO.len() {
        let mut out = Vec::new();
        inflater.begin(&theirs, 100);
        inflater.push(&HELLO[..len], &mut out).unwrap();
        let mut ours = context(15, Takeover::Yes);
        let outcome = inflate(&mut inflater, &[HELLO_AGAIN], &mut ours, 100);
        assert_eq!(outcome, Err(InflateError::Corrupt), "another connection is not visible");
        assert_eq!(inflate(&mut inflater, &[HELLO], &mut ours, 100).unwrap(), b"Hello");
        assert_eq!(inflate(&mut inflater, &[HELLO_AGAIN], &mut ours, 100).unwrap(), b"Hello");
    }
    assert_eq!(inflate(&mut inflater, &[HELLO_AGAIN], &mut theirs, 100), Err(InflateError::Corrupt));
}

#[test]
fn a_reference_past_the_window_into_an_earlier_message_is_corrupt() {
    let (first, second) = (noise(1, 700, 256), noise(2, 400, 256));
    let mut sender = context(15, Takeover::Yes);
    let mut payloads = [Vec::new(), Vec::new(), Vec::new()];
    let mut deflater = deflater(6);
    // Incompressible ones are sent stored.
    for (payload, message) in payloads.iter_mut().zip([&first, &second]) {
        sender.push(message);
        let len = u16::try_from(message.len()).unwrap();
        payload.extend_from_slice(&[&[0], &len.to_le_bytes()[..], &(!len).to_le_bytes(), message, &[0]].concat());
    }
    assert_eq!(deflater.deflate(&first[..100], &mut sender, &mut payloads[2]), Outcome::Compressed);
    for (window_bits, expect) in [(9, Err(InflateError::Corrupt)), (11, Ok(first[..100].to_vec()))] {
        let (mut inflater, mut receiver) = (Inflater::new(), context(window_bits, Takeover::Yes));
        for payload in &payloads[..2] {
            inflate(&mut inflater, &[payload], &mut receiver, 1_000).unwrap();
        }
        assert_eq!(inflate(&mut inflater, &[&payloads[2]], &mut receiver, 1_000), expect, "{window_bits} bits");
    }
}

#[test]
fn a_message_may_be_as_long_as_its_limit_and_not_longer() {
    let mut inflater = Inflater::new();
    for message in [b"Hello".to_vec(), vec![0; 70_000], feed(3, 70_000), noise(4, 70_000, 256)] {
        let mut payload = compress_to_vec(&message, 6);
        payload.push(0);
        for piece_len in [1, 7, 1_000, payload.len()] {
            let pieces: Vec<_> = payload.chunks(piece_len).collect();
            let mut run = |len_max| inflate(&mut inflater, &pieces, &mut context(15, Takeover::Yes), len_max);
            assert_eq!(run(message.len()).as_ref(), Ok(&message));
            assert_eq!(run(message.len() - 1), Err(InflateError::TooBig));
            assert_eq!(run(0), Err(InflateError::TooBig));
        }
    }
    assert_eq!(inflate(&mut inflater, &[b"\x00"], &mut context(15, Takeover::Yes), 0), Ok(Vec::new()));
}

#[test]
fn a_bomb_stops_at_the_limit_in_bounded_memory() {
    const LEN_MAX: usize = 64 << 10;
    let bomb = compress_to_vec(&vec![0; 16 << 20], 9);
    assert!(bomb.len() < 20 << 10);
    for piece_len in [1, 100, bomb.len()] {
        let (mut inflater, mut out) = (Inflater::new(), Vec::new());
        inflater.begin(&context(15, Takeover::Yes), LEN_MAX);
        let outcome = bomb.chunks(piece_len).try_for_each(|piece| inflater.push(piece, &mut out));
        assert_eq!(outcome, Err(InflateError::TooBig));
        assert_eq!(out.len(), LEN_MAX);
        assert_eq!(out.capacity(), LEN_MAX);
        assert_eq!(inflater.work().inflated_len, LEN_MAX);
        // Of a megabyte for each kilobyte, little more is read than what makes the limit.
        assert!(inflater.work().compressed_len < 200, "{:?}", inflater.work());
    }
}

#[test]
fn memory_grows_with_what_is_inflated() {
    let (mut inflater, mut out) = (Inflater::new(), Vec::new());
    inflater.begin(&context(15, Takeover::Yes), 1 << 30);
    inflater.push(HELLO, &mut out).unwrap();
    inflater.push(b"\x00\x00\xff\xff", &mut out).unwrap();
    assert!(out.capacity() <= 1_024);
    inflater.push(&compress_to_vec(&vec![0; 100_000], 9), &mut out).unwrap();
    assert!(out.capacity() <= 2 * out.len());
}

#[test]
fn a_long_message_is_in_memory_once() {
    let zeros = compress_to_vec(&vec![0; 10 << 20], 9);
    let (mut inflater, mut out) = (Inflater::new(), Vec::new());
    inflater.begin(&context(15, Takeover::Yes), 20 << 20);
    let mut moves = 0;
    for piece in zeros.chunks(200) {
        let (before, capacity) = (out.len(), out.capacity());
        inflater.push(piece, &mut out).unwrap();
        moves += usize::from(before >= 2 << 20 && out.capacity() != capacity);
    }
    assert_eq!((out.len(), moves), (10 << 20, 0), "it is not copied to a larger place again and again");
}

#[test]
fn work_counts_bytes_read_and_written() {
    let (mut inflater, mut context) = (Inflater::new(), context(15, Takeover::Yes));
    for payload in [HELLO, HELLO_AGAIN] {
        inflate(&mut inflater, &[payload], &mut context, 100).unwrap();
        assert_eq!((inflater.work().compressed_len, inflater.work().inflated_len), (payload.len(), 5));
    }
}

/// Whatever the input, it is worked off in a loop and not by calls within calls.
#[test]
fn d6_inflating_needs_little_stack_for_any_input() {
    let work = || {
        let mut inflater = Inflater::new();
        let (mut rejected, mut payload) = (0, Vec::new());
        let text = feed(1, 20_000);
        let _ = deflater(9).deflate(&text, &mut context(15, Takeover::No), &mut payload);
        for seed in 0..3_000 {
            let mut ours = context(15, Takeover::Yes);
            // Noise; then what is right up to some byte; then short codes and empty blocks without end.
            let mut input = match seed % 3 {
                0 => noise(seed, 600, 256),
                1 => payload.clone(),
                _ => noise(seed, 5_000, 2),
            };
            let at = usize::try_from(seed * 7).unwrap() % input.len();
            input[at] ^= 1 << (seed % 8);
            rejected += u32::from(inflate(&mut inflater, &[&input], &mut ours, 1 << 20).is_err());
        }
        rejected
    };
    let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(work).unwrap();
    assert!(thread.join().unwrap() > 2_000);
}
