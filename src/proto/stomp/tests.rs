//! Frames in and out, cut in every way. A test's comment names what of the specification it stands for.

mod bodies;
mod escapes;
mod limits;
mod lines;
mod property;
mod sessions;

use super::*;
use crate::buf::Pool;

/// A frame that owns what it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Seen {
    command: Command,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Inputs up to this length are cut at every pair of offsets.
const EVERY_PAIR_LEN_MAX: usize = 64;

/// The frames of `input` cut at `cuts`, and the error that ends it, if there is one.
fn observe(version: Option<Version>, limits: Limits, input: &[u8], cuts: &[usize]) -> (Vec<Seen>, Option<StompError>) {
    let mut pool = Pool::default();
    let mut decoder = Decoder::new(limits);
    if let Some(version) = version {
        decoder.set_version(version);
    }
    let mut frames = Vec::new();
    let mut error = None;
    let ends = cuts.iter().copied().chain([input.len()]);
    let mut start = 0;
    for end in ends {
        let mut piece = &input[start..end];
        start = end;
        loop {
            match decoder.receive(&mut piece, &mut pool) {
                Ok(Some(frame)) => frames.push(Seen {
                    command: frame.command(),
                    headers: frame.headers().map(|header| (header.name().into(), header.value().into())).collect(),
                    body: frame.body().to_vec(),
                }),
                Ok(None) => break,
                Err(found) => {
                    error = Some(found);
                    break;
                }
            }
        }
        assert!(piece.is_empty(), "all of the input is consumed");
        let bound = (limits.headers_max.saturating_add(2)).saturating_mul(limits.header_bytes_max.saturating_add(3));
        let bound = bound.saturating_add(limits.body_bytes_max).saturating_add(64);
        assert!(decoder.held_bytes() <= bound, "{} bytes are held", decoder.held_bytes());
    }
    decoder.end(&mut pool);
    assert_eq!(pool.lent(), 0, "no block is lost");
    (frames, error)
}

/// Checks what an input comes to, whole, at every cut, at every two cuts if it is short, and byte by byte.
#[track_caller]
fn check_with(version: Option<Version>, limits: Limits, input: &[u8], frames: &[Seen], error: Option<StompError>) {
    let expect = (frames.to_vec(), error);
    let run = |cuts: &[usize]| assert_eq!(observe(version, limits, input, cuts), expect, "cut at {cuts:?}");
    run(&[]);
    (0..=input.len()).for_each(|cut| run(&[cut]));
    if input.len() <= EVERY_PAIR_LEN_MAX {
        for first in 0..=input.len() {
            (first..=input.len()).for_each(|second| run(&[first, second]));
        }
    }
    run(&Vec::from_iter(1..input.len()));
}

#[track_caller]
fn check(version: Version, input: &[u8], frames: &[Seen]) {
    check_with(Some(version), Limits::default(), input, frames, None);
}

#[track_caller]
fn check_error(version: Version, input: &[u8], error: StompError) {
    check_with(Some(version), Limits::default(), input, &[], Some(error));
}

fn seen(command: Command, headers: &[(&str, &str)], body: &[u8]) -> Seen {
    let headers = headers.iter().map(|&(name, value)| (name.into(), value.into())).collect();
    Seen { command, headers, body: body.into() }
}

fn send(headers: &[(&str, &str)], body: &[u8]) -> Seen {
    seen(Command::Send, headers, body)
}

const ALL_VERSIONS: [Version; 3] = [Version::V1_0, Version::V1_1, Version::V1_2];
