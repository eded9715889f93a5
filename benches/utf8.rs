//! Validation of text as it is unmasked, beside the parts it is made of and a second pass by `std`
//! or `simdutf8`.

mod groups;
mod payloads;

use std::hint::black_box;

use criterion::Criterion;
use ringsock::simd::utf8::Validator;
use ringsock::simd::{mask, utf8};

use groups::{group, run};
use payloads::{Payloads, measure};

const LENS: [usize; 4] = [16, 125, 4 << 10, 1 << 20];

const TEXTS: [(&str, &str); 5] = [
    ("ASCII", "The quick brown fox jumps over the lazy dog. "),
    ("2 bytes", "Съешьжеещёэтихмягкихфранцузскихбулокдавыпейчаю"),
    ("3 bytes", "いろはにほへとちりぬるをわかよたれそつねならむ"),
    ("mixed", "Pijamalı hasta, yağız şoföre çabucak güvendi: 10 € 🚀. "),
    ("rare", RARE),
];

/// As in JSON with a name in it.
const RARE: &str = "{\"id\":\"7f3c9f0a-4d2e-4b5a-9c39-0d1f3e6a8b27\",\"kind\":\"message\",\"room\":\"general\",\
     \"at\":\"2026-02-03T04:05:06.789Z\",\"from\":{\"id\":4711,\"name\":\"Zo\u{eb}\"},\"text\":\"See you at nine\"}";

fn main() {
    run(|criterion| {
        for (name, text) in TEXTS {
            of(criterion, &format!("unmask and validate, {name}"), text);
        }
    });
}

fn of(criterion: &mut Criterion, name: &str, text: &str) {
    let mut group = group(criterion, name);
    for len in LENS {
        let text = text.repeat(len / text.len() + 1);
        let payloads = &mut Payloads::new(&text.as_bytes()[..text.floor_char_boundary(len)]);
        let mut memory = Vec::with_capacity(len);
        measure(&mut group, "(std)", payloads, |bytes, _| std::str::from_utf8(bytes).is_ok());
        measure(&mut group, "(simdutf8)", payloads, |bytes, _| simdutf8::basic::from_utf8(bytes).is_ok());
        measure(&mut group, "(unmask)", payloads, |bytes, key| mask::apply(bytes, key) == key);
        measure(&mut group, "unmask, then std", payloads, |bytes, key| {
            mask::apply(bytes, key);
            std::str::from_utf8(bytes).is_ok()
        });
        measure(&mut group, "unmask, then simdutf8", payloads, |bytes, key| {
            mask::apply(bytes, key);
            simdutf8::basic::from_utf8(bytes).is_ok()
        });
        measure(&mut group, "ringsock", payloads, utf8::apply);
        measure(&mut group, "ringsock, copying", payloads, |bytes, key| {
            memory.clear();
            let mut validator = Validator::default();
            let appended = validator.append(black_box(&mut memory), bytes, key);
            appended.is_ok() && validator.finish().is_ok()
        });
    }
    group.finish();
}
