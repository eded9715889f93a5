//! `ringsock serve`: the server itself.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use crate::config::{DEVELOPMENT_ADDRESS, Options};
use crate::control::Signals;
use crate::handler::Echo;
use crate::ring::BufferMode;
use crate::server::{Error, Server};
use crate::worker::Counters;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = DEVELOPMENT_ADDRESS, env = "RINGSOCK_LISTEN")]
    listen: SocketAddr,
    /// Number of workers [default: one on each processor]
    #[arg(long, value_name = "COUNT", env = "RINGSOCK_WORKERS")]
    workers: Option<u16>,
    /// Most connections of each worker [default: what the limit on open files allows]
    #[arg(long, value_name = "COUNT", env = "RINGSOCK_CONNECTIONS")]
    connections: Option<u32>,
}

pub(super) fn run(arguments: Arguments) -> ExitCode {
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringsock: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(arguments: &Arguments) -> Result<(), Error> {
    let mut options = Options::development();
    options.listen = arguments.listen;
    options.workers = arguments.workers;
    options.connections_max = arguments.connections;
    options.signals = Signals::Handled;
    let server = Server::start(options, |_| Echo)?;
    print_banner(&server);
    let counters = server.join()?;
    print_farewell(&counters);
    Ok(())
}

fn print_banner(server: &Server) {
    let address = server.address();
    let features = server.features();
    let buffers = match features.buffer_mode {
        BufferMode::Incremental => "incremental receive buffers",
        BufferMode::Once => "receive buffers used once (incremental ones need Linux 6.12)",
    };
    let cpus: Vec<String> = server.cpus().iter().map(ToString::to_string).collect();
    let count = cpus.len();
    println!("ringsock {} (development profile)", env!("CARGO_PKG_VERSION"));
    println!("  echo      ws://{address}/  also on /ws and /echo");
    println!("  page      http://{address}/");
    println!("  kernel    {}: multishot accept and receive, direct descriptors, {buffers}", features.machine.kernel);
    println!(
        "  workers   {count}, on processor {}; up to {} connections each",
        cpus.join(", "),
        server.connections_max()
    );
    println!("Ctrl-C closes all connections and stops.");
}

fn print_farewell(counters: &[Counters]) {
    let sum = |count: fn(&Counters) -> u64| counters.iter().map(count).sum::<u64>();
    println!(
        "stopped: {} connections, {} messages, {} refused requests, {} protocol errors",
        sum(|worker| worker.accepted),
        sum(|worker| worker.messages),
        sum(|worker| worker.refused),
        sum(|worker| worker.protocol_errors),
    );
}
