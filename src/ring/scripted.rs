//! A driver without a will of its own: a test says what completes in each turn and at what time,
//! and reads what the worker asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::mem;
use std::rc::Rc;

use crate::buf::{Block, Payload};
use crate::ring::{Completion, Driver, Lease, ReceiveEnd, ReceiveMode, RingHandle, SendMode, Waits};
use crate::slab::Key;

/// What a worker asked for, in order. Sends are kept as their bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// By the listener with this index.
    Accept(u8),
    CancelAccepts,
    Receive(u32),
    Poll(u32, usize),
    ReceiveNow(u32),
    Fill(u32, usize),
    CancelReceive(u32),
    Send(u32, Vec<u8>),
    Cancel(u32),
    Shutdown(u32),
    Close(u32),
    Wake,
}

/// What happens to a connection in a turn.
pub(crate) enum Happens<'a> {
    /// By the first listener.
    Accepted,
    AcceptedBy(u8),
    Received(&'a [u8]),
    Readable,
    /// Into the block that was given for it.
    Filled(&'a [u8]),
    Ended(ReceiveEnd),
    Closed,
}

/// The test's end of a driver.
#[derive(Clone, Default)]
pub(crate) struct Hand(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    now_ms: u64,
    asked: Vec<Asked>,
    received: Vec<Vec<u8>>,
    next: Vec<Completion>,
    fills: HashMap<u32, Block>,
    /// How many accepts each listener has.
    accepts: BTreeMap<u8, usize>,
    missed: usize,
    wait_ms: Option<u64>,
}

impl Hand {
    /// The driver to give to a worker.
    pub(crate) fn driver(&self) -> ScriptedDriver {
        ScriptedDriver { state: self.0.clone(), received: Vec::new() }
    }

    /// Has the next turn end at `now_ms` with `happens`, each naming a slot in its first life.
    pub(crate) fn next(&self, now_ms: u64, happens: &[(u32, Happens<'_>)]) {
        let mut state = self.0.borrow_mut();
        state.now_ms = now_ms;
        for (slot, what) in happens {
            let slot = *slot;
            let key = Key { slot, generation: 0 };
            let completion = match what {
                Happens::Accepted => state.accept(slot, 0),
                Happens::AcceptedBy(listener) => state.accept(slot, *listener),
                Happens::Received(bytes) => {
                    let buffer = u16::try_from(state.received.len()).expect("a test is short");
                    state.received.push(bytes.to_vec());
                    let len = u32::try_from(bytes.len()).expect("a test sends little");
                    Completion::Received { key, lease: Lease { owner: 0, buffer, start: 0, len } }
                }
                Happens::Readable => Completion::Readable { key },
                Happens::Filled(bytes) => {
                    let mut block = state.fills.remove(&slot).expect("a block was given to be filled");
                    block.extend_from_slice(bytes);
                    Completion::Filled { key, block, result: Ok(bytes.len()) }
                }
                Happens::Ended(end) => Completion::ReceiveEnded { key, end: *end },
                Happens::Closed => Completion::Closed { key },
            };
            state.next.push(completion);
        }
    }

    /// Has the next cancel of accepts miss so many of those of each listener.
    pub(crate) fn miss_accepts(&self, count: usize) {
        self.0.borrow_mut().missed = count;
    }

    /// How long the last turn might wait.
    pub(crate) fn wait_ms(&self) -> Option<u64> {
        self.0.borrow().wait_ms
    }

    /// What was asked for since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        mem::take(&mut self.0.borrow_mut().asked)
    }
}

impl State {
    fn accept(&mut self, slot: u32, listener: u8) -> Completion {
        *self.accepts.get_mut(&listener).expect("it accepts by this listener") -= 1;
        Completion::Accepted { slot, listener }
    }
}

/// A driver that does what its [`Hand`] says. Sends take everything at once.
pub(crate) struct ScriptedDriver {
    state: Rc<RefCell<State>>,
    /// What the worker is looking at.
    received: Vec<u8>,
}

impl ScriptedDriver {
    fn ask(&mut self, asked: Asked) {
        self.state.borrow_mut().asked.push(asked);
    }
}

impl Driver for ScriptedDriver {
    fn now_ms(&mut self) -> u64 {
        self.state.borrow().now_ms
    }

    fn accept(&mut self, listener: u8) {
        self.ask(Asked::Accept(listener));
        *self.state.borrow_mut().accepts.entry(listener).or_default() += 1;
    }

    fn cancel_accepts(&mut self) {
        self.ask(Asked::CancelAccepts);
        let State { accepts, missed, next, .. } = &mut *self.state.borrow_mut();
        let missed = mem::take(missed);
        for (&listener, armed) in accepts {
            let ended = armed.saturating_sub(missed);
            *armed -= ended;
            next.extend((0..ended).map(|_| Completion::AcceptEnded { listener, errno: None }));
        }
    }

    fn receive(&mut self, key: Key, mode: ReceiveMode) {
        let asked = if mode == ReceiveMode::Now { Asked::ReceiveNow } else { Asked::Receive };
        self.ask(asked(key.slot));
    }

    fn poll(&mut self, key: Key, bytes: usize) {
        self.ask(Asked::Poll(key.slot, bytes));
    }

    fn fill(&mut self, key: Key, block: Block, len: usize) {
        self.state.borrow_mut().fills.insert(key.slot, block);
        self.ask(Asked::Fill(key.slot, len));
    }

    fn cancel_receive(&mut self, key: Key) {
        self.ask(Asked::CancelReceive(key.slot));
    }

    fn send(&mut self, key: Key, payload: Payload, _: SendMode) {
        let bytes = payload.pieces().collect::<Vec<_>>().concat();
        let mut state = self.state.borrow_mut();
        state.next.push(Completion::Sent { key, result: Ok(bytes.len()), payload });
        state.asked.push(Asked::Send(key.slot, bytes));
    }

    fn cancel(&mut self, key: Key, _: Option<Waits>) {
        self.ask(Asked::Cancel(key.slot));
    }

    fn shutdown(&mut self, key: Key) {
        self.ask(Asked::Shutdown(key.slot));
    }

    fn close(&mut self, key: Key) {
        self.ask(Asked::Close(key.slot));
    }

    fn wake(&mut self, _: &RingHandle) {
        self.ask(Asked::Wake);
    }

    fn turn(&mut self, wait_ms: Option<u64>, completions: &mut Vec<Completion>) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.wait_ms = wait_ms;
        completions.append(&mut state.next);
        Ok(())
    }

    fn bytes_mut(&mut self, lease: &mut Lease) -> &mut [u8] {
        self.received = mem::take(&mut self.state.borrow_mut().received[usize::from(lease.buffer)]);
        &mut self.received
    }

    fn give_back(&mut self, _: Lease) {}
}
