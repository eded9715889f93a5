//! `ringsock doctor`: what works on this machine, and what to change.

use std::process::ExitCode;

use crate::cli::print;
use crate::ring::{self, Features};
use crate::sys::capacity::{Capacity, Limit, Reach, Rings, grouped};
use crate::sys::machine::Machine;
use crate::sys::{affinity, limits, listener};

pub(super) fn run() -> ExitCode {
    let machine = Machine::read();
    show("kernel", &machine.kernel);
    show("kernel.io_uring_disabled", &known(machine.io_uring_disabled));
    show("locked memory", &known(machine.locked_memory.map(|bytes| format!("{} KiB", bytes / 1024))));
    show("open files", &known(limits::raise_open_files().ok()));
    let processors = affinity::allowed().ok().map(|cpus| cpus.len());
    show("processors", &known(processors));
    show_capacity(processors.unwrap_or(1));
    match ring::probe() {
        Ok(features) => {
            show_features(&features);
            print("ringsock runs on this machine.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            print(&format!("ringsock does not run on this machine: {error}"));
            ExitCode::from(ring::EXIT_CODE)
        }
    }
}

/// What the server would hold if it were started with a worker on each processor.
fn show_capacity(workers: usize) {
    let count = u16::try_from(workers).unwrap_or(u16::MAX);
    let capacity = Capacity::read(Rings { count, connections_max: None, backlog: listener::BACKLOG });
    show("capacity", &capacity.to_string());
    let row = |limit: &str, connections: &str, that_are: &str, found: &str| {
        print(&format!("  {limit:<24} {connections:>13}  {that_are:<10} {found}"));
    };
    row("limit", "connections", "that are", "value found -> what raises it");
    for Limit { name, found, reach, connections, remedy } in capacity.limits() {
        let (connections, that_are) = match reach {
            Reach::Open => (grouped(*connections), "open"),
            Reach::Busy => (grouped(*connections), "busy"),
            Reach::Arriving => (grouped(*connections), "arriving"),
            Reach::Nobody => ("-".into(), "not bound"),
        };
        let remedy = remedy.as_ref().map(|remedy| format!(" -> {remedy}")).unwrap_or_default();
        row(name, &connections, that_are, &format!("{found}{remedy}"));
    }
}

fn show_features(features: &Features) {
    show("multishot receive", "works (Linux 6.0)");
    show("direct descriptors", "work (Linux 5.19)");
    show("deferred task work", "works (Linux 6.1)");
    match &features.fallback {
        None => show("incremental buffers", "work (Linux 6.12)"),
        Some(cause) => show("incremental buffers", &format!("not used, smaller ones are: {cause}")),
    }
    match features.series_bytes_max {
        0 => show("bounded series", "not available: Linux 6.17 or newer has them"),
        _ => show("bounded series", "work (Linux 6.17)"),
    }
    show(
        "accepts that wait first",
        if features.accept_poll_first { "work (Linux 6.10)" } else { "not available: Linux 6.10 or newer has them" },
    );
    show(
        "low-water marks",
        if features.low_water { "work (Linux 6.7)" } else { "not available: Linux 6.7 or newer has them" },
    );
}

fn show(name: &str, value: &str) {
    print(&format!("{name:<26} {value}"));
}

fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| String::from("unknown"), |value| value.to_string())
}
