//! `ringsock doctor`: what works on this machine, and what to change.

use std::process::ExitCode;

use crate::ring;
use crate::sys::machine::Machine;
use crate::sys::{affinity, limits};

pub(super) fn run() -> ExitCode {
    let machine = Machine::read();
    let known = |value: Option<String>| value.unwrap_or_else(|| String::from("unknown"));
    println!("kernel                     {}", machine.kernel);
    println!("kernel.io_uring_disabled   {}", known(machine.io_uring_disabled.map(|value| value.to_string())));
    println!(
        "locked memory              {}",
        known(machine.locked_memory.map(|bytes| format!("{} KiB", bytes / 1024)))
    );
    println!("open files                 {}", known(limits::raise_open_files().ok().map(|count| count.to_string())));
    println!("processors                 {}", known(affinity::allowed().ok().map(|cpus| cpus.len().to_string())));
    match ring::probe() {
        Ok(features) => {
            println!("multishot accept, receive  work (Linux 6.0)");
            println!("direct descriptors         work (Linux 5.19)");
            println!("deferred task work         works (Linux 6.1)");
            match features.fallback {
                None => println!("incremental buffers        work (Linux 6.12)"),
                Some(cause) => println!("incremental buffers        not used, smaller ones are: {cause}"),
            }
            match features.series_bytes_max {
                0 => println!("bounded series             not available: Linux 6.17 or newer has them"),
                _ => println!("bounded series             work (Linux 6.17)"),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::from(ring::EXIT_CODE)
        }
    }
}
