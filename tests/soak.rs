//! A soak: many connections to the real server that echo messages of every size, kind and
//! fragmentation, close, reset and come back, each byte compared.
//!
//! ```text
//!  this process                                          ringsock serve
//!  main thread: memory, slots, time ── /proc ──────────► pid
//!  client threads: connections ─ speech ─► masked frames ─►
//!                       └─ compare ◄────── echoes ◄────────
//! ```
//!
//! By default it takes seconds. `scripts/soak.sh` runs it long and large, by these variables:
//! `RINGSOCK_SOAK_SECONDS`, `RINGSOCK_SOAK_CONNECTIONS`, `RINGSOCK_SOAK_SIZE_MAX` and
//! `RINGSOCK_SOAK_SEED`. The seed repeats what each connection says, not how the kernel cuts it.

#[path = "soak/client.rs"]
mod client;
#[path = "soak/connection.rs"]
mod connection;
#[path = "soak/content.rs"]
mod content;
#[path = "soak/memory.rs"]
mod memory;
#[path = "soak/plan.rs"]
mod plan;
#[path = "soak/random.rs"]
mod random;
#[path = "soak/report.rs"]
mod report;
#[path = "soak/server.rs"]
mod server;
#[path = "soak/speech.rs"]
mod speech;
#[path = "soak/tally.rs"]
mod tally;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use client::{Task, Until};
use content::Content;
use memory::Memory;
use plan::Plan;
use report::Report;
use server::Server;
use tally::Tally;

#[test]
fn every_echo_is_right_and_memory_and_slots_come_back() {
    let plan = Plan::from_environment();
    let seed = plan.seed;
    let outcome = soak(plan).and_then(|report| {
        show(&format!("\n{report}"));
        verdict(&report)
    });
    match outcome {
        Ok(()) => show("  errors      0\n"),
        Err(error) => panic!("seed {seed}: {error}"),
    }
}

/// Writes to standard error itself: of what a test prints, the harness shows only that of failures.
fn show(text: &str) {
    io::stderr().write_all(text.as_bytes()).expect("standard error is open");
}

/// Runs everything; an error is something that a connection or the server did wrong.
fn soak(plan: Plan) -> Result<Report, String> {
    let server = Server::start()?;
    match run(&plan, &server) {
        Ok(found) => conclude(plan, server, found),
        Err(error) => Err(format!("{error}\nThe server's log:\n{}", server.abandon())),
    }
}

/// What was found out while the server ran.
struct Found {
    elapsed: Duration,
    tally: Tally,
    memory: Memory,
    slots: (Option<usize>, Option<usize>),
}

#[expect(clippy::disallowed_methods, reason = "a soak runs in real time")]
fn run(plan: &Plan, server: &Server) -> Result<Found, String> {
    let content = Content::new(plan.seed, plan.size_max);
    let mut memory = Memory::new(server.memory_bytes()?);
    let mut slots_midway = None;
    let told = AtomicBool::new(false);
    let threads = CLIENT_THREADS.min(plan.connections);
    let task = Task {
        address: server.address,
        content: &content,
        seed: plan.seed,
        first: 0,
        step: threads as u64,
        connections: 0,
        until: Until::Told(&told),
    };
    let started = Instant::now();
    let mut tally = thread::scope(|scope| {
        let clients: Vec<_> = (0..threads)
            .map(|index| {
                let connections = plan.connections / threads + usize::from(index < plan.connections % threads);
                let task = Task { first: index as u64, connections, ..task };
                scope.spawn(move || client::run(task))
            })
            .collect();
        let watched = watch(plan, server, &clients, &mut memory, &mut slots_midway);
        told.store(true, Ordering::Relaxed);
        let tally = sum(clients);
        // A client that failed is the better news, if the server is gone too.
        tally.and_then(|tally| watched.map(|()| tally))
    })?;
    let elapsed = started.elapsed();

    let slots = (slots_midway, slots_at_rest(server));
    if let Some(left @ 1..) = slots.1 {
        return Err(format!("{left} slots are still taken although all connections have ended"));
    }
    memory.rest(server.memory_bytes()?);
    let calm = Task { first: tally.connections, step: 1, connections: ROLL_CALL_CONNECTIONS, ..task };
    let roll_call = Task { until: Until::AllAnswered, ..calm };
    tally += &client::run(roll_call).map_err(|error| format!("after the soak, {error}"))?;
    Ok(Found { elapsed, tally, memory, slots })
}

/// Takes samples until the time is over or a client has ended early, which means that it failed.
fn watch<T>(
    plan: &Plan,
    server: &Server,
    clients: &[ScopedJoinHandle<'_, T>],
    memory: &mut Memory,
    slots: &mut Option<usize>,
) -> Result<(), String> {
    let interval_ms = (plan.seconds * 1000 / SAMPLES_MIN).min(1000);
    let count = plan.seconds * 1000 / interval_ms;
    for taken in 0..count {
        if clients.iter().any(ScopedJoinHandle::is_finished) {
            break;
        }
        thread::sleep(Duration::from_millis(interval_ms));
        memory.push(server.memory_bytes()?);
        // Once is enough to know that the kernel shows them, and looking holds a worker up.
        if slots.is_none() && taken >= count / 2 {
            *slots = server.slots_taken().filter(|&taken| taken > 0);
        }
    }
    Ok(())
}

fn sum(clients: Vec<ScopedJoinHandle<'_, Result<Tally, String>>>) -> Result<Tally, String> {
    let mut sum = Tally::default();
    for client in clients {
        sum += &client.join().map_err(|_| "a client thread has panicked")??;
    }
    Ok(sum)
}

/// How many slots are taken once the server had time to give back those of connections whose end
/// the client has seen already.
fn slots_at_rest(server: &Server) -> Option<usize> {
    for _ in 0..REST_TRIES_MAX {
        if server.slots_taken() == Some(0) {
            return Some(0);
        }
        thread::sleep(REST_INTERVAL);
    }
    server.slots_taken()
}

/// Stops the server and compares its own count with ours.
fn conclude(plan: Plan, server: Server, found: Found) -> Result<Report, String> {
    let Found { elapsed, tally, memory, slots } = found;
    let end = server.stop()?;
    let in_order = end.status.success() && !end.log.contains("panicked") && counts_agree(&end.farewell, &tally);
    if !in_order {
        return Err(format!(
            "the server ended with {}, {:?}; the clients counted {} connections and {} messages + up to {} \
             unanswered\nThe server's log:\n{}",
            end.status,
            end.farewell,
            tally.connections,
            tally.messages(),
            tally.unanswered,
            end.log
        ));
    }
    Ok(Report { plan, elapsed, tally, memory, slots, farewell: end.farewell })
}

/// Whether the server's last line says what the clients counted. Of the messages that were on their
/// way when their connection was reset, nobody but the server knows how many it had read.
fn counts_agree(farewell: &str, tally: &Tally) -> bool {
    let Some(counts) = farewell.strip_prefix("stopped: ") else { return false };
    let count = |of: &str| counts.split(", ").find_map(|part| part.strip_suffix(of)?.strip_suffix(' ')?.parse().ok());
    let messages = tally.messages()..=tally.messages() + tally.unanswered;
    count("connections") == Some(tally.connections)
        && count("messages").is_some_and(|count: u64| messages.contains(&count))
        && count("refused requests") == Some(0)
        && count("protocol errors") == Some(0)
}

/// Judges what was measured. Each sentence says what is wrong.
fn verdict(report: &Report) -> Result<(), String> {
    let Report { plan, tally, memory, .. } = report;
    if tally.closes + tally.resets != tally.connections {
        return Err("connections opened and ended differ in number".into());
    }
    // In a few seconds nothing settles.
    if plan.seconds >= FLAT_SECONDS_MIN && !memory.is_flat() {
        return Err("the server's memory was not flat".into());
    }
    Ok(())
}

/// More would only compete with the server for the processors.
const CLIENT_THREADS: usize = 2;
/// Samples of a short run; a long one takes one each second.
const SAMPLES_MIN: u64 = 12;
/// Memory is judged from this length of a run on.
const FLAT_SECONDS_MIN: u64 = 30;
/// Connections that are opened after the soak, all at once: enough to reach each worker.
const ROLL_CALL_CONNECTIONS: usize = 64;
const REST_INTERVAL: Duration = Duration::from_millis(50);
/// Ten seconds.
const REST_TRIES_MAX: u32 = 200;
