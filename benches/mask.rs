//! Unmasking, in place and while copying, beside `memcpy`, a loop over bytes, every kernel of this
//! machine and fastwebsockets. The kernels of tungstenite and tokio-websockets are private.

mod groups;
mod payloads;

use std::hint::black_box;

use criterion::Criterion;
use ringsock::simd::kernel::Kernel;
use ringsock::simd::mask;
use ringsock::simd::mask::Key;

use groups::{group, run};
use payloads::{Payloads, measure};

/// 125 is the longest whose frame header has two bytes and a key.
const LENS: [usize; 6] = [16, 125, 1 << 10, 16 << 10, 64 << 10, 1 << 20];

fn main() {
    run(|criterion| {
        in_place(criterion);
        copying(criterion);
    });
}

fn in_place(criterion: &mut Criterion) {
    let mut group = group(criterion, "unmask in place");
    for len in LENS {
        let payloads = &mut Payloads::new(&vec![b'x'; len]);
        let mut target = vec![0; len];
        measure(&mut group, "(memcpy)", payloads, |bytes, _| {
            black_box(&mut target[..]).copy_from_slice(bytes);
            true
        });
        measure(&mut group, "byte loop", payloads, |bytes, key| {
            byte_loop(bytes, key);
            true
        });
        measure(&mut group, "fastwebsockets", payloads, |bytes, key| {
            fastwebsockets::unmask(bytes, key);
            true
        });
        measure(&mut group, "ringsock", payloads, |bytes, key| mask::apply(bytes, key) == key);
        measure(&mut group, "ringsock, ASCII?", payloads, |bytes, key| mask::apply_ascii(bytes, key).1);
        for kernel in Kernel::available() {
            measure(&mut group, &format!("ringsock, {}", kernel.name()), payloads, |bytes, key| {
                kernel.apply(bytes, key)
            });
        }
    }
    group.finish();
}

fn copying(criterion: &mut Criterion) {
    let mut group = group(criterion, "unmask while copying");
    for len in LENS {
        let payloads = &mut Payloads::new(&vec![b'x'; len]);
        let mut memory = Vec::with_capacity(len);
        measure(&mut group, "(memcpy)", payloads, |bytes, _| {
            cleared(&mut memory).extend_from_slice(bytes);
            true
        });
        measure(&mut group, "byte loop", payloads, |bytes, key| {
            cleared(&mut memory).extend(bytes.iter().enumerate().map(|(index, byte)| byte ^ key[index % 4]));
            true
        });
        measure(&mut group, "memcpy, fastwebsockets", payloads, |bytes, key| {
            let out = cleared(&mut memory);
            out.extend_from_slice(bytes);
            fastwebsockets::unmask(out, key);
            true
        });
        measure(&mut group, "ringsock", payloads, |bytes, key| mask::append(cleared(&mut memory), bytes, key) == key);
        measure(&mut group, "ringsock, ASCII?", payloads, |bytes, key| {
            mask::append_ascii(cleared(&mut memory), bytes, key).1
        });
        for kernel in Kernel::available() {
            measure(&mut group, &format!("ringsock, {}", kernel.name()), payloads, |bytes, key| {
                kernel.append(cleared(&mut memory), bytes, key)
            });
        }
    }
    group.finish();
}

/// The memory to copy into. The compiler must take it for a block that others look at.
fn cleared(memory: &mut Vec<u8>) -> &mut Vec<u8> {
    memory.clear();
    black_box(memory)
}

fn byte_loop(bytes: &mut [u8], key: Key) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte ^= key[index % 4];
    }
}
