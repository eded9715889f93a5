//! The simulated kernel and network of one worker.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use crate::buf::{Block, Payload};
use crate::ring::sim::peer::PeerState;
use crate::ring::sim::{Ending, Fault, Peer, Random};
use crate::ring::{Completion, SendMode};
use crate::slab::Key;

/// The smallest buffer of a socket: with less, an honest peer would be too slow for any deadline.
const ROOM_MIN: usize = 4096;
/// One more than how many connections are accepted in a step at most.
const ACCEPTS_PER_STEP_MAX: usize = 4;

/// How many listeners there are.
const LISTENER_COUNT: usize = 2;

/// How long an honest peer is quiet at the most.
const REST_MS_MAX: usize = 600;

/// The server's end of a connection, as the kernel has it.
pub(super) struct Socket {
    pub(super) peer: usize,
    /// The life of the slot, known from the first operation on it.
    pub(super) key: Option<Key>,
    /// Sent by the peer and not received yet.
    pub(super) inbound: VecDeque<u8>,
    pub(super) inbound_fin: bool,
    /// How much may be on its way to the peer.
    pub(super) room: usize,
    pub(super) armed: bool,
    /// The armed receive ends with the first bytes.
    pub(super) armed_once: bool,
    /// What is armed is a poll.
    pub(super) armed_poll: bool,
    /// The armed receive goes to this block, so many bytes of it.
    pub(super) armed_block: Option<(Block, usize)>,
    pub(super) armed_cancelled: bool,
    /// The armed receive takes what is there, and does not wait.
    pub(super) armed_now: bool,
    pub(super) waiting: Option<Payload>,
    pub(super) waiting_cancelled: bool,
    pub(super) closing: bool,
}

/// The kernel, the network and the peers of one worker.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) now_ms: u64,
    pub(crate) peers: Vec<Peer>,
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// The order to stop the worker, given once.
    pub(crate) stop: Option<Stop>,
    pub(super) sockets: BTreeMap<u32, Socket>,
    pub(super) table_len: u32,
    pub(super) calling: VecDeque<usize>,
    /// How many accepts each listener has.
    pub(super) accepts: [usize; LISTENER_COUNT],
    pub(super) accepts_cancelled: bool,
    /// Closes whose slots were accepted into before they were reported.
    pub(super) late_closes: Vec<Key>,
    pub(super) submitted: VecDeque<Submitted>,
}

/// An order from another thread, at a time, or before that when nothing can happen any more.
pub(crate) struct Stop {
    pub(crate) at_ms: u64,
    pub(crate) order: Box<dyn FnOnce()>,
}

pub(super) enum Submitted {
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
            accepts: [0; LISTENER_COUNT],
            accepts_cancelled: false,
            late_closes: Vec::new(),
            submitted: VecDeque::new(),
        }
    }

    /// Whether no connection, operation or caller is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.accepts == [0; LISTENER_COUNT] && self.submitted.is_empty()
    }

    /// Lets peers read what is still on its way, after the worker has ended.
    pub(crate) fn drain(&mut self) {
        for peer in self.peers.iter_mut().filter(|peer| peer.reads && !peer.reset) {
            peer.received.extend(peer.in_flight.drain(..));
            peer.saw_fin |= peer.in_flight_fin;
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// The socket of a live key: anything else is the worker's mistake.
    pub(super) fn socket(&mut self, key: Key) -> &mut Socket {
        let socket = self.sockets.get_mut(&key.slot).expect("an operation names a slot that is accepted");
        assert_eq!(*socket.key.get_or_insert(key), key, "an operation names the slot's present life");
        assert!(!socket.closing, "no operation follows a close");
        socket
    }

    /// Does what was asked for since the last turn. Sends that must not wait are done here.
    pub(super) fn submit(&mut self, completions: &mut Vec<Completion>) {
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
    pub(super) fn send_some(&mut self, key: Key, payload: &Payload, may_block: bool) -> Result<usize, i32> {
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
    pub(super) fn step_peers(&mut self) {
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
        let rest_ms = self.random.below(REST_MS_MAX) as u64;
        let (now_ms, peer) = (self.now_ms, &mut self.peers[index]);
        if now_ms < peer.rests_until_ms && !peer.saw_fin && !peer.reset {
            return;
        }
        let mut count = count.min(peer.outbox.len());
        if let Some(left) = peer.rests.pop_front_if(|left| peer.outbox.len() - count <= *left) {
            count = peer.outbox.len() - left;
            peer.rests_until_ms = now_ms + rest_ms;
        }
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
    pub(super) fn is_quiet(&self) -> bool {
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
            PeerState::Calling => self.accepts[usize::from(peer.listener)] > 0,
            PeerState::Closed | PeerState::TurnedAway => false,
        };
        let socket_acts = |socket: &Socket| {
            let reset = self.peers[socket.peer].reset;
            socket.closing
                || socket.armed && (!socket.inbound.is_empty() || socket.inbound_fin || reset || socket.armed_cancelled)
                || socket.armed && socket.armed_now
                || socket.waiting.is_some()
                    && (reset || socket.waiting_cancelled || self.peers[socket.peer].in_flight.len() < socket.room)
        };
        !self.peers.iter().any(peer_acts)
            && !self.sockets.values().any(socket_acts)
            && !self.accepts_cancelled
            && self.late_closes.is_empty()
    }

    pub(super) fn step_accept(&mut self, completions: &mut Vec<Completion>) {
        if self.accepts_cancelled {
            self.accepts_cancelled = false;
            // The kernel misses those that it is about to look at.
            for listener in 0..LISTENER_COUNT {
                self.cancel_accepts(listener, completions);
            }
        }
        for _ in 0..self.random.below(ACCEPTS_PER_STEP_MAX) {
            self.accept_one(completions);
        }
    }

    fn cancel_accepts(&mut self, listener: usize, completions: &mut Vec<Completion>) {
        let armed = self.accepts[listener];
        let missed = if self.random.one_in(2) { self.random.below(armed + 1) } else { 0 };
        if missed > 0 {
            self.fault(Fault::MissedCancel);
        }
        let ended = mem::replace(&mut self.accepts[listener], missed) - missed;
        let listener = u8::try_from(listener).expect("few");
        completions.extend((0..ended).map(|_| Completion::AcceptEnded { listener, errno: None }));
    }

    fn accept_one(&mut self, completions: &mut Vec<Completion>) {
        let heard = |&peer: &usize| self.accepts[usize::from(self.peers[peer].listener)] > 0;
        let Some(at) = self.calling.iter().position(heard) else { return };
        let peer = self.calling.remove(at).expect("it was just found");
        let listener = self.peers[peer].listener;
        let early = self.random.one_in(2);
        let slot = (0..self.table_len).find(|slot| self.sockets.get(slot).is_none_or(|socket| early && socket.closing));
        match slot {
            _ if self.random.one_in(20) => {
                self.calling.push_front(peer);
                let errno = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ECONNABORTED][self.random.below(4)];
                self.end_accept(listener, Some(errno), Fault::AcceptError, completions);
            }
            None => {
                self.peers[peer].state = PeerState::TurnedAway;
                self.end_accept(listener, Some(libc::ENFILE), Fault::TableFull, completions);
            }
            Some(slot) => {
                self.peers[peer].state = PeerState::Connected;
                let room = self.random.piece(60_000).max(ROOM_MIN);
                if let Some(Socket { key: Some(key), .. }) = self.sockets.insert(slot, Socket::new(peer, room)) {
                    self.late_closes.push(key);
                    self.fault(Fault::LateClose);
                }
                self.accepts[usize::from(listener)] -= 1;
                completions.push(Completion::Accepted { slot, listener });
                if self.accepts[usize::from(listener)] > 0 && self.random.one_in(20) {
                    self.end_accept(listener, None, Fault::AcceptEnded, completions);
                }
            }
        }
    }

    fn end_accept(&mut self, listener: u8, errno: Option<i32>, fault: Fault, completions: &mut Vec<Completion>) {
        self.accepts[usize::from(listener)] -= 1;
        self.fault(fault);
        completions.push(Completion::AcceptEnded { listener, errno });
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
            armed_once: false,
            armed_poll: false,
            armed_block: None,
            armed_cancelled: false,
            armed_now: false,
            waiting: None,
            waiting_cancelled: false,
            closing: false,
        }
    }
}
