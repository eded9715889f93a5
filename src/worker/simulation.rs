//! The worker's own code in a simulated world: many seeds, every kind of fault, one reference.
//!
//! Each seed makes a handful of peers with scripts (conversations, broken rules, bad requests,
//! peers that vanish or never read), a network and a kernel of its own. A plain reference says
//! what each peer must have got. A failing seed is printed and replays with
//! `RINGSOCK_SIM_SEED=<seed> cargo test simulated`.

mod heartbeats;
mod script;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::{env, io, mem};

use crate::handler::{Accept, CloseCause, ConnectionId, Effects, Handler, Transport};
use crate::proto::http::{Refusal, Request, Upgrade};
use crate::proto::ws::deflate::{Policy, WindowBits};
use crate::proto::ws::{Limits, Message};
use crate::ring::sim::{Ending, Fault, Random, SimDriver, Stop, World};
use crate::worker::{Beat, CompressionOptions, Counters, Mailbox, Options, Pressure, Status, Worker};

use script::{Script, Verdict};

/// Seeds of an ordinary run; `RINGSOCK_SIM_SEEDS` asks for another number.
const SEED_COUNT: u64 = 600;
/// Turns within which every world has come to its end.
const TURN_COUNT_MAX: usize = 200_000;

/// An echo that keeps account of openings and closings.
#[derive(Default)]
struct Accountant {
    open: BTreeMap<ConnectionId, usize>,
    causes: Vec<CloseCause>,
    /// Those whose queues are full.
    full: BTreeSet<ConnectionId>,
    /// Those that are paused, and when they are to go on.
    paused: BTreeSet<ConnectionId>,
    resume_at_ms: Option<u64>,
    calls: usize,
    pauses: u64,
}

/// Which share of the calls with something received pauses the connection, and for how long.
const CALLS_PER_PAUSE: usize = 16;
const PAUSE_MS: u64 = 20;

impl Accountant {
    fn hear(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        *self.open.get_mut(&connection).expect("what is received comes between open and close") += 1;
        assert!(!self.paused.contains(&connection), "nothing is delivered during a pause");
        self.calls += 1;
        if self.calls.is_multiple_of(CALLS_PER_PAUSE) {
            self.pauses += 1;
            self.paused.insert(connection);
            self.resume_at_ms.get_or_insert(effects.now_ms() + PAUSE_MS);
            effects.pause();
        }
    }
}

impl Handler for Accountant {
    fn on_upgrade(&mut self, _: ConnectionId, _: &Request<'_>, _: &Upgrade<'_>) -> Result<Accept, Refusal> {
        Ok(Accept { compression: Policy::Dedicated { window_bits: WindowBits::MAX }, ..Accept::default() })
    }

    fn on_open(&mut self, connection: ConnectionId, _: &mut Effects<'_>) {
        let earlier = self.open.insert(connection, 0);
        assert_eq!(earlier, None, "an id never comes back");
    }

    fn on_message(&mut self, connection: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        assert_eq!(effects.transport(), Transport::WebSocket);
        self.hear(connection, effects);
        effects.echo(message);
    }

    fn on_bytes(&mut self, connection: ConnectionId, bytes: &[u8], effects: &mut Effects<'_>) {
        assert_eq!(effects.transport(), Transport::Stream);
        self.hear(connection, effects);
        effects.send_binary(bytes);
    }

    fn on_full(&mut self, connection: ConnectionId, _: &mut Effects<'_>) {
        assert!(self.open.contains_key(&connection), "a queue is full between open and close");
        assert!(self.full.insert(connection), "a queue is full once until it has drained");
    }

    fn on_drain(&mut self, connection: ConnectionId, _: &mut Effects<'_>) {
        assert!(self.open.contains_key(&connection), "a queue drains between open and close");
        // It may have been pongs that it was full of.
        self.full.remove(&connection);
    }

    fn poll_timeout(&mut self, _: u64) -> Option<u64> {
        self.resume_at_ms
    }

    fn on_timeout(&mut self, effects: &mut Effects<'_>) {
        let at_ms = self.resume_at_ms.take().expect("it was asked for");
        assert!(at_ms <= effects.now_ms(), "not before its time");
        for connection in mem::take(&mut self.paused) {
            effects.resume(connection);
        }
    }

    fn on_close(&mut self, connection: ConnectionId, cause: CloseCause, _: &mut Effects<'_>) {
        assert!(self.open.remove(&connection).is_some(), "a connection closes once");
        self.paused.remove(&connection);
        self.full.remove(&connection);
        self.causes.push(cause);
    }
}

/// What the runs came to.
#[derive(Debug, Default)]
struct Tally {
    turns: usize,
    peers: usize,
    bytes: usize,
    faults: BTreeMap<Fault, u64>,
    causes: BTreeMap<String, u64>,
    pauses: u64,
    handler_pauses: u64,
    stream_bytes: u64,
    timeouts: u64,
    pings: u64,
    hibernations: u64,
}

fn options(random: &mut Random) -> Options {
    Options {
        connections_max: 1 + u32::try_from(random.below(8)).expect("small"),
        handshake_timeout_ms: 5_000,
        close_timeout_ms: 5_000,
        assembly_timeout_ms: 30_000,
        stall_timeout_ms: 10_000,
        // No honest peer is quiet for as long as the timeout.
        ping: random
            .one_in(2)
            .then(|| Beat { interval_ms: random.piece(2_000) as u64, timeout_ms: 5_000 + random.below(5_000) as u64 }),
        hibernate_after_ms: random.one_in(2).then(|| random.piece(500) as u64),
        frames_per_turn_max: 1 + u32::try_from(random.piece(20)).expect("small"),
        send_queue_bytes_max: random.piece(40_000),
        // Zero has every frame that is cut received straight.
        straight_bytes_min: random.piece(30_000) - 1,
        block_bytes_min: random.piece(10_000) - 1,
        messages: Limits { message_bytes_max: script::MESSAGE_BYTES_MAX, ..Limits::default() },
        compression: CompressionOptions {
            engines_max: random.below(4) << 19,
            forget_after_ms: random.piece(20_000) as u64,
            ..CompressionOptions::default()
        },
        ..Options::default()
    }
}

/// Runs one seed to its end and checks everything.
fn run(seed: u64, tally: &mut Tally) {
    let mut random = Random(seed);
    let options = options(&mut random);
    let scripts: Vec<Script> = (0..1 + random.below(8)).map(|number| Script::new(number, &mut random)).collect();
    let peers = scripts.iter().map(Script::peer).collect();
    // Some kernels have less room than the worker believes.
    let table_len = options.connections_max.saturating_sub(u32::from(random.one_in(4))).max(1);
    let world = Rc::new(RefCell::new(World::new(random.next(), table_len, peers)));
    let mailbox = Arc::new(Mailbox::default());
    let (orders, memory) = (mailbox.clone(), mailbox.clone());
    // Most servers are stopped when nothing can happen any more, some in the middle of it all.
    let stopped_early = random.one_in(8);
    let at_ms = if stopped_early { random.below(500) as u64 } else { u64::MAX };
    world.borrow_mut().stop = Some(Stop { at_ms, order: Box::new(move || orders.stop()) });

    let driver = SimDriver::new(world.clone());
    let worker = Worker::new(0, driver, Accountant::default(), options, mailbox, Vec::new());
    let mut worker = worker.with_listeners(&[Transport::WebSocket, Transport::Stream]);
    // In some worlds memory runs short for a while.
    let short_by = random.below(100_000) as u64;
    let short_at = random.one_in(8).then(|| 1 + random.below(100));
    let turns = (1..TURN_COUNT_MAX)
        .find(|&turn| {
            if let Some(at) = short_at {
                match turn {
                    _ if turn == at => memory.press(Pressure::Short { bytes: short_by }),
                    _ if turn == at + 3 => memory.press(Pressure::Calm),
                    _ => {}
                }
            }
            worker.turn().expect("the simulated ring never fails") == Status::Stopped
        })
        .expect("every world comes to its end");

    world.borrow_mut().drain();
    let world = world.borrow();
    check_baseline(&worker, &world);
    for (script, peer) in scripts.iter().zip(&world.peers) {
        script.check(peer, if stopped_early || short_at.is_some() { Verdict::Prefix } else { Verdict::Whole });
    }
    let rude = scripts.iter().filter(|script| script.may_time_out()).count();
    let Counters { close_timeouts, stalled, handshake_timeouts, silent, pings, hibernations, .. } = worker.counters();
    let timeouts = close_timeouts + stalled + handshake_timeouts + silent;
    assert!(timeouts <= rude as u64, "{timeouts} timeouts, but only {rude} peers keep the server waiting");

    tally.turns += turns;
    tally.peers += scripts.len();
    tally.bytes += world.peers.iter().map(|peer| peer.received.len()).sum::<usize>();
    tally.pauses += worker.counters().pauses;
    tally.handler_pauses += worker.context.handler.pauses;
    tally.stream_bytes += worker.counters().stream_bytes;
    tally.timeouts += timeouts;
    tally.pings += pings;
    tally.hibernations += hibernations;
    for (fault, count) in &world.faults {
        *tally.faults.entry(*fault).or_default() += count;
    }
    for cause in &worker.context.handler.causes {
        let name: String = format!("{cause:?}").chars().take_while(char::is_ascii_alphanumeric).collect();
        *tally.causes.entry(name).or_default() += 1;
    }
}

/// Everything that was lent or taken is back.
fn check_baseline(worker: &Worker<SimDriver, Accountant>, world: &World) {
    let counters = worker.counters();
    assert_eq!(worker.connections.len(), 0, "slots");
    assert_eq!(worker.driver.leases(), 0, "leases");
    assert_eq!(worker.context.pool.lent(), 0, "blocks");
    assert_eq!(worker.deadlines.len(), 0, "deadlines");
    assert!(worker.context.compression.is_at_rest(), "windows");
    assert_eq!(counters.accepted, counters.closed, "every connection that was accepted was closed");
    assert!(worker.context.handler.open.is_empty(), "every connection that was opened was closed");
    assert_eq!(worker.context.handler.causes.len() as u64, counters.opened);
    assert!(world.is_empty(), "the kernel holds nothing any more");
}

#[test]
fn simulated_worlds_end_as_the_reference_says() {
    let mut tally = Tally::default();
    if let Some(seed) = env_number("RINGSOCK_SIM_SEED") {
        run(seed, &mut tally);
        report(1, &tally);
        return;
    }
    let count = env_number("RINGSOCK_SIM_SEEDS").unwrap_or(SEED_COUNT);
    for seed in 0..count {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed, &mut tally))) {
            say(&format!("seed {seed} failed; replay it with RINGSOCK_SIM_SEED={seed} cargo test --lib simulated"));
            resume_unwind(panic);
        }
    }
    report(count, &tally);
    for fault in Fault::ALL {
        assert!(tally.faults.get(&fault).is_some_and(|&count| count > 0), "{fault:?} never happened");
    }
    for cause in ["Peer", "Protocol", "Lost", "Shutdown", "Stalled", "Silent", "Overload"] {
        assert!(tally.causes.contains_key(cause), "no connection ended by {cause}");
    }
    assert!(tally.pauses > 0 && tally.timeouts > 0, "pauses and timeouts happen");
    assert!(tally.handler_pauses > 0 && tally.stream_bytes > 0, "handlers pause, and streams are heard");
    assert!(tally.pings > 0 && tally.hibernations > 0, "heartbeats and hibernation happen");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let [first, second] = [0, 1].map(|_| {
        let mut tally = Tally::default();
        run(7, &mut tally);
        format!("{tally:?}")
    });
    assert_eq!(first, second);
}

fn env_number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("the number of a seed, or how many"))
}

fn report(seeds: u64, tally: &Tally) {
    let total: u64 = tally.faults.values().sum();
    let faults: Vec<String> = tally.faults.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect();
    let causes: Vec<String> = tally.causes.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
    say(&format!(
        "simulation: {seeds} seeds, {} peers, {} turns, {} bytes checked, {total} faults, 0 violations\n  \
         faults: {}\n  ends: {}\n  pauses: {}, of handlers: {}, bytes of streams: {}, timeouts: {}, pings: {}, hibernations: {}",
        tally.peers,
        tally.turns,
        tally.bytes,
        faults.join(", "),
        causes.join(", "),
        tally.pauses,
        tally.handler_pauses,
        tally.stream_bytes,
        tally.timeouts,
        tally.pings,
        tally.hibernations,
    ));
}

/// Prints past the test harness, which would hide it.
fn say(text: &str) {
    writeln!(io::stderr(), "{text}").expect("standard error is open");
}

/// Whether a peer of this kind may keep the server waiting until a deadline.
fn is_rude(ending: Ending, reads: bool) -> bool {
    ending == Ending::Silent || !reads
}
