//! The real driver: one io_uring, its buffers, and the memory that the kernel is sending or filling.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{hint, io, mem};

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue};

use crate::buf::{Block, Payload};
use crate::ring::buffer_ring::{BufferRing, GROUP};
use crate::ring::low_water::LowWater;
use crate::ring::message::{Message, TRANSFER_LEN_MAX};
use crate::ring::operation::Operation;
use crate::ring::token::{Kind, Token};
use crate::ring::{
    BufferMode, Completion, CoreShare, Driver, Lease, ReceiveEnd, ReceiveMode, RingHandle, SendMode, Waits,
};
use crate::slab::Key;

/// What a driver is made with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// Entries of the submission queue of a ring that has its core to itself; the completion queue has
    /// four times as many.
    pub entries: u32,
    /// What the ring gets of its core: of these entries, and of the memory for receive buffers.
    pub core_share: CoreShare,
    /// How many connections the table of direct descriptors holds.
    pub connections_max: u32,
    /// How receive buffers are used.
    pub buffer_mode: BufferMode,
    /// How many bytes a series of receives takes before it ends; zero is no limit (before Linux 6.17).
    pub series_bytes_max: u32,
    /// Whether a poll can wait for more than the first byte (Linux 6.7).
    pub low_water: bool,
    /// Whether an accept can wait before it does anything else (Linux 6.10), which costs less.
    pub accept_poll_first: bool,
    /// How long a turn that has to wait looks for completions before it sleeps, in microseconds.
    pub spin_us: u32,
    /// How far its clock is ahead of those of other rings, in microseconds: what all do at a tick of their
    /// clocks they then do one after the other.
    pub clock_ahead_us: u32,
}

/// Threads of the kernel that a ring may start for the few operations that block (shutdown).
const KERNEL_THREADS_MAX: [u32; 2] = [1, 1];
/// How often a full completion queue may keep the kernel from taking submissions in one turn.
const SUBMIT_TRIES_MAX: usize = 1_000;
/// How often all that is under way is cancelled at the end.
const CANCELS_MAX: usize = 16;
/// How often the kernel is called at the end to run what was cancelled: it runs 20 at least each time.
const DRAIN_CALLS_MAX: usize = 1 << 17;

/// An io_uring with direct descriptors, multishot operations and provided buffers.
pub struct RingDriver {
    // `drop` ends all operations and has the kernel forget the buffers; then the fields go.
    ring: IoUring,
    buffers: BufferRing,
    listeners: Vec<OwnedFd>,
    series_bytes_max: u32,
    low_water: LowWater,
    accept_poll_first: bool,
    spin: Duration,
    /// Sends of this turn. Those without a completion are done when the submitting call returns.
    sends_now: Vec<InFlight>,
    /// Sends that wait for their sockets.
    sends_waiting: HashMap<Key, InFlight>,
    /// Blocks that the kernel is receiving into.
    fills: HashMap<Key, Block>,
    /// Shutdowns under way, and what follows each of them.
    ///
    /// The kernel runs a shutdown on a thread of its own and looks the slot up only there. If the
    /// slot was closed meanwhile and given to another connection, that one would get the FIN.
    shutdowns: HashMap<Key, Then>,
    #[expect(clippy::vec_box, reason = "the kernel reads a message by its address")]
    spare_messages: Vec<Box<Message>>,
    reaped: Vec<Reaped>,
    overflows: u64,
    /// An error between turns, reported by the next one.
    failed: Option<io::Error>,
    started: Instant,
}

/// What follows a shutdown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    Nothing,
    Close,
}

/// A send that the kernel may be reading.
struct InFlight {
    key: Key,
    payload: Payload,
    message: Option<Box<Message>>,
    /// How many bytes the kernel was given.
    len: usize,
    /// What its completion said, if there was one.
    result: Option<i32>,
}

/// A completion queue entry, copied out of the queue.
#[derive(Clone, Copy)]
struct Reaped {
    token: Token,
    result: i32,
    flags: u32,
}

impl RingDriver {
    /// Sets a ring up on the calling thread, which alone may use it, to accept by `listeners`, or
    /// without any for connections that are only [attached](Self::attach).
    ///
    /// # Errors
    ///
    /// What the kernel says to `io_uring_setup(2)` or a registration.
    pub fn new(listeners: Vec<OwnedFd>, options: Options) -> io::Result<Self> {
        let entries = options.core_share.of(options.entries, CoreShare::ENTRIES_LEAST);
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(entries * 4)
            .build(entries)?;
        let submitter = ring.submitter();
        submitter.register_files_sparse(options.connections_max)?;
        submitter.register_iowq_max_workers(&mut KERNEL_THREADS_MAX.clone())?;
        let buffers = BufferRing::new(&ring, options.buffer_mode, options.core_share)?;
        Ok(Self {
            buffers,
            ring,
            listeners,
            series_bytes_max: options.series_bytes_max,
            low_water: LowWater::new(options.low_water),
            accept_poll_first: options.accept_poll_first,
            spin: Duration::from_micros(options.spin_us.into()),
            sends_now: Vec::new(),
            sends_waiting: HashMap::new(),
            fills: HashMap::new(),
            shutdowns: HashMap::new(),
            spare_messages: Vec::new(),
            reaped: Vec::new(),
            overflows: 0,
            failed: None,
            started: started(options.clock_ahead_us),
        })
    }

    /// Puts a socket, connected or still connecting, into `slot` of the table of direct descriptors.
    ///
    /// The slot must be free: never attached to, or its [`Completion::Closed`] seen. A driver with a
    /// listener leaves the choice of slots to the kernel, so it is one or the other. The socket must
    /// be in blocking mode, or operations that have to wait would fail instead. A connect that is
    /// under way shows its outcome in the first [`SendMode::Wait`].
    ///
    /// # Errors
    ///
    /// What `io_uring_register(2)` says, and `InvalidInput` for a driver with a listener.
    pub fn attach(&mut self, slot: u32, socket: OwnedFd) -> io::Result<()> {
        if !self.listeners.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // The table holds the socket from here on; the process needs no descriptor for it.
        self.ring.submitter().register_files_update(slot, &[socket.as_raw_fd()])?;
        Ok(())
    }

    /// A [`Driver::turn`] that may wait for less than a millisecond.
    ///
    /// # Errors
    ///
    /// What the kernel says of the ring itself: the driver can't be used any more.
    pub fn turn_within(&mut self, wait: Option<Duration>, completions: &mut Vec<Completion>) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.buffers.begin_turn();
        self.enter_and_wait(wait)?;
        self.finish_sends(completions);
        let mut reaped = mem::take(&mut self.reaped);
        for entry in reaped.drain(..) {
            self.complete(entry, completions);
        }
        self.reaped = reaped;
        Ok(())
    }

    /// A handle by which other threads wake this ring's worker.
    ///
    /// # Errors
    ///
    /// If the process may not open another descriptor.
    pub fn handle(&self) -> io::Result<RingHandle> {
        RingHandle::new(&self.ring)
    }

    /// How many pieces of receive buffers are lent.
    #[must_use]
    pub fn leases(&self) -> u32 {
        self.buffers.leases()
    }

    /// How often more completed at once than the completion queue holds. Nothing is lost by it.
    #[must_use]
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    fn push(&mut self, operation: Operation) {
        let entry = operation.entry();
        loop {
            // SAFETY: the memory that an entry points to belongs to `sends_now`, `sends_waiting` or
            // `fills` until its completion, see `send` and `fill`; other operations carry none.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            if let Err(error) = self.submit(IoUring::submit) {
                // The operation is lost with the ring: the next turn says so and ends the worker.
                self.failed.get_or_insert(error);
                return;
            }
        }
    }

    /// Submits until the kernel has taken every entry; `enter` makes the first system call, which
    /// may wait.
    fn submit(&mut self, enter: impl Fn(&IoUring) -> io::Result<usize>) -> io::Result<()> {
        for attempt in 0..SUBMIT_TRIES_MAX {
            let entered = if attempt == 0 { enter(&self.ring) } else { self.ring.submit() };
            match entered.map_err(|error| error.raw_os_error()) {
                // Time is up, or a signal came, after everything was submitted.
                Ok(_) | Err(Some(libc::ETIME | libc::EINTR)) => {}
                // The kernel wants completions to be taken first.
                Err(Some(libc::EBUSY | libc::EAGAIN)) => self.reap(),
                Err(errno) => return Err(io::Error::from_raw_os_error(errno.unwrap_or(libc::EIO))),
            }
            if self.ring.submission().is_empty() {
                return Ok(());
            }
            self.reap();
        }
        Err(io::Error::other("the kernel takes no submissions"))
    }

    /// Copies what has completed out of the queue.
    fn reap(&mut self) {
        for entry in self.ring.completion() {
            if let Some(token) = Token::unpack(entry.user_data()) {
                self.reaped.push(Reaped { token, result: entry.result(), flags: entry.flags() });
            }
        }
    }

    /// Submits, then looks for something to do as long as the driver's options say. Sleeping and
    /// waking take longer than many an answer of a peer.
    fn spin(&mut self) -> io::Result<()> {
        self.submit(IoUring::submit)?;
        let until = now() + self.spin;
        while now() < until {
            // Either a completion is there, or the kernel has one and waits to be entered.
            if !self.ring.completion().is_empty() || self.ring.submission().taskrun() {
                break;
            }
            hint::spin_loop();
        }
        Ok(())
    }

    fn enter_and_wait(&mut self, wait: Option<Duration>) -> io::Result<()> {
        if !self.spin.is_zero() && wait != Some(Duration::ZERO) {
            self.spin()?;
        }
        let timeout = wait.map(|wait| Timespec::new().sec(wait.as_secs()).nsec(wait.subsec_nanos()));
        match &timeout {
            Some(timeout) => {
                self.submit(|ring| ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(timeout)))?;
            }
            None => self.submit(|ring| ring.submit_and_wait(1))?,
        }
        self.reap();
        // Completions past the queue's size wait in the kernel. The failure of a send may be among
        // them, and without it the send would count as done: so they are fetched before anything
        // is concluded.
        while self.ring.submission().cq_overflow() {
            self.overflows += 1;
            if self.ring.completion().overflow() > 0 {
                return Err(io::Error::other("the kernel has dropped completions for want of memory"));
            }
            self.submit(IoUring::submit)?;
            self.reap();
        }
        Ok(())
    }

    /// Ends the sends of the turn that was just submitted, in the order of their submission.
    fn finish_sends(&mut self, completions: &mut Vec<Completion>) {
        if self.sends_now.is_empty() {
            return;
        }
        let mut at = 0;
        for reaped in self.reaped.iter().filter(|reaped| reaped.token.kind == Kind::SendNow) {
            // Failures come in the order of submission, so the search goes on where it ended.
            let count = self.sends_now.len();
            let found = (0..count).map(|step| (at + step) % count).find(|&i| self.sends_now[i].key == reaped.token.key);
            at = found.expect("a connection has at most one send under way, and it is kept until here");
            self.sends_now[at].result = Some(reaped.result);
        }
        for InFlight { key, payload, message, len, result } in self.sends_now.drain(..) {
            self.spare_messages.extend(message);
            let result = result.map_or(Ok(len), of_result);
            completions.push(Completion::Sent { key, payload, result });
        }
    }

    fn complete(
        &mut self,
        Reaped { token: token @ Token { kind, key }, result, flags }: Reaped,
        completions: &mut Vec<Completion>,
    ) {
        match kind {
            Kind::Receive => self.complete_receive(key, result, flags, completions),
            Kind::Poll => completions.push(Completion::Readable { key }),
            Kind::Fill => self.complete_fill(key, result, completions),
            Kind::Accept => completions.push(match u32::try_from(result) {
                Ok(slot) => Completion::Accepted { slot, listener: token.listener() },
                Err(_) if result == -libc::ECANCELED => {
                    Completion::AcceptEnded { listener: token.listener(), errno: None }
                }
                Err(_) => Completion::AcceptEnded { listener: token.listener(), errno: Some(result.saturating_neg()) },
            }),
            Kind::SendWait => {
                let InFlight { payload, message, .. } =
                    self.sends_waiting.remove(&key).expect("a waiting send is kept until its one completion");
                self.spare_messages.extend(message);
                completions.push(Completion::Sent { key, payload, result: of_result(result) });
            }
            Kind::Close => completions.push(Completion::Closed { key }),
            Kind::Wake => completions.push(Completion::Woken),
            Kind::Shutdown => {
                if self.shutdowns.remove(&key) == Some(Then::Close) {
                    self.push(Operation::Close { key });
                }
            }
            // Sends of the turn are finished already; cancels that found nothing to do say so here,
            // and that is no failure.
            Kind::SendNow | Kind::Quiet => {}
        }
    }

    fn complete_receive(&mut self, key: Key, result: i32, flags: u32, completions: &mut Vec<Completion>) {
        let buffer = cqueue::buffer_select(flags);
        match (u32::try_from(result), buffer) {
            (Ok(len @ 1..), Some(buffer)) => {
                let lease = self.buffers.claim(buffer, len, cqueue::buffer_more(flags));
                completions.push(Completion::Received { key, lease });
            }
            (_, Some(buffer)) => self.buffers.return_unused(buffer),
            (_, None) => {}
        }
        if cqueue::more(flags) {
            return;
        }
        let end = match of_result(result) {
            Ok(0) => ReceiveEnd::Eof,
            Ok(_) if cqueue::sock_nonempty(flags) => ReceiveEnd::Exhausted,
            Ok(_) | Err(libc::EAGAIN) => ReceiveEnd::Drained,
            Err(libc::ENOBUFS) => {
                self.buffers.ran_out();
                ReceiveEnd::NoBuffers
            }
            Err(libc::ECANCELED) => ReceiveEnd::Cancelled,
            Err(errno) => ReceiveEnd::Failed(errno),
        };
        completions.push(Completion::ReceiveEnded { key, end });
    }

    fn complete_fill(&mut self, key: Key, result: i32, completions: &mut Vec<Completion>) {
        let mut block = self.fills.remove(&key).expect("a block is kept until the one completion of its receive");
        let result = of_result(result);
        let filled = block.len() + result.unwrap_or(0);
        assert!(filled <= block.capacity(), "the kernel receives no more than it was asked for");
        // SAFETY:
        // - within the capacity, as was just checked;
        // - initialised: the kernel was given the memory from the old length on, and has written as
        //   many bytes there as it says.
        unsafe { block.set_len(filled) };
        completions.push(Completion::Filled { key, block, result });
    }

    fn set_low_water(&mut self, key: Key, bytes: usize) {
        if let Some(mark) = self.low_water.set(key, bytes) {
            self.push(Operation::SetLowWater { key, mark });
        }
    }

    /// The operation that sends `payload`, the message it needs for several pieces, and the length.
    fn send_operation(
        &mut self,
        key: Key,
        payload: &Payload,
        mode: SendMode,
    ) -> (Operation, Option<Box<Message>>, usize) {
        let mut pieces = payload.pieces();
        let first = pieces.next().unwrap_or_default();
        if pieces.next().is_some() {
            let mut message = self.spare_messages.pop().unwrap_or_else(Message::new);
            let len = message.point_at(payload);
            let operation = Operation::SendMessage { key, message: &raw const message.header, mode };
            (operation, Some(message), len)
        } else {
            let len = u32::try_from(first.len()).map_or(TRANSFER_LEN_MAX, |len| len.min(TRANSFER_LEN_MAX));
            (Operation::Send { key, bytes: first.as_ptr(), len, mode }, None, len as usize)
        }
    }
}

impl Driver for RingDriver {
    fn now_ms(&mut self) -> u64 {
        u64::try_from(now().duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    fn accept(&mut self, listener: u8) {
        // Without a listener the kernel refuses the descriptor, and accepting ends with that error.
        let descriptor = self.listeners.get(usize::from(listener)).map_or(-1, AsRawFd::as_raw_fd);
        self.push(Operation::Accept { listener, descriptor, poll_first: self.accept_poll_first });
    }

    fn cancel_accepts(&mut self) {
        for listener in (0..=u8::MAX).take(self.listeners.len()) {
            self.push(Operation::CancelAccepts { listener });
        }
    }

    fn receive(&mut self, key: Key, mode: ReceiveMode) {
        self.set_low_water(key, 0);
        // Where the kernel can bound a series, every one is.
        let bytes_max = self.series_bytes_max;
        self.push(match mode {
            ReceiveMode::Now => Operation::ReceiveNow { key },
            ReceiveMode::Once => Operation::ReceiveOnce { key },
            ReceiveMode::Bounded if bytes_max == 0 => Operation::ReceiveOnce { key },
            ReceiveMode::Series | ReceiveMode::Bounded => Operation::ReceiveMultishot { key, bytes_max },
        });
    }

    fn poll(&mut self, key: Key, bytes: usize) {
        self.set_low_water(key, bytes);
        self.push(Operation::Poll { key });
    }

    fn fill(&mut self, key: Key, mut block: Block, len: usize) {
        let room = block.spare_capacity_mut();
        let len = u32::try_from(len.min(room.len())).unwrap_or(TRANSFER_LEN_MAX);
        let bytes = room.as_mut_ptr().cast();
        // Checked before: replacing a block would free what the kernel is writing to.
        assert!(!self.fills.contains_key(&key), "a connection has at most one receive under way");
        // The bytes are on the heap, so that moving the block leaves the pointer right, and nobody
        // looks at the block until its completion.
        self.fills.insert(key, block);
        self.push(Operation::ReceiveInto { key, bytes, len });
    }

    fn cancel_receive(&mut self, key: Key) {
        self.push(Operation::CancelReceive { key });
    }

    fn send(&mut self, key: Key, payload: Payload, mode: SendMode) {
        let (operation, message, len) = self.send_operation(key, &payload, mode);
        // The bytes are on the heap, or shared, and nothing writes to them, so that moving the
        // payload into the list leaves the pointers above right. It stays in there until its
        // completion, or for `Now` until the call that submitted it has returned.
        let in_flight = InFlight { key, payload, message, len, result: None };
        match mode {
            SendMode::Now => self.sends_now.push(in_flight),
            SendMode::Wait => {
                // Checked before: replacing a payload would free what the kernel is reading.
                assert!(!self.sends_waiting.contains_key(&key), "a connection has at most one send under way");
                self.sends_waiting.insert(key, in_flight);
            }
        }
        self.push(operation);
    }

    fn cancel(&mut self, key: Key, waits: Option<Waits>) {
        // By token, which the kernel looks up in a hash table. By descriptor it would look at every
        // operation of the ring: each close would cost as much as there are connections.
        match waits {
            Some(Waits::Receive) => self.push(Operation::CancelReceive { key }),
            Some(Waits::Poll) => self.push(Operation::CancelPoll { key }),
            Some(Waits::Fill) => self.push(Operation::CancelFill { key }),
            None => {}
        }
        if self.sends_waiting.contains_key(&key) {
            self.push(Operation::CancelSend { key });
        }
    }

    fn shutdown(&mut self, key: Key) {
        self.shutdowns.insert(key, Then::Nothing);
        self.push(Operation::Shutdown { key });
    }

    fn close(&mut self, key: Key) {
        self.low_water.forget(key);
        match self.shutdowns.get_mut(&key) {
            Some(then) => *then = Then::Close,
            None => self.push(Operation::Close { key }),
        }
    }

    fn wake(&mut self, target: &RingHandle) {
        self.push(Operation::Wake { ring: target.raw() });
    }

    fn turn(&mut self, wait_ms: Option<u64>, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.turn_within(wait_ms.map(Duration::from_millis), completions)
    }

    fn bytes_mut(&mut self, lease: &mut Lease) -> &mut [u8] {
        self.buffers.bytes_mut(lease)
    }

    fn give_back(&mut self, lease: Lease) {
        self.buffers.give_back(lease);
    }
}

impl Drop for RingDriver {
    fn drop(&mut self) {
        // What was asked for in the last turn is under way then, and ends with the rest.
        let _ = self.ring.submit();
        // Ends every operation. What is left of them then is task work of this thread, of which a call runs
        // some: after that the kernel reads and writes none of our memory. A cancel misses what is about to run,
        // so it is made again until it finds nothing.
        let no_time = Timespec::new();
        let mut nothing_left = false;
        for _ in 0..CANCELS_MAX {
            let cancelled = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
            nothing_left = matches!(&cancelled, Err(error) if error.raw_os_error() == Some(libc::ENOENT));
            for _ in 0..DRAIN_CALLS_MAX {
                let _ = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&no_time));
                if self.ring.completion().count() == 0 {
                    break;
                }
            }
            if nothing_left {
                break;
            }
        }
        if !nothing_left {
            // It can't be told what the kernel still reads or writes: leak it rather than free it.
            mem::forget(mem::take(&mut self.fills));
            mem::forget(mem::take(&mut self.sends_now));
            mem::forget(mem::take(&mut self.sends_waiting));
        }
        // Handles keep the ring open, and with it the connections in its table. What was cancelled holds on to
        // them until this thread has run its completions. If either fails, they are closed with the last handle.
        let _ = self.ring.submitter().unregister_files();
        // Handles keep the kernel's side of the ring alive: it must forget the buffers before they go.
        let _ = self.ring.submitter().unregister_buf_ring(GROUP);
    }
}

/// Splits a kernel's result into a count and an error number.
fn of_result(result: i32) -> Result<usize, i32> {
    usize::try_from(result).map_err(|_| result.saturating_neg())
}

/// When a clock began that is so far ahead of that of the first ring.
fn started(ahead_us: u32) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(now);
    first.checked_sub(Duration::from_micros(ahead_us.into())).unwrap_or(first)
}

#[expect(clippy::disallowed_methods, reason = "the driver is the worker's clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use crate::buf::Pool;

    const OPTIONS: Options = Options {
        entries: 8,
        core_share: CoreShare::WHOLE,
        connections_max: 4,
        buffer_mode: BufferMode::Once,
        series_bytes_max: 0,
        low_water: false,
        accept_poll_first: false,
        spin_us: 0,
        clock_ahead_us: 0,
    };
    const KEY: Key = Key { slot: 2, generation: 5 };

    #[test]
    fn an_attached_socket_sends_receives_and_is_closed() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut driver = RingDriver::new(Vec::new(), OPTIONS).unwrap();
        driver.attach(KEY.slot, client.into()).unwrap();
        let mut block = Pool::default().take(2);
        block.extend_from_slice(b"hi");
        driver.send(KEY, Payload::from_block(block), SendMode::Wait);
        driver.receive(KEY, ReceiveMode::Series);
        server.write_all(b"ho").unwrap();
        let (mut sent, mut received) = (false, false);
        let mut completions = Vec::new();
        while !(sent && received) {
            driver.turn(Some(1_000), &mut completions).unwrap();
            for completion in completions.drain(..) {
                match completion {
                    Completion::Sent { key: KEY, result: Ok(2), .. } => sent = true,
                    Completion::Received { key: KEY, mut lease } => {
                        received = true;
                        assert_eq!(driver.bytes_mut(&mut lease), b"ho");
                        driver.give_back(lease);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let mut hi = [0; 2];
        server.read_exact(&mut hi).unwrap();
        assert_eq!(&hi, b"hi");
        driver.cancel(KEY, Some(Waits::Receive));
        driver.close(KEY);
        while !completions.iter().any(|completion| matches!(completion, Completion::Closed { key: KEY })) {
            driver.turn(Some(1_000), &mut completions).unwrap();
        }
        assert_eq!(server.read(&mut hi).unwrap(), 0, "the table held the only descriptor");
    }

    #[test]
    fn cancelling_ends_every_receive_and_the_send_that_waits() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_reads_nothing, _) = listener.accept().unwrap();
        let mut driver = RingDriver::new(Vec::new(), OPTIONS).unwrap();
        driver.attach(KEY.slot, client.into()).unwrap();
        driver.receive(KEY, ReceiveMode::Series);
        let mut pool = Pool::default();
        let mut payload = || {
            let mut block = pool.take(1 << 20);
            block.resize(1 << 20, 7);
            Payload::from_block(block)
        };
        driver.send(KEY, payload(), SendMode::Wait);
        let mut completions = Vec::new();
        loop {
            driver.turn(Some(100), &mut completions).unwrap();
            match completions.pop() {
                Some(Completion::Sent { result: Ok(_), .. }) => driver.send(KEY, payload(), SendMode::Wait),
                None => break, // the socket is full
                other => panic!("{other:?}"),
            }
        }
        driver.cancel(KEY, Some(Waits::Receive));
        while completions.len() < 2 {
            driver.turn(Some(1_000), &mut completions).unwrap();
        }
        let cancelled = |completion: &Completion| match completion {
            Completion::Sent { result, .. } => *result == Err(libc::ECANCELED),
            Completion::ReceiveEnded { end, .. } => *end == ReceiveEnd::Cancelled,
            _ => false,
        };
        assert!(completions.iter().all(cancelled), "{completions:?}");
        completions.clear();
        driver.fill(KEY, pool.take(1000), 1000);
        driver.turn(Some(10), &mut completions).unwrap();
        driver.cancel(KEY, Some(Waits::Fill));
        driver.turn(Some(1_000), &mut completions).unwrap();
        let filled = completions.pop();
        assert!(matches!(filled, Some(Completion::Filled { result: Err(libc::ECANCELED), .. })), "{filled:?}");
    }

    #[test]
    fn what_a_poll_tells_of_is_received_at_once() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut driver = RingDriver::new(Vec::new(), OPTIONS).unwrap();
        driver.attach(KEY.slot, client.into()).unwrap();
        let next = |driver: &mut RingDriver| {
            let mut completions = Vec::new();
            driver.turn(Some(1_000), &mut completions).unwrap();
            completions
        };
        for word in ["one", "two", "three"] {
            driver.poll(KEY, 1);
            server.write_all(word.as_bytes()).unwrap();
            assert!(matches!(next(&mut driver)[..], [Completion::Readable { key: KEY }]), "{word}");
            driver.receive(KEY, ReceiveMode::Now);
            let mut completions = next(&mut driver);
            let end = completions.pop();
            assert!(matches!(end, Some(Completion::ReceiveEnded { end: ReceiveEnd::Drained, .. })), "{end:?}");
            let Some(Completion::Received { mut lease, .. }) = completions.pop() else { panic!("{word} is there") };
            assert_eq!(driver.bytes_mut(&mut lease), word.as_bytes());
            driver.give_back(lease);
        }
        driver.receive(KEY, ReceiveMode::Now);
        let nothing = next(&mut driver);
        assert!(matches!(nothing[..], [Completion::ReceiveEnded { end: ReceiveEnd::Drained, .. }]), "{nothing:?}");
        driver.poll(KEY, 1);
        drop(server);
        assert!(matches!(next(&mut driver)[..], [Completion::Readable { key: KEY }]));
        driver.receive(KEY, ReceiveMode::Now);
        assert!(matches!(next(&mut driver)[..], [Completion::ReceiveEnded { end: ReceiveEnd::Eof, .. }]));
    }

    #[test]
    fn a_connect_under_way_shows_its_refusal_in_the_first_send() {
        let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM.nonblocking(), None).unwrap();
        if socket.connect(&unused.into()).unwrap_err().raw_os_error() == Some(libc::ECONNREFUSED) {
            return; // loopback may be that quick
        }
        socket.set_nonblocking(false).unwrap();
        let mut driver = RingDriver::new(Vec::new(), OPTIONS).unwrap();
        driver.attach(KEY.slot, socket.into()).unwrap();
        let mut block = Pool::default().take(2);
        block.extend_from_slice(b"hi");
        driver.send(KEY, Payload::from_block(block), SendMode::Wait);
        let mut completions = Vec::new();
        driver.turn(Some(1_000), &mut completions).unwrap();
        let refused = matches!(completions[..], [Completion::Sent { result: Err(libc::ECONNREFUSED), .. }]);
        assert!(refused, "{completions:?}");
    }

    #[test]
    fn a_driver_that_is_dropped_ends_what_it_has_not_submitted_yet() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut driver = RingDriver::new(Vec::new(), OPTIONS).unwrap();
        driver.attach(KEY.slot, client.into()).unwrap();
        // A handle keeps the ring open.
        let _handle = driver.handle().unwrap();
        driver.poll(KEY, 1);
        drop(driver);
        assert_eq!(server.read(&mut [0]).ok(), Some(0));
    }

    #[test]
    fn many_accepts_end_by_cancels_that_go_on_until_all_have() {
        const ACCEPTS: usize = 32;
        let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let options = Options { entries: 64, ..OPTIONS };
        let mut driver = RingDriver::new(listeners.map(OwnedFd::from).into(), options).unwrap();
        let _caller = TcpStream::connect(addresses[1]).unwrap();
        (0..ACCEPTS).for_each(|number| driver.accept(u8::from(number % 2 == 1)));
        let (mut completions, mut accepted, mut ended) = (Vec::new(), 0, 0);
        for _ in 0..1_000 {
            driver.cancel_accepts();
            driver.turn(Some(1), &mut completions).unwrap();
            for completion in completions.drain(..) {
                match completion {
                    Completion::Accepted { listener: 1, .. } => accepted += 1,
                    Completion::AcceptEnded { errno: None, .. } => ended += 1,
                    other => panic!("{other:?}"),
                }
            }
            if accepted + ended == ACCEPTS {
                return assert_eq!(accepted, 1);
            }
        }
        panic!("{accepted} accepted and {ended} ended of {ACCEPTS}");
    }

    #[test]
    fn a_driver_either_accepts_or_attaches() {
        let listener = || OwnedFd::from(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let mut accepting = RingDriver::new(vec![listener()], OPTIONS).unwrap();
        assert!(accepting.attach(0, listener()).is_err());
        let mut attaching = RingDriver::new(Vec::new(), OPTIONS).unwrap();
        attaching.accept(0);
        let mut completions = Vec::new();
        attaching.turn(Some(1_000), &mut completions).unwrap();
        assert!(
            matches!(completions[..], [Completion::AcceptEnded { errno: Some(libc::EBADF), .. }]),
            "{completions:?}"
        );
    }
}
