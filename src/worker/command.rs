//! What handlers and other threads ask for: messages to any connection, closes, the stop.

use std::mem;

use crate::buf::SharedFrame;
use crate::handler::{CloseCause, Command, Commands, Handler, Transport};
use crate::proto::ws::{CloseCode, MessageKind};
use crate::ring::Driver;
use crate::slab::Key;
use crate::worker::connection::Phase;
use crate::worker::context::Context;
use crate::worker::pause::Pause;
use crate::worker::{Mail, Worker};

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Does what handlers asked for, then tells of queues that are full by that.
    ///
    /// Some of it calls a handler, which may ask for more, but this ends: a connection closes once, is full once
    /// until its queue has drained, and no queue drains here; and what goes on after a pause has had its share of
    /// the turn some time.
    pub(super) fn apply_commands(&mut self) {
        loop {
            if !self.context.commands.list.is_empty() {
                self.apply_list();
            } else if let Some(key) = self.context.resumed.pop_front() {
                self.resume(key);
            } else if let Some(key) = self.context.full.pop_front() {
                self.handle_full(key);
            } else {
                return;
            }
        }
    }

    fn apply_list(&mut self) {
        let Commands { mut list, mut heads } = mem::take(&mut self.context.commands);
        for command in list.drain(..) {
            self.apply(command, &heads);
        }
        heads.clear();
        // Keeps the allocations, unless handlers have asked for more meanwhile.
        if self.context.commands.list.is_empty() {
            self.context.commands = Commands { list, heads };
        }
    }

    /// Tells the handler of a queue that has come to be over its bound.
    fn handle_full(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.phase == Phase::Open && connection.is_full {
            let mut active = connection.active.take().unwrap_or_else(|| self.context.take_active(connection.deflate));
            connection.call(key, &mut active, &mut self.context, H::on_full);
            connection.active = Some(active);
            self.touch(key);
        }
    }

    /// Takes what other threads have left.
    pub(super) fn handle_woken(&mut self) {
        let mailbox = self.mailbox.clone();
        mailbox.open();
        // What comes while this runs rings the bell again.
        for _ in 0..mailbox.len() {
            match mailbox.take() {
                Some(Mail::Send { to, frame }) => self.publish(to, &frame),
                Some(Mail::Broadcast { frame }) => self.publish_to_all(&frame),
                Some(Mail::Close { key, code, reason }) => {
                    self.close_connection(key, code, &reason, CloseCause::Handler(code));
                }
                Some(Mail::Parcel(parcel)) => self.handle_parcel(parcel),
                None => break,
            }
        }
        if mailbox.is_stopping() && !mem::replace(&mut self.stopping, true) {
            self.stop();
        }
        self.apply_commands();
    }

    /// Does what one command asks for; `heads` are those of all that came with it.
    fn apply(&mut self, command: Command, heads: &[u8]) {
        let here = self.context.index;
        match command {
            Command::Send { to, frame } if to.worker == here => self.publish(to.key, &frame),
            Command::Send { to, frame } => self.post(to.worker, Mail::Send { to: to.key, frame }),
            Command::Close { connection, code, reason } if connection.worker == here => {
                self.close_connection(connection.key, code, &reason, CloseCause::Handler(code));
            }
            Command::Close { connection, code, reason } => {
                self.post(connection.worker, Mail::Close { key: connection.key, code, reason });
            }
            Command::Deliver { to, kind, head, tail } => self.deliver(to, kind, &heads[head], &tail),
            Command::Resume { connection } => self.context.resumed.push_back(connection),
            Command::Post { worker, parcel } => self.post_parcel(worker, parcel),
            Command::Broadcast { frame } => {
                self.publish_to_all(&frame);
                for peer in (0..).take(self.peers.len()).filter(|&peer| peer != here) {
                    self.post(peer, Mail::Broadcast { frame: frame.clone() });
                }
            }
        }
    }

    /// Leaves something with another worker, and wakes it once for all that it has not seen yet.
    fn post(&mut self, worker: u16, mail: Mail) {
        let Some(peer) = self.peers.get(usize::from(worker)) else { return };
        match peer.mailbox.post(mail) {
            Ok(true) => self.driver.wake(&peer.ring),
            Ok(false) => {}
            Err(_) => self.context.counters.mail_dropped += 1,
        }
    }

    fn publish_to_all(&mut self, frame: &SharedFrame) {
        let mut receivers = mem::take(&mut self.receivers);
        receivers.extend(self.connections.keys());
        for key in receivers.drain(..) {
            self.publish(key, frame);
        }
        self.receivers = receivers;
    }

    /// Queues a shared frame for a connection, or closes it if it can't keep up. Frames are nothing to a stream.
    fn publish(&mut self, key: Key, frame: &SharedFrame) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.phase != Phase::Open || connection.transport == Transport::Stream {
            return;
        }
        if connection.queued_bytes() > self.context.options.send_queue_bytes_max {
            return self.close_slow(key);
        }
        let active = connection.active.get_or_insert_with(|| self.context.take_active(connection.deflate));
        let Context { compression, counters, now_ms, .. } = &mut self.context;
        let compressed = connection
            .deflate
            .and_then(|agreement| compression.shared(key, agreement, frame, *now_ms, &mut counters.deflates_skipped));
        active.queue.push_shared(&mut self.context.pool, compressed.as_ref().unwrap_or(frame));
        self.touch(key);
    }

    /// Queues a message in two parts for a connection, or closes it if it can't keep up by far: that it can't is
    /// for the handler to see.
    fn deliver(&mut self, to: Key, kind: MessageKind, head: &[u8], tail: &SharedFrame) {
        let Some(connection) = self.connections.get_mut(to) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        let mut active = connection.active.take().unwrap_or_else(|| self.context.take_active(connection.deflate));
        self.context.deliver(to, connection.outlet(&mut active), kind, head, tail);
        connection.note_full(to, &active, &mut self.context);
        connection.active = Some(active);
        self.touch(to);
    }

    /// Goes on with a connection that the handler has paused. What follows in its messages does not overtake what is
    /// still to be delivered to it: all of that was done before.
    fn resume(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.pause == Some(Pause::Handler) {
            connection.resume(key, &mut self.context);
            self.touch(key);
        }
    }

    fn close_slow(&mut self, key: Key) {
        self.context.counters.slow_consumers += 1;
        self.close_connection(key, CloseCode::POLICY_VIOLATION, "too slow", CloseCause::SlowConsumer);
    }

    pub(super) fn close_connection(&mut self, key: Key, code: CloseCode, reason: &str, cause: CloseCause) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.phase == Phase::Open {
            let mut active = connection.active.take().unwrap_or_else(|| self.context.take_active(connection.deflate));
            connection.start_close(key, &mut active, code, reason, cause, &mut self.context);
            connection.active = Some(active);
            self.touch(key);
        }
    }

    /// Ends all connections at once.
    pub(super) fn cut_off(&mut self) {
        self.stopping = true;
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            if let Some(connection) = self.connections.get_mut(key)
                && connection.phase != Phase::Dying
            {
                connection.die(key, CloseCause::Shutdown, &mut self.context);
                self.touch(key);
                self.apply_commands();
            }
        }
    }

    /// Says goodbye to everybody. New connections are not accepted any more.
    fn stop(&mut self) {
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            match connection.phase {
                Phase::Open => {
                    self.close_connection(key, CloseCode::GOING_AWAY, "server stops", CloseCause::Shutdown);
                }
                Phase::Upgrading => {
                    connection.die(key, CloseCause::Shutdown, &mut self.context);
                    self.touch(key);
                }
                Phase::Closing | Phase::Finishing | Phase::Dying => {}
            }
        }
    }
}
