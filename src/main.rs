//! The ringsock program: its allocator and its exit code.

use std::process::ExitCode;

/// Chosen for its speed with small blocks and for returning memory after a storm of connections.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringsock::cli::run()
}
