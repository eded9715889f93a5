//! The floor: a ring that echoes WebSocket frames while knowing as little of them as it can.
//!
//! It receives, copies once into a block to send, and sends, with one system call a turn and one send
//! a connection and turn. Of a frame it reads the lengths, since the header of the answer is shorter
//! (it has no key), and whether it is a Close. Payloads go back as they came: still masked. So the
//! load must not compare them. Nothing is validated, nothing is limited, nothing times out.
//!
//! What any server on a ring has to do is this much; what a server takes above it, it spends on
//! WebSocket.

mod buffers;
mod frames;
mod handshake;

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::{env, io, mem, ptr};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode};

use buffers::{Buffers, GROUP};
use frames::Frames;

const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 1 << 16;
const BACKLOG: i32 = 4096;
const CONNECTIONS_MAX: u64 = 1 << 16;
const SPARE_BLOCKS_MAX: usize = 4096;

// What an operation was stands above the slot in its `user_data`.
const ACCEPT: u64 = 0 << 32;
const RECEIVE: u64 = 1 << 32;
const SEND_NOW: u64 = 2 << 32;
const SEND_WAIT: u64 = 3 << 32;
const CLOSE: u64 = 4 << 32;
const QUIET: u64 = 5 << 32;

#[derive(Default)]
struct Connection {
    /// What came of the request, until it is answered.
    request: Option<Vec<u8>>,
    frames: Frames,
    /// What waits to be sent.
    out: Vec<u8>,
    /// What is being sent, from `sent` on.
    flying: Vec<u8>,
    sent: usize,
    sending: bool,
    receiving: bool,
    touched: bool,
    /// Ends as soon as everything was sent.
    ending: bool,
    cancelled: bool,
}

struct Floor {
    ring: IoUring,
    listener: TcpListener,
    buffers: Buffers,
    connections: Vec<Connection>,
    touched: Vec<u32>,
    /// Sends of this turn: done when the submitting call returns, unless a completion says otherwise.
    sends_now: Vec<u32>,
    reaped: Vec<(u64, i32, u32)>,
    spare: Vec<Vec<u8>>,
}

fn main() -> io::Result<()> {
    let port: u16 = env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: peer-floor PORT");
    let mut floor = Floor::new(port)?;
    println!("listening on {port}");
    loop {
        floor.turn()?;
    }
}

impl Floor {
    fn new(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and `on` is an integer of the length given.
        let set = unsafe {
            libc::setsockopt(
                listener.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_NODELAY,
                (&raw const on).cast(),
                size_of_val(&on) as u32,
            )
        };
        // SAFETY: a system call without memory. The socket listens already; this lengthens its queue.
        let listened = unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) };
        if set < 0 || listened < 0 {
            return Err(io::Error::last_os_error());
        }
        let slots = open_files_max()?.min(CONNECTIONS_MAX) as u32;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        ring.submitter().register_files_sparse(slots)?;
        let buffers = Buffers::new(&ring)?;
        let mut floor = Self {
            ring,
            listener,
            buffers,
            connections: (0..slots).map(|_| Connection::default()).collect(),
            touched: Vec::new(),
            sends_now: Vec::new(),
            reaped: Vec::new(),
            spare: Vec::new(),
        };
        floor.accept();
        Ok(floor)
    }

    fn turn(&mut self) -> io::Result<()> {
        self.submit(1)?;
        self.reap();
        // The failure of a send may be among the completions that did not fit.
        while self.ring.submission().cq_overflow() {
            self.submit(0)?;
            self.reap();
        }
        self.finish_sends();
        let mut reaped = mem::take(&mut self.reaped);
        for (token, result, flags) in reaped.drain(..) {
            self.complete(token, result, flags);
        }
        self.reaped = reaped;
        let mut touched = mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            self.settle(slot);
        }
        self.touched = touched;
        Ok(())
    }

    fn submit(&mut self, wait: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(wait) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn reap(&mut self) {
        self.reaped.extend(self.ring.completion().map(|cqe| (cqe.user_data(), cqe.result(), cqe.flags())));
    }

    fn push(&mut self, entry: Entry) {
        // SAFETY: what is sent lies in `flying` of its connection, which nobody touches until the
        // send has completed; other operations carry no memory.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.submit(0).expect("the kernel takes submissions");
            self.reap();
        }
    }

    fn accept(&mut self) {
        let entry = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd())).allocate_file_index(true).build();
        self.push(entry.user_data(ACCEPT));
    }

    fn complete(&mut self, token: u64, result: i32, flags: u32) {
        let slot = token as u32;
        match token & !u64::from(u32::MAX) {
            ACCEPT => {
                if let Ok(slot) = u32::try_from(result) {
                    self.connections[slot as usize].request = Some(Vec::new());
                    self.touch(slot);
                }
                if !cqueue::more(flags) {
                    self.accept();
                }
            }
            RECEIVE => self.received(slot, result, flags),
            SEND_WAIT => {
                self.sent(slot, result);
                self.touch(slot);
            }
            CLOSE => self.connections[slot as usize] = Connection::default(),
            _ => {}
        }
    }

    fn received(&mut self, slot: u32, result: i32, flags: u32) {
        let connection = &mut self.connections[slot as usize];
        let lost = result <= 0 && result != -libc::ENOBUFS;
        if let Some(buffer) = cqueue::buffer_select(flags) {
            let bytes = self.buffers.claim(buffer, result.max(0) as u32);
            if connection.out.capacity() == 0 {
                connection.out = self.spare.pop().unwrap_or_default();
            }
            connection.ending |= take(connection, bytes);
            self.buffers.give_back(buffer, cqueue::buffer_more(flags));
        }
        connection.receiving &= cqueue::more(flags);
        connection.ending |= lost;
        self.touch(slot);
    }

    fn touch(&mut self, slot: u32) {
        if !mem::replace(&mut self.connections[slot as usize].touched, true) {
            self.touched.push(slot);
        }
    }

    /// At the end of a turn: what a connection needs becomes operations.
    fn settle(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.touched = false;
        if !connection.sending && !connection.out.is_empty() {
            mem::swap(&mut connection.out, &mut connection.flying);
            connection.sent = 0;
            connection.sending = true;
            let (bytes, len) = (connection.flying.as_ptr(), connection.flying.len() as u32);
            self.sends_now.push(slot);
            // Without a completion it was done when the submitting call returned. `WAITALL` makes a
            // short send a failure, so that it is reported.
            let entry = opcode::Send::new(Fixed(slot), bytes, len)
                .flags(libc::MSG_WAITALL | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .flags(Flags::SKIP_SUCCESS);
            self.push(entry.user_data(SEND_NOW | u64::from(slot)));
        }
        let connection = &mut self.connections[slot as usize];
        if connection.ending {
            // What was just queued to be sent is tried before the cancel is.
            let busy = connection.receiving || connection.sending;
            if busy && !mem::replace(&mut connection.cancelled, true) {
                let all = CancelBuilder::fd(Fixed(slot)).all();
                self.push(opcode::AsyncCancel2::new(all).build().flags(Flags::SKIP_SUCCESS).user_data(QUIET));
            } else if !busy {
                self.push(opcode::Close::new(Fixed(slot)).build().user_data(CLOSE | u64::from(slot)));
            }
        } else if !mem::replace(&mut connection.receiving, true) {
            self.push(opcode::RecvMulti::new(Fixed(slot), GROUP).build().user_data(RECEIVE | u64::from(slot)));
        }
    }

    fn finish_sends(&mut self) {
        if self.sends_now.is_empty() {
            return;
        }
        let mut failed = Vec::new();
        for &(token, result, _) in &self.reaped {
            if token & !u64::from(u32::MAX) == SEND_NOW {
                failed.push((token as u32, result));
            }
        }
        for &(slot, result) in &failed {
            self.sent(slot, result);
        }
        for slot in mem::take(&mut self.sends_now) {
            if !failed.iter().any(|&(failed, _)| failed == slot) {
                self.landed(slot);
            }
            let connection = &self.connections[slot as usize];
            if connection.ending || !connection.receiving {
                self.touch(slot);
            }
        }
    }

    /// A send came back with a result: goes on with what is left, waiting for the socket.
    fn sent(&mut self, slot: u32, result: i32) {
        let connection = &mut self.connections[slot as usize];
        if result < 0 && ![-libc::EAGAIN, -libc::EINTR].contains(&result) {
            connection.ending = true;
            connection.out.clear();
            connection.sent = connection.flying.len();
        } else {
            connection.sent += result.max(0) as usize;
        }
        let rest = &connection.flying[connection.sent..];
        if rest.is_empty() {
            self.landed(slot);
            return;
        }
        let entry = opcode::Send::new(Fixed(slot), rest.as_ptr(), rest.len() as u32).flags(libc::MSG_NOSIGNAL).build();
        self.push(entry.user_data(SEND_WAIT | u64::from(slot)));
    }

    fn landed(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.sending = false;
        let mut block = mem::take(&mut connection.flying);
        block.clear();
        if self.spare.len() < SPARE_BLOCKS_MAX {
            self.spare.push(block);
        }
    }
}

/// Makes answers out of what was received; says whether the connection ends with them.
fn take(connection: &mut Connection, bytes: &[u8]) -> bool {
    let Some(request) = &mut connection.request else { return connection.frames.answer(bytes, &mut connection.out) };
    request.extend_from_slice(bytes);
    let Some(rest) = handshake::answer(request, &mut connection.out) else { return false };
    let rest = request[rest..].to_vec();
    connection.request = None;
    connection.frames.answer(&rest, &mut connection.out)
}

/// Raises the limit on open files as far as it goes: the kernel sizes the table of slots by it.
fn open_files_max() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a value of the type that the call fills in.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, ptr::from_mut(&mut limit)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a value of the type that the call reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, ptr::from_ref(&limit)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_max)
}
