//! The stages of a run, as one thread goes through them.
//!
//! ```text
//! Opening ──► Ready ──► Running ──► Draining ──► Closing ──► Done
//! ```
//!
//! All threads leave `Ready` together, and `Running` at the same time. `Draining` waits for the
//! replies that are still due, so that late ones are not left out; `Closing` for the ends of the
//! connections.

use std::mem;
use std::time::Duration;

use crate::load::Mode;
use crate::load::client::Client;
use crate::load::clock::nanoseconds;
use crate::load::connection::{Connection, Phase, SentAt};
use crate::load::context::Context;
use crate::load::fault::Fault;
use crate::load::part::Part;
use crate::load::recorder::Window;
use crate::load::schedule::Schedule;
use crate::load::share::is_chosen;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Connections are opened; `next` is the first slot not tried.
    Opening { next: u32 },
    /// Waits for the other threads.
    Ready,
    /// The load runs, warm-up first.
    Running { end_ns: u64 },
    /// Waits for replies until the deadline.
    Draining { deadline_ns: u64, published: u64 },
    /// Closes connections and waits for their ends; `next` is the first slot not told yet.
    Closing { next: u32 },
    /// Over.
    Done,
}

/// Connections of all threads that are being opened at once, as few as any server's queue holds; but some on
/// each thread, so that many threads don't wait for each turn of theirs.
const OPENING_MAX: u32 = 128;
const OPENING_MAX_LEAST: u32 = 16;
/// Connections that are being closed at once, so that none waits for the others beyond the limit: on a
/// thread, and on all of them but for a few on each.
const CLOSING_MAX: u32 = 1024;
const CLOSING_MAX_TOGETHER: u32 = 8192;
const CLOSING_MAX_LEAST: u32 = 64;
/// So many failures in a row mean that the rest would fail too. Each may take as long as the limit.
const FAILURES_MAX: u32 = 64;
/// Idle connections that are verified, over all threads.
const SAMPLES_MAX: u32 = 1000;
/// They are asked one after the other in this part of the window, of which the last tenth is theirs: the rest
/// is for the replies.
const SAMPLING_PART: u64 = 20;
/// Idle connections are closed so much later than the window ends, lest it disturb the last replies and
/// what is read about that time.
const CLOSING_DELAY_NS: u64 = 100_000_000;
/// How often connections that something is awaited of are looked at for time-outs, and how long there is
/// for each of them.
const SWEEP_NS: u64 = 100_000_000;
const SWEEP_NS_PER_CONNECTION: u64 = 10_000;
/// How often slow readers are looked at.
const POLL: Duration = Duration::from_millis(2);
/// How often a thread looks for the others, and for the end of the run: all of them together 500 and 100
/// times a second, within these bounds.
const LOOK_MS: (u64, u64) = (2, 100);
const GLANCE_MS: (u64, u64) = (100, 1_000);

/// How often each of so many threads looks for the others.
pub(super) fn look_interval(threads: u32) -> Duration {
    Duration::from_millis((u64::from(threads) * 2).clamp(LOOK_MS.0, LOOK_MS.1))
}

/// How long each of so many threads may wait if it has nothing to do.
fn glance_interval(threads: u32) -> Duration {
    Duration::from_millis((u64::from(threads) * 10).clamp(GLANCE_MS.0, GLANCE_MS.1))
}

impl Client {
    /// Does what the stage calls for, and goes on to the next one if it is over.
    pub(super) fn advance_stage(&mut self) {
        let now_ns = self.context.now_ns;
        if !self.watched.is_empty() && now_ns >= self.sweep_at_ns {
            self.sweep();
        }
        match self.stage {
            Stage::Opening { next } => self.open_some(next),
            Stage::Ready => {
                if let Some(start_ns) = self.rendezvous.start_ns().filter(|&start_ns| start_ns <= now_ns) {
                    self.begin(start_ns);
                }
            }
            Stage::Running { end_ns } => {
                if now_ns >= end_ns || self.context.alive == 0 {
                    // A turn that ends late still owes what was due before.
                    self.send_due(end_ns - 1);
                    self.verify_due(u64::MAX);
                    self.stop(end_ns);
                } else {
                    self.send_due(now_ns);
                    self.verify_due(now_ns);
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
        let threads = self.share.threads;
        let glance_ns = nanoseconds(glance_interval(threads));
        let usual_ns = if self.watched.is_empty() { glance_ns } else { until(self.sweep_at_ns).min(glance_ns) };
        let wait_ns = match self.stage {
            Stage::Opening { .. } | Stage::Closing { .. } => usual_ns,
            Stage::Ready | Stage::Draining { .. } => usual_ns.min(nanoseconds(look_interval(threads))),
            Stage::Running { end_ns } => {
                let due = self.schedule.as_ref().filter(|_| self.has_room()).map(|schedule| until(schedule.next_ns()));
                let sampling = self.sampling.as_ref().filter(|_| !self.sampled.is_empty());
                let sample = sampling.map(|schedule| until(schedule.next_ns()));
                // Pauses of slow readers are counted in ticks of the wheel.
                let pause = (!self.pauses.is_empty()).then_some(nanoseconds(POLL));
                due.into_iter().chain(sample).chain(pause).fold(usual_ns.min(until(end_ns)), u64::min)
            }
            Stage::Done => 0,
        };
        Duration::from_nanos(wait_ns)
    }

    fn open_some(&mut self, mut next: u32) {
        let count = self.slots().end;
        let opening_max = (OPENING_MAX / self.share.threads).max(OPENING_MAX_LEAST);
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
            self.rendezvous.arrive(self.context.now_ns);
        }
    }

    fn begin(&mut self, start_ns: u64) {
        let plan = self.context.plan.clone();
        let window = Window::new(start_ns.saturating_add(nanoseconds(plan.warmup)), plan.duration);
        self.context.recorder.begin(window);
        self.context.going = true;
        self.stage = Stage::Running { end_ns: window.end_ns };
        // Senders are dealt out from the first thread on.
        let threads = plan.sender_count().min(self.share.threads);
        let rate = plan.fixed_rate().filter(|_| self.share.index < threads);
        self.schedule = rate.map(|rate| Schedule::new(start_ns, rate, self.share.index, threads));
        let is_receiver = |it: &&Connection| it.part == Part::Subscriber && it.phase == Phase::Open;
        self.context.set_receivers(count_of(self.connections.iter().filter(is_receiver).count()));
        if plan.mode == Mode::Idle {
            self.choose_sample(window);
        }
        for slot in self.slots() {
            let connection = &mut self.connections[slot as usize];
            match (connection.part, connection.phase) {
                (Part::Storm, Phase::Free) => self.open(slot),
                (Part::Echo | Part::Publisher, Phase::Open) if self.context.is_scheduled => self.senders.push(slot),
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
                if connection.expected_count() < depth {
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

    /// Chooses the idle connections that are to be verified, evenly over the slots, and before anything is
    /// measured: with many connections the search takes a while.
    fn choose_sample(&mut self, window: Window) {
        let (plan, share) = (&self.context.plan, self.share);
        let idle_together = plan.connections.saturating_sub(plan.active_count());
        let idle = share.of(plan.connections).saturating_sub(share.of(plan.active_count()));
        let wanted = if idle_together <= SAMPLES_MAX { idle } else { share.of(SAMPLES_MAX).min(idle) };
        let slots = self.slots().zip(&self.connections).filter(|(_, connection)| connection.part == Part::Idle);
        let chosen = (0..).zip(slots).filter(|&(index, _)| is_chosen(index, wanted, idle));
        self.sampled = chosen.map(|(_, (slot, _))| slot).collect();
        let len_ns = window.end_ns - window.start_ns;
        let together = u64::from(idle_together.min(SAMPLES_MAX));
        let rate = together.saturating_mul(1_000_000_000).div_ceil((len_ns / SAMPLING_PART).max(1));
        self.sampling = Some(Schedule::new(window.end_ns - len_ns / 10, rate, share.index, share.threads));
    }

    /// Asks the idle connections for an echo whose turn has come until `until_ns`.
    fn verify_due(&mut self, until_ns: u64) {
        while let Some(schedule) = &mut self.sampling
            && !self.sampled.is_empty()
            && schedule.take_due(until_ns).is_some()
            && let Some(slot) = self.sampled.pop()
        {
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
        self.context.totals.held = self.context.open.into();
        self.sampling = None;
        self.rendezvous.fall_silent(self.context.totals.sent);
        let deadline_ns = self.context.now_ns.saturating_add(nanoseconds(self.context.plan.timeout));
        self.stage = Stage::Draining { deadline_ns, published: 0 };
    }

    /// Counts what was due and never sent, with the time for which it has waited.
    fn count_unsent(&mut self, schedule: &Schedule, end_ns: u64) {
        let Context { plan, recorder, totals, now_ns, .. } = &mut self.context;
        totals.unsent = schedule.count_before(end_ns);
        let each = match plan.mode {
            Mode::Broadcast => u64::from(plan.connection_count()),
            Mode::StompTopic => u64::from(plan.connections),
            _ => 1,
        };
        for (due_ns, count) in schedule.missed(recorder.window().start_ns, end_ns) {
            recorder.measure_due(due_ns, *now_ns, count.saturating_mul(each));
        }
    }

    fn drain(&mut self, deadline_ns: u64, published: u64) {
        let is_late = self.context.now_ns >= deadline_ns;
        let mut missing = 0;
        if self.context.plan.mode == Mode::StompQueue {
            missing = self.context.flow.missing();
        } else if matches!(self.context.plan.mode, Mode::Broadcast | Mode::StompTopic) {
            let Some(total) = self.rendezvous.published(self.share.threads) else { return };
            if total != published {
                self.stage = Stage::Draining { deadline_ns, published: total };
            }
            let is_stomp = self.context.plan.mode.is_stomp();
            let hears = |it: &&Connection| it.phase == Phase::Open && !(is_stomp && it.part == Part::Publisher);
            let open = self.connections.iter().filter(hears);
            let delivered = open.filter_map(|connection| connection.ledger.as_ref()).map(|ledger| ledger.delivered);
            missing = delivered.map(|delivered| total.saturating_sub(delivered)).sum();
        }
        let awaited = self.context.under_way + self.context.verifying;
        if !is_late && (awaited > 0 || missing > 0) {
            return;
        }
        let closing_at_ns = self.context.recorder.window().end_ns.saturating_add(CLOSING_DELAY_NS);
        if self.context.plan.mode == Mode::Idle && self.context.alive > 0 && self.context.now_ns < closing_at_ns {
            return;
        }
        if self.context.plan.mode == Mode::Broadcast || self.context.plan.mode.is_stomp() {
            self.context.faults.add(Fault::Missing, missing);
        } else {
            self.context.faults.add(Fault::ReplyTimeout, awaited);
        }
        self.closing_since_ns = Some(self.context.now_ns);
        self.stage = Stage::Closing { next: 0 };
    }

    fn close_some(&mut self, mut next: u32) {
        let count = self.slots().end;
        let closing_max = (CLOSING_MAX_TOGETHER / self.share.threads).clamp(CLOSING_MAX_LEAST, CLOSING_MAX);
        while next < count && self.context.closing < closing_max {
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

    /// Looks at a connection for time-outs from now on.
    pub(super) fn watch(&mut self, slot: u32) {
        if self.watched.is_empty() {
            self.sweep_at_ns = self.context.now_ns + SWEEP_NS;
        }
        self.watched.push(slot);
    }

    /// Ends connections that make no progress, and forgets those that nothing is awaited of any more.
    fn sweep(&mut self) {
        let mut watched = mem::take(&mut self.watched);
        watched.retain(|&slot| self.is_awaited(slot));
        self.sweep_at_ns = self.context.now_ns + SWEEP_NS.max(watched.len() as u64 * SWEEP_NS_PER_CONNECTION);
        self.watched = watched;
    }

    /// Whether something is still awaited of a connection, which ends if it took too long.
    fn is_awaited(&mut self, slot: u32) -> bool {
        let limit_ns = nanoseconds(self.context.plan.timeout);
        let connection = &mut self.connections[slot as usize];
        let awaited = connection.awaits();
        let late_ns = self.context.now_ns.saturating_sub(connection.since_ns);
        if let Some(fault) = awaited.filter(|_| late_ns > limit_ns) {
            connection.fail(fault, &mut self.context);
            self.touch(slot);
        }
        self.connections[slot as usize].watched = awaited.is_some();
        awaited.is_some()
    }

    fn slots(&self) -> std::ops::Range<u32> {
        0..count_of(self.connections.len())
    }
}

fn count_of(connections: usize) -> u32 {
    u32::try_from(connections).expect("slots are counted in 32 bits")
}
