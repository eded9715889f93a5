//! The stages of a run, as one thread goes through them.
//!
//! ```text
//! Opening ──► Ready ──► Running ──► Draining ──► Closing ──► Done
//! ```
//!
//! All threads leave `Ready` together, and `Running` at the same time. `Draining` waits for the
//! replies that are still due, so that late ones are not left out; `Closing` for the ends of the
//! connections.

use std::time::Duration;

use crate::load::Mode;
use crate::load::client::Client;
use crate::load::clock::nanoseconds;
use crate::load::connection::{Part, Phase, SentAt};
use crate::load::context::Context;
use crate::load::fault::Fault;
use crate::load::recorder::Window;
use crate::load::schedule::Schedule;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Connections are opened; `next` is the first slot not tried.
    Opening { next: u32 },
    /// Waits for the other threads.
    Ready,
    /// The load runs, warm-up first. `sample_at_ns` is when idle connections are verified, unless
    /// they were.
    Running { end_ns: u64, sample_at_ns: Option<u64> },
    /// Waits for replies until the deadline.
    Draining { deadline_ns: u64, published: u64 },
    /// Closes connections and waits for their ends; `next` is the first slot not told yet.
    Closing { next: u32 },
    /// Over.
    Done,
}

/// Connections of all threads that are being opened at once: less than any server's queue.
const OPENING_MAX: u32 = 128;
/// Connections of a thread that are being closed at once, so that none waits for the others.
const CLOSING_MAX: u32 = 1024;
/// So many failures in a row mean that the rest would fail too. Each may take as long as the limit.
const FAILURES_MAX: u32 = 64;
/// Idle connections that are verified on a thread.
const SAMPLES_MAX: usize = 100;
/// How often connections are looked at for time-outs, and how many a look may be spent on.
const SWEEP_NS: u64 = 100_000_000;
const SWEEP_NS_PER_CONNECTION: u64 = 10_000;
const POLL: Duration = Duration::from_millis(2);

impl Client {
    /// Does what the stage calls for, and goes on to the next one if it is over.
    pub(super) fn advance_stage(&mut self) {
        let now_ns = self.context.now_ns;
        if now_ns >= self.sweep_at_ns {
            self.sweep();
        }
        match self.stage {
            Stage::Opening { next } => self.open_some(next),
            Stage::Ready => {
                if let Some(start_ns) = self.rendezvous.start_ns().filter(|&start_ns| start_ns <= now_ns) {
                    self.begin(start_ns);
                }
            }
            Stage::Running { end_ns, sample_at_ns } => {
                if sample_at_ns.is_some_and(|at| at <= now_ns) {
                    self.stage = Stage::Running { end_ns, sample_at_ns: None };
                    self.sample();
                }
                if now_ns >= end_ns || self.context.alive == 0 {
                    // A turn that ends late still owes what was due before.
                    self.send_due(end_ns - 1);
                    self.stop(end_ns);
                } else {
                    self.send_due(now_ns);
                }
            }
            Stage::Draining { deadline_ns, published } => self.drain(deadline_ns, published),
            Stage::Closing { next } => self.close_some(next),
            Stage::Done => {}
        }
    }

    /// How long the next turn may wait.
    pub(super) fn wait(&self) -> Duration {
        let now_ns = self.context.now_ns;
        let until = |at_ns: u64| at_ns.saturating_sub(now_ns);
        let sweep_ns = until(self.sweep_at_ns);
        let wait_ns = match self.stage {
            Stage::Opening { .. } | Stage::Closing { .. } => sweep_ns,
            Stage::Ready | Stage::Draining { .. } => sweep_ns.min(nanoseconds(POLL)),
            Stage::Running { end_ns, sample_at_ns } => {
                let due = self.schedule.as_ref().filter(|_| self.has_room()).map(|schedule| until(schedule.next_ns()));
                let sample = sample_at_ns.map(until);
                // Pauses of slow readers are counted in ticks of the wheel.
                let pause = (!self.pauses.is_empty()).then_some(nanoseconds(POLL));
                due.into_iter().chain(sample).chain(pause).fold(sweep_ns.min(until(end_ns)), u64::min)
            }
            Stage::Done => 0,
        };
        Duration::from_nanos(wait_ns)
    }

    fn open_some(&mut self, mut next: u32) {
        let count = self.slots().end;
        let opening_max = (OPENING_MAX / self.share.threads).max(1);
        while next < count && self.context.opening < opening_max {
            if self.context.plan.mode == Mode::Connect || self.context.failed_in_a_row >= FAILURES_MAX {
                next = count;
                break;
            }
            self.open(next);
            next += 1;
        }
        self.stage = Stage::Opening { next };
        if next == count && self.context.opening == 0 {
            self.stage = Stage::Ready;
            self.rendezvous.arrive();
        }
    }

    fn begin(&mut self, start_ns: u64) {
        let plan = self.context.plan.clone();
        let window = Window::new(start_ns.saturating_add(nanoseconds(plan.warmup)), plan.duration);
        self.context.recorder.begin(window);
        self.context.going = true;
        // The last tenth of the time is for the replies of the sample.
        let sample_ns = window.end_ns - (window.end_ns - window.start_ns) / 10;
        let sample_at_ns = (plan.mode == Mode::Idle).then_some(sample_ns);
        self.stage = Stage::Running { end_ns: window.end_ns, sample_at_ns };
        let senders = if plan.mode == Mode::Broadcast { plan.publishers } else { plan.connections };
        // Senders are dealt out from the first thread on.
        let threads = senders.min(self.share.threads);
        let rate = plan.rate.filter(|_| self.share.index < threads);
        self.schedule = rate.map(|rate| Schedule::new(start_ns, rate, self.share.index, threads));
        for slot in self.slots() {
            let connection = &mut self.connections[slot as usize];
            match (connection.part, connection.phase) {
                (Part::Storm, Phase::Free) => self.open(slot),
                (Part::Echo | Part::Publisher, Phase::Open) if plan.rate.is_some() => self.senders.push(slot),
                (Part::Echo | Part::Publisher, Phase::Open) => {
                    (0..plan.depth).for_each(|_| connection.request(SentAt::Flush, &mut self.context));
                    self.touch(slot);
                }
                (Part::SlowReader, Phase::Open) => self.touch(slot),
                _ => {}
            }
        }
    }

    /// Sends what is due until `until_ns`, over the connections in turn.
    fn send_due(&mut self, until_ns: u64) {
        let depth = self.context.plan.depth as usize;
        while self.has_room() {
            let Some(schedule) = &mut self.schedule else { return };
            if schedule.next_ns() > until_ns {
                return;
            }
            // Somebody has room, so the search ends.
            let slot = loop {
                let slot = self.senders[self.next_sender % self.senders.len()];
                self.next_sender = (self.next_sender + 1) % self.senders.len();
                let connection = &self.connections[slot as usize];
                if connection.phase != Phase::Open {
                    self.senders.retain(|&sender| sender != slot);
                    break None;
                }
                if connection.expected.len() < depth {
                    break Some(slot);
                }
            };
            let Some(slot) = slot else { continue };
            let Some(due_ns) = schedule.take_due(until_ns) else { return };
            self.connections[slot as usize].request(SentAt::Due(due_ns), &mut self.context);
            self.touch(slot);
        }
    }

    /// Whether some connection may have one more message under way.
    fn has_room(&self) -> bool {
        self.context.under_way < self.senders.len() as u64 * u64::from(self.context.plan.depth)
    }

    /// Asks some idle connections for an echo.
    fn sample(&mut self) {
        let step = self.connections.len().div_ceil(SAMPLES_MAX).max(1);
        for slot in self.slots().step_by(step) {
            let connection = &mut self.connections[slot as usize];
            if connection.phase == Phase::Open {
                connection.request(SentAt::Flush, &mut self.context);
                self.touch(slot);
            }
        }
    }

    /// Ends the load.
    fn stop(&mut self, end_ns: u64) {
        self.context.going = false;
        if let Some(schedule) = self.schedule.take() {
            // It is earlier than the end if no connection is left.
            self.count_unsent(&schedule, end_ns.min(self.context.now_ns));
        }
        self.context.totals.held =
            self.connections.iter().filter(|connection| connection.phase == Phase::Open).count() as u64;
        self.rendezvous.fall_silent(self.context.totals.sent);
        let deadline_ns = self.context.now_ns.saturating_add(nanoseconds(self.context.plan.timeout));
        self.stage = Stage::Draining { deadline_ns, published: 0 };
    }

    /// Counts what was due and never sent, with the time for which it has waited.
    fn count_unsent(&mut self, schedule: &Schedule, end_ns: u64) {
        let Context { plan, recorder, totals, now_ns, .. } = &mut self.context;
        totals.unsent = schedule.count_before(end_ns);
        let each = if plan.mode == Mode::Broadcast { u64::from(plan.connection_count()) } else { 1 };
        for (due_ns, count) in schedule.missed(recorder.window().start_ns, end_ns) {
            recorder.measure_due(due_ns, *now_ns, count.saturating_mul(each));
        }
    }

    fn drain(&mut self, deadline_ns: u64, published: u64) {
        let is_late = self.context.now_ns >= deadline_ns;
        let mut missing = 0;
        if self.context.plan.mode == Mode::Broadcast {
            let Some(total) = self.rendezvous.published(self.share.threads) else { return };
            if total != published {
                self.stage = Stage::Draining { deadline_ns, published: total };
            }
            let open = self.connections.iter().filter(|connection| connection.phase == Phase::Open);
            missing = open.map(|connection| total.saturating_sub(connection.delivered)).sum();
        }
        if !is_late && (self.context.under_way > 0 || missing > 0) {
            return;
        }
        if self.context.plan.mode == Mode::Broadcast {
            self.context.faults.add(Fault::Missing, missing);
        } else {
            self.context.faults.add(Fault::ReplyTimeout, self.context.under_way);
        }
        self.stage = Stage::Closing { next: 0 };
    }

    fn close_some(&mut self, mut next: u32) {
        let count = self.slots().end;
        while next < count && self.context.closing < CLOSING_MAX {
            let connection = &mut self.connections[next as usize];
            match (connection.phase, connection.part) {
                // What a slow reader has not read yet would take it too long.
                (Phase::Open, Part::SlowReader) => connection.die(&mut self.context),
                (Phase::Open, _) => connection.close(&mut self.context),
                _ => {}
            }
            self.touch(next);
            next += 1;
        }
        self.stage = if self.context.alive == 0 { Stage::Done } else { Stage::Closing { next } };
    }

    /// Ends connections that make no progress.
    fn sweep(&mut self) {
        let now_ns = self.context.now_ns;
        let limit_ns = nanoseconds(self.context.plan.timeout);
        for slot in self.slots() {
            let connection = &mut self.connections[slot as usize];
            let fault = match connection.phase {
                Phase::Opening => Fault::OpenTimeout,
                Phase::Open if connection.part != Part::SlowReader && !connection.expected.is_empty() => {
                    Fault::ReplyTimeout
                }
                Phase::Closing => Fault::CloseTimeout,
                Phase::Free | Phase::Open | Phase::Dying => continue,
            };
            if now_ns.saturating_sub(connection.since_ns) > limit_ns {
                connection.fail(fault, &mut self.context);
                self.touch(slot);
            }
        }
        self.sweep_at_ns = now_ns + SWEEP_NS.max(self.connections.len() as u64 * SWEEP_NS_PER_CONNECTION);
    }

    fn slots(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.connections.len()).expect("slots are counted in 32 bits")
    }
}
