//! An hour of heartbeats for many connections, on a virtual clock: every ping and every end is compared with
//! when it was due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::{io, mem};

use crate::buf::{Block, Payload};
use crate::handler::Echo;
use crate::ring::sim::Random;
use crate::ring::{Completion, Driver, Lease, ReceiveEnd, ReceiveMode, RingHandle, SendMode, Waits};
use crate::slab::Key;
use crate::timer::TICK_MS;
use crate::worker::simulation::{env_number, say};
use crate::worker::{Beat, Mailbox, Options, Worker};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const PONG: &[u8] = b"\x8a\x80\0\0\0\0";
const MESSAGE: &[u8] = b"\x82\x80\0\0\0\0";
const PING: &[u8] = &[0x89, 0];
const BEAT: Beat = Beat { interval_ms: 25_000, timeout_ms: 20_000 };
/// Everybody opens within this time, at the beginning.
const OPENING_MS: usize = 60_000;
/// Further ahead than anything that a peer plans.
const HORIZON_MS: usize = 1 << 16;
const _: () = assert!(HORIZON_MS > OPENING_MS);

/// What a peer is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Habit {
    /// Answers each ping so much later.
    Answers { after_ms: u64 },
    /// Speaks so often, and is asked once at most, before its first word.
    Talks { every_ms: u64 },
    /// Answers until that time.
    Leaves { at_ms: u64 },
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    habit: Habit,
    /// When it was heard last, or opened.
    heard_ms: u64,
    asked_ms: Option<u64>,
    opened: bool,
    is_first: bool,
    polled: bool,
    armed: bool,
    ended: bool,
    pings: u32,
    /// What it has sent and the worker has not received.
    unread: Option<&'static [u8]>,
}

/// A kernel that never fails, a network without delays, and a clock that jumps to whatever is next.
struct Hour {
    now_ms: u64,
    peers: Vec<Peer>,
    /// What peers do, by the millisecond.
    plans: Vec<Vec<u32>>,
    planned: usize,
    submitted: Vec<Completion>,
    keys: Vec<Option<Key>>,
    lent: VecDeque<&'static [u8]>,
    buffer: Vec<u8>,
    silenced: u64,
    latest_ms: u64,
}

impl Hour {
    fn new(count: usize) -> Self {
        let mut random = Random(5);
        let mut hour = Self {
            now_ms: 0,
            peers: Vec::new(),
            plans: vec![Vec::new(); HORIZON_MS],
            planned: 0,
            submitted: Vec::new(),
            keys: vec![None; count],
            lent: VecDeque::new(),
            buffer: Vec::new(),
            silenced: 0,
            latest_ms: 0,
        };
        for slot in 0..u32::try_from(count).expect("few enough") {
            let habit = match random.below(20) {
                0 => Habit::Talks { every_ms: 1_000 + random.below(18_000) as u64 },
                1 => Habit::Leaves { at_ms: random.below(3_600_000) as u64 },
                // Just in time.
                2 => Habit::Answers { after_ms: BEAT.timeout_ms - 2 * TICK_MS - random.below(5_000) as u64 },
                _ => Habit::Answers { after_ms: random.below(400) as u64 },
            };
            hour.peers.push(Peer {
                habit,
                heard_ms: 0,
                asked_ms: None,
                opened: false,
                is_first: true,
                polled: false,
                armed: false,
                ended: false,
                pings: 0,
                unread: None,
            });
            let at_ms = random.below(OPENING_MS) as u64;
            hour.plan(slot, at_ms);
        }
        hour
    }

    fn plan(&mut self, slot: u32, at_ms: u64) {
        let index = usize::try_from(at_ms).expect("an hour is short") % HORIZON_MS;
        self.plans[index].push(slot);
        self.planned += 1;
    }

    fn peer(&mut self, key: Key) -> &mut Peer {
        self.keys[key.slot as usize] = Some(key);
        &mut self.peers[key.slot as usize]
    }

    /// What a peer had planned for now.
    fn act(&mut self, slot: u32, completions: &mut Vec<Completion>) {
        let now_ms = self.now_ms;
        let peer = &mut self.peers[slot as usize];
        if peer.ended {
            return;
        }
        if mem::replace(&mut peer.opened, true) {
            let bytes = if matches!(peer.habit, Habit::Talks { .. }) { MESSAGE } else { PONG };
            (peer.heard_ms, peer.asked_ms, peer.is_first) = (now_ms, None, false);
            self.say(slot, bytes, completions);
        } else {
            peer.heard_ms = now_ms;
            peer.unread = Some(REQUEST);
            completions.push(Completion::Accepted { slot, listener: 0 });
        }
        if let Habit::Talks { every_ms } = self.peers[slot as usize].habit {
            self.plan(slot, now_ms + every_ms);
        }
    }

    fn say(&mut self, slot: u32, bytes: &'static [u8], completions: &mut Vec<Completion>) {
        let key = self.keys[slot as usize].expect("it was accepted");
        let peer = &mut self.peers[slot as usize];
        if mem::take(&mut peer.polled) {
            peer.unread = Some(bytes);
            completions.push(Completion::Readable { key });
        } else if peer.armed {
            self.deliver(key, bytes, completions);
        } else {
            peer.unread = Some(bytes);
        }
    }

    fn deliver(&mut self, key: Key, bytes: &'static [u8], completions: &mut Vec<Completion>) {
        self.lent.push_back(bytes);
        let len = u32::try_from(bytes.len()).expect("short");
        completions.push(Completion::Received { key, lease: Lease::without_ring(len) });
    }

    /// Looks at what the worker sends, and whether it was time.
    fn check(&mut self, key: Key, bytes: &[u8]) {
        let now_ms = self.now_ms;
        let peer = &mut self.peers[key.slot as usize];
        if bytes == PING {
            assert!(peer.is_first || !matches!(peer.habit, Habit::Talks { .. }), "who speaks is not asked again");
            assert_eq!(peer.asked_ms, None, "asked once");
            let due_ms = peer.heard_ms + BEAT.interval_ms;
            // The first one comes early, so that not all come together.
            let earliest_ms = if peer.is_first { peer.heard_ms } else { due_ms - TICK_MS };
            assert!((earliest_ms..=due_ms + TICK_MS).contains(&now_ms), "pinged at {now_ms}, due at {due_ms}");
            self.latest_ms = self.latest_ms.max(now_ms.saturating_sub(due_ms));
            (peer.asked_ms, peer.pings) = (Some(now_ms), peer.pings + 1);
            match peer.habit {
                Habit::Answers { after_ms } => self.plan(key.slot, now_ms + after_ms),
                Habit::Leaves { at_ms } if now_ms < at_ms => self.plan(key.slot, now_ms),
                Habit::Leaves { .. } | Habit::Talks { .. } => {}
            }
        } else if bytes.first() == Some(&0x88) {
            let due_ms = peer.asked_ms.expect("it was asked before") + BEAT.timeout_ms;
            assert!(matches!(peer.habit, Habit::Leaves { at_ms } if at_ms <= now_ms), "{:?} is alive", peer.habit);
            let in_time = due_ms - TICK_MS..=due_ms + TICK_MS;
            assert!(in_time.contains(&now_ms), "given up at {now_ms}, due at {due_ms}");
            peer.ended = true;
            self.silenced += 1;
        }
    }

    fn now(&self) -> usize {
        usize::try_from(self.now_ms).expect("an hour is short") % HORIZON_MS
    }
}

impl Driver for Hour {
    fn now_ms(&mut self) -> u64 {
        self.now_ms
    }

    fn accept(&mut self, _: u8) {}

    fn cancel_accepts(&mut self) {}

    fn receive(&mut self, key: Key, mode: ReceiveMode) {
        let unread = self.peer(key).unread.take();
        let mut completions = mem::take(&mut self.submitted);
        if let Some(bytes) = unread {
            self.deliver(key, bytes, &mut completions);
        }
        if mode == ReceiveMode::Now {
            completions.push(Completion::ReceiveEnded { key, end: ReceiveEnd::Drained });
        } else {
            self.peer(key).armed = true;
        }
        self.submitted = completions;
    }

    fn poll(&mut self, key: Key, _: usize) {
        let peer = self.peer(key);
        peer.polled = peer.unread.is_none();
        if !peer.polled {
            self.submitted.push(Completion::Readable { key });
        }
    }

    fn fill(&mut self, _: Key, _: Block, _: usize) {
        unreachable!("nothing is long");
    }

    fn cancel_receive(&mut self, key: Key) {
        if mem::take(&mut self.peer(key).armed) {
            self.submitted.push(Completion::ReceiveEnded { key, end: ReceiveEnd::Cancelled });
        }
    }

    fn send(&mut self, key: Key, payload: Payload, _: SendMode) {
        let first = payload.pieces().next().unwrap_or_default();
        self.check(key, first);
        self.submitted.push(Completion::Sent { key, result: Ok(payload.remaining()), payload });
    }

    fn cancel(&mut self, key: Key, _: Option<Waits>) {
        self.cancel_receive(key);
        if mem::take(&mut self.peer(key).polled) {
            self.submitted.push(Completion::Readable { key });
        }
    }

    fn shutdown(&mut self, _: Key) {}

    fn close(&mut self, key: Key) {
        self.submitted.push(Completion::Closed { key });
    }

    fn wake(&mut self, _: &RingHandle) {
        unreachable!("there is one worker");
    }

    fn turn(&mut self, wait_ms: Option<u64>, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.append(&mut self.submitted);
        let until = self.now_ms + wait_ms.unwrap_or(HORIZON_MS as u64);
        let wakes = |completion: &Completion| !matches!(completion, Completion::Sent { .. });
        loop {
            let now = self.now();
            for slot in mem::take(&mut self.plans[now]) {
                self.planned -= 1;
                self.act(slot, completions);
            }
            if self.now_ms >= until || completions.iter().any(wakes) {
                return Ok(());
            }
            self.now_ms += 1;
        }
    }

    fn bytes_mut(&mut self, _: &mut Lease) -> &mut [u8] {
        self.buffer.clear();
        self.buffer.extend_from_slice(self.lent.pop_front().expect("leases are used in order"));
        &mut self.buffer
    }

    fn give_back(&mut self, _: Lease) {}
}

/// Connections and seconds of an ordinary run: a debug build takes a minute for 100,000.
/// `RINGSOCK_SIM_CONNECTIONS` and `RINGSOCK_SIM_SECONDS` ask for others.
const CONNECTION_COUNT: u64 = 5_000;
const SECONDS: u64 = 3_600;

#[test]
fn an_hour_of_heartbeats_has_no_ping_and_no_end_early_late_or_missed() {
    let count = env_number("RINGSOCK_SIM_CONNECTIONS").unwrap_or(CONNECTION_COUNT);
    let end_ms = env_number("RINGSOCK_SIM_SECONDS").unwrap_or(SECONDS) * 1_000;
    let options = Options { ping: Some(BEAT), ..Options::default() };
    let driver = Hour::new(usize::try_from(count).expect("few enough"));
    let mut worker = Worker::new(0, driver, Echo::default(), options, Arc::new(Mailbox::default()), Vec::new());
    let mut turns = 0_u64;
    while worker.driver.now_ms < end_ms {
        worker.turn().expect("a simulated ring never fails");
        turns += 1;
    }
    let now_ms = worker.driver.now_ms;
    let mut left = 0;
    for peer in &worker.driver.peers {
        let due_ms = match (peer.ended, peer.asked_ms) {
            (true, _) => continue,
            (false, Some(asked_ms)) => asked_ms + BEAT.timeout_ms,
            (false, None) => peer.heard_ms + BEAT.interval_ms,
        };
        assert!(now_ms <= due_ms + TICK_MS, "something was due at {due_ms} and never came: {peer:?}");
        left += 1;
    }
    let pings: u64 = worker.driver.peers.iter().map(|peer| u64::from(peer.pings)).sum();
    let counters = worker.counters();
    assert_eq!((counters.pings, counters.silent), (pings, worker.driver.silenced));
    assert_eq!(worker.connection_count(), left);
    assert!(worker.driver.silenced > 0 && counters.hibernations > 0);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    say(&format!(
        "heartbeats: {count} connections, {} s, {pings} pings, {} silent ones given up, {} hibernations, {turns} turns, \
         0 early, late or missed; the latest ping {} ms after it was due ({build} build)",
        end_ms / 1_000,
        worker.driver.silenced,
        counters.hibernations,
        worker.driver.latest_ms,
    ));
}
