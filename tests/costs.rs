//! What a message costs the server in steady state: no allocation, and no copy but those that are
//! said here.
#![expect(unsafe_code, reason = "a global allocator is unsafe to write, also one that only counts")]

mod client;
mod host;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringsock::proto::ws::Opcode;
use ringsock::{ConnectionId, Effects, Handler, Message, MessageKind, Options, encoder};

use client::{Arrival, Client, frame};
use host::Host;

/// Counts allocations of the threads that asked for it.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if IS_COUNTED.get() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it is; counting touches no memory of it and
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` or `realloc`, which are the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Echoes what it is sent, or sends it to everybody if it begins with a star; has its worker's
/// allocations counted.
#[derive(Clone)]
struct Counted;

impl Handler for Counted {
    fn on_open(&mut self, _: ConnectionId, _: &mut Effects<'_>) {
        IS_COUNTED.set(true);
    }

    fn on_message(&mut self, _: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        if message.bytes().starts_with(b"*") {
            effects.broadcast(&encoder::shared(MessageKind::Binary, message.bytes()));
        } else {
            effects.echo(message);
        }
    }
}

/// One worker, so that everybody is on it, and one test at a time, whose allocations are counted.
fn start() -> (Host, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let adjust = |options: &mut Options| {
        options.workers = Some(1);
        options.worker.messages.message_bytes_max = 4 << 20;
    };
    (Host::start(adjust, |_| Counted), alone)
}

/// Has `talk` run until it costs no allocation any more, which it must within some rounds.
#[track_caller]
fn check_no_allocation(what: &str, mut talk: impl FnMut()) {
    let mut counts = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        talk();
        counts.push(ALLOCATIONS.load(Ordering::Relaxed) - before);
        if counts.ends_with(&[0, 0]) {
            return;
        }
    }
    panic!("{what}: allocations by round {counts:?}");
}

const ROUNDS_MAX: usize = 30;

#[test]
fn echoes_of_any_length_allocate_nothing_once_the_pool_is_warm() {
    let (host, _alone) = start();
    let mut client = Client::open(host.address);
    for len in [0, 16, 125, 1_000, 20_000, 70_000, 300_000, 1 << 20] {
        let payload: Vec<u8> = b"0123456789".iter().copied().cycle().take(len).collect();
        let text = Arrival::Text(String::from_utf8(payload.clone()).expect("digits"));
        check_no_allocation(&format!("text of {len} bytes"), || {
            for _ in 0..10 {
                client.say(Opcode::Text, &payload);
                client.expect(&text);
            }
        });
    }
    drop(client);
    host.stop();
}

#[test]
fn a_pipeline_allocates_nothing_once_the_pool_is_warm() {
    let (host, _alone) = start();
    let mut client = Client::open(host.address);
    let mut burst = frame(Opcode::Binary, &[7; 125]).repeat(16);
    burst.extend(frame(Opcode::Ping, b"there?"));
    check_no_allocation("16 messages and a ping at a time", || {
        for _ in 0..10 {
            client.send(&burst);
            for _ in 0..16 {
                client.expect(&Arrival::Binary(vec![7; 125]));
            }
            client.expect(&Arrival::Pong(b"there?".to_vec()));
        }
    });
    client.check_echo("and that is all");
    drop(client);
    host.stop();
}

#[test]
fn a_message_to_all_allocates_once_however_many_there_are() {
    let (host, _alone) = start();
    let mut clients: Vec<Client> = (0..20).map(|_| Client::open(host.address)).collect();
    for len in [100, 10_000] {
        let payload = vec![b'*'; len];
        let mut talk = || {
            clients[0].say(Opcode::Binary, &payload);
            for client in &mut clients {
                client.expect(&Arrival::Binary(payload.clone()));
            }
        };
        let counts: Vec<u64> = (0..ROUNDS_MAX)
            .map(|_| {
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                talk();
                ALLOCATIONS.load(Ordering::Relaxed) - before
            })
            .collect();
        // The frame, and a buffer that it is encoded in.
        let least = counts.iter().min().expect("some rounds");
        assert!(*least <= 2, "{len} bytes to {}: allocations by round {counts:?}", clients.len());
    }
    drop(clients);
    host.stop();
}

#[test]
fn a_whole_message_is_copied_once_and_that_is_to_where_it_is_sent_from() {
    let (host, _alone) = start();
    let mut client = Client::open(host.address);
    for _ in 0..100 {
        client.say(Opcode::Binary, &[7; 1_000]);
        client.expect(&Arrival::Binary(vec![7; 1_000]));
    }
    drop(client);
    let tally = host.stop();
    let copied = tally.sum(|worker| worker.copied_bytes);
    // The answer to the upgrade, and 4 bytes of header each.
    assert_eq!(tally.sum(|worker| worker.message_bytes), 100_000);
    assert!((100_400..100_800).contains(&copied), "{copied} bytes copied");
}

#[test]
fn a_long_frame_is_not_copied() {
    let (host, _alone) = start();
    let mut client = Client::open(host.address);
    let payload = vec![7; 1 << 20];
    let mut talk = |times| {
        for _ in 0..times {
            client.say(Opcode::Binary, &payload);
            client.expect(&Arrival::Binary(payload.clone()));
        }
    };
    talk(20);
    drop(client);
    let tally = host.stop();
    let copied = tally.sum(|worker| worker.copied_bytes);
    assert_eq!(tally.sum(|worker| worker.message_bytes), 20 << 20);
    // The first comes through receive buffers and grows; of the others only the page with the header.
    assert!(copied < (2 << 20) + 20 * (10 << 10), "{copied} bytes copied of 20 MiB");
}

#[test]
fn a_long_message_to_all_is_not_copied_for_each() {
    let (host, _alone) = start();
    let mut clients: Vec<Client> = (0..20).map(|_| Client::open(host.address)).collect();
    let payload = vec![b'*'; 10_000];
    for _ in 0..10 {
        clients[0].say(Opcode::Binary, &payload);
        for client in &mut clients {
            client.expect(&Arrival::Binary(payload.clone()));
        }
    }
    drop(clients);
    let copied = host.stop().sum(|worker| worker.copied_bytes);
    // Answers to 20 upgrades; a message in two pieces is gathered.
    assert!(copied < 20 * 200 + 10 * 10_000, "{copied} bytes copied");
}
