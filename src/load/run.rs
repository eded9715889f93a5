//! A run from its plan to its report.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use crate::load::client::{Client, Outcome};
use crate::load::clock::{Clock, nanoseconds};
use crate::load::connection::{Connection, FLOOD_LEN};
use crate::load::connector::Connector;
use crate::load::context::{Context, Totals};
use crate::load::fault::Faults;
use crate::load::part::Part;
use crate::load::payload::Content;
use crate::load::plan::THREADS_MAX;
use crate::load::progress::Bar;
use crate::load::random::Random;
use crate::load::recorder::{Latencies, Recorder, Sample, Window, new_latencies};
use crate::load::rendezvous::{Attendance, Rendezvous};
use crate::load::report::{Consumption, Reading, Report};
use crate::load::series::{Latency, Series};
use crate::load::share::Share;
use crate::load::stage::look_interval;
use crate::load::{Mode, Plan, PlanError, UrlError};
use crate::ring::{self, BufferMode, CoreShare, Features, RingDriver, StartError};
use crate::sys::process::Process;
use crate::sys::{affinity, limits};

/// Why a run gave no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A number of the plan can't be.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The URL can't be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// io_uring can't be used here.
    #[error(transparent)]
    Ring(#[from] StartError),
    /// More connections were asked for than the tables of the rings may hold.
    #[error(
        "{per_thread} connections on each thread need RLIMIT_NOFILE={needed}, which is {open_files}, and at most \
         {TABLE_LEN_MAX} are possible -> raise it ('ulimit -n {needed}'), or spread them over more --threads"
    )]
    OpenFiles {
        /// Connections on each thread.
        per_thread: u32,
        /// The limit that they need.
        needed: u32,
        /// `RLIMIT_NOFILE`.
        open_files: u64,
    },
    /// The server's process can't be read.
    #[error("process {pid}: {source} -> give the id of the running server with --server-pid ('pgrep -n ringsock')")]
    Process {
        /// The process id.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something else.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A thread has panicked: a bug.
    #[error("a thread of the load has panicked; this is a bug")]
    Panic,
}

impl Error {
    /// The exit code for a program that ends for this reason.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Ring(_) | Self::OpenFiles { .. } => ring::EXIT_CODE,
            Self::Plan(_) | Self::Url(_) => 2,
            Self::Process { .. } | Self::System { .. } | Self::Panic => 1,
        }
    }
}

/// Submissions that a turn may queue before it has to make a system call.
const RING_ENTRIES: u32 = 4096;
/// Entries of a table of direct descriptors beside those in use.
const TABLE_SLACK: u32 = 64;
/// What a table of direct descriptors can hold.
const TABLE_LEN_MAX: u32 = 1 << 20;
/// From the decision to start to the start, beside the time until every thread has heard of it.
const START_DELAY: Duration = Duration::from_millis(10);
/// How often the threads are looked at: at first where it may be over soon, and later.
const LOOK_SOON: Duration = Duration::from_millis(2);
const LOOK: Duration = Duration::from_millis(100);
/// What looking may be late by, as a part of what it waits for.
const LOOK_SHARE: u32 = 50;
/// How long an address may take when several are tried.
const TRIAL: Duration = Duration::from_secs(3);

/// Runs a plan to its end and reports what was measured. Faults of the server are in the report.
///
/// ```no_run
/// use ringsock::load::{Mode, Plan};
///
/// let plan = Plan::new("ws://127.0.0.1:9001/".parse()?, Mode::PingPong);
/// let report = ringsock::load::run(&plan)?;
/// assert_eq!(report.faults.count(), 0);
/// println!("{report}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// What keeps the load from running at all.
pub fn run(plan: &Plan) -> Result<Report, Error> {
    plan.check()?;
    let features = ring::probe()?;
    let target = choose_address(&plan.url.resolve()?);
    let server = plan.server_pid.map(|pid| (pid, Process::Id(pid)));
    if let Some((pid, process)) = server {
        process.cpu_time().map_err(|source| Error::Process { pid, source })?;
    }
    let open_files =
        limits::raise_open_files().map_err(|source| Error::System { what: "read the limit on open files", source })?;
    let threads = thread_count(plan, open_files)?;
    let crew = Crew::spawn(plan, threads, target, &features)?;
    let mut bar = Bar::new(plan);
    let result = crew.work(plan, &mut bar);
    bar.finish();
    let measured = result?;
    Ok(Report::new(plan, threads, target, features.machine.kernel, measured))
}

/// What a run has measured.
pub(super) struct Measured {
    pub(super) window: Window,
    pub(super) series: Series,
    pub(super) totals: Totals,
    pub(super) faults: Faults,
    pub(super) client: Consumption,
    pub(super) server: Option<Consumption>,
    /// What verifying idle connections took.
    pub(super) verified: Latency,
    /// From the first connect until all threads were ready.
    pub(super) opening_ns: u64,
    /// From the first Close until all connections had ended.
    pub(super) closing_ns: u64,
}

/// The threads of a run.
struct Crew {
    clock: Clock,
    rendezvous: Arc<Rendezvous>,
    samples: Receiver<Sample>,
    threads: Vec<JoinHandle<io::Result<Outcome>>>,
}

impl Crew {
    fn spawn(plan: &Plan, threads: u16, target: SocketAddr, features: &Features) -> Result<Self, Error> {
        let core_share = core_share(plan, threads)?;
        if let Some(&cpu) = plan.cpus.first() {
            // This thread must not disturb the server's processor either.
            affinity::pin(cpu).map_err(|source| Error::System { what: "pin to a processor (--pin)", source })?;
        }
        let size_max = if plan.mode == Mode::Slow { plan.sizes.max().max(FLOOD_LEN) } else { plan.sizes.max() };
        let content = Arc::new(Content::new(plan.kind, size_max, plan.deflate.is_some(), &mut Random::new(plan.seed)));
        let rendezvous = Arc::new(Rendezvous::default());
        let (sender, samples) = channel();
        let mut crew = Self { clock: Clock::start(), rendezvous, samples, threads: Vec::new() };
        let plan = Arc::new(plan.clone());
        for index in 0..threads.into() {
            let seat = Seat {
                share: Share { index, threads: threads.into() },
                plan: plan.clone(),
                content: content.clone(),
                samples: sender.clone(),
                clock: crew.clock,
                rendezvous: crew.rendezvous.clone(),
                connector: Connector::new(target, &plan),
                core_share,
                buffer_mode: features.buffer_mode,
                series_bytes_max: features.series_bytes_max,
            };
            let thread = thread::Builder::new().name(format!("load-{index}")).spawn(move || seat.work());
            match thread {
                Ok(thread) => crew.threads.push(thread),
                Err(source) => {
                    crew.rendezvous.abandon();
                    return Err(Error::System { what: "start a thread", source });
                }
            }
        }
        Ok(crew)
    }

    /// Starts the load when all are ready, watches it, and gathers what it came to.
    fn work(self, plan: &Plan, bar: &mut Bar) -> Result<Measured, Error> {
        let threads = u32::try_from(self.threads.len()).expect("a plan counts threads in 16 bits");
        while self.rendezvous.arrived() < threads {
            if self.rendezvous.is_abandoned() {
                break; // One could not even begin: its error comes from joining it.
            }
            bar.show_opening(self.passed(0), self.rendezvous.board.read());
            thread::sleep((self.passed(0) / LOOK_SHARE).clamp(LOOK_SOON, LOOK));
        }
        let opening_ns = self.rendezvous.arrived_ns();
        let start_ns = self.clock.now_ns() + nanoseconds(look_interval(threads) + START_DELAY);
        let window = Window::new(start_ns.saturating_add(nanoseconds(plan.warmup)), plan.duration);
        self.rendezvous.start_at(start_ns);
        let mut series = Series::new();
        let server = plan.server_pid.map(Process::Id);
        self.watch(window.start_ns, |_| bar.show(self.passed(start_ns), self.rendezvous.board.read(), None));
        let before = (self.read(Some(Process::Own)), self.read(server));
        self.watch(window.end_ns, |samples| {
            samples.try_iter().for_each(|sample| series.add(&sample));
            bar.show(self.passed(start_ns), self.rendezvous.board.read(), series.latest(window));
        });
        let after = (self.read(Some(Process::Own)), self.read(server));
        while !self.threads.iter().all(JoinHandle::is_finished) {
            bar.show_closing(self.rendezvous.board.read());
            thread::sleep((self.passed(window.end_ns) / LOOK_SHARE).clamp(LOOK_SOON, LOOK));
        }

        let Self { samples, threads, .. } = self;
        let mut sum = Sum::default();
        for thread in threads {
            let outcome = thread.join().map_err(|_| Error::Panic)?;
            sum.add(outcome.map_err(|source| Error::System { what: "run the ring of the load", source })?);
        }
        samples.try_iter().for_each(|sample| series.add(&sample));
        let window_ns = nanoseconds(plan.duration);
        let client = Consumption::between(before.0, after.0, window_ns).unwrap_or_default();
        let server = Consumption::between(before.1, after.1, window_ns);
        let verified = Latency::of(&sum.verified.unwrap_or_else(new_latencies));
        let closing_ns = sum.closing_ns.map_or(0, |(since_ns, until_ns)| until_ns.saturating_sub(since_ns));
        let Sum { totals, faults, .. } = sum;
        Ok(Measured { window, series, totals, faults, client, server, verified, opening_ns, closing_ns })
    }

    /// Looks again and again until a time has come, or every thread is through.
    fn watch(&self, until_ns: u64, mut look: impl FnMut(&Receiver<Sample>)) {
        loop {
            let left = Duration::from_nanos(until_ns.saturating_sub(self.clock.now_ns()));
            if left.is_zero() || self.threads.iter().all(JoinHandle::is_finished) {
                return;
            }
            thread::sleep(left.min(LOOK));
            look(&self.samples);
        }
    }

    fn read(&self, process: Option<Process>) -> Option<Reading> {
        let process = process?;
        let cpu = process.cpu_time().ok()?;
        let at_ns = self.clock.now_ns();
        Some(Reading { at_ns, used: Consumption { cpu, resident_bytes: process.resident_bytes().ok()? } })
    }

    fn passed(&self, since_ns: u64) -> Duration {
        Duration::from_nanos(self.clock.now_ns().saturating_sub(since_ns))
    }
}

/// What all threads have come to.
#[derive(Default)]
struct Sum {
    totals: Totals,
    faults: Faults,
    verified: Option<Latencies>,
    closing_ns: Option<(u64, u64)>,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        let Outcome { totals, faults, verified, closing_ns } = outcome;
        self.totals.merge(&totals);
        self.faults.merge(&faults);
        if let Some(verified) = verified {
            let all = self.verified.get_or_insert_with(new_latencies);
            all.add(&verified).expect("all histograms have the same bounds");
        }
        self.closing_ns = match (self.closing_ns, closing_ns) {
            (Some((since, until)), Some((other_since, other_until))) => {
                Some((since.min(other_since), until.max(other_until)))
            }
            (one, other) => one.or(other),
        };
    }
}

/// What a thread is started with.
struct Seat {
    share: Share,
    plan: Arc<Plan>,
    content: Arc<Content>,
    samples: Sender<Sample>,
    clock: Clock,
    rendezvous: Arc<Rendezvous>,
    connector: Connector,
    core_share: CoreShare,
    buffer_mode: BufferMode,
    series_bytes_max: u32,
}

impl Seat {
    fn work(self) -> io::Result<Outcome> {
        let Self {
            share,
            plan,
            content,
            samples,
            clock,
            rendezvous,
            connector,
            core_share,
            buffer_mode,
            series_bytes_max,
        } = self;
        let attendance = Attendance::new(rendezvous.clone());
        let cpu = plan.cpus.get(share.index as usize % plan.cpus.len().max(1));
        cpu.map_or(Ok(()), |&cpu| affinity::pin(cpu))?;
        // Far apart for each thread.
        let random = Random::new(plan.seed.rotate_left(32) ^ u64::from(share.index) << 48);
        let count = share.of(plan.connection_count());
        let connection = |slot| Connection::new(share.number(slot), Part::of(&plan, share, slot), &plan);
        let connections: Vec<Connection> = (0..count).map(connection).collect();
        let mut context = Context::new(plan, content, random, Recorder::new(samples));
        context.now_ns = clock.now_ns();
        let options = ring::Options {
            entries: RING_ENTRIES,
            core_share,
            connections_max: count + TABLE_SLACK,
            buffer_mode,
            series_bytes_max,
            low_water: false,
            accept_poll_first: false,
            spin_us: context.plan.spin_us,
            clock_ahead_us: 0,
        };
        let driver = RingDriver::new(Vec::new(), options)?;
        let outcome = Client::new(share, driver, connections, context, clock, connector, rendezvous).run()?;
        attendance.complete();
        Ok(outcome)
    }
}

/// As many threads as were asked for, or as many as the connections need: each ring has a table of its
/// own, bounded by the same limit.
fn thread_count(plan: &Plan, open_files: u64) -> Result<u16, Error> {
    let table_len = u32::try_from(open_files).unwrap_or(u32::MAX).min(TABLE_LEN_MAX);
    let per_thread_max = table_len.saturating_sub(TABLE_SLACK);
    let count = plan.connection_count();
    let needed = count.div_ceil(per_thread_max.max(1)).max(1);
    let threads = plan.threads.unwrap_or_else(|| u16::try_from(needed).map_or(THREADS_MAX, |it| it.min(THREADS_MAX)));
    let per_thread = count.div_ceil(threads.into());
    if per_thread > per_thread_max {
        return Err(Error::OpenFiles { per_thread, needed: per_thread.saturating_add(TABLE_SLACK), open_files });
    }
    Ok(threads)
}

/// What the ring of a thread gets of its core: of those asked for, or of those that the process may use.
fn core_share(plan: &Plan, threads: u16) -> Result<CoreShare, Error> {
    let cores = match plan.cpus.len() {
        0 => affinity::allowed().map(|cpus| cpus.len()),
        cores => Ok(cores),
    };
    let cores = cores.map_err(|source| Error::System { what: "read the allowed processors", source })?;
    Ok(CoreShare::new(threads.into(), cores))
}

/// The first address that takes a connection, or the first one if none does: the faults then tell.
fn choose_address(addresses: &[SocketAddr]) -> SocketAddr {
    let works = |address: &&SocketAddr| TcpStream::connect_timeout(address, TRIAL).is_ok();
    match addresses {
        [only] => *only,
        _ => *addresses.iter().find(works).unwrap_or(&addresses[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(connections: u32, threads: Option<u16>, open_files: u64, expect: Option<u16>) {
        let usual = Plan::new("ws://localhost/".parse().unwrap(), Mode::Idle);
        let count = thread_count(&Plan { connections, threads, ..usual }, open_files);
        assert_eq!(count.ok(), expect, "{connections} connections, {open_files} open files");
    }

    #[test]
    fn there_are_as_many_threads_as_the_limit_on_open_files_calls_for() {
        check(1, None, 20_000, Some(1));
        check(19_936, None, 20_000, Some(1));
        check(19_937, None, 20_000, Some(2));
        check(2_000_000, None, 20_000, Some(101));
        check(1_000_000, None, 1 << 20, Some(1));
        check(16_000_000, None, u64::MAX, Some(16));
        check(16_000_000, None, 1_064, None);
        check(1, None, 64, None);
    }

    #[test]
    fn threads_that_were_asked_for_are_as_many_and_may_be_too_few() {
        check(1, Some(3), 20_000, Some(3));
        check(39_872, Some(2), 20_000, Some(2));
        check(39_873, Some(2), 20_000, None);
    }
}
