//! A simulated driver: a kernel and a network made of one seed, with a virtual clock.
//!
//! It does what io_uring and TCP may do at their worst: receives of one byte, sends that are cut
//! short or find no room, series that end, buffers that run out, resets, completions that come late
//! and in another order than they were asked for. And it checks what a worker may not do: two sends
//! at a time, a close with an operation under way, an operation on a slot of an earlier life, a
//! lease given back twice. Every fault is counted, and the same seed gives the same history.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;

use crate::buf::Payload;
use crate::ring::{Completion, Driver, Lease, ReceiveEnd, RingHandle, SendMode};
use crate::slab::Key;

/// The longest slice of virtual time that passes without the network getting its chance.
const SLICE_MS_MAX: u64 = 5;
/// The smallest buffer of a socket: with less, an honest peer would be too slow for any deadline.
const ROOM_MIN: usize = 4096;
/// The smallest receive buffer, for the same reason.
const BUFFER_LEN_MIN: usize = 256;
/// What freed receive buffers are filled with, so that a view kept for too long shows.
const POISON: u8 = 0xa5;

/// A small generator of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A number from 1 to `max`: often 1, often `max`, else anything between.
    pub(crate) fn piece(&mut self, max: usize) -> usize {
        match self.below(4) {
            0 => 1,
            1 => max,
            _ => 1 + self.below(max),
        }
    }
}

/// What was done to a worker, by kind.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fault {
    OneByteReceive,
    ShortReceive,
    NoBuffers,
    SeriesEnded,
    ShortSend,
    BlockedSend,
    CancelledSend,
    CancelledReceive,
    Reset,
    FinMidStream,
    AcceptError,
    AcceptEnded,
    TableFull,
    Delay,
    Reordering,
}

impl Fault {
    pub(crate) const ALL: [Self; 15] = [
        Self::OneByteReceive,
        Self::ShortReceive,
        Self::NoBuffers,
        Self::SeriesEnded,
        Self::ShortSend,
        Self::BlockedSend,
        Self::CancelledSend,
        Self::CancelledReceive,
        Self::Reset,
        Self::FinMidStream,
        Self::AcceptError,
        Self::AcceptEnded,
        Self::TableFull,
        Self::Delay,
        Self::Reordering,
    ];
}

/// What a peer does when it has sent all it has to say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// Waits for the server's FIN, then closes.
    WaitForServer,
    /// Sends FIN at once and goes on reading.
    Fin,
    /// Breaks the connection.
    Reset,
    /// Stays, and says nothing any more.
    Silent,
}

/// The other end of a connection.
pub(crate) struct Peer {
    /// What it will send.
    pub(crate) outbox: VecDeque<u8>,
    pub(crate) ending: Ending,
    /// Whether it ever reads.
    pub(crate) reads: bool,
    /// What it has read.
    pub(crate) received: Vec<u8>,
    /// It has read the server's FIN.
    pub(crate) saw_fin: bool,
    /// The connection was broken, by either side.
    pub(crate) reset: bool,
    /// Sent by the server and not read yet.
    in_flight: VecDeque<u8>,
    in_flight_fin: bool,
    sent_fin: bool,
    state: PeerState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PeerState {
    /// Has not called yet.
    Away,
    /// Waits to be accepted.
    Calling,
    Connected,
    /// Has closed its side.
    Closed,
    /// Was not let in.
    TurnedAway,
}

impl Peer {
    pub(crate) fn new(outbox: Vec<u8>, ending: Ending, reads: bool) -> Self {
        Self {
            outbox: outbox.into(),
            ending,
            reads,
            received: Vec::new(),
            saw_fin: false,
            reset: false,
            in_flight: VecDeque::new(),
            in_flight_fin: false,
            sent_fin: false,
            state: PeerState::Away,
        }
    }

    /// Whether the server ever let it in: one that is full does not, while nobody leaves.
    pub(crate) fn was_accepted(&self) -> bool {
        matches!(self.state, PeerState::Connected | PeerState::Closed)
    }
}

/// The server's end of a connection, as the kernel has it.
struct Socket {
    peer: usize,
    /// The life of the slot, known from the first operation on it.
    key: Option<Key>,
    /// Sent by the peer and not received yet.
    inbound: VecDeque<u8>,
    inbound_fin: bool,
    /// How much may be on its way to the peer.
    room: usize,
    armed: bool,
    armed_cancelled: bool,
    waiting: Option<Payload>,
    waiting_cancelled: bool,
    closing: bool,
}

/// The kernel, the network and the peers of one worker.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) now_ms: u64,
    pub(crate) peers: Vec<Peer>,
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// The order to stop the worker, given once.
    pub(crate) stop: Option<Stop>,
    sockets: BTreeMap<u32, Socket>,
    table_len: u32,
    calling: VecDeque<usize>,
    accepting: bool,
    accept_cancelled: bool,
    submitted: VecDeque<Submitted>,
}

/// An order from another thread, at a time, or before that when nothing can happen any more.
pub(crate) struct Stop {
    pub(crate) at_ms: u64,
    pub(crate) order: Box<dyn FnOnce()>,
}

enum Submitted {
    Send { key: Key, payload: Payload, mode: SendMode },
    Cancel { key: Key },
    Shutdown { key: Key },
    Close { key: Key },
}

impl World {
    pub(crate) fn new(seed: u64, table_len: u32, peers: Vec<Peer>) -> Self {
        Self {
            random: Random(seed),
            now_ms: 0,
            peers,
            faults: BTreeMap::new(),
            stop: None,
            sockets: BTreeMap::new(),
            table_len,
            calling: VecDeque::new(),
            accepting: false,
            accept_cancelled: false,
            submitted: VecDeque::new(),
        }
    }

    /// Whether no connection, operation or caller is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty() && !self.accepting && self.submitted.is_empty()
    }

    /// Lets peers read what is still on its way, after the worker has ended.
    pub(crate) fn drain(&mut self) {
        for peer in self.peers.iter_mut().filter(|peer| peer.reads && !peer.reset) {
            peer.received.extend(peer.in_flight.drain(..));
            peer.saw_fin |= peer.in_flight_fin;
        }
    }

    fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// The socket of a live key: anything else is the worker's mistake.
    fn socket(&mut self, key: Key) -> &mut Socket {
        let socket = self.sockets.get_mut(&key.slot).expect("an operation names a slot that is accepted");
        assert_eq!(*socket.key.get_or_insert(key), key, "an operation names the slot's present life");
        assert!(!socket.closing, "no operation follows a close");
        socket
    }

    /// Does what was asked for since the last turn. Sends that must not wait are done here.
    fn submit(&mut self, completions: &mut Vec<Completion>) {
        while let Some(submitted) = self.submitted.pop_front() {
            match submitted {
                Submitted::Send { key, payload, mode: SendMode::Now } => {
                    let result = self.send_some(key, &payload, true);
                    completions.push(Completion::Sent { key, payload, result });
                }
                Submitted::Send { key, payload, mode: SendMode::Wait } => {
                    let socket = self.socket(key);
                    assert!(socket.waiting.is_none(), "one send at a time");
                    socket.waiting = Some(payload);
                    socket.waiting_cancelled = false;
                }
                Submitted::Cancel { key } => {
                    let socket = self.socket(key);
                    socket.armed_cancelled = socket.armed;
                    socket.waiting_cancelled = socket.waiting.is_some();
                }
                Submitted::Shutdown { key } => {
                    let peer = self.socket(key).peer;
                    self.peers[peer].in_flight_fin = true;
                }
                Submitted::Close { key } => {
                    let socket = self.socket(key);
                    assert!(!socket.armed && socket.waiting.is_none(), "a close finds no operation under way");
                    socket.closing = true;
                    let (peer, unread) = (socket.peer, !socket.inbound.is_empty());
                    self.peers[peer].in_flight_fin = true;
                    if unread {
                        self.break_connection(peer);
                    }
                }
            }
        }
    }

    /// What TCP does to bytes that nobody will read: a reset, which also destroys what the peer
    /// has not read yet.
    fn break_connection(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        peer.reset = true;
        peer.in_flight.clear();
    }

    /// Sends what there is room for, or less.
    fn send_some(&mut self, key: Key, payload: &Payload, may_block: bool) -> Result<usize, i32> {
        let socket = self.socket(key);
        let (peer, room) = (socket.peer, socket.room);
        if self.peers[peer].reset {
            return Err(libc::ECONNRESET);
        }
        let free = room.saturating_sub(self.peers[peer].in_flight.len());
        let whole = payload.remaining();
        let mut count = whole.min(free);
        if may_block && self.random.one_in(10) {
            count = self.random.below(count + 1);
        }
        if count == 0 && whole > 0 {
            self.fault(Fault::BlockedSend);
            return Err(libc::EAGAIN);
        }
        if count < whole {
            self.fault(Fault::ShortSend);
        }
        let peer = &mut self.peers[peer];
        peer.in_flight.extend(payload.pieces().flatten().take(count));
        Ok(count)
    }

    /// Lets every peer do something, or nothing.
    fn step_peers(&mut self) {
        for index in 0..self.peers.len() {
            if self.random.one_in(2) {
                self.step_peer(index);
            }
        }
    }

    fn step_peer(&mut self, index: usize) {
        match self.peers[index].state {
            PeerState::Away => {
                self.peers[index].state = PeerState::Calling;
                self.calling.push_back(index);
            }
            PeerState::Connected => {
                self.step_reading(index);
                self.step_writing(index);
            }
            PeerState::Calling | PeerState::Closed | PeerState::TurnedAway => {}
        }
    }

    fn step_reading(&mut self, index: usize) {
        let count = self.random.piece(100_000);
        let peer = &mut self.peers[index];
        if peer.reads && !peer.reset {
            let count = count.min(peer.in_flight.len());
            peer.received.extend(peer.in_flight.drain(..count));
            peer.saw_fin |= peer.in_flight_fin && peer.in_flight.is_empty();
        }
    }

    fn step_writing(&mut self, index: usize) {
        let slot =
            self.sockets.iter().find(|(_, socket)| socket.peer == index && !socket.closing).map(|(slot, _)| *slot);
        let count = self.random.piece(50_000);
        let peer = &mut self.peers[index];
        let count = count.min(peer.outbox.len());
        let bytes: Vec<u8> = peer.outbox.drain(..count).collect();
        let leaves = peer.saw_fin && peer.ending != Ending::Silent || peer.reset;
        let fin = leaves || peer.outbox.is_empty() && peer.ending == Ending::Fin;
        let reset = peer.outbox.is_empty() && peer.ending == Ending::Reset;
        let Some(slot) = slot else {
            // The server has closed: what is sent now is answered by a reset.
            if count > 0 {
                self.break_connection(index);
            }
            if leaves || self.peers[index].ending == Ending::Fin {
                self.peers[index].state = PeerState::Closed;
            }
            return;
        };
        let socket = self.sockets.get_mut(&slot).expect("it was just found");
        socket.inbound.extend(bytes);
        if reset {
            self.peers[index].state = PeerState::Closed;
            self.break_connection(index);
            self.fault(Fault::Reset);
        } else if fin && !socket.inbound_fin {
            socket.inbound_fin = true;
            self.peers[index].sent_fin = true;
            if leaves {
                self.peers[index].state = PeerState::Closed;
            } else {
                self.fault(Fault::FinMidStream);
            }
        }
    }

    /// Whether nothing will happen unless the worker does something.
    fn is_quiet(&self) -> bool {
        let peer_acts = |peer: &Peer| match peer.state {
            PeerState::Away => true,
            PeerState::Connected => {
                !peer.outbox.is_empty()
                    || peer.reads && !peer.reset && (!peer.in_flight.is_empty() || peer.in_flight_fin && !peer.saw_fin)
                    || peer.saw_fin && peer.ending != Ending::Silent
                    || peer.reset
                    || peer.ending == Ending::Fin && !peer.sent_fin
                    || peer.ending == Ending::Reset
            }
            PeerState::Calling => self.accepting,
            PeerState::Closed | PeerState::TurnedAway => false,
        };
        let socket_acts = |socket: &Socket| {
            let reset = self.peers[socket.peer].reset;
            socket.closing
                || socket.armed && (!socket.inbound.is_empty() || socket.inbound_fin || reset || socket.armed_cancelled)
                || socket.waiting.is_some()
                    && (reset || socket.waiting_cancelled || self.peers[socket.peer].in_flight.len() < socket.room)
        };
        !self.peers.iter().any(peer_acts) && !self.sockets.values().any(socket_acts) && !self.accept_cancelled
    }

    fn step_accept(&mut self, completions: &mut Vec<Completion>) {
        if !self.accepting {
            return;
        }
        if self.accept_cancelled {
            self.accepting = false;
            self.accept_cancelled = false;
            completions.push(Completion::AcceptEnded { errno: None });
            return;
        }
        let Some(peer) = self.calling.pop_front() else { return };
        let slot = (0..self.table_len).find(|slot| !self.sockets.contains_key(slot));
        match slot {
            _ if self.random.one_in(20) => {
                self.calling.push_front(peer);
                let errno = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ECONNABORTED][self.random.below(4)];
                self.end_accept(Some(errno), Fault::AcceptError, completions);
            }
            None => {
                self.peers[peer].state = PeerState::TurnedAway;
                self.end_accept(Some(libc::ENFILE), Fault::TableFull, completions);
            }
            Some(slot) => {
                self.peers[peer].state = PeerState::Connected;
                let room = self.random.piece(60_000).max(ROOM_MIN);
                self.sockets.insert(slot, Socket::new(peer, room));
                completions.push(Completion::Accepted { slot });
                if self.random.one_in(20) {
                    self.end_accept(None, Fault::AcceptEnded, completions);
                }
            }
        }
    }

    fn end_accept(&mut self, errno: Option<i32>, fault: Fault, completions: &mut Vec<Completion>) {
        self.accepting = false;
        self.fault(fault);
        completions.push(Completion::AcceptEnded { errno });
    }
}

impl Socket {
    fn new(peer: usize, room: usize) -> Self {
        Self {
            peer,
            key: None,
            inbound: VecDeque::new(),
            inbound_fin: false,
            room,
            armed: false,
            armed_cancelled: false,
            waiting: None,
            waiting_cancelled: false,
            closing: false,
        }
    }
}

/// The driver that a worker has in a [`World`].
pub(crate) struct SimDriver {
    world: Rc<RefCell<World>>,
    buffers: Vec<Vec<u8>>,
    free: Vec<u16>,
}

impl SimDriver {
    pub(crate) fn new(world: Rc<RefCell<World>>) -> Self {
        let mut random = world.borrow().random.clone();
        let count = 1 + random.below(6);
        let len = BUFFER_LEN_MIN + random.piece(70_000);
        let buffers = vec![vec![POISON; len]; count];
        Self { world, buffers, free: (0..).take(count).collect() }
    }

    /// How many pieces of receive buffers are lent.
    pub(crate) fn leases(&self) -> usize {
        self.buffers.len() - self.free.len()
    }

    /// Gives out some of what has completed, in any order over the connections.
    fn deliver(&mut self, completions: &mut Vec<Completion>) {
        let world = self.world.clone();
        let mut world = world.borrow_mut();
        world.step_accept(completions);
        let mut slots: Vec<u32> = world.sockets.keys().copied().collect();
        while !slots.is_empty() {
            let index = world.random.below(slots.len());
            if index > 0 {
                world.fault(Fault::Reordering);
            }
            let slot = slots.swap_remove(index);
            if world.random.one_in(4) {
                world.fault(Fault::Delay);
            } else {
                deliver_sent(&mut world, slot, completions);
                self.deliver_received(&mut world, slot, completions);
                deliver_closed(&mut world, slot, completions);
            }
        }
    }

    fn deliver_received(&mut self, world: &mut World, slot: u32, completions: &mut Vec<Completion>) {
        for _ in 0..1 + world.random.below(4) {
            let Some(socket) = world.sockets.get_mut(&slot).filter(|socket| socket.armed) else { return };
            let key = socket.key.expect("an armed socket was named by an operation");
            let reset = world.peers[socket.peer].reset;
            let end = if socket.armed_cancelled && world.random.one_in(2) {
                world.fault(Fault::CancelledReceive);
                Some(ReceiveEnd::Cancelled)
            } else if reset {
                Some(ReceiveEnd::Failed(libc::ECONNRESET))
            } else if !socket.inbound.is_empty() {
                self.receive_some(world, key, completions)
            } else if socket.inbound_fin {
                Some(ReceiveEnd::Eof)
            } else {
                None
            };
            if let Some(end) = end {
                let socket = world.sockets.get_mut(&slot).expect("it is there");
                socket.armed = false;
                socket.armed_cancelled = false;
                completions.push(Completion::ReceiveEnded { key, end });
            }
        }
    }

    fn receive_some(&mut self, world: &mut World, key: Key, completions: &mut Vec<Completion>) -> Option<ReceiveEnd> {
        let Some(buffer) = self.free.pop() else {
            world.fault(Fault::NoBuffers);
            return Some(ReceiveEnd::NoBuffers);
        };
        let target = &mut self.buffers[usize::from(buffer)];
        let inbound_len = world.sockets[&key.slot].inbound.len();
        let len = world.random.piece(inbound_len.min(target.len()));
        if len < inbound_len {
            world.fault(if len == 1 { Fault::OneByteReceive } else { Fault::ShortReceive });
        }
        let inbound = &mut world.sockets.get_mut(&key.slot).expect("it is there").inbound;
        for (byte, target) in inbound.drain(..len).zip(target) {
            *target = byte;
        }
        let lease = Lease { buffer, start: 0, len: u32::try_from(len).expect("buffers are small") };
        completions.push(Completion::Received { key, lease });
        world.random.one_in(20).then(|| {
            world.fault(Fault::SeriesEnded);
            ReceiveEnd::Exhausted
        })
    }
}

fn deliver_sent(world: &mut World, slot: u32, completions: &mut Vec<Completion>) {
    let Some(socket) = world.sockets.get_mut(&slot) else { return };
    let Some(payload) = socket.waiting.take() else { return };
    let key = socket.key.expect("a sending socket was named by an operation");
    if socket.waiting_cancelled && world.random.one_in(2) {
        world.fault(Fault::CancelledSend);
        completions.push(Completion::Sent { key, payload, result: Err(libc::ECANCELED) });
        return;
    }
    match world.send_some(key, &payload, false) {
        // It goes on waiting.
        Err(libc::EAGAIN) => world.socket(key).waiting = Some(payload),
        result => completions.push(Completion::Sent { key, payload, result }),
    }
}

fn deliver_closed(world: &mut World, slot: u32, completions: &mut Vec<Completion>) {
    if let Some(socket) = world.sockets.get(&slot).filter(|socket| socket.closing) {
        let key = socket.key.expect("a closing socket was named by an operation");
        world.sockets.remove(&slot);
        completions.push(Completion::Closed { key });
    }
}

impl Driver for SimDriver {
    fn now_ms(&mut self) -> u64 {
        self.world.borrow().now_ms
    }

    fn accept(&mut self) {
        let accepting = std::mem::replace(&mut self.world.borrow_mut().accepting, true);
        assert!(!accepting, "accepting is asked for once");
    }

    fn cancel_accept(&mut self) {
        let mut world = self.world.borrow_mut();
        world.accept_cancelled = world.accepting;
    }

    fn receive(&mut self, key: Key) {
        let mut world = self.world.borrow_mut();
        let socket = world.socket(key);
        assert!(!std::mem::replace(&mut socket.armed, true), "receiving is asked for once");
    }

    fn cancel_receive(&mut self, key: Key) {
        let mut world = self.world.borrow_mut();
        let socket = world.socket(key);
        socket.armed_cancelled = socket.armed;
    }

    fn send(&mut self, key: Key, payload: Payload, mode: SendMode) {
        assert!(payload.remaining() > 0, "a send has something to send");
        let mut world = self.world.borrow_mut();
        let again = |submitted: &Submitted| matches!(submitted, Submitted::Send { key: other, .. } if *other == key);
        assert!(!world.submitted.iter().any(again), "one send at a time");
        world.submitted.push_back(Submitted::Send { key, payload, mode });
    }

    fn cancel(&mut self, key: Key) {
        self.world.borrow_mut().submitted.push_back(Submitted::Cancel { key });
    }

    fn shutdown(&mut self, key: Key) {
        self.world.borrow_mut().submitted.push_back(Submitted::Shutdown { key });
    }

    fn close(&mut self, key: Key) {
        self.world.borrow_mut().submitted.push_back(Submitted::Close { key });
    }

    fn wake(&mut self, _: &RingHandle) {
        unreachable!("a simulated worker has no peers");
    }

    fn turn(&mut self, wait_ms: Option<u64>, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.world.borrow_mut().submit(completions);
        // Sends that were done at once do not end the wait.
        let done_at_once = completions.len();
        let until = wait_ms.map(|ms| self.world.borrow().now_ms + ms);
        loop {
            self.world.borrow_mut().step_peers();
            self.deliver(completions);
            let mut world = self.world.borrow_mut();
            let now = world.now_ms;
            let ordered = world.stop.take_if(|stop| stop.at_ms <= now);
            let (quiet, forever) = (world.is_quiet(), until.is_none());
            // Nothing ever happens again: that is when the server is told to stop, once.
            let ordered = ordered.or_else(|| if quiet && forever { world.stop.take() } else { None });
            if let Some(stop) = ordered {
                (stop.order)();
                completions.push(Completion::Woken);
            }
            if completions.len() > done_at_once || until.is_some_and(|until| until <= now) {
                return Ok(());
            }
            assert!(!(quiet && forever), "the worker waits for ever with work left");
            let left = until.map_or(SLICE_MS_MAX, |until| until - now).min(SLICE_MS_MAX);
            let slice = 1 + world.random.below(usize::try_from(left).expect("small"));
            world.now_ms += slice as u64;
        }
    }

    fn bytes_mut(&mut self, lease: &mut Lease) -> &mut [u8] {
        &mut self.buffers[usize::from(lease.buffer)][..lease.len as usize]
    }

    fn give_back(&mut self, lease: Lease) {
        assert!(!self.free.contains(&lease.buffer), "a lease is given back once");
        self.buffers[usize::from(lease.buffer)].fill(POISON);
        self.free.push(lease.buffer);
    }
}
