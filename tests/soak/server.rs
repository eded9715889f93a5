//! The server under test: the real program, in a process of its own.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, io, thread};

/// A running `ringsock serve`. It is killed if it is dropped before it was stopped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    lines: Receiver<String>,
    log: Option<JoinHandle<String>>,
}

/// How the server ended.
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    /// The last line of its standard output.
    pub(crate) farewell: String,
    /// All of its standard error.
    pub(crate) log: String,
}

impl Server {
    /// Starts the program on a port that the kernel chooses and waits until it listens.
    pub(crate) fn start() -> Result<Self, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringsock"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the server did not start: {error}"))?;
        let lines = lines_of(child.stdout.take().expect("it is piped"));
        let log = text_of(child.stderr.take().expect("it is piped"));
        let mut server = Self { child, address: SocketAddr::from(([0; 4], 0)), lines, log: Some(log) };
        loop {
            match server.lines.recv_timeout(START_TIMEOUT) {
                Ok(line) => {
                    if let Some(address) = address_in(&line) {
                        server.address = address;
                        return Ok(server);
                    }
                }
                Err(error) => {
                    server.kill();
                    return Err(format!("the server names no ws:// address ({error}); its log:\n{}", server.log()));
                }
            }
        }
    }

    /// The resident memory of the process in bytes.
    pub(crate) fn memory_bytes(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let kibibytes =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse().ok());
        kibibytes
            .map(|kibibytes: u64| kibibytes << 10)
            .ok_or_else(|| format!("{path} has no VmRSS: the server is gone"))
    }

    /// How many slots the kernel has given out in the tables of direct descriptors of all rings:
    /// what the server itself believes is not asked. `None` if a table could not be looked into,
    /// as may happen while a worker is at work.
    pub(crate) fn slots_taken(&self) -> Option<usize> {
        let process = format!("/proc/{}", self.child.id());
        let mut sockets = HashSet::new();
        for entry in fs::read_dir(format!("{process}/fd")).ok()? {
            let entry = entry.ok()?;
            let is_ring = fs::read_link(entry.path()).is_ok_and(|target| target.ends_with("anon_inode:[io_uring]"));
            if !is_ring {
                continue;
            }
            let path = format!("{process}/fdinfo/{}", entry.file_name().display());
            // A ring is open under several descriptors, a socket is in one table only.
            sockets.extend((0..LOOKS_MAX).find_map(|_| sockets_of(&path))?);
        }
        Some(sockets.len())
    }

    /// Sends SIGINT and waits for the end.
    pub(crate) fn stop(mut self) -> Result<End, String> {
        // The shell's own `kill`: there is no safe call for it in the standard library.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -s INT {}", self.child.id())).status();
        if !sent.as_ref().is_ok_and(ExitStatus::success) {
            return Err(format!("SIGINT could not be sent to the server: {sent:?}"));
        }
        for _ in 0..STOP_TRIES_MAX {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                let farewell = self.lines.iter().last().unwrap_or_default();
                return Ok(End { status, farewell, log: self.log() });
            }
            thread::sleep(STOP_INTERVAL);
        }
        self.kill();
        Err(format!("the server did not end on SIGINT; its log:\n{}", self.log()))
    }

    /// Ends it at once and returns what it had to say.
    pub(crate) fn abandon(mut self) -> String {
        self.kill();
        self.log()
    }

    fn kill(&mut self) {
        // It fails only if the process has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// All of its standard error; the process must have ended.
    fn log(&mut self) -> String {
        self.log.take().map_or_else(String::new, |log| log.join().unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The sockets in a ring's table, `None` while a worker has the ring to itself.
fn sockets_of(path: &str) -> Option<Vec<String>> {
    let info = fs::read_to_string(path).ok()?;
    let table = info.lines().skip_while(|line| !line.starts_with("UserFiles:"));
    let mut table = table.take_while(|line| !line.starts_with("UserBufs:"));
    table.next()?;
    Some(table.filter_map(|line| Some(line.split_once("socket:[")?.1.to_owned())).collect())
}

/// The lines of `output`, as they come.
fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(io::Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// All of `output`, when it has ended.
fn text_of(mut output: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The address of the `ws://` URL in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let rest = line.split_once("ws://")?.1;
    rest.split(['/', ' ']).next()?.parse().ok()
}

const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_INTERVAL: Duration = Duration::from_millis(50);
/// Half a minute.
/// How often a ring's table is looked into that is not shown.
const LOOKS_MAX: usize = 200;
const STOP_TRIES_MAX: u32 = 600;
