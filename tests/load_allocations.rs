//! The load generator allocates nothing for a message: its cost must not disturb what it measures.
#![expect(unsafe_code, reason = "a global allocator is unsafe to write, also one that only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringsock::load::{Mode, Plan, Url};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it is; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` or `realloc`, which are the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An echo in a process of its own, so that its allocations are not counted.
struct EchoProcess {
    child: Child,
    url: Url,
    /// Kept, or what it prints would have nowhere to go.
    _output: Lines<BufReader<ChildStdout>>,
}

impl EchoProcess {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--workers", "1"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program was built");
        let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        let url = lines.find_map(|line| {
            let line = line.expect("text");
            Some(line[line.find("ws://")?..].split_whitespace().next()?.parse().expect("an URL"))
        });
        Self { child, url: url.expect("it says where it listens"), _output: lines }
    }
}

impl Drop for EchoProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Allocations and messages of a run.
fn count(plan: &Plan) -> (u64, u64) {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let report = ringsock::load::run(plan).expect("io_uring works here");
    assert_eq!(report.faults.count(), 0, "{report}");
    (ALLOCATIONS.load(Ordering::Relaxed) - before, report.totals.received)
}

/// Windows that are tried in turn, until so many messages go through on a busy machine.
const WINDOWS_MS: [u64; 4] = [500, 2_000, 8_000, 32_000];
const MESSAGES_MIN: u64 = 5_000;
/// A sample of latencies is handed over for every 100 ms, or less often.
const SAMPLE_MS: u64 = 100;
const ALLOCATIONS_PER_SAMPLE_MAX: u64 = 40;

/// Expects that a longer run allocates no more than a short one, but for its samples and one list
/// for each `messages_per_list` messages.
fn check(url: &Url, mode: Mode, sizes: &str, messages_per_list: Option<u64>) {
    let usual = Plan::new(url.clone(), mode);
    let plan = Plan { sizes: sizes.parse().expect("a mix"), connections: 8, warmup: Duration::ZERO, ..usual };
    let (short, few) = count(&Plan { duration: Duration::from_millis(SAMPLE_MS), ..plan.clone() });
    for window_ms in WINDOWS_MS {
        let (long, many) = count(&Plan { duration: Duration::from_millis(window_ms), ..plan.clone() });
        let (more, messages) = (long.saturating_sub(short), many.saturating_sub(few));
        if messages >= MESSAGES_MIN {
            let lists = messages_per_list.map_or(0, |count| messages / count);
            let bound = window_ms / SAMPLE_MS * ALLOCATIONS_PER_SAMPLE_MAX + lists;
            assert!(more <= bound, "{mode:?} {sizes}: {more} allocations for {messages} messages");
            return;
        }
    }
    panic!("{mode:?} {sizes}: fewer than {MESSAGES_MIN} messages in {WINDOWS_MS:?} ms");
}

#[test]
fn no_message_allocates_but_long_ones_that_share_a_send() {
    let server = EchoProcess::start();
    check(&server.url, Mode::PingPong, "16:50,125:50", None);
    check(&server.url, Mode::Pipeline, "125", None);
    // What doesn't fit into one block is sent from several, by a list of them.
    check(&server.url, Mode::Pipeline, "16:9,20000:1", Some(10));
}
