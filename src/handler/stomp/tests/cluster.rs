//! Workers of a broker and their clients without sockets: what the tests of this module run on.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use crate::buf::{Pool, SendQueue};
use crate::handler::stomp::{Options, Shared, Stomp};
use crate::handler::{CloseCause, Command, Commands, ConnectionId, Effects, Handler, Parcel, Transport};
use crate::proto::ws::CloseCode;
use crate::slab::Key;

/// The other end of a client's connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// What the client was sent and has not looked at.
    pub(super) received: Vec<u8>,
    pub(super) closed: Option<CloseCode>,
    /// What the client has sent while its frames wait.
    unread: VecDeque<Vec<u8>>,
    is_paused: bool,
    /// It reads nothing, so that its queue fills.
    pub(super) is_stuck: bool,
    queued: usize,
    is_full: bool,
}

/// Some workers and all that is between them.
pub(super) struct Cluster {
    pub(super) workers: Vec<Stomp>,
    pub(super) wires: BTreeMap<ConnectionId, Wire>,
    /// On the way from one worker to another, in order.
    pub(super) parcels: BTreeMap<(u16, u16), VecDeque<Parcel>>,
    pub(super) now_ms: u64,
    pub(super) is_backed_up: bool,
    pub(super) queue_bytes_max: usize,
    /// The most commands that one call has asked for.
    pub(super) most_commands: usize,
    /// Who was written how many bytes, if that is asked for.
    pub(super) log: Option<Vec<(ConnectionId, usize)>>,
    shared: Shared,
    next_slot: u32,
    free: Vec<Key>,
    pool: Pool,
}

/// Runs a test over one worker, and over three.
#[track_caller]
pub(super) fn check_over_workers(options: &Options, test: impl Fn(&mut Cluster)) {
    for workers in [1, 3] {
        let mut cluster = Cluster::new(workers, options);
        test(&mut cluster);
        cluster.end();
    }
}

const NOBODY: Key = Key { slot: u32::MAX, generation: 0 };

impl Cluster {
    pub(super) fn new(workers: u16, options: &Options) -> Self {
        let shared = Shared::default();
        let workers = (0..workers).map(|_| Stomp::new(options.clone(), &shared)).collect::<Vec<_>>();
        let mut cluster = Self {
            workers,
            wires: BTreeMap::new(),
            parcels: BTreeMap::new(),
            now_ms: 1_000,
            is_backed_up: false,
            queue_bytes_max: 64 << 10,
            most_commands: 0,
            log: None,
            shared,
            next_slot: 0,
            free: Vec::new(),
            pool: Pool::default(),
        };
        let count = u16::try_from(cluster.workers.len()).expect("few");
        for (worker, stomp) in (0..).zip(&mut cluster.workers) {
            stomp.on_start(worker, count);
        }
        cluster
    }

    /// Calls a worker's handler and does what it asks for.
    pub(super) fn call(
        &mut self,
        worker: u16,
        at_hand: Option<ConnectionId>,
        call: impl FnOnce(&mut Stomp, &mut Effects<'_>),
    ) {
        let (mut queue, mut commands) = (SendQueue::default(), Commands::default());
        let id = at_hand.unwrap_or(ConnectionId { worker, key: NOBODY });
        let blocked = self.wires.get(&id).map_or(0, |wire| wire.queued);
        let mut effects = Effects::new(id, &mut queue, blocked, &mut self.pool, &mut commands)
            .with_transport(Transport::Stream, self.now_ms)
            .with_backlog(self.is_backed_up)
            .with_bound(self.queue_bytes_max);
        call(&mut self.workers[usize::from(worker)], &mut effects);
        let (close, pauses) = effects.into_outcome();
        self.most_commands = self.most_commands.max(commands.list.len());
        let mut bytes = Vec::new();
        while let Some(payload) = queue.take(&mut self.pool) {
            payload.pieces().for_each(|piece| bytes.extend_from_slice(piece));
            payload.give_back(&mut self.pool);
        }
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.take(&bytes);
            self.log.iter_mut().for_each(|log| log.push((id, bytes.len())));
            wire.is_paused |= pauses;
            if let Some((code, _)) = close {
                wire.closed.get_or_insert(code);
            }
        }
        self.apply(worker, commands);
        if let Some(id) = at_hand {
            self.tell_if_full(id);
        }
    }

    fn apply(&mut self, worker: u16, commands: Commands) {
        let mut touched = Vec::new();
        for command in commands.list {
            match command {
                Command::Deliver { to, head, tail, .. } => {
                    let id = ConnectionId { worker, key: to };
                    if let Some(wire) = self.wires.get_mut(&id) {
                        wire.take(&commands.heads[head.clone()]);
                        wire.take(&tail);
                        self.log.iter_mut().for_each(|log| log.push((id, head.len() + tail.len())));
                        touched.push(id);
                    }
                }
                Command::Close { connection, code, .. } => {
                    if let Some(wire) = self.wires.get_mut(&connection) {
                        wire.closed.get_or_insert(code);
                    }
                }
                Command::Resume { connection } => {
                    if let Some(wire) = self.wires.get_mut(&ConnectionId { worker, key: connection }) {
                        wire.is_paused = false;
                    }
                }
                Command::Post { worker: to, parcel } => {
                    self.parcels.entry((worker, to)).or_default().push_back(parcel);
                }
                Command::Send { .. } | Command::Broadcast { .. } => panic!("a broker needs none of these"),
            }
        }
        for id in touched {
            self.tell_if_full(id);
        }
    }

    fn tell_if_full(&mut self, id: ConnectionId) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        if wire.queued > self.queue_bytes_max && !wire.is_full {
            wire.is_full = true;
            self.call(id.worker, Some(id), |stomp, effects| stomp.on_full(id, effects));
        }
    }

    /// Opens a connection without a word; workers are counted from the first again beyond the last.
    pub(super) fn open(&mut self, worker: u16) -> ConnectionId {
        let worker = worker % u16::try_from(self.workers.len()).expect("few");
        let key = self.free.pop().unwrap_or_else(|| {
            self.next_slot += 1;
            Key { slot: self.next_slot, generation: 0 }
        });
        let id = ConnectionId { worker, key };
        self.wires.insert(id, Wire::default());
        self.call(worker, Some(id), |stomp, effects| stomp.on_open(id, effects));
        id
    }

    /// Opens a connection and a session of this version.
    pub(super) fn connect(&mut self, worker: u16, version: &str) -> ConnectionId {
        let id = self.open(worker);
        self.say(id, &format!("CONNECT\naccept-version:{version}\nhost:/\n\n\0"));
        let frames = self.frames(id);
        assert!(frames.len() == 1 && frames[0].starts_with("CONNECTED\n"), "{frames:?}");
        id
    }

    /// Has a client send bytes, and all workers do what follows until nothing is left.
    pub(super) fn say(&mut self, id: ConnectionId, text: &str) {
        self.whisper(id, text.as_bytes());
        self.run();
    }

    /// Has a client send bytes, and its worker take them, but nothing more.
    pub(super) fn whisper(&mut self, id: ConnectionId, bytes: &[u8]) {
        let wire = self.wires.get_mut(&id).expect("it is open");
        wire.unread.push_back(bytes.to_vec());
        self.read(id);
    }

    /// Has a worker take what a client has sent; says whether there was something.
    pub(super) fn read(&mut self, id: ConnectionId) -> bool {
        let mut has_read = false;
        while let Some(wire) = self.wires.get_mut(&id)
            && !wire.is_paused
            && !wire.is_full
            && wire.closed.is_none()
            && let Some(bytes) = wire.unread.pop_front()
        {
            self.call(id.worker, Some(id), |stomp, effects| stomp.on_bytes(id, &bytes, effects));
            has_read = true;
        }
        has_read
    }

    /// Ends a worker's turn.
    pub(super) fn end_turn(&mut self, worker: u16) {
        self.call(worker, None, Stomp::on_turn_end);
    }

    /// Does what a worker has due.
    pub(super) fn expire(&mut self, worker: u16) {
        let now_ms = self.now_ms;
        let due_ms = self.workers[usize::from(worker)].poll_timeout(now_ms);
        if due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.call(worker, None, Stomp::on_timeout);
        }
    }

    /// Hands a worker the first parcel that another one has posted to it.
    pub(super) fn hand_over(&mut self, from: u16, to: u16) -> bool {
        let parcel = self.parcels.get_mut(&(from, to)).and_then(VecDeque::pop_front);
        let Some(parcel) = parcel else { return false };
        self.call(to, None, |stomp, effects| stomp.on_parcel(parcel, effects));
        true
    }

    /// Lets everything happen that does not need time.
    pub(super) fn run(&mut self) {
        let workers = u16::try_from(self.workers.len()).expect("few");
        for _ in 0..10_000 {
            let mut is_quiet = true;
            for worker in 0..workers {
                self.end_turn(worker);
                self.expire(worker);
                self.end_turn(worker);
                for from in 0..workers {
                    while self.hand_over(from, worker) {
                        is_quiet = false;
                    }
                }
            }
            for id in self.wires.keys().copied().collect::<Vec<_>>() {
                is_quiet &= !self.drain(id);
                is_quiet &= !self.read(id);
            }
            let now_ms = self.now_ms;
            let has_due = |stomp: &mut Stomp| stomp.poll_timeout(now_ms).is_some_and(|due_ms| due_ms <= now_ms);
            is_quiet &= self.parcels.values().all(VecDeque::is_empty) && !self.workers.iter_mut().any(has_due);
            if is_quiet {
                return;
            }
        }
        panic!("it never ends");
    }

    /// A client takes what was sent to it, unless it is stuck; says whether it had been too much.
    pub(super) fn drain(&mut self, id: ConnectionId) -> bool {
        let Some(wire) = self.wires.get_mut(&id).filter(|wire| !wire.is_stuck) else { return false };
        wire.queued = 0;
        let was_full = mem::take(&mut wire.is_full);
        if was_full {
            self.call(id.worker, Some(id), |stomp, effects| stomp.on_drain(id, effects));
        }
        was_full
    }

    /// Lets time pass, tick by tick.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while self.now_ms < until {
            self.now_ms = (self.now_ms + 32).min(until);
            self.run();
        }
    }

    /// Cuts a connection.
    pub(super) fn cut(&mut self, id: ConnectionId) {
        self.wires.remove(&id).expect("it was open");
        self.call(id.worker, Some(id), |stomp, effects| stomp.on_close(id, CloseCause::Lost, effects));
        self.free.push(Key { slot: id.key.slot, generation: id.key.generation + 1 });
    }

    /// The frames that a client was sent since the last call, without their NULs; heart-beats are frames of one LF.
    pub(super) fn frames(&mut self, id: ConnectionId) -> Vec<String> {
        let bytes = mem::take(&mut self.wires.get_mut(&id).expect("it is open").received);
        split(bytes)
    }

    /// What all clients were sent since the last call, in order, as far as there is a log.
    pub(super) fn heard(&mut self) -> Vec<(ConnectionId, String)> {
        let mut heard = Vec::new();
        for (id, len) in self.log.iter_mut().flat_map(mem::take) {
            let Some(wire) = self.wires.get_mut(&id) else { continue };
            let bytes = wire.received.drain(..len).collect();
            heard.extend(split(bytes).into_iter().map(|frame| (id, frame)));
        }
        heard
    }

    /// The one frame that a client was sent since the last call.
    #[track_caller]
    pub(super) fn frame(&mut self, id: ConnectionId) -> String {
        let mut frames = self.frames(id);
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames.remove(0)
    }

    /// The ids of the receipts that a client was sent since the last call, and nothing else was sent.
    #[track_caller]
    pub(super) fn receipts(&mut self, id: ConnectionId) -> Vec<String> {
        let frames = self.frames(id);
        let ids = frames.iter().map(|frame| {
            let id = frame.strip_prefix("RECEIPT\nreceipt-id:").and_then(|rest| rest.strip_suffix("\n\n"));
            id.unwrap_or_else(|| panic!("{frames:?}")).to_owned()
        });
        ids.collect()
    }

    /// Says something that ends the session; what the ERROR says, which is the last frame.
    #[track_caller]
    pub(super) fn error(&mut self, id: ConnectionId, text: &str) -> String {
        self.say(id, text);
        let frames = self.frames(id);
        let last = frames.last().cloned().unwrap_or_default();
        assert!(last.starts_with("ERROR\n"), "{frames:?}");
        assert_eq!(self.wires[&id].closed, Some(CloseCode::PROTOCOL_ERROR), "{last}");
        header_of(&last, "message").expect("an ERROR says what is wrong").to_owned()
    }

    /// Whether the server has closed a connection, and how.
    pub(super) fn closed(&self, id: ConnectionId) -> Option<CloseCode> {
        self.wires[&id].closed
    }

    /// Whether all that a client has sent was handed to its worker.
    pub(super) fn has_read_all(&self, id: ConnectionId) -> bool {
        self.wires[&id].unread.is_empty()
    }

    /// Cuts all connections, and checks that they have left nothing.
    pub(super) fn end(&mut self) {
        self.is_backed_up = false;
        for id in self.wires.keys().copied().collect::<Vec<_>>() {
            self.cut(id);
        }
        self.run();
        for stomp in &self.workers {
            assert_eq!((stomp.client_count(), stomp.topic_subscription_count()), (0, 0));
            assert!(stomp.pressed.is_empty() && stomp.ready.is_empty() && stomp.desk.choked.is_empty());
        }
        assert!(self.shared.interests.is_empty(), "nobody is interested in anything");
        assert_eq!(self.pool.lent(), 0, "all blocks are back");
    }

    /// How many queues there are.
    pub(super) fn queue_count(&self) -> usize {
        self.workers.iter().map(Stomp::queue_count).sum()
    }

    /// The bodies of the messages that a client was sent since the last call, and nothing else was sent.
    pub(super) fn bodies(&mut self, id: ConnectionId) -> Vec<String> {
        let frames = self.frames(id);
        let messages = frames.iter().map(|frame| {
            assert!(frame.starts_with("MESSAGE\n"), "{frame}");
            body_of(frame).to_owned()
        });
        messages.collect()
    }
}

impl Wire {
    fn take(&mut self, bytes: &[u8]) {
        assert!(self.closed.is_none() || bytes.is_empty(), "nothing is written to a session that has ended");
        self.received.extend_from_slice(bytes);
        self.queued += bytes.len();
    }
}

fn split(bytes: Vec<u8>) -> Vec<String> {
    let text = String::from_utf8(bytes).expect("the tests send text");
    let (mut rest, mut frames) = (text.as_str(), Vec::new());
    while !rest.is_empty() {
        let (frame, next) = match rest.strip_prefix('\n') {
            Some(next) => ("\n", next),
            None => rest.split_once('\0').expect("frames are whole"),
        };
        frames.push(frame.to_owned());
        rest = next;
    }
    frames
}

pub(super) fn body_of(frame: &str) -> &str {
    frame.split_once("\n\n").expect("a head ends with an empty line").1
}

/// The value of a frame's first header of this name.
pub(super) fn header_of<'f>(frame: &'f str, name: &str) -> Option<&'f str> {
    let (head, _) = frame.split_once("\n\n")?;
    head.lines().skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
