//! The command line: `ringsock serve`, `ringsock bench`, `ringsock doctor`.

mod bench;
mod doctor;
mod heartbeat;
mod serve;
mod stomp;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::sys::memory;

/// A WebSocket server on io_uring.
#[derive(Debug, Parser)]
#[command(name = "ringsock", version, about, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Arguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves WebSocket echo and a STOMP broker: the development profile, on loopback (the default command)
    Serve(serve::Arguments),
    /// Puts load on a WebSocket server, this one or any other, and measures it
    Bench(Box<bench::Arguments>),
    /// Tries what the kernel offers and says what is missing
    Doctor,
}

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn run() -> ExitCode {
    let filter = EnvFilter::try_from_env("RINGSOCK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // Whoever reads the log may be gone: that is no reason to panic.
        .log_internal_errors(false)
        .init();
    if let Err(error) = memory::forbid_huge_pages() {
        tracing::debug!("huge pages are not forbidden, so each thread may take more memory: {error}");
    }
    let line = CommandLine::parse();
    match line.command.unwrap_or(Command::Serve(line.serve)) {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Bench(arguments) => bench::run(*arguments),
        Command::Doctor => doctor::run(),
    }
}

/// Prints a line, or several. Whoever reads them may have seen enough and be gone: that is no reason
/// to end.
fn print(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints a line about a failure, likewise.
fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
