//! Reading frame headers, beside a textbook parser and tungstenite, which leaves the role and the
//! shortest form of a length to others. fastwebsockets and tokio-websockets have no public call
//! that stops after the header: see `receive`.

mod groups;
mod textbook {
    pub(crate) mod decoder;
}

use std::hint::black_box;
use std::io::Cursor;

use criterion::{Criterion, Throughput};
use ringsock::proto::ws::{FrameHeader, Opcode, ReservedBits, Role, encoder};
use tungstenite::protocol::frame;

use groups::{group, measure, run};
use textbook::decoder;

/// How many headers stand back to back. Payloads between them would only be skipped.
const COUNT: usize = 256;
/// One length for each form of it, then all of them, in an order that no branch predictor knows.
const ROWS: [(&str, &[usize]); 4] = [
    ("7 bits", &[16]),
    ("16 bits", &[1 << 10]),
    ("64 bits", &[1 << 20]),
    ("mixed", &[16, 125, 126, 1 << 10, 65_535, 65_536, 1 << 20]),
];

fn main() {
    run(headers);
}

fn headers(criterion: &mut Criterion) {
    let mut group = group(criterion, "frame header");
    for (row, lens) in ROWS {
        let bytes = &headers_of(lens);
        let throughput = || Throughput::Elements(COUNT as u64);
        measure(&mut group, "textbook", row, throughput(), || {
            walk(bytes, |rest| {
                let header = decoder::header(rest).expect("it is whole");
                let len = header.len;
                black_box((header.fin, header.opcode, header.payload_len, header.key));
                len
            })
        });
        measure(&mut group, "ringsock", row, throughput(), || {
            walk(bytes, |rest| {
                let header = FrameHeader::parse(rest, Role::Server, ReservedBits::Unused)
                    .expect("it is right")
                    .expect("it is whole");
                black_box(header).len
            })
        });
        measure(&mut group, "tungstenite", row, throughput(), || {
            walk(bytes, |rest| {
                let mut cursor = Cursor::new(rest);
                black_box(frame::FrameHeader::parse(&mut cursor).expect("it is right").expect("it is whole"));
                usize::try_from(cursor.position()).expect("a place in the slice")
            })
        });
    }
    group.finish();
}

/// Reads all headers; `read` says how long each is.
fn walk(bytes: &[u8], mut read: impl FnMut(&[u8]) -> usize) -> usize {
    let mut rest = black_box(bytes);
    let mut count = 0;
    while !rest.is_empty() {
        rest = &rest[read(rest)..];
        count += 1;
    }
    assert_eq!(count, COUNT);
    count
}

fn headers_of(lens: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut random = 1_usize;
    for _ in 0..COUNT {
        // Knuth's multiplier: the upper bits are as good as random for a branch predictor.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        encoder::header(&mut out, Opcode::Binary, lens[(random >> 33) % lens.len()], Some([1, 2, 3, 4]));
    }
    out
}
