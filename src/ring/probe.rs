//! The self-test at start: what the kernel claims is tried before anything relies on it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;

use crate::buf::{Payload, Pool, SendQueue};
use crate::ring::{
    BufferMode, Completion, CoreShare, Doorbell, Driver, Lease, Options, ReceiveEnd, ReceiveMode, RingDriver, SendMode,
    StartError, Waits,
};
use crate::slab::Key;
use crate::sys::listener;
use crate::sys::machine::Machine;

/// More than a loopback socket takes while its peer doesn't read.
const FILL_LEN: usize = 8 << 20;
/// How long a step may take; it takes microseconds.
const STEP_MS_MAX: u64 = 5_000;
const OPTIONS: Options = Options {
    entries: 16,
    core_share: CoreShare::WHOLE,
    connections_max: 8,
    buffer_mode: BufferMode::Incremental,
    series_bytes_max: 0,
    low_water: false,
    accept_poll_first: false,
    spin_us: 0,
    clock_ahead_us: 0,
};
/// How many bytes of a connection are received at once: enough for a turn, and as much as a peer that
/// never reads can have lying with us beside its queue.
const SERIES_BYTES_MAX: u32 = 256 << 10;

/// What works on this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Features {
    /// The machine that was tried.
    pub machine: Machine,
    /// Incremental receive buffers where they work (Linux 6.12).
    pub buffer_mode: BufferMode,
    /// Why they are not used, if they are not.
    pub fallback: Option<String>,
    /// How many bytes a series of receives takes before it ends, zero where the kernel has no such
    /// limit (before Linux 6.17).
    pub series_bytes_max: u32,
    /// Whether a poll can wait until much has arrived (Linux 6.7).
    pub low_water: bool,
    /// Whether an accept can wait before it does anything else (Linux 6.10).
    pub accept_poll_first: bool,
}

/// Tries every operation of the driver on loopback: accept, receive, send, wake, shutdown, close.
///
/// Incremental receive buffers are tried first, and used only if every byte arrived where it was
/// to be looked for, also after a connection has ended.
///
/// # Errors
///
/// What is missing, and what mends it.
pub fn probe() -> Result<Features, StartError> {
    let machine = Machine::read();
    // On a thread of its own: what a ring leaves with its thread ends with it.
    let trial = thread::spawn({
        let machine = machine.clone();
        move || try_modes(machine)
    });
    trial.join().unwrap_or_else(|_| {
        let cause = String::from("the self-test has panicked");
        Err(StartError::SelfTest { step: "run", kernel: machine.kernel, cause })
    })
}

fn try_modes(machine: Machine) -> Result<Features, StartError> {
    let (buffer_mode, fallback) = match self_test(OPTIONS, &machine) {
        Ok(()) => (BufferMode::Incremental, None),
        Err(error) => {
            self_test(Options { buffer_mode: BufferMode::Once, ..OPTIONS }, &machine)?;
            (BufferMode::Once, Some(error.to_string()))
        }
    };
    let limited = limits_series(Options { buffer_mode, ..OPTIONS }).unwrap_or(false);
    let series_bytes_max = if limited { SERIES_BYTES_MAX } else { 0 };
    let low_water = waits_for_much(Options { buffer_mode, low_water: true, ..OPTIONS }).unwrap_or(false);
    let accept_poll_first =
        accepts_when_there_is_one(Options { buffer_mode, accept_poll_first: true, ..OPTIONS }).unwrap_or(false);
    Ok(Features { machine, buffer_mode, fallback, series_bytes_max, low_water, accept_poll_first })
}

fn self_test(options: Options, machine: &Machine) -> Result<(), StartError> {
    let listener = listener::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None)
        .map_err(|error| failed(machine, "listen on loopback")(&error))?;
    let address = listener::local_address(&listener).map_err(|error| failed(machine, "listen on loopback")(&error))?;
    let driver = RingDriver::new(vec![listener], options).map_err(|error| StartError::explain(&error, machine))?;
    let mut trial = Trial { driver, completions: Vec::new(), step: "accept" };
    trial.run(address).map_err(|error| failed(machine, trial.step)(&error))
}

/// Whether a series of receives ends after as many bytes as it was given. Older kernels refuse the
/// field that says how many.
fn limits_series(options: Options) -> io::Result<bool> {
    const SENT: usize = 64;
    const LIMIT: u32 = 16;
    let (mut trial, mut client) = Trial::connected(Options { series_bytes_max: LIMIT, ..options }, "limit a receive")?;
    client.write_all(&[1; SENT])?;
    // A series without a limit ends with the connection.
    client.shutdown(Shutdown::Write)?;
    let key = trial.accepted()?;
    trial.driver.receive(key, ReceiveMode::Series);
    let mut leases = Vec::new();
    let end = trial.until(|completion| match completion {
        Completion::Received { lease, .. } => {
            leases.push(lease);
            None
        }
        Completion::ReceiveEnded { end, .. } => Some(end),
        _ => None,
    })?;
    for lease in leases {
        trial.driver.give_back(lease);
    }
    Ok(matches!(end, ReceiveEnd::Exhausted | ReceiveEnd::Drained))
}

/// Whether a poll waits for more than the first bytes, and the next receive does not. Older kernels refuse
/// to set the mark.
fn waits_for_much(options: Options) -> io::Result<bool> {
    const HALF: [u8; 4096] = [1; 4096];
    const QUIET_MS: u64 = 20;
    let (mut trial, mut client) = Trial::connected(options, "wait for much")?;
    let key = trial.accepted()?;
    trial.driver.poll(key, 2 * HALF.len());
    client.write_all(&HALF)?;
    trial.driver.turn(Some(QUIET_MS), &mut trial.completions)?;
    if !trial.completions.is_empty() {
        return Ok(false);
    }
    client.write_all(&HALF)?;
    trial.readable()?;
    trial.driver.receive(key, ReceiveMode::Series);
    trial.expect_bytes(&[HALF, HALF].concat())?;
    client.write_all(&[2])?;
    trial.expect_bytes(&[2])?;
    Ok(true)
}

/// Whether an accept that waits first accepts what is there already. Older kernels refuse the flag.
fn accepts_when_there_is_one(options: Options) -> io::Result<bool> {
    let (mut trial, _client) = Trial::connected(options, "accept after a wait")?;
    trial.until(|completion| match completion {
        Completion::Accepted { .. } => Some(true),
        Completion::AcceptEnded { .. } => Some(false),
        _ => None,
    })
}

fn failed(machine: &Machine, step: &'static str) -> impl Fn(&io::Error) -> StartError {
    move |error| StartError::SelfTest { step, kernel: machine.kernel.clone(), cause: error.to_string() }
}

struct Trial {
    driver: RingDriver,
    completions: Vec<Completion>,
    step: &'static str,
}

impl Trial {
    /// A trial whose driver accepts, and a client that has connected to it.
    fn connected(options: Options, step: &'static str) -> io::Result<(Self, TcpStream)> {
        let listener = listener::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None)?;
        let address = listener::local_address(&listener)?;
        let mut driver = RingDriver::new(vec![listener], options)?;
        driver.accept(0);
        Ok((Self { driver, completions: Vec::new(), step }, TcpStream::connect(address)?))
    }

    fn run(&mut self, address: SocketAddr) -> io::Result<()> {
        // Twice: the second connection receives after the end of the first, where some kernels
        // lose count of an incremental buffer.
        for text in [b"first words", b"other words"] {
            self.converse(address, text)?;
        }
        self.step = "wake";
        Doorbell::new()?.ring(&self.driver.handle()?)?;
        self.until(|completion| matches!(completion, Completion::Woken).then_some(()))
    }

    fn converse(&mut self, address: SocketAddr, text: &[u8]) -> io::Result<()> {
        self.step = "accept";
        self.driver.accept(0);
        let mut client = listener::connect_with_small_buffer(address)?;
        client.set_read_timeout(Some(std::time::Duration::from_millis(STEP_MS_MAX)))?;
        let key = self.accepted()?;

        self.step = "receive";
        self.driver.receive(key, ReceiveMode::Series);
        for piece in text.chunks(4) {
            client.write_all(piece)?;
            self.expect_bytes(piece)?;
        }

        self.step = "send";
        let mut pool = Pool::default();
        let mut block = pool.take(text.len());
        block.extend_from_slice(text);
        self.driver.send(key, Payload::from_block(block), SendMode::Now);
        let sent = self.until(|completion| match completion {
            Completion::Sent { result, .. } => Some(result),
            _ => None,
        })?;
        let mut echo = vec![0; text.len()];
        client.read_exact(&mut echo)?;
        if sent != Ok(text.len()) || echo != text {
            return Err(io::Error::other(format!("sent {sent:?}, the peer got {echo:?}")));
        }

        self.fill(key, &mut client)?;

        self.step = "receive into a block";
        self.driver.cancel_receive(key);
        self.until(|completion| {
            matches!(completion, Completion::ReceiveEnded { end: ReceiveEnd::Cancelled, .. }).then_some(())
        })?;
        self.driver.poll(key, 1);
        client.write_all(text)?;
        self.readable()?;
        self.driver.fill(key, Pool::default().take(text.len()), text.len());
        let filled = self.until(|completion| match completion {
            Completion::Filled { block, .. } => Some(block),
            _ => None,
        })?;
        if filled.as_slice() != text {
            return Err(io::Error::other(format!("{text:?} was sent, {:?} received", filled.as_slice())));
        }
        self.driver.receive(key, ReceiveMode::Series);

        self.step = "shut down and close";
        self.driver.shutdown(key);
        self.driver.turn(Some(0), &mut self.completions)?;
        if client.read(&mut echo)? != 0 {
            return Err(io::Error::other("bytes after the end"));
        }
        drop(client);
        self.until(|completion| {
            matches!(completion, Completion::ReceiveEnded { end: ReceiveEnd::Eof, .. }).then_some(())
        })?;
        self.driver.close(key);
        self.until(|completion| matches!(completion, Completion::Closed { .. }).then_some(()))
    }

    /// Sends more than a socket takes. That the part which did not fit is reported, although
    /// successes are not, is what keeps memory that the kernel still reads from being reused.
    fn fill(&mut self, key: Key, client: &mut TcpStream) -> io::Result<()> {
        self.step = "send more than fits";
        let (mut pool, mut queue) = (Pool::default(), SendQueue::default());
        for byte in [1, 2] {
            let mut block = pool.take(FILL_LEN / 2);
            block.resize(FILL_LEN / 2, byte);
            queue.push_block(&mut pool, block, 0);
        }
        let payload = queue.take(&mut pool).ok_or_else(|| io::Error::other("two blocks were queued"))?;
        self.driver.send(key, payload, SendMode::Now);
        let (mut payload, result) = self.sent()?;
        let Some(taken) = result.ok().filter(|count| (1..FILL_LEN).contains(count)) else {
            return Err(io::Error::other(format!("{FILL_LEN} bytes at once gave {result:?}")));
        };
        payload.advance(taken);

        self.step = "wait for room to send";
        self.driver.send(key, payload, SendMode::Wait);
        discard(client, taken)?;
        let (mut payload, result) = self.sent()?;
        let count = result.map_err(io::Error::from_raw_os_error)?;
        payload.advance(count);

        self.step = "cancel";
        self.driver.send(key, payload, SendMode::Wait);
        self.driver.cancel(key, Some(Waits::Receive));
        let (mut last, mut ended) = (None, false);
        self.until(|completion| {
            match completion {
                Completion::Sent { result, .. } => last = Some(result),
                Completion::ReceiveEnded { end: ReceiveEnd::Cancelled, .. } => ended = true,
                _ => {}
            }
            (last.is_some() && ended).then_some(())
        })?;
        discard(client, count + last.and_then(Result::ok).unwrap_or(0))?;

        self.step = "cancel a receive";
        self.driver.receive(key, ReceiveMode::Bounded);
        self.driver.cancel_receive(key);
        self.until(|completion| {
            matches!(completion, Completion::ReceiveEnded { end: ReceiveEnd::Cancelled, .. }).then_some(())
        })?;
        self.driver.receive(key, ReceiveMode::Series);
        Ok(())
    }

    fn accepted(&mut self) -> io::Result<Key> {
        self.until(|completion| match completion {
            Completion::Accepted { slot, .. } => Some(Key { slot, generation: 0 }),
            _ => None,
        })
    }

    fn readable(&mut self) -> io::Result<()> {
        self.until(|completion| matches!(completion, Completion::Readable { .. }).then_some(()))
    }

    fn sent(&mut self) -> io::Result<(Payload, Result<usize, i32>)> {
        self.until(|completion| match completion {
            Completion::Sent { payload, result, .. } => Some((payload, result)),
            _ => None,
        })
    }

    fn expect_bytes(&mut self, expect: &[u8]) -> io::Result<()> {
        let mut got = Vec::new();
        while got.len() < expect.len() {
            let mut lease: Lease = self.until(|completion| match completion {
                Completion::Received { lease, .. } => Some(lease),
                _ => None,
            })?;
            got.extend_from_slice(self.driver.bytes_mut(&mut lease));
            self.driver.give_back(lease);
        }
        if got == expect { Ok(()) } else { Err(io::Error::other(format!("{expect:?} was sent, {got:?} received"))) }
    }

    /// Turns the driver until `wanted` picks a completion; others on the way are dropped.
    fn until<T>(&mut self, mut wanted: impl FnMut(Completion) -> Option<T>) -> io::Result<T> {
        let start = self.driver.now_ms();
        loop {
            while !self.completions.is_empty() {
                if let Some(found) = wanted(self.completions.remove(0)) {
                    return Ok(found);
                }
            }
            if self.driver.now_ms() - start > STEP_MS_MAX {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            self.driver.turn(Some(50), &mut self.completions)?;
        }
    }
}

fn discard(client: &mut TcpStream, count: usize) -> io::Result<()> {
    io::copy(&mut client.take(count as u64), &mut io::sink()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_passes_the_self_test_in_both_buffer_modes() {
        let machine = Machine::read();
        self_test(Options { buffer_mode: BufferMode::Once, ..OPTIONS }, &machine).expect("buffers used once work");
        probe().expect("some mode works");
    }
}
