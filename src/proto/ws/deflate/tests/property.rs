//! Properties that hold for any input. A failure prints the input and its seed.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::proto::ws::deflate::tests::context;
use crate::proto::ws::deflate::tests::deflater;
use crate::proto::ws::deflate::tests::feed;
use crate::proto::ws::deflate::tests::inflate_elsewhere;
use crate::proto::ws::deflate::tests::noise;
use crate::proto::ws::deflate::{Deflater, InflateError, Inflater, Level, Outcome, Takeover, WindowBits};

#[derive(Clone, Copy, Debug)]
enum Step {
    Trim,
    Send,
    SendToMany,
    SendToAnother,
}

fn step() -> impl Strategy<Value = Step> {
    let send = prop_oneof![2 => Just(Step::Send), 1 => Just(Step::SendToMany), 1 => Just(Step::SendToAnother)];
    prop_oneof![1 => Just(Step::Trim), 6 => send]
}

fn takeover() -> impl Strategy<Value = Takeover> {
    prop_oneof![Just(Takeover::No), Just(Takeover::Yes)]
}

/// A message that is a text, noise, or noise of few different bytes. Most are short.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![4 => 0..600_usize, 2 => 0..5_000_usize, 1 => 0..200_000_usize];
    (any::<u64>(), len, 0..=256_u64).prop_map(|(seed, len, alphabet)| match alphabet {
        0..100 => feed(seed % 16, len),
        _ => noise(seed, len, alphabet - 99),
    })
}

/// Inflates a payload in pieces of these lengths, again and again.
fn inflate_in_pieces(
    inflater: &mut Inflater,
    payload: &[u8],
    lens: &[usize],
    out: &mut Vec<u8>,
) -> Result<(), InflateError> {
    let mut rest = payload;
    for &len in lens.iter().cycle() {
        let piece = rest.split_off(..len.min(rest.len())).unwrap_or_default();
        inflater.push(piece, out)?;
        if rest.is_empty() {
            break;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn messages_come_back_here_and_elsewhere(
        messages in vec(message(), 1..8),
        level in 1..=9_u8,
        window_bits in 8..=15_u8,
        takeover in takeover(),
        lens in vec(1..2_000_usize, 1..5),
    ) {
        let (mut deflater, mut inflater) = (deflater(level), Inflater::new());
        let (mut sender, mut receiver) = (context(window_bits, takeover), context(window_bits, takeover));
        let (mut payloads, mut sent) = (Vec::new(), Vec::new());
        for message in &messages {
            let mut payload = Vec::new();
            if deflater.deflate(message, &mut sender, &mut payload) == Outcome::NotShorter {
                continue;
            }
            prop_assert!(payload.len() < message.len());
            let mut out = Vec::new();
            inflater.begin(&receiver, message.len());
            prop_assert_eq!(inflate_in_pieces(&mut inflater, &payload, &lens, &mut out), Ok(()));
            prop_assert_eq!(inflater.finish(&out, &mut receiver), Ok(()));
            prop_assert!(&out == message, "the message has changed");
            prop_assert!(receiver.window().concat().ends_with(&sender.window().concat()), "both sides keep the same");
            prop_assert!(receiver.memory_len() <= receiver.memory_max());
            sent.extend_from_slice(message);
            payloads.push(payload);
        }
        prop_assert!(payloads.is_empty() || inflate_elsewhere(&payloads, window_bits) == sent);
    }

    #[test]
    fn whichever_engine_compresses_the_peer_understands(
        steps in vec((message(), step()), 1..12),
        level in 1..=9_u8,
        window_bits in 8..=15_u8,
        takeover in takeover(),
        engines in 0..3_usize,
    ) {
        let memory = engines * Deflater::engine_memory_len(WindowBits::MAX);
        let (mut ours, mut inflater) = (Deflater::with_memory(Level::new(level).unwrap(), memory), Inflater::new());
        let (mut sender, mut receiver) = (context(window_bits, takeover), context(window_bits, takeover));
        let mut another = context(window_bits, takeover);
        for (message, step) in &steps {
            let mut payload = Vec::new();
            let outcome = match step {
                Step::Trim => {
                    ours.trim();
                    continue;
                }
                Step::Send => ours.deflate(message, &mut sender, &mut payload),
                Step::SendToAnother => {
                    let _ = ours.deflate(message, &mut another, &mut payload);
                    continue;
                }
                Step::SendToMany => {
                    let outcome = ours.deflate(message, &mut context(window_bits, Takeover::No), &mut payload);
                    if outcome == Outcome::Compressed {
                        sender.push(message);
                    }
                    outcome
                }
            };
            if outcome == Outcome::Compressed {
                let mut out = Vec::new();
                prop_assert_eq!(inflater.inflate(&payload, &mut receiver, message.len(), &mut out), Ok(()));
                prop_assert!(&out == message, "the message has changed");
                prop_assert!(receiver.window().concat().ends_with(&sender.window().concat()), "both sides keep the same");
            }
        }
    }

    #[test]
    fn the_levels_of_another_sender_come_back(message in message(), level in 0..=10_u8) {
        let mut payload = miniz_oxide::deflate::compress_to_vec(&message, level);
        payload.push(0);
        let mut out = Vec::new();
        let mut context = context(15, Takeover::Yes);
        prop_assert_eq!(Inflater::new().inflate(&payload, &mut context, message.len(), &mut out), Ok(()));
        prop_assert!(out == message, "the message has changed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn garbage_gives_the_same_error_in_any_chunking(
        payload in vec(any::<u8>(), 0..300),
        history in vec(any::<u8>(), 0..300),
        lens in vec(1..100_usize, 1..4),
        len_max in 0..2_000_usize,
    ) {
        let mut inflater = Inflater::new();
        let mut run = |lens: &[usize]| {
            let mut context = context(15, Takeover::Yes);
            context.push(&history);
            let mut out = Vec::new();
            inflater.begin(&context, len_max);
            let outcome = inflate_in_pieces(&mut inflater, &payload, lens, &mut out)
                .and_then(|()| inflater.finish(&out, &mut context));
            assert!(out.len() <= len_max && out.capacity() <= len_max);
            (outcome, out)
        };
        prop_assert_eq!(run(&[usize::MAX]), run(&lens));
    }

    #[test]
    fn a_damaged_payload_is_bounded_and_does_not_panic(
        seed in 0..100_u64,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        len_max in 0..20_000_usize,
    ) {
        let mut payload = Vec::new();
        let text = feed(seed, 5_000);
        prop_assert_eq!(
            deflater(6).deflate(&text, &mut context(15, Takeover::No), &mut payload),
            Outcome::Compressed
        );
        for (index, byte) in damage {
            let at = index.index(payload.len());
            payload[at] = byte;
        }
        let mut out = Vec::new();
        let outcome = Inflater::new().inflate(&payload, &mut context(15, Takeover::Yes), len_max, &mut out);
        prop_assert!(out.len() <= len_max);
        prop_assert!(outcome.is_ok() || !out.is_empty() || len_max == 0 || outcome == Err(InflateError::Corrupt));
    }
}
