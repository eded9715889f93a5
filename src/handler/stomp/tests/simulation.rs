//! Random clients of random clusters, and what holds whatever they do.
//!
//! Clients keep to the protocol, except that some say something wrong in the end. They send to topics and queues,
//! subscribe, acknowledge and decline, in transactions and without, get stuck, are cut off and leave. Parcels between
//! two workers come in order, those of others whenever. All that clients see is checked as it comes against a
//! [`Ledger`], and at the end a last consumer empties all queues.

mod finish;
mod ledger;
mod peer;
mod random;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};

use super::cluster::{Cluster, body_of, header_of};
use super::*;
use crate::proto::ws::CloseCode;
use ledger::{Delivery, Fate, Ledger, Rules};
use peer::{Effect, Peer, Pending, Subscription};
use random::Random;

const TOPICS: [&str; 4] = ["/topic/a", "/topic/a.b", "/topic/a.c", "/topic/d"];
const PATTERNS: [&str; 7] = ["/topic/a", "/topic/a.b", "/topic/d", "/topic/a.*", "/topic/a.#", "/topic/#", "/topic/*"];
/// Of these all consumers acknowledge.
const QUEUES: [&str; 3] = ["/queue/m0", "/queue/m1", "/queue/m2"];
const LOSSY_QUEUE: &str = "/queue/lossy";
const PEERS_MAX: usize = 7;

/// What a run is like.
struct Plan {
    /// Queues fill.
    is_small: bool,
    /// A client may be closed for being slow.
    closes: bool,
    /// Clients say wrong things.
    is_wild: bool,
    /// Once in so many steps something gets stuck.
    stuck_in: usize,
    steps: usize,
    rules: Rules,
}

struct World {
    is_told: bool,
    random: Random,
    plan: Plan,
    cluster: Cluster,
    peers: Vec<Peer>,
    ledger: Ledger,
}

#[test]
fn whatever_clients_do_no_message_is_lost_doubled_or_out_of_order() {
    for seed in 0..RUNS {
        let run = |is_told| panic::catch_unwind(AssertUnwindSafe(|| World::new(seed, is_told).run()));
        if run(false).is_err() {
            println!("seed {seed}:");
            let again = run(true);
            panic!("seed {seed} fails, and again: {}", again.is_err());
        }
    }
}

const RUNS: u64 = 2_500;

impl World {
    fn new(seed: u64, is_told: bool) -> Self {
        let mut random = Random(seed);
        let (is_small, closes, deliveries_max) =
            (random.one_in(4), random.one_in(3), random.choose(&[2, 3, 1_000, 1_000]));
        let mut options = Options {
            frames_per_turn_max: random.choose(&[1, 3, 512]),
            receipts_max: random.choose(&[1, 3, 1_024]),
            prefetch: random.choose(&[1, 3, 128]),
            backlog_max: random.choose(&[(2, 1 << 20), (100, 300), (4_096, 1 << 20)]),
            ..Options::default()
        };
        options.queues.messages_max = if is_small { random.choose(&[2, 5]) } else { 100_000 };
        options.queues.deliveries_max = deliveries_max;
        options.topic_queues.messages_max = random.choose(&[2, 1_024]);
        options.topic_queues.deliveries_max = deliveries_max;
        let policies: &[_] = if closes {
            &[SlowConsumer::Close, SlowConsumer::KeepLatest]
        } else {
            &[SlowConsumer::DropOldest, SlowConsumer::KeepLatest]
        };
        for pattern in ["a.#", "#"] {
            options.slow_consumers.add(pattern, random.choose(policies)).expect("it is one");
        }
        let workers = random.choose(&[1, 2, 3, 4]);
        let mut cluster = Cluster::new(workers, &options);
        cluster.log = Some(Vec::new());
        cluster.queue_bytes_max = random.choose(&[200, 2_000, 64 << 10]);
        let rules =
            Rules { buries: deliveries_max < 1_000, drops_dead: is_small, lossy: BTreeSet::from([LOSSY_QUEUE]) };
        let plan = Plan {
            is_small,
            closes,
            is_wild: random.one_in(3),
            stuck_in: random.choose(&[4, 20, 1_000]),
            steps: 20 + random.below(130),
            rules,
        };
        Self { is_told, random, plan, cluster, peers: Vec::new(), ledger: Ledger::default() }
    }

    fn run(mut self) {
        for _ in 0..self.plan.steps {
            self.step();
            self.observe();
        }
        self.finish();
    }

    fn step(&mut self) {
        self.ledger.now += 1;
        let worker = u16::try_from(self.random.below(self.cluster.workers.len())).expect("few");
        let other = u16::try_from(self.random.below(self.cluster.workers.len())).expect("few");
        match self.random.below(20) {
            0..10 => self.act(),
            10..13 => _ = self.cluster.hand_over(other, worker),
            13 | 14 => self.cluster.end_turn(worker),
            15 => self.cluster.expire(worker),
            16 if self.random.one_in(3) => self.quiet_down(),
            17 => self.cluster.now_ms += self.random.below(40) as u64,
            18 if self.random.one_in(self.plan.stuck_in) => self.cluster.is_backed_up ^= true,
            18 => self.cluster.is_backed_up = false,
            _ => self.catch_up(),
        }
    }

    /// Somebody reads, and is read.
    fn catch_up(&mut self) {
        let Some(peer) = self.pick() else { return };
        let id = self.peers[peer].id;
        if self.random.one_in(self.plan.stuck_in) {
            self.peers[peer].is_stuck ^= true;
            self.cluster.wires.get_mut(&id).expect("it is open").is_stuck = self.peers[peer].is_stuck;
        }
        self.cluster.read(id);
        self.cluster.drain(id);
    }

    /// All that goes on without the clients is done.
    fn quiet_down(&mut self) {
        self.cluster.is_backed_up = false;
        self.cluster.run();
    }

    /// Some client that has not ended.
    fn pick(&mut self) -> Option<usize> {
        let open: Vec<_> = (0..self.peers.len()).filter(|&peer| !self.peers[peer].has_ended).collect();
        (!open.is_empty()).then(|| self.random.choose(&open))
    }

    fn connect(&mut self) -> usize {
        let version = self.random.choose(&["1.0", "1.1", "1.2"]);
        let worker = u16::try_from(self.random.below(4)).expect("few");
        let id = self.cluster.open(worker);
        self.cluster.whisper(id, format!("CONNECT\naccept-version:{version}\nhost:/\n\n\0").as_bytes());
        self.cluster.end_turn(id.worker);
        self.peers.push(Peer::new(id, version));
        self.peers.len() - 1
    }

    /// A client does something.
    fn act(&mut self) {
        let open = self.peers.iter().filter(|peer| !peer.has_ended).count();
        if open == 0 || open < PEERS_MAX && self.random.one_in(8) {
            self.connect();
            return;
        }
        let Some(peer) = self.pick() else { return };
        if self.peers[peer].is_alive() {
            match self.random.below(40) {
                0..14 => self.send(peer),
                14..20 => self.subscribe(peer),
                20 | 21 => self.unsubscribe(peer),
                22..32 => self.settle(peer),
                32..37 => self.transact(peer),
                37 if self.random.one_in(3) => self.disconnect(peer),
                38 if self.plan.is_wild && self.random.one_in(2) => self.say_wrong(peer),
                _ => {}
            }
        }
        if self.random.one_in(60) {
            return self.cut(peer);
        }
        // Frames are said together, and in pieces.
        let out = self.peers[peer].out.len();
        match self.random.below(6) {
            0 => {}
            1 => {
                let len = self.random.below(out + 1);
                self.say(peer, len);
            }
            _ => self.say(peer, out),
        }
    }

    fn say(&mut self, peer: usize, len: usize) {
        let said: String = self.peers[peer].out.drain(..len).collect();
        if !said.is_empty() {
            self.tell(|| format!("{peer} says {said:?}"));
            self.cluster.whisper(self.peers[peer].id, said.as_bytes());
        }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{}", what());
        }
    }

    fn write(&mut self, peer: usize, head: &str, body: &str, effect: Effect) {
        let wants_receipt = self.random.one_in(2) || matches!(effect, Effect::Subscribe(_) | Effect::Unsubscribe(_));
        self.peers[peer].write(head, body, wants_receipt, effect);
    }

    /// The header that makes a frame part of a transaction, if one is open, and which one.
    fn some_transaction(&mut self, peer: usize) -> (String, Option<usize>) {
        if self.random.one_in(2) {
            return (String::new(), None);
        }
        match self.peers[peer].transactions.last() {
            Some((name, index)) => (format!("transaction:{name}\n"), Some(*index)),
            None => (String::new(), None),
        }
    }

    fn send(&mut self, peer: usize) {
        let all = [&TOPICS[..], &QUEUES, &[LOSSY_QUEUE]].concat();
        let destination = self.random.choose(&all);
        self.send_to(peer, destination);
    }

    fn send_to(&mut self, peer: usize, destination: &str) {
        let message = self.ledger.write(peer, destination);
        let (header, transaction) = self.some_transaction(peer);
        let head = format!("SEND\ndestination:{destination}\n{header}");
        if let Some(transaction) = transaction {
            self.ledger.transactions[transaction].messages.push(message);
            self.write(peer, &head, &format!("m{message}"), Effect::Nothing);
        } else {
            self.ledger.send(message);
            self.write(peer, &head, &format!("m{message}"), Effect::Send(message));
        }
    }

    fn subscribe(&mut self, peer: usize) {
        let destination = match self.random.below(3) {
            0 => self.random.choose(&PATTERNS),
            _ => self.random.choose(&[QUEUES[0], QUEUES[1], QUEUES[2], LOSSY_QUEUE]),
        };
        let is_strict = QUEUES.contains(&destination);
        let modes = ["client", "client-individual", "auto"];
        let mode = self.random.choose(&modes[..if is_strict { 2 } else { 3 }]);
        let it = &self.peers[peer];
        let is_nameless =
            it.version == "1.0" && !it.subscriptions.iter().any(|other| other.name.is_none() && !other.is_gone);
        // What comes by a pattern names no subscription.
        let is_nameless = is_nameless && !destination.contains(['*', '#']);
        let name = (!is_nameless).then(|| it.new_name());
        let mut head = format!("SUBSCRIBE\ndestination:{destination}\nack:{mode}\n");
        if let Some(name) = &name {
            writeln!(head, "id:{name}").expect("there is memory");
        }
        if self.random.one_in(2) {
            writeln!(head, "prefetch-count:{}", self.random.choose(&[0, 1, 2, 50])).expect("there is memory");
        }
        self.peers[peer].subscriptions.push(Subscription::new(name, destination, mode));
        let index = self.peers[peer].subscriptions.len() - 1;
        self.write(peer, &head, "", Effect::Subscribe(index));
    }

    fn unsubscribe(&mut self, peer: usize) {
        let it = &self.peers[peer];
        let may_end = |index: &usize| {
            let it = &it.subscriptions[*index];
            !it.is_ended && it.pending.iter().all(|pending| pending.transaction.is_none())
        };
        let open: Vec<_> = (0..it.subscriptions.len()).filter(may_end).collect();
        if open.is_empty() {
            return;
        }
        let index = self.random.choose(&open);
        let subscription = &mut self.peers[peer].subscriptions[index];
        subscription.is_ended = true;
        for pending in subscription.pending.drain(..) {
            self.ledger.release(pending.message, (peer, index));
        }
        let head = match &subscription.name {
            Some(name) => format!("UNSUBSCRIBE\nid:{name}\n"),
            None => format!("UNSUBSCRIBE\ndestination:{}\n", subscription.destination),
        };
        self.write(peer, &head, "", Effect::Unsubscribe(index));
    }

    /// Acknowledges something, or declines it.
    fn settle(&mut self, peer: usize) {
        let it = &self.peers[peer].subscriptions;
        let open: Vec<_> = (0..it.len()).filter(|&index| !it[index].pending.is_empty()).collect();
        if open.is_empty() {
            return;
        }
        let index = self.random.choose(&open);
        let at = self.random.below(self.peers[peer].subscriptions[index].pending.len());
        let choice = self.random.below(8);
        self.settle_at(peer, index, at, choice);
    }

    fn settle_at(&mut self, peer: usize, index: usize, at: usize, choice: usize) {
        let (header, transaction) = self.some_transaction(peer);
        let it = &mut self.peers[peer];
        let subscription = &mut it.subscriptions[index];
        let first = if subscription.mode == "client" { 0 } else { at };
        if subscription.pending.range(first..=at).any(|pending| pending.transaction.is_some()) {
            return;
        }
        let name = &subscription.pending[at].name;
        let mut head = match (it.version, &subscription.name) {
            ("1.2", _) => format!("\nid:{name}\n{header}"),
            ("1.1", Some(id)) => format!("\nmessage-id:{name}\nsubscription:{id}\n{header}"),
            _ => format!("\nmessage-id:{name}\n{header}"),
        };
        let fate = match choice {
            0 => Fate::Returned,
            1 => Fate::Dead,
            _ => Fate::Acknowledged,
        };
        head.insert_str(0, if fate == Fate::Acknowledged { "ACK" } else { "NACK" });
        if fate == Fate::Dead {
            head.push_str("requeue:false\n");
        }
        let messages: Vec<_> = subscription.pending.range(first..=at).map(|pending| pending.message).collect();
        if fate == Fate::Returned {
            subscription.returned.extend(&messages);
        }
        let is_of_topic = subscription.is_of_topic();
        if transaction.is_some() {
            let covered = subscription.pending.range_mut(first..=at);
            covered.for_each(|pending| pending.transaction = transaction);
        } else {
            subscription.pending.drain(first..=at);
        }
        let settled = if is_of_topic { Vec::new() } else { messages };
        if let Some(transaction) = transaction {
            let settlements = settled.into_iter().map(|message| (message, fate));
            self.ledger.transactions[transaction].settlements.extend(settlements);
            self.write(peer, &head, "", Effect::Nothing);
        } else {
            settled.iter().for_each(|&message| self.ledger.settle(message, fate, None));
            self.write(peer, &head, "", Effect::Settle(settled, fate));
        }
    }

    /// Begins, commits or aborts a transaction.
    fn transact(&mut self, peer: usize) {
        let it = &mut self.peers[peer];
        if it.transactions.is_empty() || self.random.one_in(4) {
            it.begun += 1;
            let name = format!("t{}", it.begun % 7);
            if it.transactions.iter().all(|(other, _)| *other != name) {
                it.transactions.push((name.clone(), self.ledger.begin()));
                self.write(peer, &format!("BEGIN\ntransaction:{name}\n"), "", Effect::Nothing);
            }
            return;
        }
        let is_kept = !self.random.one_in(4);
        self.end_transaction(peer, is_kept);
    }

    fn end_transaction(&mut self, peer: usize, is_kept: bool) {
        let it = &mut self.peers[peer];
        let Some((name, index)) = it.transactions.pop() else { return };
        let is_of_it = |pending: &Pending| pending.transaction == Some(index);
        for subscription in &mut it.subscriptions {
            if is_kept {
                subscription.pending.retain(|pending| !is_of_it(pending));
            }
            subscription.pending.iter_mut().filter(|it| is_of_it(it)).for_each(|it| it.transaction = None);
        }
        if is_kept {
            self.ledger.commit(index);
            self.write(peer, &format!("COMMIT\ntransaction:{name}\n"), "", Effect::Commit(index));
        } else {
            self.write(peer, &format!("ABORT\ntransaction:{name}\n"), "", Effect::Nothing);
        }
    }

    fn disconnect(&mut self, peer: usize) {
        self.peers[peer].write("DISCONNECT\n", "", true, Effect::Nothing);
        self.peers[peer].is_leaving = true;
        self.give_up(peer);
        // What follows is not processed.
        self.send_for_nothing(peer);
    }

    /// Says something that ends the session, and something more.
    fn say_wrong(&mut self, peer: usize) {
        let wrong = self.random.choose(&[
            "COMMIT\ntransaction:none\n",
            "ABORT\ntransaction:none\n",
            "SEND\ndestination:/nowhere\n",
            "UNSUBSCRIBE\nid:none\n",
            "ACK\nid:77-77777-7\nmessage-id:1-1-77-77777\nsubscription:none\n",
            "CONNECT\n",
            "NONSENSE\n",
        ]);
        self.peers[peer].write(wrong, "", true, Effect::Nothing);
        self.peers[peer].is_doomed = true;
        self.give_up(peer);
        self.send_for_nothing(peer);
    }

    /// A message that nobody must get.
    fn send_for_nothing(&mut self, peer: usize) {
        let message = self.ledger.write(peer, QUEUES[0]);
        self.peers[peer].write("SEND\ndestination:/queue/m0\n", &format!("m{message}"), false, Effect::Nothing);
    }

    /// A client has lost all that it has.
    fn give_up(&mut self, peer: usize) {
        for (index, subscription) in self.peers[peer].subscriptions.iter_mut().enumerate() {
            for pending in subscription.pending.drain(..) {
                self.ledger.release(pending.message, (peer, index));
            }
        }
    }

    fn cut(&mut self, peer: usize) {
        self.tell(|| format!("{peer} is cut"));
        let id = self.peers[peer].id;
        let is_all = self.peers[peer].out.is_empty() && self.cluster.has_read_all(id);
        self.observe();
        // What has come whole is processed.
        if is_all && !self.peers[peer].has_ended && !self.peers[peer].is_doomed && !self.plan.is_small {
            self.confirm(peer, u32::MAX);
        }
        self.give_up(peer);
        if !self.peers[peer].has_ended {
            self.cluster.cut(id);
        }
        self.peers[peer].has_ended = true;
    }
}
