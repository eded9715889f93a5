//! Payloads where frames leave them.

use std::hint::black_box;

use criterion::Throughput;
use ringsock::simd::mask::Key;

use crate::groups;
use crate::groups::Group;

/// A key that changes nothing, so that a text stays a text however often it is unmasked. No code
/// looks for it, and [`measure`] hides it from the compiler.
const KEY: Key = [0; 4];

/// Copies of one payload, each behind room for its frame header, as in a receive buffer.
///
/// There are as many as half a common first-level cache holds, at least one. A single short one,
/// unmasked again and again, would measure how the CPU reads what it has only just written.
pub(crate) struct Payloads {
    bytes: Vec<u8>,
    lines: usize,
    header_len: usize,
    len: usize,
    count: usize,
}

impl Payloads {
    pub(crate) fn new(payload: &[u8]) -> Self {
        let len = payload.len();
        // From a client: with a key.
        let header_len = match len {
            ..126 => 6,
            126..65_536 => 8,
            _ => 14,
        };
        let mut payloads = Self { bytes: Vec::new(), lines: 0, header_len, len, count: 0 };
        payloads.count = (CACHE_LEN / payloads.stride()).clamp(1, COUNT_MAX);
        payloads.bytes = vec![0; LINE_LEN + payloads.count * payloads.stride()];
        payloads.lines = payloads.bytes.as_ptr().align_offset(LINE_LEN);
        payloads.iter_mut().for_each(|copy| copy.copy_from_slice(payload));
        payloads
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let (stride, payload) = (self.stride(), self.header_len..self.header_len + self.len);
        let slots = self.bytes[self.lines..].chunks_exact_mut(stride).take(self.count);
        slots.map(move |slot| &mut slot[payload.clone()])
    }

    /// From one payload to the next: whole cache lines, and one between them.
    fn stride(&self) -> usize {
        (self.header_len + self.len).next_multiple_of(LINE_LEN) + LINE_LEN
    }
}

/// Measures `work` on all of `payloads`; reported are bytes in a second.
///
/// Whether what it saw was good, `work` returns, lest the compiler leave that out.
pub(crate) fn measure(
    group: &mut Group<'_>,
    name: &str,
    payloads: &mut Payloads,
    mut work: impl FnMut(&mut [u8], Key) -> bool,
) {
    let throughput = Throughput::Bytes((payloads.count * payloads.len) as u64);
    groups::measure(group, name, payloads.len, throughput, || {
        let mut all = true;
        for payload in payloads.iter_mut() {
            all &= work(payload, black_box(KEY));
        }
        black_box(&mut payloads.bytes);
        all
    });
}

const LINE_LEN: usize = 64;
const CACHE_LEN: usize = 16 << 10;
const COUNT_MAX: usize = 64;
