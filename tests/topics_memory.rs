//! What topic subscriptions allocate: as much as the table says, within the promise, and nothing for
//! a message.
#![expect(unsafe_code, reason = "a global allocator is unsafe to write, also one that only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use ringsock::broker::{Name, Pattern, Subscription, Topics};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it is; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc`, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const COUNT: u32 = 1_000_000;
/// A table with a million subscriptions, and what each of them took.
fn fill(text: impl Fn(u32) -> String) -> (Topics<u32>, Vec<Subscription>, usize) {
    let mut subscriptions = Vec::with_capacity(COUNT as usize);
    let before = BYTES.load(Ordering::Relaxed);
    let mut topics = Topics::default();
    for subscriber in 0..COUNT {
        let text = text(subscriber);
        subscriptions.push(topics.subscribe(Pattern::new(&text).expect("valid"), subscriber));
    }
    let bytes = BYTES.load(Ordering::Relaxed) - before;
    assert_eq!(topics.memory_bytes(), bytes, "it says what it has");
    (topics, subscriptions, bytes)
}

#[track_caller]
fn check(text: impl Fn(u32) -> String, bytes_max: usize) {
    let (mut topics, subscriptions, bytes) = fill(&text);
    assert!(bytes <= bytes_max * COUNT as usize, "{bytes} bytes for {COUNT} subscriptions");

    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let mut reached = 0;
    topics.for_each_match(Name::new("room.0000007.messages").expect("valid"), |_| reached += 1);
    topics.for_each_match(Name::new("room.none").expect("valid"), |_| reached += 1);
    assert!(reached > 0);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), allocations, "none for a message");

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

// The only test of this file: another one would allocate meanwhile.
#[test]
fn subscriptions_take_what_was_promised_and_give_it_back() {
    let before = BYTES.load(Ordering::Relaxed);
    check(|number| format!("room.{number:07}.messages"), 84);
    check(|number| format!("room.{:07}.messages", number % 10), 17);
    check(|number| format!("room.{:07}.messages", number % 1_000), 18);
    check(|number| format!("room.{number:07}.*"), 200);
    assert_eq!(BYTES.load(Ordering::Relaxed), before, "all is given back");
}
