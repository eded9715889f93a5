//! Compression as a whole, against the RFC, another implementation and hostile peers.

mod handshake;
mod inflating;
mod property;
mod shortening;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use crate::proto::ws::deflate::{Context, Deflater, Level, Takeover, WindowBits};

fn context(window_bits: u8, takeover: Takeover) -> Context {
    Context::new(WindowBits::new(window_bits).unwrap(), takeover)
}

fn deflater(level: u8) -> Deflater {
    Deflater::new(Level::new(level).unwrap())
}

/// Bytes of which at most `alphabet` are different, the same for the same `seed`.
fn noise(seed: u64, len: usize, alphabet: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from((state >> 32) % alphabet.clamp(1, 256)).unwrap()
    });
    bytes.take(len).collect()
}

/// A text whose lines look alike and are not, like those of a feed.
fn feed(seed: u64, len: usize) -> Vec<u8> {
    let numbers = noise(seed, len, 256);
    let lines = numbers.iter().flat_map(|number| format!("{{\"id\":{number},\"kind\":\"price\"}},").into_bytes());
    lines.take(len).collect()
}

/// What another implementation makes of a stream, with a window of no more than `window_bits`.
///
/// Its window is a ring, so that a longer reference would give wrong bytes.
fn inflate_elsewhere(payloads: &[Vec<u8>], window_bits: u8) -> Vec<u8> {
    let mut input = payloads.join(b"\x00\x00\xff\xff".as_slice());
    input.extend_from_slice(b"\x00\x00\xff\xff\x01\x00\x00\xff\xff");
    let mut ring = vec![0; 1 << window_bits];
    let (mut engine, mut input, mut out, mut at) = (DecompressorOxide::new(), &input[..], Vec::new(), 0);
    loop {
        let (status, read, written) =
            decompress(&mut engine, input, &mut ring, at, inflate_flags::TINFL_FLAG_HAS_MORE_INPUT);
        out.extend_from_slice(&ring[at..at + written]);
        input = &input[read..];
        at = (at + written) % ring.len();
        match status {
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::Done => return out,
            status => panic!("the other implementation says {status:?}"),
        }
    }
}
