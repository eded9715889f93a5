//! A running server: the embeddable API.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use crate::config::Options;
use crate::control::{Control, Stopper, accepts_up_to};
use crate::handler::{Handler, Transport};
use crate::ring;
use crate::ring::{CoreShare, Doorbell, Features, RingDriver, RingHandle, StartError};
use crate::sys::capacity::{Capacity, Rings, Table};
use crate::sys::listener::Keepalive;
use crate::sys::process::Process;
use crate::sys::supply::Supply;
use crate::sys::{affinity, limits, listener};
use crate::timer::TICK_MS;
use crate::worker;
use crate::worker::{Beat, Counters, Handle, Mailbox, Peer, Worker};

/// Submissions that a turn may queue before it has to make a system call.
const RING_ENTRIES: u32 = 4096;

/// What each listener of a worker is for.
const TRANSPORTS: [Transport; 2] = [Transport::WebSocket, Transport::Stream];

/// More than any machine has processors; the ids of handlers rely on it.
const WORKERS_MAX: u16 = 1024;

/// A budget of memory that leaves room for the workers themselves.
const MEMORY_MIN: u64 = 64 << 20;

/// Why a server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// io_uring can't be used here.
    #[error(transparent)]
    Ring(#[from] StartError),
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source} -> {}", listen_advice(source, option))]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The option that asked for it, as the command line has it.
        option: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// An option that can't be.
    #[error("option {name}: {value} is not possible -> {advice}")]
    Option {
        /// The option.
        name: &'static str,
        /// The value found.
        value: String,
        /// What to do.
        advice: &'static str,
    },
    /// The system refused something else.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A worker or the control thread has panicked: a bug.
    #[error("the thread '{thread}' has panicked: a bug, in the handler or in ringsock")]
    Panic {
        /// The thread's name.
        thread: String,
    },
}

impl Error {
    /// The exit code for a program that ends for this reason.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Ring(_) | Self::Option { .. } => ring::EXIT_CODE,
            Self::Listen { .. } | Self::System { .. } | Self::Panic { .. } => 1,
        }
    }
}

/// A running server: a worker on each core, each with a handler of its own.
///
/// An echo server, and a client that talks to it:
///
/// ```
/// use ringsock::{ConnectionId, Effects, Handler, Message, Options, Server};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_message(&mut self, _: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
///         effects.echo(message);
///     }
/// }
///
/// let mut options = Options::default();
/// options.listen.set_port(0); // the kernel chooses
/// let server = Server::start(options, |_worker| Echo)?;
///
/// let stream = std::net::TcpStream::connect(server.address())?;
/// let (mut client, _) = tungstenite::client("ws://localhost/", stream)?;
/// client.send(tungstenite::Message::text("Hello"))?;
/// assert_eq!(client.read()?.into_text()?, "Hello");
///
/// server.stop();
/// let counters = server.join()?;
/// assert_eq!(counters.iter().map(|worker| worker.messages).sum::<u64>(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A chat: whatever anybody says reaches everybody, whichever worker they are on. The frame is
/// encoded once.
///
/// ```
/// use ringsock::{ConnectionId, Effects, Handler, Message, MessageKind, Options, Server, encoder};
///
/// struct Chat;
///
/// impl Handler for Chat {
///     fn on_message(&mut self, from: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
///         if let Some(text) = message.text() {
///             let line = format!("{}-{}: {text}", from.worker, from.key.slot);
///             effects.broadcast(&encoder::shared(MessageKind::Text, line.as_bytes()));
///         }
///     }
/// }
///
/// let mut options = Options::default();
/// options.listen.set_port(0);
/// let server = Server::start(options, |_worker| Chat)?;
/// let join = || {
///     let stream = std::net::TcpStream::connect(server.address())?;
///     Ok::<_, Box<dyn std::error::Error>>(tungstenite::client("ws://localhost/", stream)?.0)
/// };
/// let (mut alice, mut bob) = (join()?, join()?);
/// alice.send(tungstenite::Message::text("hi all"))?;
/// assert!(bob.read()?.into_text()?.ends_with(": hi all"));
/// assert!(alice.read()?.into_text()?.ends_with(": hi all"));
///
/// // So does what the program itself has to say.
/// server.handle().broadcast(&encoder::shared(MessageKind::Text, b"closing time"))?;
/// assert_eq!(bob.read()?.into_text()?, "closing time");
/// # server.stop();
/// # server.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A server that is dropped is told to stop, as by [`Server::stop`], and not waited for.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stomp_address: Option<SocketAddr>,
    features: Features,
    cpus: Vec<usize>,
    connections_max: u32,
    capacity: Capacity,
    handle: Handle,
    stopper: Stopper,
    /// Taken by `join`.
    threads: Option<Threads>,
}

#[derive(Debug)]
struct Threads {
    control: Control,
    workers: Vec<JoinHandle<io::Result<Counters>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.threads.is_some() {
            self.stop();
        }
    }
}

impl Server {
    /// Starts workers that serve `options.listen`, and `options.stomp` if there is one, until [`Server::stop`]. `make_handler` is called
    /// on each worker's own thread with the worker's index, so a handler need not be `Send`.
    ///
    /// # Errors
    ///
    /// What keeps the server from starting, and what mends it.
    pub fn start<H, F>(options: Options, make_handler: F) -> Result<Self, Error>
    where
        H: Handler + 'static,
        F: Fn(u16) -> H + Clone + Send + 'static,
    {
        let features = ring::probe()?;
        let (cpus, core_share) = worker_cpus(&options)?;
        let Table { connections: connections_max, slack } = table(&options)?;
        let resident = Process::Own.resident_bytes().unwrap_or(0);
        let budget = options.memory_max.map(|bytes| accepts_up_to(bytes).saturating_sub(resident));
        let capacity = Capacity::new(rings(&options, cpus.len()), &Supply { budget, ..Supply::read() });
        check_beat("ping", options.worker.ping)?;
        check_beat("keepalive", options.keepalive)?;
        let keepalive = options.keepalive.map(|beat| Keepalive {
            idle: Duration::from_millis(beat.interval_ms),
            timeout: Duration::from_millis(beat.timeout_ms),
        });
        let (address, mut listeners) = listen(options.listen, "--listen", keepalive, cpus.len())?;
        let stomp_address = listen_for_streams(options.stomp, keepalive, &mut listeners)?;

        let ring_options = ring::Options {
            entries: RING_ENTRIES,
            core_share,
            connections_max: connections_max + slack,
            buffer_mode: features.buffer_mode,
            series_bytes_max: features.series_bytes_max,
            low_water: features.low_water,
            accept_poll_first: features.accept_poll_first,
            spin_us: options.spin_us,
            clock_ahead_us: 0,
        };
        let mut worker_options = options.worker;
        worker_options.connections_max = worker_options.connections_max.min(connections_max);
        let mut starting = Vec::new();
        for (index, (listeners, &cpu)) in (0..).zip(listeners.into_iter().zip(&cpus)) {
            let make_handler = make_handler.clone();
            let ring = ring::Options { clock_ahead_us: part_of_tick_us(index, cpus.len()), ..ring_options };
            let plan = Plan { index, cpu, listeners, ring, worker: worker_options.clone() };
            starting.push(Starting::spawn(plan, make_handler)?);
        }
        let rings = starting.iter().map(Starting::ring).collect::<Result<Vec<_>, _>>();
        let rings = rings.map_err(|error| StartError::explain(&error, &features.machine))?;
        let peers: Vec<Peer> = rings
            .into_iter()
            .zip(&starting)
            .map(|(ring, worker)| Peer { mailbox: worker.mailbox.clone(), ring })
            .collect();
        let doorbell = Doorbell::new().map_err(|error| StartError::explain(&error, &features.machine))?;
        let handle = Handle::new(peers.clone(), doorbell);
        let control = Control::start(handle.clone(), options.signals, memory_max(options.memory_max)?)
            .map_err(|source| Error::System { what: "start the control thread", source })?;
        let stopper = control.stopper();
        let workers = starting.into_iter().map(|worker| worker.go(peers.clone(), handle.clone())).collect();
        let threads = Some(Threads { control, workers });
        Ok(Self { address, stomp_address, features, cpus, connections_max, capacity, handle, stopper, threads })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that it listens on for streams, if it does: see [`Options::stomp`].
    #[must_use]
    pub fn stomp_address(&self) -> Option<SocketAddr> {
        self.stomp_address
    }

    /// What of io_uring works here.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// The processors that the workers are pinned to.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// How many connections each worker holds at most.
    #[must_use]
    pub fn connections_max(&self) -> u32 {
        self.connections_max
    }

    /// How many connections all workers together can hold, by what the system had when they started, and
    /// which limit binds.
    #[must_use]
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Reaches the server's connections from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// A way to stop the server from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Closes all connections with 1001, then ends the workers. [`Server::join`] waits for that.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// Waits until the server was stopped and returns what each worker has counted.
    ///
    /// # Errors
    ///
    /// If a ring failed or a thread has panicked.
    pub fn join(mut self) -> Result<Vec<Counters>, Error> {
        let Some(Threads { control, workers }) = self.threads.take() else { return Ok(Vec::new()) };
        let mut counters = Vec::new();
        let mut failure = None;
        for worker in workers {
            let thread = worker.thread().name().unwrap_or_default().to_owned();
            match worker.join() {
                Ok(Ok(worker)) => counters.push(worker),
                Ok(Err(source)) => {
                    failure.get_or_insert(Error::System { what: "run a worker", source });
                }
                Err(_) => {
                    failure.get_or_insert(Error::Panic { thread });
                }
            }
        }
        if control.join().is_err() {
            failure.get_or_insert(Error::Panic { thread: "ringsock-control".into() });
        }
        failure.map_or(Ok(counters), Err)
    }
}

/// What a worker's thread is started with.
struct Plan {
    index: u16,
    cpu: usize,
    /// The first is for WebSockets, the second, if there is one, for streams.
    listeners: Vec<OwnedFd>,
    ring: ring::Options,
    worker: worker::Options,
}

/// A worker that has its ring and waits to be told of the others.
struct Starting {
    mailbox: Arc<Mailbox>,
    ring: Receiver<io::Result<RingHandle>>,
    go: SyncSender<(Vec<Peer>, Handle)>,
    thread: JoinHandle<io::Result<Counters>>,
}

/// Stops the whole server when a worker ends, however it ends: a server on half of its cores would
/// look alive and serve nobody there.
struct StopsAll(Handle, Arc<Mailbox>);

impl Drop for StopsAll {
    fn drop(&mut self) {
        self.1.end();
        if let Err(error) = self.0.stop() {
            tracing::error!("the other workers could not be stopped: {error}");
        }
    }
}

impl Starting {
    fn spawn<H, F>(plan: Plan, make_handler: F) -> Result<Self, Error>
    where
        H: Handler + 'static,
        F: Fn(u16) -> H + Send + 'static,
    {
        let mailbox = Arc::new(Mailbox::default());
        let (ring_sender, ring) = sync_channel(1);
        let (go, peers) = sync_channel(1);
        let own_mailbox = mailbox.clone();
        let thread = thread::Builder::new()
            .name(format!("ringsock-{}", plan.index))
            .spawn(move || run_worker(plan, &make_handler, own_mailbox, &ring_sender, &peers))
            .map_err(|source| Error::System { what: "start a worker's thread", source })?;
        Ok(Self { mailbox, ring, go, thread })
    }

    fn ring(&self) -> io::Result<RingHandle> {
        self.ring.recv().unwrap_or_else(|_| Err(io::Error::other("a worker's thread ended early")))
    }

    fn go(self, peers: Vec<Peer>, handle: Handle) -> JoinHandle<io::Result<Counters>> {
        // A worker that is gone has left its reason in its result.
        let _ = self.go.send((peers, handle));
        self.thread
    }
}

fn run_worker<H: Handler>(
    plan: Plan,
    make_handler: &impl Fn(u16) -> H,
    mailbox: Arc<Mailbox>,
    ring: &SyncSender<io::Result<RingHandle>>,
    go: &Receiver<(Vec<Peer>, Handle)>,
) -> io::Result<Counters> {
    let Plan { index, cpu, listeners, ring: ring_options, worker: options } = plan;
    let transports = &TRANSPORTS[..listeners.len()];
    // Being unpinned costs speed, not correctness; some containers forbid it.
    if let Err(error) = affinity::pin(cpu) {
        tracing::warn!("worker {index} is not pinned to processor {cpu}: {error}");
    }
    let made =
        RingDriver::new(listeners, ring_options).and_then(|driver| driver.handle().map(|handle| (driver, handle)));
    let driver = match made {
        Ok((driver, handle)) => {
            // Nobody waits for it if the start was given up.
            let _ = ring.send(Ok(handle));
            driver
        }
        Err(error) => {
            let _ = ring.send(Err(error));
            return Ok(Counters::default());
        }
    };
    // The start was given up: another worker has no ring.
    let Ok((peers, handle)) = go.recv() else { return Ok(Counters::default()) };
    let _stops_all = StopsAll(handle, mailbox.clone());
    let worker = Worker::new(index, driver, make_handler(index), options, mailbox, peers);
    let mut worker = worker.with_listeners(transports);
    worker.run()?;
    Ok(worker.counters().clone())
}

/// The processors for the workers, those allowed, in turn; and what a worker gets of its own.
fn worker_cpus(options: &Options) -> Result<(Vec<usize>, CoreShare), Error> {
    let cpus = affinity::allowed().map_err(|source| Error::System { what: "read the allowed processors", source })?;
    let count = match options.workers {
        Some(0) => return Err(Error::Option { name: "workers", value: "0".into(), advice: "have at least one" }),
        Some(count) if count > WORKERS_MAX => {
            let value = count.to_string();
            return Err(Error::Option { name: "workers", value, advice: "have at most 1024" });
        }
        Some(count) => usize::from(count),
        None => cpus.len(),
    };
    let core_share = CoreShare::new(count, cpus.len());
    Ok((cpus.into_iter().cycle().take(count).collect(), core_share))
}

/// How far the clock of one of `count` workers is ahead: their ticks, at which deadlines pass and pings go
/// out, are spread evenly over the time of one.
fn part_of_tick_us(index: u16, count: usize) -> u32 {
    let part = TICK_MS * 1_000 * u64::from(index) / count.max(1) as u64;
    u32::try_from(part).expect("less than a tick")
}

/// What a worker's table is to hold: what was asked for, or what the system allows.
fn table(options: &Options) -> Result<Table, Error> {
    let open_files =
        limits::raise_open_files().map_err(|source| Error::System { what: "read the limit on open files", source })?;
    let Table { connections: possible, slack } = Table::longest(open_files);
    let connections = match options.connections_max {
        Some(0) => return Err(Error::Option { name: "connections", value: "0".into(), advice: "allow at least one" }),
        Some(connections) if connections > Table::LEN_MAX - Table::SLACK_MAX => {
            return Err(StartError::TableSize { connections, possible: Table::LEN_MAX - Table::SLACK_MAX }.into());
        }
        Some(connections) if connections > possible => {
            let needed = u64::from(connections + Table::SLACK_MAX);
            return Err(StartError::OpenFiles { connections, needed, open_files, possible }.into());
        }
        Some(connections) => connections,
        None => possible,
    };
    Ok(Table { connections, slack })
}

fn rings(options: &Options, count: usize) -> Rings {
    Rings {
        count: u16::try_from(count).unwrap_or(u16::MAX),
        connections_max: options.connections_max,
        backlog: listener::BACKLOG,
    }
}

/// How many bytes the server may take: what was asked for, or what there is for it now.
fn memory_max(asked: Option<u64>) -> Result<Option<u64>, Error> {
    if let Some(bytes) = asked.filter(|&bytes| bytes < MEMORY_MIN) {
        let advice = "give at least 64 MiB (67108864), or leave it to what the machine has";
        return Err(Error::Option { name: "memory", value: bytes.to_string(), advice });
    }
    let supply = Supply::read();
    let left = supply.memory.into_iter().chain(supply.group.map(|group| group.left)).min();
    Ok(asked.or(left.map(|left| left + Process::Own.resident_bytes().unwrap_or(0))))
}

/// Heartbeats of no time would never end, and the kernel counts in seconds, up to `32767`.
fn check_beat(name: &'static str, beat: Option<Beat>) -> Result<(), Error> {
    let possible = |ms: u64| (1_000..=32_767_000).contains(&ms);
    match beat {
        Some(beat) if !possible(beat.interval_ms) || !possible(beat.timeout_ms) => Err(Error::Option {
            name,
            value: format!("{} and {} ms", beat.interval_ms, beat.timeout_ms),
            advice: "take 1,000 to 32,767,000 for both, or None",
        }),
        _ => Ok(()),
    }
}

/// One listening socket for each worker, all on one address that `option` asked for.
fn listen(
    address: SocketAddr,
    option: &'static str,
    keepalive: Option<Keepalive>,
    count: usize,
) -> Result<(SocketAddr, Vec<Vec<OwnedFd>>), Error> {
    let failed = |source| Error::Listen { address, option, source };
    listener::check_free(address).map_err(failed)?;
    let first = listener::listen(address, keepalive).map_err(failed)?;
    let bound = listener::local_address(&first).map_err(failed)?;
    let mut listeners = vec![vec![first]];
    for _ in 1..count {
        listeners.push(vec![listener::listen(bound, keepalive).map_err(failed)?]);
    }
    Ok((bound, listeners))
}

/// Gives each worker, whose listening sockets `listeners` has, one more if there is an address for streams.
fn listen_for_streams(
    address: Option<SocketAddr>,
    keepalive: Option<Keepalive>,
    listeners: &mut [Vec<OwnedFd>],
) -> Result<Option<SocketAddr>, Error> {
    let Some(address) = address else { return Ok(None) };
    let (bound, more) = listen(address, "--stomp", keepalive, listeners.len())?;
    for (listeners, more) in listeners.iter_mut().zip(more) {
        listeners.extend(more);
    }
    Ok(Some(bound))
}

fn listen_advice(error: &io::Error, option: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("find who has it with 'ss -ltnp', or choose another with {option}"),
        io::ErrorKind::AddrNotAvailable => {
            format!("choose an address of this machine ('ip address' lists them) with {option}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("choose a port from 1024 up with {option}, or grant CAP_NET_BIND_SERVICE")
        }
        _ => format!("choose another address with {option}"),
    }
}
