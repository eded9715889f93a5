//! A peer that sends without end and does not read.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use ringsock::proto::ws::Opcode;
use socket2::{Domain, Protocol, Socket, Type};

use crate::client;
use crate::client::{Client, frame};

/// How long one attempt to write waits.
const ATTEMPT: Duration = Duration::from_millis(50);
/// A flood that got nothing out this many times in a row, while the server was serving others, is
/// blocked for good.
const ATTEMPTS: usize = 20;
/// What a server takes at least before it stops reading: the bound of its queue.
const TAKEN_BYTES_MIN: usize = 256 << 10;
/// What the server may hold of a flood before it processes it: its receive buffers, twice over.
const RECEIVED_BYTES_MAX: usize = 8 << 20;
/// What this side's socket buffers are set to.
const NARROW: usize = 64 << 10;

/// A peer that sends numbered units of bytes and does not read.
pub(crate) struct Flood {
    client: Client,
    unit: Box<dyn Fn(u32) -> Vec<u8>>,
    /// How many units were begun.
    count: u32,
    /// What is left of the last of them.
    rest: Vec<u8>,
    sent_bytes: usize,
}

impl Flood {
    #[track_caller]
    pub(crate) fn open(address: SocketAddr, unit: impl Fn(u32) -> Vec<u8> + 'static) -> Self {
        let client = Client::open_on(connect_narrow(address));
        Self { client, unit: Box::new(unit), count: 0, rest: Vec::new(), sent_bytes: 0 }
    }

    /// Sends until nothing more can be sent, and expects that to be soon; `neighbour` is on the same
    /// worker and shows that it is at work meanwhile.
    #[track_caller]
    pub(crate) fn write_until_blocked(&mut self, neighbour: &mut Client) {
        let bound = TAKEN_BYTES_MIN + RECEIVED_BYTES_MAX + incoming_bytes_max() + outgoing_bytes_max();
        self.client.stream.set_write_timeout(Some(ATTEMPT)).expect("a socket takes this option");
        let mut idle = 0;
        while idle < ATTEMPTS {
            let got_out = self.attempt().expect("the connection is open");
            if !got_out {
                neighbour.check_echo("are you there?");
            }
            idle = if got_out || self.sent_bytes < TAKEN_BYTES_MIN { 0 } else { idle + 1 };
            assert!(self.sent_bytes < bound, "the server took {} bytes", self.sent_bytes);
        }
    }

    /// Sends until the connection is cut.
    #[track_caller]
    pub(crate) fn write_until_cut(&mut self) {
        self.client.stream.set_write_timeout(Some(ATTEMPT)).expect("a socket takes this option");
        let mut idle = 0;
        while let Ok(got_out) = self.attempt() {
            idle = if got_out { 0 } else { idle + 1 };
            assert!(idle < 20 * ATTEMPTS, "the connection stays open");
        }
    }

    /// Sends the rest of the last unit and a Close, and returns the connection, which has all the
    /// answers to read, and the number of units.
    pub(crate) fn finish(self) -> (Client, u32) {
        let Self { client, mut rest, count, .. } = self;
        client::prepare(&client.stream);
        let mut stream = client.stream.try_clone().expect("a socket can be shared");
        rest.extend(frame(Opcode::Close, b""));
        thread::spawn(move || stream.write_all(&rest).expect("the server reads again"));
        (client, count)
    }

    /// Tries to send; `false` if there was no room.
    fn attempt(&mut self) -> std::io::Result<bool> {
        if self.rest.is_empty() {
            self.rest = (self.unit)(self.count);
            self.count += 1;
        }
        match self.client.stream.write(&self.rest) {
            Ok(len) => {
                self.rest.drain(..len);
                self.sent_bytes += len;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Connects with socket buffers that stay small.
#[track_caller]
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.set_recv_buffer_size(NARROW).expect("a socket takes this option");
    socket.set_send_buffer_size(NARROW).expect("a socket takes this option");
    socket.connect(&address.into()).expect("the server listens");
    let stream = TcpStream::from(socket);
    client::prepare(&stream);
    stream
}

/// What the sockets of a connection hold at most on the way from the server to a narrow peer.
pub(crate) fn outgoing_bytes_max() -> usize {
    system_limit("tcp_wmem") + 2 * NARROW
}

/// What they hold on the way from a narrow peer to the server.
fn incoming_bytes_max() -> usize {
    system_limit("tcp_rmem") + 2 * NARROW
}

/// How far the kernel lets a socket buffer grow.
fn system_limit(name: &str) -> usize {
    let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).expect("Linux shows its limits");
    text.split_whitespace().last().and_then(|max| max.parse().ok()).expect("three numbers")
}
