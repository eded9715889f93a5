//! A simulated driver: a kernel and a network made of one seed, with a virtual clock.
//!
//! It does what io_uring and TCP may do at their worst: receives of one byte, sends that are cut
//! short or find no room, series that end, buffers that run out, resets, completions that come late
//! and in another order than they were asked for. And it checks what a worker may not do: two sends
//! at a time, a close with an operation under way, an operation on a slot of an earlier life, a
//! lease given back twice. Every fault is counted, and the same seed gives the same history.

mod fault;
mod peer;
mod random;
mod world;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use crate::buf::{Block, Payload};
use crate::ring::{Completion, Driver, Lease, ReceiveEnd, ReceiveMode, RingHandle, SendMode, Waits};
use crate::slab::Key;

use world::{Socket, Submitted};

pub(crate) use fault::Fault;
pub(crate) use peer::{Ending, Peer};
pub(crate) use random::Random;
pub(crate) use world::{Stop, World};

/// The longest slice of virtual time that passes without the network getting its chance.
const SLICE_MS_MAX: u64 = 5;
/// The smallest receive buffer: with less, an honest peer would be too slow for any deadline.
const BUFFER_LEN_MIN: usize = 256;
/// What freed receive buffers are filled with, so that a view kept for too long shows.
const POISON: u8 = 0xa5;

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
        let late = std::mem::take(&mut world.late_closes);
        completions.extend(late.into_iter().map(|key| Completion::Closed { key }));
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
                deliver_readable(&mut world, slot, completions);
                self.deliver_filled(&mut world, slot, completions);
                deliver_closed(&mut world, slot, completions);
            }
        }
    }

    /// Receives into the block that a socket was given for it.
    fn deliver_filled(&mut self, world: &mut World, slot: u32, completions: &mut Vec<Completion>) {
        let Some(socket) = world.sockets.get_mut(&slot) else { return };
        let Some((mut block, asked)) = socket.armed_block.take() else { return };
        let key = socket.key.expect("an armed socket was named by an operation");
        let cancelled = socket.armed_cancelled;
        let reset = world.peers[socket.peer].reset;
        let (inbound_len, inbound_fin) = (socket.inbound.len(), socket.inbound_fin);
        let result = if cancelled && world.random.one_in(2) {
            world.fault(Fault::CancelledReceive);
            Err(libc::ECANCELED)
        } else if reset {
            Err(libc::ECONNRESET)
        } else if inbound_len > 0 {
            let len = world.random.piece(inbound_len.min(asked));
            if len < asked {
                world.fault(Fault::ShortFill);
            }
            block.extend(world.socket(key).inbound.drain(..len));
            Ok(len)
        } else if inbound_fin {
            Ok(0)
        } else {
            world.socket(key).armed_block = Some((block, asked));
            return;
        };
        let socket = world.socket(key);
        socket.armed = false;
        socket.armed_cancelled = false;
        completions.push(Completion::Filled { key, block, result });
    }

    fn deliver_received(&mut self, world: &mut World, slot: u32, completions: &mut Vec<Completion>) {
        for _ in 0..1 + world.random.below(4) {
            let armed = |socket: &&mut Socket| socket.armed && socket.armed_block.is_none() && !socket.armed_poll;
            let Some(socket) = world.sockets.get_mut(&slot).filter(armed) else { return };
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
                socket.armed_now.then_some(ReceiveEnd::Drained)
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
        let once = world.sockets[&key.slot].armed_once;
        let len = world.random.piece(inbound_len.min(target.len()));
        if len < inbound_len {
            world.fault(if len == 1 { Fault::OneByteReceive } else { Fault::ShortReceive });
        }
        let inbound = &mut world.sockets.get_mut(&key.slot).expect("it is there").inbound;
        for (byte, target) in inbound.drain(..len).zip(target) {
            *target = byte;
        }
        let lease = Lease { owner: 0, buffer, start: 0, len: u32::try_from(len).expect("buffers are small") };
        completions.push(Completion::Received { key, lease });
        let is_empty = inbound.is_empty();
        if once {
            return Some(if is_empty { ReceiveEnd::Drained } else { ReceiveEnd::Exhausted });
        }
        world.random.one_in(20).then(|| {
            world.fault(Fault::SeriesEnded);
            ReceiveEnd::Exhausted
        })
    }
}

/// Ends a poll: if there is something to receive, if it was cancelled, and now and then for nothing.
fn deliver_readable(world: &mut World, slot: u32, completions: &mut Vec<Completion>) {
    let Some(socket) = world.sockets.get(&slot).filter(|socket| socket.armed_poll) else { return };
    let key = socket.key.expect("an armed socket was named by an operation");
    let something = !socket.inbound.is_empty() || socket.inbound_fin || world.peers[socket.peer].reset;
    if !something && !socket.armed_cancelled {
        if !world.random.one_in(20) {
            return;
        }
        world.fault(Fault::ReadableForNothing);
    }
    let socket = world.socket(key);
    (socket.armed, socket.armed_poll, socket.armed_cancelled) = (false, false, false);
    completions.push(Completion::Readable { key });
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

    fn accept(&mut self, listener: u8) {
        self.world.borrow_mut().accepts[usize::from(listener)] += 1;
    }

    fn cancel_accepts(&mut self) {
        let mut world = self.world.borrow_mut();
        world.accepts_cancelled = world.accepts.iter().any(|&count| count > 0);
    }

    fn receive(&mut self, key: Key, mode: ReceiveMode) {
        let mut world = self.world.borrow_mut();
        let socket = world.socket(key);
        socket.armed_once = mode != ReceiveMode::Series;
        socket.armed_now = mode == ReceiveMode::Now;
        assert!(!std::mem::replace(&mut socket.armed, true), "receiving is asked for once");
    }

    fn poll(&mut self, key: Key, bytes: usize) {
        assert!(bytes > 0, "a poll waits for something");
        let mut world = self.world.borrow_mut();
        let socket = world.socket(key);
        assert!(!std::mem::replace(&mut socket.armed, true), "receiving is asked for once");
        socket.armed_poll = true;
        socket.armed_now = false;
    }

    fn fill(&mut self, key: Key, block: Block, len: usize) {
        assert!(len > 0 && len.min(block.capacity() - block.len()) > 0, "a block has room for something");
        let len = len.min(block.capacity() - block.len());
        let mut world = self.world.borrow_mut();
        let socket = world.socket(key);
        assert!(!std::mem::replace(&mut socket.armed, true), "receiving is asked for once");
        socket.armed_block = Some((block, len));
        socket.armed_now = false;
    }

    fn cancel_receive(&mut self, key: Key) {
        let mut world = self.world.borrow_mut();
        let socket = world.socket(key);
        socket.armed_cancelled = socket.armed && socket.armed_block.is_none() && !socket.armed_poll;
    }

    fn send(&mut self, key: Key, payload: Payload, mode: SendMode) {
        assert!(payload.remaining() > 0, "a send has something to send");
        let mut world = self.world.borrow_mut();
        let again = |submitted: &Submitted| matches!(submitted, Submitted::Send { key: other, .. } if *other == key);
        assert!(!world.submitted.iter().any(again), "one send at a time");
        world.submitted.push_back(Submitted::Send { key, payload, mode });
    }

    fn cancel(&mut self, key: Key, waits: Option<Waits>) {
        let mut world = self.world.borrow_mut();
        let socket = world.socket(key);
        let armed = match (socket.armed, socket.armed_poll, &socket.armed_block) {
            (false, ..) => None,
            (true, _, Some(_)) => Some(Waits::Fill),
            (true, true, None) => Some(Waits::Poll),
            (true, false, None) => Some(Waits::Receive),
        };
        assert_eq!(waits, armed, "what is cancelled is what is under way");
        world.submitted.push_back(Submitted::Cancel { key });
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
