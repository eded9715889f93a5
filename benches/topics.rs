//! Topic subscriptions: whom a message reaches, and what it takes to come and go.
//!
//! `HashMap` is what a broker would be written with first: vectors of subscribers by name, and a
//! list of patterns that are compared one after the other. Its subscribers are found for the end of
//! a subscription by a search through those of the topic.
//!
//! Memory is printed before the measurements: what the table has asked for, and by how much the
//! process has grown, which counts what the allocator rounds up.

mod groups;

use std::collections::HashMap;
use std::env;
use std::hint::black_box;
use std::process::Command;

use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput};
use ringsock::broker::{Name, Pattern, Subscription, Topics};

use groups::{Group, group, measure, run};

const MILLION: u32 = 1_000_000;
/// How many patterns with wildcards there are beside each other.
const PATTERN_COUNT: u32 = 10_000;

/// Which of the cases a process measures the memory of; the others do not have it.
const MEMORY_CASE: &str = "RINGSOCK_TOPICS_MEMORY";
/// Patterns by number, whose memory is measured.
type Case = (&'static str, fn(u32) -> String);
const CASES: [Case; 5] = [
    ("a topic each", |number| format!("room.{number:07}.messages")),
    ("a topic of 40 bytes each", |number| format!("room.{number:07}.messages.and.what.they.say")),
    ("10 topics", |number| format!("room.{:07}.messages", number % 10)),
    ("1,000 topics", |number| format!("room.{:07}.messages", number % 1_000)),
    ("a pattern with * each", |number| format!("room.{number:07}.*")),
];

fn main() {
    if let Ok(case) = env::var(MEMORY_CASE) {
        return print_memory(case.parse().expect("a number"));
    }
    for case in 0..CASES.len() {
        // A process of its own, since memory that was given back may still count as resident.
        let mut process = Command::new(env::current_exe().expect("it runs"));
        assert!(process.env(MEMORY_CASE, case.to_string()).status().expect("it ran before").success());
    }
    run(|criterion| {
        reach(criterion);
        wildcards(criterion);
        come_and_go(criterion);
    });
}

fn print_memory(case: usize) {
    let (case, text) = CASES[case];
    let resident_before = resident_bytes();
    let mut topics = Topics::default();
    let mut subscriptions = Vec::with_capacity(MILLION as usize);
    for subscriber in 0..MILLION {
        subscriptions.push(topics.subscribe(pattern(&text(subscriber)), subscriber));
    }
    let each = |bytes: usize| bytes as f64 / f64::from(MILLION);
    // Not the handles, which are the caller's.
    let grown = resident_bytes().saturating_sub(resident_before).saturating_sub(4 * subscriptions.len());
    let full = topics.memory_bytes();
    subscriptions.into_iter().for_each(|subscription| topics.unsubscribe(subscription));
    println!(
        "memory, a million subscriptions, {case}: {:.1} B each asked for, {:.1} B resident; {} B when all have ended",
        each(full),
        each(grown),
        topics.memory_bytes()
    );
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: usize = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4_096
}

/// A message to a topic among a thousand topics, by how many subscribers that has.
fn reach(criterion: &mut Criterion) {
    let mut group = group(criterion, "a message to a topic");
    for count in [0, 1, 1_000] {
        let (mut topics, mut map) = (Topics::default(), HashMap::<String, Vec<u32>>::new());
        let names =
            (0..1_000).map(|number| (format!("room.{number:07}.messages"), if number == 7 { count } else { 1 }));
        for (name, count) in names {
            for subscriber in 0..count {
                let _ = topics.subscribe(pattern(&name), subscriber);
                map.entry(name.clone()).or_default().push(subscriber);
            }
        }
        let text = "room.0000007.messages";
        let throughput = || Throughput::Elements(u64::from(count.max(1)));
        let row = format!("{count} subscribers");
        measure(&mut group, "ringsock", &row, throughput(), || reached(&topics, black_box(text)));
        measure(&mut group, "HashMap", &row, throughput(), || {
            let subscribers = map.get(black_box(text)).map_or(&[][..], Vec::as_slice);
            subscribers.iter().fold(0, |sum, &subscriber| sum + u64::from(subscriber))
        });
    }
    let mut topics = Topics::default();
    let names: Vec<String> = (0..MILLION).map(|number| format!("room.{number:07}.messages")).collect();
    for (name, subscriber) in names.iter().zip(0..) {
        let _ = topics.subscribe(pattern(name), subscriber);
    }
    let mut random = (0..MILLION).map(|number| number.wrapping_mul(2_654_435_761) % MILLION).cycle();
    measure(&mut group, "ringsock", "one of a million topics", Throughput::Elements(1), || {
        reached(&topics, &names[random.next().expect("endless") as usize])
    });
    group.finish();
}

/// A message to a topic where others have subscribed to ten thousand patterns.
fn wildcards(criterion: &mut Criterion) {
    let mut group = group(criterion, "a message among 10,000 patterns");
    let (mut topics, mut patterns) = (Topics::default(), Vec::new());
    for number in 0..PATTERN_COUNT {
        let text = match number % 4 {
            0 => format!("room.{number}.*"),
            1 => format!("room.*.{number}"),
            2 => format!("room.{number}.#"),
            _ => format!("*.{number}.messages.#"),
        };
        let _ = topics.subscribe(pattern(&text), number);
        patterns.push(text);
    }
    for (row, text) in
        [("matches one", "room.4000.messages"), ("matches none", "room.x.messages"), ("begins as none", "x")]
    {
        let expect = patterns.iter().filter(|pattern| matches(pattern, text)).count();
        let mut count = 0;
        topics.for_each_match(name(text), |_| count += 1);
        assert_eq!(count, expect);
        measure(&mut group, "ringsock", row, Throughput::Elements(1), || reached(&topics, black_box(text)));
        measure(&mut group, "a scan of all patterns", row, Throughput::Elements(1), || {
            patterns.iter().filter(|pattern| matches(pattern, black_box(text))).count()
        });
    }
    // As many branches as there can be.
    let mut topics = Topics::default();
    let text = ["abcdefg"; 32].join(".");
    for stars in 0..1 << 8 {
        let segments = text.split('.').enumerate();
        let segments =
            segments.map(|(index, segment)| if index < 8 && stars >> index & 1 == 1 { "*" } else { segment });
        let _ = topics.subscribe(pattern(&segments.collect::<Vec<_>>().join(".")), stars);
    }
    measure(&mut group, "ringsock", "the worst 256", Throughput::Elements(1), || reached(&topics, black_box(&text)));
    group.finish();
}

/// Subscriptions made and ended, each in an order of no pattern.
fn come_and_go(criterion: &mut Criterion) {
    let mut group = group(criterion, "100,000 subscriptions");
    group.sampling_mode(SamplingMode::Flat);
    const COUNT: u32 = 100_000;
    let own: Vec<String> = (0..COUNT).map(|number| format!("room.{number:07}.messages")).collect();
    let few: Vec<String> = (0..COUNT).map(|number| format!("room.{:07}.messages", number % 10)).collect();
    let starred: Vec<String> = (0..COUNT).map(|number| format!("room.{number:07}.*")).collect();
    group.throughput(Throughput::Elements(u64::from(COUNT)));
    for (case, texts) in [("a topic each", &own), ("10 topics", &few), ("a pattern each", &starred)] {
        come(&mut group, case, texts);
        group.bench_function(BenchmarkId::new("ringsock", format!("unsubscribe, {case}")), |bencher| {
            let filled = || {
                let (topics, subscriptions) = subscribed(texts);
                let mut subscriptions: Vec<Option<Subscription>> = subscriptions.into_iter().map(Some).collect();
                for index in 0..COUNT {
                    subscriptions.swap(index as usize, (index.wrapping_mul(2_654_435_761) % COUNT) as usize);
                }
                (topics, subscriptions)
            };
            let work = |(topics, subscriptions): &mut (Topics<u32>, Vec<Option<Subscription>>)| {
                subscriptions.iter_mut().for_each(|one| topics.unsubscribe(one.take().expect("once")));
            };
            bencher.iter_batched_ref(filled, work, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn come(group: &mut Group<'_>, case: &str, texts: &[String]) {
    let row = format!("subscribe, {case}");
    group.bench_function(BenchmarkId::new("ringsock", &row), |bencher| {
        bencher.iter_batched(|| (), |()| subscribed(texts), BatchSize::PerIteration);
    });
    group.bench_function(BenchmarkId::new("HashMap", &row), |bencher| {
        let work = || {
            let mut map = HashMap::<String, Vec<u32>>::new();
            for (text, subscriber) in texts.iter().zip(0..) {
                map.entry(text.clone()).or_default().push(subscriber);
            }
            map
        };
        bencher.iter_batched(|| (), |()| work(), BatchSize::PerIteration);
    });
}

fn subscribed(texts: &[String]) -> (Topics<u32>, Vec<Subscription>) {
    let mut topics = Topics::default();
    let subscriptions = texts.iter().zip(0..).map(|(text, subscriber)| topics.subscribe(pattern(text), subscriber));
    let subscriptions = subscriptions.collect();
    (topics, subscriptions)
}

/// Reads the name as for a SEND, and adds the subscribers up that it reaches.
fn reached(topics: &Topics<u32>, text: &str) -> u64 {
    let mut sum = 0;
    topics.for_each_match(name(text), |subscriber| sum += u64::from(subscriber));
    sum
}

/// Whether `pattern` matches, by segments, where all separators are dots.
fn matches(pattern: &str, name: &str) -> bool {
    let mut segments = name.split('.');
    for piece in pattern.split('.') {
        match (piece, segments.next()) {
            ("#", _) => return true,
            ("*", Some(_)) => {}
            (piece, Some(segment)) if piece == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

fn name(text: &str) -> Name<'_> {
    Name::new(text).expect("valid")
}

fn pattern(text: &str) -> Pattern<'_> {
    Pattern::new(text).expect("valid")
}
