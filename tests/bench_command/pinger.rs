//! A server that pings: once as soon as a connection is open, and before each echo.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use ringsock::buf::Pool;
use ringsock::proto::http::{HeadLimits, HeadScanner, Request, write_switching_protocols};
use ringsock::proto::ws::{Event, Limits, Opcode, Role, Session, encoder};

/// How long anything is waited for. It only passes when a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
const PING: &[u8] = b"still there?";

pub(crate) struct Pinger {
    pub(crate) address: SocketAddr,
    thread: JoinHandle<u64>,
}

impl Pinger {
    /// Serves so many connections until each of them has closed.
    pub(crate) fn start(connections: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is ours");
        let address = listener.local_addr().expect("it is bound");
        let thread = thread::spawn(move || {
            let accepted = listener.incoming().take(connections);
            let serving: Vec<JoinHandle<u64>> = accepted
                .map(|stream| thread::spawn(|| Connection::new(stream.expect("accepting works")).serve()))
                .collect();
            serving.into_iter().map(|thread| thread.join().expect("a connection is served to its end")).sum()
        });
        Self { address, thread }
    }

    /// Waits for the end of all connections: how many pings were sent and answered.
    pub(crate) fn join(self) -> u64 {
        self.thread.join().expect("every connection is served")
    }
}

struct Connection {
    stream: TcpStream,
    session: Session,
    pool: Pool,
    pings: u64,
    pongs: u64,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes this option");
        let session = Session::new(Role::Server, Limits::default());
        Self { stream, session, pool: Pool::default(), pings: 0, pongs: 0 }
    }

    fn serve(mut self) -> u64 {
        let mut out = self.accept();
        self.ping(&mut out);
        let mut buffer = vec![0; 64 << 10];
        while !self.session.is_ended() {
            self.stream.write_all(&out).expect("the load reads");
            out.clear();
            let len = self.stream.read(&mut buffer).expect("the load closes");
            assert!(len > 0, "the load ended without a Close");
            let mut input = &mut buffer[..len];
            while let Some(event) = self.session.receive(&mut input, &mut self.pool).expect("the load keeps the rules")
            {
                self.answer(&event, &mut out);
                event.give_back(&mut self.pool);
            }
        }
        self.stream.write_all(&out).expect("the load waits for the Close");
        assert_eq!(self.pongs, self.pings, "each ping is answered before the Close");
        self.pings
    }

    /// Reads the request; returns the answer.
    fn accept(&mut self) -> Vec<u8> {
        let (mut scanner, mut head, mut buffer, limits) = (HeadScanner::new(), Vec::new(), [0; 1], HeadLimits::DEFAULT);
        let mut end = None;
        while end.is_none() {
            self.stream.read_exact(&mut buffer).expect("the load sends its request");
            head.extend_from_slice(&buffer);
            end = scanner.scan(&buffer, &limits).expect("the request is well-formed");
        }
        let request = Request::parse(&head, &limits).expect("the request is well-formed");
        let upgrade = request.upgrade().expect("it is an upgrade").expect("it is an upgrade");
        let mut out = Vec::new();
        write_switching_protocols(&mut out, &upgrade.accept_key(), None, None);
        out
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        self.pings += 1;
        encoder::frame(out, Opcode::Ping, PING, None);
    }

    fn answer(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Message(message) => {
                self.ping(out);
                encoder::frame(out, message.kind.opcode(), message.bytes(), None);
            }
            Event::Pong(payload) => {
                assert_eq!(&payload[..], PING);
                self.pongs += 1;
            }
            Event::Close { code, .. } => encoder::close(out, *code, "", None),
            Event::Ping(_) | Event::Compressed(_) => panic!("the load sends no such thing"),
        }
    }
}
