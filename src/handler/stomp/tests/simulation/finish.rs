//! What clients see, and the end of a run.

use std::collections::BTreeMap;

use super::*;

impl World {
    /// Looks at all that was sent to clients.
    pub(super) fn observe(&mut self) {
        for (id, frame) in self.cluster.heard() {
            let Some(peer) = self.peers.iter().rposition(|peer| peer.id == id && !peer.has_ended) else { continue };
            self.tell(|| format!("{peer} gets {frame:?}"));
            self.take(peer, &frame);
        }
        for peer in 0..self.peers.len() {
            let it = &self.peers[peer];
            let Some(closed) = self.cluster.wires.get(&it.id).and_then(|wire| wire.closed) else { continue };
            if !it.has_ended {
                self.tell(|| format!("{peer} is closed: {closed:?}"));
                let has_left = it.is_leaving && it.receipts.is_empty();
                assert!(if it.has_failed { closed != CloseCode::NORMAL } else { has_left }, "it is closed too soon");
                self.cluster.cut(it.id);
                self.give_up(peer);
                self.peers[peer].has_ended = true;
            }
        }
    }

    fn take(&mut self, peer: usize, frame: &str) {
        match frame.split_once('\n').map(|(command, _)| command) {
            Some("CONNECTED") => {}
            Some("RECEIPT") => {
                let id = header_of(frame, "receipt-id").and_then(|id| id.strip_prefix('r'));
                let number: u32 = id.and_then(|id| id.parse().ok()).expect("it was asked for");
                assert_eq!(self.peers[peer].receipts.pop_front(), Some(number), "receipts come in order");
                self.confirm(peer, number);
            }
            Some("MESSAGE") => self.take_message(peer, frame),
            Some("ERROR") => {
                let it = &mut self.peers[peer];
                let may_fail = self.plan.is_small || self.plan.closes || it.is_doomed;
                assert!(may_fail && !it.has_failed, "peer {peer}: {frame}");
                it.has_failed = true;
                self.give_up(peer);
            }
            _ => panic!("peer {peer} got {frame:?}"),
        }
    }

    /// All frames up to this one were processed.
    pub(super) fn confirm(&mut self, peer: usize, number: u32) {
        while let Some((frame, effect)) = self.peers[peer].effects.pop_front_if(|(frame, _)| *frame <= number) {
            match effect {
                Effect::Nothing => {}
                Effect::Send(message) => {
                    let is_refused = self.plan.is_small
                        && frame < number
                        && self.ledger.messages[message].destination.starts_with("/queue/");
                    self.ledger.messages[message].is_certain |= !is_refused;
                }
                Effect::Settle(messages, fate) => {
                    if fate != Fate::Returned {
                        messages.into_iter().for_each(|message| self.ledger.confirm(message, None));
                    }
                }
                Effect::Commit(transaction) => self.ledger.confirm_commit(transaction),
                Effect::Subscribe(index) => {
                    self.peers[peer].subscriptions[index].active_at.get_or_insert(self.ledger.now);
                }
                Effect::Unsubscribe(index) => self.peers[peer].subscriptions[index].is_gone = frame == number,
            }
        }
    }

    fn take_message(&mut self, peer: usize, frame: &str) {
        let destination = header_of(frame, "destination").expect("every MESSAGE has one");
        let is_redelivered = header_of(frame, "redelivered") == Some("true");
        let number: usize = body_of(frame)[1..].parse().expect("the number of the message");
        let message = &self.ledger.messages[number];
        assert_eq!(message.destination, destination);
        let (publisher, order, is_sent) = (message.publisher, message.order, message.is_sent);
        let it = &mut self.peers[peer];
        assert!(!it.has_failed, "nothing follows an ERROR");
        let is_held = it.is_alive();
        let index = it.find(header_of(frame, "subscription"), destination);
        let name = header_of(frame, if it.version == "1.2" { "ack" } else { "message-id" }).map(str::to_owned);
        assert!(header_of(frame, "message-id").is_some());
        let subscription = &mut it.subscriptions[index];
        let acknowledges = subscription.acknowledges();
        assert_eq!(header_of(frame, "ack").is_some(), it.version == "1.2" && acknowledges);
        assert!(subscription.wants(destination), "m{number} is not for {subscription:?}");
        let is_held = is_held && !subscription.is_ended && acknowledges;
        if let (true, Some(name)) = (is_held, name) {
            subscription.pending.push_back(Pending { name, message: number, transaction: None });
        }
        if !is_redelivered {
            let last = subscription.last.insert(publisher, order);
            assert!(last < Some(order), "m{number} of {publisher} comes too late: {subscription:?}");
        }
        if subscription.is_of_topic() {
            let dropped = header_of(frame, "dropped").map(|count| count.parse::<usize>().expect("a number"));
            subscription.dropped += dropped.unwrap_or(0);
            let is_new = subscription.seen.insert(number);
            let is_again = is_redelivered && subscription.returned.contains(&number);
            assert!(is_sent && (is_new || is_again), "m{number} comes twice: {subscription:?}");
        } else {
            let to = (peer, index);
            self.ledger.deliver(&Delivery { message: number, to, acknowledges, is_redelivered, is_held });
        }
    }

    /// Ends everything and looks at what is left.
    pub(super) fn finish(mut self) {
        self.settle_down();
        self.mark();
        for peer in 0..self.peers.len() {
            if !self.peers[peer].has_ended {
                self.check_topics(peer);
            }
        }
        for peer in 0..self.peers.len() {
            if self.peers[peer].has_ended {
                continue;
            }
            if self.random.one_in(2) {
                self.cut(peer);
            } else if self.peers[peer].is_alive() {
                self.disconnect(peer);
                self.say(peer, self.peers[peer].out.len());
            }
        }
        self.quiet_down();
        self.observe();
        assert!(self.peers.iter().all(|peer| peer.has_ended), "who leaves is let go");
        let left = self.empty_queues();
        self.ledger.check(&left, &self.plan.rules);
        self.cluster.end();
        assert_eq!(self.cluster.queue_count(), 0, "no queue is left");
    }

    /// Everything that was said is heard, and everything of topics acknowledged.
    fn settle_down(&mut self) {
        for peer in 0..self.peers.len() {
            if self.peers[peer].has_ended {
                continue;
            }
            self.peers[peer].is_stuck = false;
            let id = self.peers[peer].id;
            self.cluster.wires.get_mut(&id).expect("it is open").is_stuck = false;
            while self.peers[peer].is_alive() && !self.peers[peer].transactions.is_empty() {
                let is_kept = self.random.one_in(2);
                self.end_transaction(peer, is_kept);
            }
            self.say(peer, self.peers[peer].out.len());
        }
        loop {
            self.ledger.now += 1;
            self.quiet_down();
            self.observe();
            let mut is_done = true;
            for peer in 0..self.peers.len() {
                is_done &= !self.acknowledge_topics(peer);
            }
            if is_done {
                break;
            }
        }
        for (index, peer) in self.peers.iter().enumerate().filter(|(_, peer)| !peer.has_ended) {
            assert!(!peer.is_doomed && !peer.is_leaving, "peer {index} is still there");
            assert!(peer.receipts.is_empty() && self.cluster.has_read_all(peer.id), "peer {index} waits: {peer:?}");
        }
        for peer in 0..self.peers.len() {
            if !self.peers[peer].has_ended && !self.plan.is_small {
                self.confirm(peer, u32::MAX);
            }
        }
    }

    fn acknowledge_topics(&mut self, peer: usize) -> bool {
        if !self.peers[peer].is_alive() {
            return false;
        }
        let mut has_any = false;
        for index in 0..self.peers[peer].subscriptions.len() {
            while self.peers[peer].subscriptions[index].is_of_topic()
                && let Some(last) = self.peers[peer].subscriptions[index].pending.len().checked_sub(1)
            {
                self.settle_at(peer, index, last, 7);
                has_any = true;
            }
        }
        self.say(peer, self.peers[peer].out.len());
        has_any
    }

    /// Sends a last message to each topic: it tells who has missed something.
    fn mark(&mut self) {
        let marker = self.connect();
        // Each subscription gets one of these.
        for topic in ["/topic/a", "/topic/a.b", "/topic/d"] {
            self.send_to(marker, topic);
            self.settle_down();
        }
    }

    /// All that was sent while a client was subscribed has come, or it was told how much has not.
    fn check_topics(&self, peer: usize) {
        for subscription in &self.peers[peer].subscriptions {
            let Some(active_at) = subscription.active_at.filter(|_| !subscription.is_ended) else { continue };
            let is_missing = |(index, message): &(usize, &ledger::Message)| {
                message.is_certain
                    && message.sent_at > active_at
                    && subscription.wants(&message.destination)
                    && !subscription.seen.contains(index)
            };
            let missing: Vec<_> = self.ledger.messages.iter().enumerate().filter(is_missing).collect();
            if subscription.is_of_topic() {
                assert!(missing.len() <= subscription.dropped, "peer {peer} misses {missing:?}: {subscription:?}");
            }
        }
    }

    /// A last consumer gets all that is left: each message, and whether it is a dead letter.
    fn empty_queues(&mut self) -> BTreeMap<usize, bool> {
        self.cluster.log = None;
        let consumer = self.cluster.connect(0, "1.2");
        let mut left = BTreeMap::new();
        for (id, queue) in QUEUES.into_iter().chain([LOSSY_QUEUE, DEAD_LETTERS]).enumerate() {
            let ack = "ack:client-individual\nprefetch-count:10";
            self.cluster.say(consumer, &format!("SUBSCRIBE\nid:{id}\ndestination:{queue}\n{ack}\n\n\0"));
        }
        loop {
            let frames = self.cluster.frames(consumer);
            if frames.is_empty() {
                break;
            }
            for frame in frames {
                self.tell(|| format!("the last one gets {frame:?}"));
                let number: usize = body_of(&frame)[1..].parse().expect("the number of the message");
                let is_dead = header_of(&frame, "destination") == Some(DEAD_LETTERS);
                let earlier = left.insert(number, is_dead);
                // Of a topic each subscription may have made one.
                let is_of_topic = self.ledger.messages[number].destination.starts_with("/topic/");
                assert!(earlier.is_none() || is_of_topic && is_dead, "m{number} is there twice");
                let ack = header_of(&frame, "ack").expect("it acknowledges");
                self.cluster.say(consumer, &format!("ACK\nid:{ack}\n\n\0"));
            }
        }
        left
    }
}

const DEAD_LETTERS: &str = "/queue/DLQ";
