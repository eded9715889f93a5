//! Compressing and decompressing messages, beside other libraries and a compressor of one's own.
//!
//! What a message becomes is as important as how fast: the ratios are printed before the times.

mod groups;

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, create_comp_flags_from_zip_params};
use miniz_oxide::inflate::core::{DecompressorOxide, inflate_flags};
use ringsock::proto::ws::deflate::{Context, Deflater, Inflater, Level, Outcome, Takeover, WindowBits};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

use groups::{Group, group, measure, run};

const LENS: [usize; 4] = [128, 1 << 10, 16 << 10, 1 << 20];

fn main() {
    run(|criterion| {
        for (name, message) in [("JSON", json as fn(&mut Random, usize) -> Vec<u8>), ("text", text), ("binary", binary)]
        {
            deflate(criterion, name, message);
            inflate(criterion, name, message);
        }
    });
}

fn deflate(criterion: &mut Criterion, name: &str, message: fn(&mut Random, usize) -> Vec<u8>) {
    let mut group = group(criterion, &format!("deflate, {name}"));
    for len in LENS {
        let messages = &Messages::new(len, message);
        for level in [1, 3, 6] {
            let way = if level == 1 { "ringsock".to_owned() } else { format!("ringsock, level {level}") };
            messages.measure(&mut group, &way, ringsock(level, context(15, Takeover::No)));
        }
        for bits in [9, 12, 15] {
            let way = format!("ringsock, {bits} bits taken over");
            messages.measure(&mut group, &way, ringsock(1, context(bits, Takeover::Yes)));
            messages.measure(&mut group, &format!("{way}, another's in between"), ringsock_in_turns(1, bits));
            messages.measure(&mut group, &format!("zlib-rs, {bits} bits of its own"), zlib_rs(1, bits));
        }
        messages.measure(&mut group, "flate2 on zlib", flate2(1));
        messages.measure(&mut group, "miniz_oxide", miniz_oxide(1));
        messages.measure(&mut group, "libdeflater", libdeflater(1));
    }
    group.finish();
}

fn ringsock(level: u8, mut context: Context) -> impl FnMut(&[u8], &mut Vec<u8>) {
    let mut deflater = Deflater::new(Level::new(level).expect("a level"));
    move |message, out| {
        let outcome = deflater.deflate(message, &mut context, out);
        if outcome == Outcome::NotShorter {
            out.extend_from_slice(message);
        }
    }
}

/// Of two connections of which only one is remembered, each message goes to the one that is not.
fn ringsock_in_turns(level: u8, bits: u8) -> impl FnMut(&[u8], &mut Vec<u8>) {
    let mut deflater = Deflater::new(Level::new(level).expect("a level"));
    let mut contexts = [context(bits, Takeover::Yes), context(bits, Takeover::Yes)];
    move |message, out| {
        contexts.swap(0, 1);
        if deflater.deflate(message, &mut contexts[0], out) == Outcome::NotShorter {
            out.extend_from_slice(message);
        }
    }
}

/// A compressor that belongs to one connection and takes its context over.
fn zlib_rs(level: i32, bits: u8) -> impl FnMut(&[u8], &mut Vec<u8>) {
    let config = DeflateConfig { level, window_bits: -i32::from(bits), ..DeflateConfig::default() };
    let mut engine = Deflate::new_with_config(config);
    move |message, out| {
        out.resize(message.len() * 2 + 64, 0);
        let before = engine.total_out();
        engine.compress(message, out, DeflateFlush::SyncFlush).expect("an engine can't fail");
        out.truncate(usize::try_from(engine.total_out() - before).expect("short"));
    }
}

fn flate2(level: u32) -> impl FnMut(&[u8], &mut Vec<u8>) {
    let mut engine = Compress::new_with_window_bits(Compression::new(level), false, 15);
    move |message, out| {
        out.resize(message.len() * 2 + 64, 0);
        engine.reset();
        engine.compress(message, out, FlushCompress::Sync).expect("an engine can't fail");
        out.truncate(usize::try_from(engine.total_out()).expect("short"));
    }
}

fn miniz_oxide(level: i32) -> impl FnMut(&[u8], &mut Vec<u8>) {
    let mut engine = CompressorOxide::new(create_comp_flags_from_zip_params(level, -15, 0));
    move |message, out| {
        out.resize(message.len() * 2 + 64, 0);
        engine.reset();
        let (_, _, written) = miniz_oxide::deflate::core::compress(&mut engine, message, out, TDEFLFlush::Sync);
        out.truncate(written);
    }
}

/// Always in final blocks, which some peers take for an error.
fn libdeflater(level: i32) -> impl FnMut(&[u8], &mut Vec<u8>) {
    let mut engine = Compressor::new(CompressionLvl::new(level).expect("a level"));
    move |message, out| {
        out.resize(message.len() * 2 + 64, 0);
        let written = engine.deflate_compress(message, out).expect("there is room");
        out.truncate(written);
    }
}

fn inflate(criterion: &mut Criterion, name: &str, message: fn(&mut Random, usize) -> Vec<u8>) {
    let mut group = group(criterion, &format!("inflate, {name}"));
    for len in LENS {
        let messages = Messages::new(len, message);
        // By zlib, so that nobody reads what his own compressor wrote.
        let mut compress = flate2(6);
        let payloads = messages.0.iter().map(|message| {
            let mut payload = Vec::new();
            compress(message, &mut payload);
            payload.truncate(payload.len() - 4);
            payload
        });
        let payloads = &Messages(payloads.collect());
        let mut measure = |way: &str, work: &mut dyn FnMut(&[u8], &mut Vec<u8>)| {
            payloads.measure_as(&mut group, way, len, work);
        };
        for (way, takeover) in [("ringsock", Takeover::No), ("ringsock, 15 bits taken over", Takeover::Yes)] {
            let (mut inflater, mut context) = (Inflater::new(), context(15, takeover));
            measure(way, &mut |payload, out| {
                inflater.inflate(payload, &mut context, len, out).expect("a good payload");
            });
        }
        let mut engine = Decompress::new_with_window_bits(false, 15);
        measure("flate2 on zlib", &mut |payload, out| {
            out.resize(len, 0);
            engine.reset(false);
            engine.decompress(payload, out, FlushDecompress::Sync).expect("a good payload");
        });
        let mut engine = DecompressorOxide::new();
        measure("miniz_oxide", &mut |payload, out| {
            out.resize(len, 0);
            engine.init();
            let flags =
                inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
            black_box(miniz_oxide::inflate::core::decompress(&mut engine, payload, out, 0, flags));
        });
        let (mut engine, mut whole) = (Decompressor::new(), Vec::new());
        measure("libdeflater", &mut |payload, out| {
            out.resize(len, 0);
            whole.clear();
            whole.extend_from_slice(payload);
            whole.extend_from_slice(b"\x00\x00\xff\xff\x01\x00\x00\xff\xff");
            engine.deflate_decompress(&whole, out).expect("a good payload");
        });
    }
    group.finish();
}

fn context(bits: u8, takeover: Takeover) -> Context {
    Context::new(WindowBits::new(bits).expect("8 to 15"), takeover)
}

/// Messages of one length, which take turns.
struct Messages(Vec<Vec<u8>>);

impl Messages {
    fn new(len: usize, message: fn(&mut Random, usize) -> Vec<u8>) -> Self {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let count = (TOTAL_LEN / len).clamp(2, COUNT_MAX);
        Self((0..count).map(|_| message(&mut random, len)).collect())
    }

    /// Measures a compressor, and prints what part of the messages is left.
    fn measure(&self, group: &mut Group<'_>, way: &str, mut work: impl FnMut(&[u8], &mut Vec<u8>)) {
        let (mut left, mut all, mut out) = (0, 0, Vec::new());
        for message in &self.0 {
            out.clear();
            work(message, &mut out);
            left += out.len();
            all += message.len();
        }
        println!("{way}, {} bytes: {}.{} % left", self.0[0].len(), left * 100 / all, left * 1_000 / all % 10);
        self.measure_as(group, way, self.0[0].len(), &mut work);
    }

    fn measure_as(&self, group: &mut Group<'_>, way: &str, len: usize, work: &mut dyn FnMut(&[u8], &mut Vec<u8>)) {
        let (mut turn, mut out) = (self.0.iter().cycle(), Vec::new());
        measure(group, way, len, Throughput::Bytes(len as u64), || {
            out.clear();
            work(black_box(turn.next().expect("it goes round")), &mut out);
            out.len()
        });
    }
}

/// Events as a feed sends them: the same names, other values.
fn json(random: &mut Random, len: usize) -> Vec<u8> {
    let mut out = String::new();
    while out.len() < len {
        let [kind, room, at, from, cents] = [5, 1_000, 1 << 36, 6, 1_000_000].map(|count| random.below(count));
        let (id, kind) = (random.next(), ["message", "join", "leave", "typing", "price"][kind]);
        let from = ["alice", "bob", "carol", "dave", "erin", "frank"][from];
        out += &format!("{{\"id\":\"{id:016x}\",\"kind\":\"{kind}\",\"room\":{room},\"at\":17{at:011},");
        out += &format!("\"from\":\"{from}\",\"value\":{}.{:02}}},", cents / 100, cents % 100);
    }
    out.truncate(len);
    out.into_bytes()
}

/// Words in no order.
fn text(random: &mut Random, len: usize) -> Vec<u8> {
    let words: Vec<&str> = include_str!("../README.md").split_whitespace().collect();
    let mut out = Vec::new();
    while out.len() < len {
        out.extend_from_slice(words[random.below(words.len())].as_bytes());
        out.push(b' ');
    }
    out.truncate(len);
    out
}

/// Numbers of which three quarters are noise.
fn binary(random: &mut Random, len: usize) -> Vec<u8> {
    let numbers = std::iter::repeat_with(|| (random.next() >> 16).to_be_bytes());
    numbers.flatten().take(len).collect()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).expect("less than a usize")
    }
}

const TOTAL_LEN: usize = 1 << 20;
/// So many that even short ones do not come round again within a window.
const COUNT_MAX: usize = 1_024;
