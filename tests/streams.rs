//! A server that listens for WebSockets and for streams, whose workers tell each other what they hear.

mod client;
mod host;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use ringsock::buf::SharedFrame;
use ringsock::proto::ws::Opcode;
use ringsock::{
    CloseCause, ConnectionId, Effects, Error, Handler, Message, MessageKind, Options, Parcel, Server, Transport,
};

use client::{Arrival, Client, connect};
use host::Host;

/// A port that the kernel chooses.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// What stands before each part of what another worker has heard.
const MARK: u8 = b'<';
/// So much is sent at once: less than what closes a receiver that is slow.
const MUCH: usize = 512 << 10;

/// Says its number to streams and echoes them. What a worker hears from streams in a turn, all connections of the
/// others get.
#[derive(Default)]
struct Relay {
    worker: u16,
    workers: u16,
    open: BTreeSet<ConnectionId>,
    heard: Vec<u8>,
}

impl Handler for Relay {
    fn on_start(&mut self, worker: u16, workers: u16) {
        (self.worker, self.workers) = (worker, workers);
    }

    fn on_open(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        self.open.insert(connection);
        if effects.transport() == Transport::Stream {
            effects.send_text(&self.worker.to_string());
        }
    }

    fn on_message(&mut self, _: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        effects.echo(message);
    }

    fn on_bytes(&mut self, _: ConnectionId, bytes: &[u8], effects: &mut Effects<'_>) {
        effects.send_binary(bytes);
        self.heard.extend_from_slice(bytes);
    }

    fn on_parcel(&mut self, parcel: Parcel, effects: &mut Effects<'_>) {
        let heard = parcel.content.downcast::<SharedFrame>().expect("nothing else is posted");
        for &connection in &self.open {
            effects.deliver(connection, MessageKind::Text, &[MARK], &heard);
        }
    }

    fn on_turn_end(&mut self, effects: &mut Effects<'_>) {
        if self.heard.is_empty() {
            return;
        }
        let heard = SharedFrame::new(&mem::take(&mut self.heard));
        for worker in (0..self.workers).filter(|&worker| worker != self.worker) {
            effects.post(worker, Parcel { content: Box::new(heard.clone()), bytes: heard.len() });
        }
    }

    fn on_close(&mut self, connection: ConnectionId, _: CloseCause, _: &mut Effects<'_>) {
        assert!(self.open.remove(&connection), "a connection closes once");
    }
}

/// Connections to the workers, as many as it takes until each of both has one.
fn one_of_each(address: SocketAddr) -> [TcpStream; 2] {
    let mut found = [None, None];
    // The kernel chooses, by addresses: some are on the same worker.
    while found.iter().any(Option::is_none) {
        let mut stream = connect(address);
        let worker = usize::from(read(&mut stream, 1)[0] - b'0');
        if found[worker].is_none() {
            found[worker] = Some(stream);
        }
    }
    found.map(|stream| stream.expect("both are there"))
}

#[track_caller]
fn read(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).expect("the server answers");
    bytes
}

/// Reads until there are `len` bytes besides the marks.
fn read_marked(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let (mut got, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    while got.len() < len {
        let count = stream.read(&mut buffer).expect("the server sends");
        assert!(count > 0, "the server ended after {} bytes", got.len());
        got.extend(buffer[..count].iter().filter(|&&byte| byte != MARK));
    }
    got
}

fn start() -> (Host, SocketAddr) {
    let host = Host::start(|options| options.stomp = Some(ANY), |_| Relay::default());
    let address = host.server.stomp_address().expect("it listens for streams");
    assert_ne!(address, host.address);
    (host, address)
}

#[test]
fn streams_and_sockets_hear_what_other_workers_have_heard() {
    let (host, address) = start();
    let mut streams = one_of_each(address);
    let mut socket = Client::open(host.address);
    socket.check_echo("a WebSocket is what it was");
    for (from, to) in [(0, 1), (1, 0)] {
        streams[from].write_all(b"hello").expect("the server reads");
        assert_eq!(read(&mut streams[from], 5), b"hello");
        assert_eq!(read(&mut streams[to], 6), b"<hello");
    }
    // The socket is on one of them, and so hears the other.
    socket.expect(&Arrival::Text("<hello".into()));
    socket.check_echo("still there");

    let much: Vec<u8> = (0..MUCH).map(|index| b'a' + u8::try_from(index % 23).expect("small")).collect();
    let [mut speaker, mut listener] = streams;
    thread::scope(|scope| {
        let mut writer = speaker.try_clone().expect("a descriptor is free");
        let much = &much;
        scope.spawn(move || writer.write_all(much).expect("the server reads"));
        scope.spawn(|| assert!(read_marked(&mut listener, MUCH) == *much, "in order, and all of it"));
        assert!(read(&mut speaker, MUCH) == *much, "in order, and all of it");
    });
    drop((speaker, listener, socket));
    let tally = host.stop();
    assert_eq!(tally.sum(|worker| worker.stream_bytes), 10 + MUCH as u64);
    assert_eq!(tally.sum(|worker| worker.slow_consumers + worker.protocol_errors), 0);
}

#[test]
fn other_threads_reach_the_handler_of_each_worker() {
    let (host, address) = start();
    let mut streams = one_of_each(address);
    let handle = host.server.handle();
    for (worker, stream) in (0..).zip(&mut streams) {
        let content = Box::new(SharedFrame::new(format!("for {worker}").as_bytes()));
        handle.post(worker, Parcel { content, bytes: 5 }).expect("the worker is there");
        assert_eq!(read(stream, 6), format!("<for {worker}").as_bytes());
    }
    assert!(handle.post(2, Parcel { content: Box::new(()), bytes: 0 }).is_err());
    drop(streams);
    host.stop();
}

#[test]
fn a_stream_ends_with_the_fin_of_either_side() {
    let (host, address) = start();
    let mut streams = one_of_each(address);
    // What comes before it is answered.
    streams[0].write_all(b"last words").expect("the server reads");
    streams[0].shutdown(Shutdown::Write).expect("it is open");
    let mut rest = Vec::new();
    streams[0].read_to_end(&mut rest).expect("no reset");
    assert_eq!(rest, b"last words");
    assert_eq!(read(&mut streams[1], 11), b"<last words");
    let mut socket = Client::open(host.address);
    host.server.stop();
    assert_eq!(streams[1].read(&mut [0; 8]).expect("no reset"), 0);
    assert_eq!(socket.arrival(), Arrival::Close(Some(1001), "server stops".into()));
    socket.say(Opcode::Close, &[]);
    drop((streams, socket));
    host.stop();
}

#[test]
fn an_address_for_streams_that_is_taken_is_named_with_what_helps() {
    let taken = TcpListener::bind(ANY).expect("loopback is ours");
    let stomp = taken.local_addr().expect("it is bound");
    let options = Options { listen: ANY, stomp: Some(stomp), workers: Some(1), ..Options::default() };
    let error = Server::start(options, |_| Relay::default()).expect_err("somebody listens there");
    assert!(matches!(&error, Error::Listen { address, .. } if *address == stomp), "{error:?}");
    assert!(error.to_string().contains("choose another with --stomp"), "{error}");
}
