//! What topic subscriptions allocate: as much as the table says, within the promise, and nothing for
//! a message.

mod counting;

use ringsock::broker::{Name, Pattern, Subscription, Topics};

use counting::{ALLOCATIONS, BYTES};

/// A table with `count` subscriptions, and what they took.
fn fill(count: u32, text: impl Fn(u32) -> String) -> (Topics<u32>, Vec<Subscription>, usize) {
    let mut subscriptions = Vec::with_capacity(count as usize);
    let before = BYTES.get();
    let mut topics = Topics::default();
    for subscriber in 0..count {
        let text = text(subscriber);
        subscriptions.push(topics.subscribe(Pattern::new(&text).expect("valid"), subscriber));
    }
    let bytes = BYTES.get() - before;
    assert_eq!(topics.memory_bytes(), bytes, "it says what it has");
    (topics, subscriptions, bytes)
}

#[track_caller]
fn check(count: u32, text: impl Fn(u32) -> String, bytes_max: usize) {
    let (mut topics, subscriptions, bytes) = fill(count, &text);
    assert!(bytes <= bytes_max * count as usize, "{bytes} bytes for {count} subscriptions");

    let name = text(7).replace('*', "x");
    let allocations = ALLOCATIONS.get();
    let mut reached = 0;
    for name in [&name, "room.none"] {
        topics.for_each_match(Name::new(name).expect("valid"), |_| reached += 1);
    }
    assert!(reached > 0);
    assert_eq!(ALLOCATIONS.get(), allocations, "none for a message");

    let half = subscriptions.len() / 2;
    for (ended, subscription) in subscriptions.into_iter().enumerate() {
        topics.unsubscribe(subscription);
        if ended + 1 == half {
            // Rows of seats go when a quarter is left, all else at once.
            assert!(topics.memory_bytes() <= bytes * 4 / 5, "half of {bytes} is {}", topics.memory_bytes());
        }
    }
    assert!(topics.is_empty());
    let vacant = Topics::<u32>::default().memory_bytes();
    assert!(topics.memory_bytes() <= vacant, "{} are left, {vacant} are in a new table", topics.memory_bytes());
}

#[test]
fn subscriptions_take_what_was_promised_and_give_it_back() {
    let before = BYTES.get();
    check(1_000_000, |number| format!("room.{number:07}.messages"), 70);
    check(1_000_000, |number| format!("room.{:07}.messages", number % 10), 17);
    check(100_000, |number| format!("room.{:07}.messages", number % 100), 18);
    check(100_000, |number| format!("room.{number:07}.*"), 130);
    check(100_000, |number| format!("room.{number:07}.messages.and.what.they.say"), 112);
    assert_eq!(BYTES.get(), before, "all is given back");
}
