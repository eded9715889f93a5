//! The deadlines of a million connections: the wheel beside a heap of the standard library and
//! tokio's timers.
//!
//! The work is that of heartbeats: a connection that was silent for 25 s is due. `arm` sets all
//! deadlines, `expire` lets all of them pass, tick by tick, and `touch` is what the bytes of a
//! connection cost, since they put its deadline off. ringsock leaves its timer alone then: it notes
//! the time in the connection, which is looked at when the timer fires. The connection is `hot`
//! where its line of the cache has just been written, as in the server, whose bytes have passed
//! through its session, and `cold` where it is a random one of a million.
//!
//! The heap has what was put off in it until that comes up or is the greater part of it, the usual
//! way. Of tokio's timers `Sleep` is measured, since each connection of a tokio server is a task
//! that waits for its socket and for one of these (`select!`, `timeout`, `Interval`). It is the
//! best case: nobody is woken when one fires. `DelayQueue` is for one task with many connections.

mod groups;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput};
use ringsock::timer::{TICK_MS, Wheel};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{self, Instant, Sleep};

use groups::{Group, group, measure, run};

/// How many connections there are, and how many touches a measurement has.
const COUNT: u32 = 1_000_000;
/// How long a connection may be silent.
const INTERVAL_MS: u64 = 25_000;
/// How many connections have bytes in a millisecond; the same ones again and again where they are hot.
const HOT_COUNT: usize = 64;

fn main() {
    run(|criterion| {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let plan = Plan::new(&mut random);
        let mut group = slow_group(criterion);
        timers::<Ringsock>(&mut group, "ringsock", &plan);
        timers::<Heap>(&mut group, "BinaryHeap", &plan);
        timers::<Tokio>(&mut group, "tokio", &plan);
        group.finish();
    });
}

/// Timers by the slots of connections.
trait Timers {
    fn new() -> Self;
    fn arm(&mut self, slot: u32, deadline_ms: u64);
    /// Puts the deadline of `slot` off, since bytes have come at `now_ms`.
    fn touch(&mut self, slot: u32, now_ms: u64);
    /// Lets the time pass, tick by tick, until all deadlines that were set have passed.
    fn expire(&mut self);
    fn is_armed(&self, slot: u32) -> bool;
}

fn timers<T: Timers>(group: &mut Group<'_>, name: &str, plan: &Plan) {
    let mut timers: T = plan.armed();
    assert!((0..COUNT).all(|slot| timers.is_armed(slot)), "{name} is armed");
    timers.expire();
    assert!(!(0..COUNT).any(|slot| timers.is_armed(slot)), "{name} has fired");

    group.throughput(Throughput::Elements(u64::from(COUNT)));
    group.bench_function(BenchmarkId::new(name, "arm"), |bencher| {
        bencher.iter_batched_ref(T::new, |timers| plan.arm(timers), BatchSize::PerIteration);
    });
    group.bench_function(BenchmarkId::new(name, "expire"), |bencher| {
        bencher.iter_batched_ref(|| plan.armed(), T::expire, BatchSize::PerIteration);
    });
    let (mut timers, mut now_ms): (T, _) = (plan.armed(), 0);
    for (row, slots) in [("touch, cold", &plan.cold), ("touch, hot", &plan.hot)] {
        measure(group, name, row, Throughput::Elements(slots.len() as u64), || {
            for turn in slots.chunks(HOT_COUNT) {
                now_ms += 1;
                turn.iter().for_each(|&slot| timers.touch(slot, now_ms));
            }
            black_box(&mut timers);
        });
    }
}

/// What is done, the same for all.
struct Plan {
    /// Each slot once, in no order, and the deadline of its connection.
    deadlines: Vec<(u32, u64)>,
    cold: Vec<u32>,
    hot: Vec<u32>,
}

impl Plan {
    fn new(random: &mut Random) -> Self {
        let mut slots: Vec<u32> = (0..COUNT).collect();
        for left in (1..COUNT).rev() {
            slots.swap(left as usize, random.below(left + 1) as usize);
        }
        let deadlines = slots.iter().map(|&slot| (slot, u64::from(random.below(25_000)) + 1)).collect();
        let cold = (0..COUNT).map(|_| random.below(COUNT)).collect();
        let hot = slots[..HOT_COUNT].iter().copied().cycle().take(COUNT as usize).collect();
        Self { deadlines, cold, hot }
    }

    fn armed<T: Timers>(&self) -> T {
        let mut timers = T::new();
        self.arm(&mut timers);
        timers
    }

    fn arm<T: Timers>(&self, timers: &mut T) {
        for &(slot, deadline_ms) in &self.deadlines {
            timers.arm(slot, deadline_ms);
        }
    }
}

struct Ringsock {
    wheel: Wheel,
    connections: Vec<Connection>,
    fired: Vec<u32>,
}

/// As much of a connection as is read and written for each message.
#[derive(Clone)]
#[repr(align(64))]
struct Connection {
    active_at_ms: u64,
}

impl Timers for Ringsock {
    fn new() -> Self {
        let connections = vec![Connection { active_at_ms: 1 }; COUNT as usize];
        Self { wheel: Wheel::default(), connections, fired: Vec::new() }
    }

    fn arm(&mut self, slot: u32, deadline_ms: u64) {
        self.wheel.arm(slot, deadline_ms);
    }

    fn touch(&mut self, slot: u32, now_ms: u64) {
        self.connections[slot as usize].active_at_ms = now_ms;
    }

    fn expire(&mut self) {
        for now_ms in ticks() {
            self.wheel.expire(now_ms, &mut self.fired);
            black_box(&self.fired);
            self.fired.clear();
        }
    }

    fn is_armed(&self, slot: u32) -> bool {
        self.wheel.is_armed(slot)
    }
}

/// Deadlines, the earliest first, and which of a slot's is valid.
struct Heap {
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    deadlines: Vec<u64>,
    fired: Vec<u32>,
}

impl Timers for Heap {
    fn new() -> Self {
        Self { heap: BinaryHeap::new(), deadlines: vec![u64::MAX; COUNT as usize], fired: Vec::new() }
    }

    fn arm(&mut self, slot: u32, deadline_ms: u64) {
        self.deadlines[slot as usize] = deadline_ms;
        self.heap.push(Reverse((deadline_ms, slot)));
    }

    fn touch(&mut self, slot: u32, now_ms: u64) {
        self.arm(slot, now_ms + INTERVAL_MS);
        if self.heap.len() > 2 * COUNT as usize {
            self.heap.retain(|&Reverse((deadline_ms, slot))| self.deadlines[slot as usize] == deadline_ms);
        }
    }

    fn expire(&mut self) {
        for now_ms in ticks() {
            while let Some(&Reverse((deadline_ms, slot))) = self.heap.peek()
                && deadline_ms <= now_ms
            {
                self.heap.pop();
                if self.deadlines[slot as usize] == deadline_ms {
                    self.deadlines[slot as usize] = u64::MAX;
                    self.fired.push(slot);
                }
            }
            black_box(&self.fired);
            self.fired.clear();
        }
    }

    fn is_armed(&self, slot: u32) -> bool {
        self.deadlines[slot as usize] != u64::MAX
    }
}

struct Tokio {
    sleeps: Vec<Option<Pin<Box<Sleep>>>>,
    start: Instant,
    /// Dropped last, as timers are taken out of it.
    runtime: Runtime,
}

impl Timers for Tokio {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("threads are free");
        let start = runtime.block_on(async { Instant::now() });
        Self { sleeps: (0..COUNT).map(|_| None).collect(), start, runtime }
    }

    fn arm(&mut self, slot: u32, deadline_ms: u64) {
        let _guard = self.runtime.enter();
        let mut sleep = Box::pin(time::sleep_until(self.start + Duration::from_millis(deadline_ms)));
        // It is in tokio's wheel from the first poll on.
        assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        self.sleeps[slot as usize] = Some(sleep);
    }

    fn touch(&mut self, slot: u32, now_ms: u64) {
        let sleep = self.sleeps[slot as usize].as_mut().expect("all are armed");
        sleep.as_mut().reset(self.start + Duration::from_millis(now_ms + INTERVAL_MS));
    }

    fn expire(&mut self) {
        self.runtime.block_on(async {
            for _ in ticks() {
                time::advance(Duration::from_millis(TICK_MS)).await;
            }
        });
    }

    fn is_armed(&self, slot: u32) -> bool {
        self.sleeps[slot as usize].as_ref().is_some_and(|sleep| !sleep.is_elapsed())
    }
}

/// When the worker looks at its timers, until the last deadline has passed.
fn ticks() -> impl Iterator<Item = u64> {
    (1..=INTERVAL_MS.div_ceil(TICK_MS)).map(|tick| tick * TICK_MS)
}

/// A group whose members take up to half a second each time.
fn slow_group(criterion: &mut Criterion) -> Group<'_> {
    let mut group = group(criterion, "a million timers");
    group.sampling_mode(SamplingMode::Flat);
    group
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(((self.0 >> 32) * u64::from(bound)) >> 32).expect("below the bound")
    }
}
