//! What a connection says and hears in STOMP.

use std::mem;

use crate::load::Validation;
use crate::load::active::Active;
use crate::load::broadcast::{MARK_LEN, Mark};
use crate::load::connection::{Connection, Phase};
use crate::load::context::Context;
use crate::load::fault::Fault;
use crate::load::message::Message;
use crate::load::part::Part;
use crate::load::payload::Piece;
use crate::load::stomp::client::Heard;
use crate::load::stomp::flow::Wrong;
use crate::load::stomp::{Client, StompOptions};
use crate::load::url::Transport;
use crate::load::{Mode, Plan};
use crate::proto::ws::HEADER_LEN_MAX;

/// What the frames of a turn are expected to take at most in one block.
const ROOM_MAX: usize = 16 << 10;
/// The head of a SEND, about.
const SEND_HEAD_LEN: usize = 128;

impl Connection {
    /// Begins the session.
    pub(in crate::load) fn greet(&mut self, context: &mut Context) {
        let plan = context.plan.clone();
        write_frame(self.wake(context), context, |out| Client::write_connect(stomp_of(&plan), out));
    }

    /// Takes bytes of frames: those of a WebSocket message, or what arrived over TCP.
    pub(in crate::load) fn receive_frames(&mut self, mut bytes: &[u8], context: &mut Context) {
        let Some(mut client) = self.ledger.as_mut().and_then(|ledger| ledger.stomp.take()) else { return };
        while matches!(self.phase, Phase::Greeting | Phase::Open | Phase::Closing) {
            match client.receive(&mut bytes, &mut context.pool) {
                Ok(Some(Heard::Connected)) => {}
                Ok(Some(heard)) => {
                    self.handle_heard(&heard, context);
                    continue;
                }
                Ok(None) => break,
                Err(fault) => {
                    self.fail(fault, context);
                    continue;
                }
            }
            let plan = context.plan.clone();
            write_frame(self.wake(context), context, |out| client.write_subscribe(plan.mode, stomp_of(&plan), out));
        }
        if self.phase == Phase::Dying {
            client.end(&mut context.pool);
        }
        let ledger = self.ledger.as_mut().expect("the client was taken from it");
        ledger.stomp = Some(client);
    }

    /// Sends a message that begins with a mark.
    pub(in crate::load) fn publish(&mut self, mark: &[u8], piece: Piece, context: &mut Context) {
        let ledger = self.ledger.as_mut().expect("publishers have a ledger");
        context.flow.publish(ledger.publisher);
        let mut body = mem::take(&mut context.body);
        body.clear();
        body.extend_from_slice(mark);
        body.extend_from_slice(context.content.bytes(piece));
        let (active, client) = (self.active.as_mut(), ledger.stomp.as_ref());
        let (active, client) = active.zip(client).expect("it was just woken, and speaks STOMP");
        write_frame(active, context, |out| client.write_send(&body, out));
        context.body = body;
    }

    /// One more of its messages has arrived wherever it should.
    pub(in crate::load) fn handle_complete(&mut self, context: &mut Context) -> bool {
        let expected = self.active.as_mut().and_then(|active| active.expected.pop_front());
        if expected.is_some() {
            *context.awaited(self.part) -= 1;
            self.since_ns = context.now_ns;
        }
        expected.is_some() && self.phase == Phase::Open
    }

    /// Asks the server to confirm all that was sent to it, and to end the connection.
    pub(in crate::load) fn disconnect(&mut self, context: &mut Context) {
        let Some(mut client) = self.ledger.as_mut().and_then(|ledger| ledger.stomp.take()) else { return };
        write_frame(self.wake(context), context, |out| client.write_disconnect(out));
        self.ledger.as_mut().expect("the client was taken from it").stomp = Some(client);
    }

    fn handle_heard(&mut self, heard: &Heard<'_>, context: &mut Context) {
        match heard {
            Heard::Connected => {}
            Heard::Ready => self.handle_opened(context),
            Heard::Disconnected => self.die(context),
            Heard::Message { body, ack } => {
                if context.plan.mode == Mode::StompQueue {
                    let Some(id) = ack else { return self.fail(Fault::NoAck, context) };
                    write_frame(self.wake(context), context, |out| Client::write_ack(id, out));
                }
                if self.phase != Phase::Closing {
                    self.handle_published(body, context);
                }
            }
        }
    }

    /// Takes a message of a publisher. What is wrong with it is counted, and the connection goes on.
    fn handle_published(&mut self, body: &[u8], context: &mut Context) {
        let publishers = context.plan.publishers;
        let Some((mark, rest)) = Mark::find(body).filter(|(mark, _)| mark.publisher < publishers) else {
            return context.faults.add(Fault::WrongDelivery, 1);
        };
        let is_checked = context.plan.validation == Validation::Full;
        if is_checked && !is_whole(mark, rest, context) {
            return context.faults.add(Fault::WrongDelivery, 1);
        }
        let ledger = self.ledger.as_mut().expect("who receives has a ledger");
        let next = &mut ledger.next_sequences[mark.publisher as usize];
        let ahead = mark.sequence.wrapping_sub(*next);
        let is_behind = ahead >= 1 << 31;
        // What is left out on the way to a consumer, another has got; a subscriber gets all.
        let is_topic = context.plan.mode == Mode::StompTopic;
        if is_checked && (is_behind || is_topic && ahead > 0) {
            context.faults.add(Fault::Disorder, 1);
        }
        if !is_behind {
            *next = mark.sequence.wrapping_add(1);
        }
        match context.flow.arrive(mark.publisher, mark.sequence) {
            Err(Wrong::NeverSent) => return context.faults.add(Fault::WrongDelivery, 1),
            Err(Wrong::Again) if !is_topic => return context.faults.add(Fault::Doubled, 1),
            Err(Wrong::Again) | Ok(()) => {}
        }
        if is_topic && is_behind {
            return;
        }
        ledger.delivered += 1;
        context.totals.received += 1;
        context.totals.received_bytes += body.len() as u64;
        context.record(mark.sent_ns, body.len());
    }
}

impl Plan {
    /// Where the connection with this number over all threads sends to or receives from.
    pub(in crate::load) fn destination(&self, number: u32, part: Part) -> Option<String> {
        let number = if part == Part::Publisher { number } else { number.checked_sub(self.publishers)? };
        self.stomp.as_ref().map(|stomp| stomp.destination(self.mode, number))
    }
}

fn stomp_of(plan: &Plan) -> &StompOptions {
    plan.stomp.as_ref().expect("whoever speaks STOMP has a plan with its options")
}

/// Whether a message is as it was sent.
fn is_whole(mark: Mark, rest: &[u8], context: &Context) -> bool {
    let room = context.plan.sizes.max() - MARK_LEN;
    u32::try_from(rest.len()).is_ok_and(|len| len <= room && context.content.bytes(mark.piece(len)) == rest)
}

/// Appends a frame to what is sent at the end of the turn: over WebSocket as a message of its own, since some
/// servers read no more than one frame of a message.
fn write_frame(active: &mut Active, context: &mut Context, write: impl FnOnce(&mut Vec<u8>)) {
    let mut frame = mem::take(&mut context.frame);
    frame.clear();
    write(&mut frame);
    let Context { plan, content, pool, random, .. } = context;
    match plan.url.transport() {
        Transport::Tcp => active.queue.write(pool, frame.len(), |out| out.extend_from_slice(&frame)),
        Transport::WebSocket => {
            let fragments = plan.fragments;
            let message = Message { kind: content.kind(), head: &frame, body: &[], compressed: false, fragments };
            let each = plan.sizes.max() as usize + SEND_HEAD_LEN + HEADER_LEN_MAX;
            message.write(&mut active.queue, pool, random, (plan.depth as usize * each).min(ROOM_MAX));
        }
    }
    context.frame = frame;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use crate::load::payload::Content;
    use crate::load::random::Random;
    use crate::load::recorder::Recorder;
    use crate::load::share::Share;

    const RECEIPT: &[u8] = b"RECEIPT\nreceipt-id:subscribed\n\n\0";

    /// A connection over TCP that is open: a publisher has number 0.
    fn open(mode: Mode, number: u32) -> (Connection, Context) {
        let plan = Plan { connections: 2, ..Plan::new("tcp://localhost".parse().unwrap(), mode) };
        let content = Content::new(plan.kind, plan.sizes.max(), false, &mut Random::new(1));
        let (plan, recorder) = (Arc::new(plan), Recorder::new(channel().0));
        let part = Part::of(&plan, Share { index: 0, threads: 1 }, number);
        let mut connection = Connection::new(number, part, &plan);
        let mut context = Context::new(plan, Arc::new(content), Random::new(2), recorder);
        connection.begin(&mut context);
        assert!(sent(&mut connection, &mut context).starts_with("CONNECT\naccept-version:1.2\n"));
        connection.receive(&mut b"CONNECTED\nversion:1.2\n\n\0".to_owned(), &mut context);
        if part == Part::Subscriber {
            assert_eq!(connection.phase, Phase::Greeting);
            assert!(sent(&mut connection, &mut context).starts_with("SUBSCRIBE\nid:0\n"));
            connection.receive(&mut RECEIPT.to_owned(), &mut context);
        }
        assert_eq!((connection.phase, context.open, context.opening), (Phase::Open, 1, 0));
        context.going = true;
        (connection, context)
    }

    /// Everything that waits to be sent.
    fn sent(connection: &mut Connection, context: &mut Context) -> String {
        let mut bytes = Vec::new();
        while let Some(payload) = connection.active.as_mut().and_then(|active| active.queue.take(&mut context.pool)) {
            bytes.extend(payload.pieces().flatten());
            payload.give_back(&mut context.pool);
        }
        String::from_utf8(bytes).expect("it is text")
    }

    /// Message number `sequence` of publisher 0, as the server gives it out.
    fn message(sequence: u32, context: &Context) -> Vec<u8> {
        let mark = Mark { publisher: 0, sequence, sent_ns: 0 };
        let mut frame = format!("MESSAGE\nsubscription:0\nmessage-id:{sequence}\nack:a{sequence}\n\n").into_bytes();
        frame.extend_from_slice(&mark.to_bytes());
        frame.extend_from_slice(context.content.bytes(mark.piece(222)));
        frame.push(0);
        frame
    }

    #[track_caller]
    fn check(mode: Mode, arrivals: &[u32], delivered: u64, faults: &[(&str, u64)]) {
        let (mut connection, mut context) = open(mode, 1);
        (0..4).for_each(|_| context.flow.publish(0));
        context.set_receivers(1);
        for &sequence in arrivals {
            let mut bytes = message(sequence, &context);
            connection.receive(&mut bytes, &mut context);
        }
        let found: Vec<_> = context.faults.by_kind().iter().map(|(fault, count)| (fault.name(), *count)).collect();
        assert_eq!((context.totals.received, &found[..]), (delivered, faults), "{mode:?} {arrivals:?}");
        assert_eq!(connection.phase, Phase::Open);
    }

    #[test]
    fn a_subscriber_gets_each_message_once_and_in_order() {
        check(Mode::StompTopic, &[0, 1, 2, 3], 4, &[]);
        check(Mode::StompTopic, &[0, 1, 1, 2], 3, &[("disorder", 1)]);
        check(Mode::StompTopic, &[0, 2, 3], 3, &[("disorder", 1)]);
        check(Mode::StompTopic, &[1, 0], 1, &[("disorder", 2)]);
        check(Mode::StompTopic, &[0, 9], 1, &[("disorder", 1), ("wrong-delivery", 1)]);
    }

    #[test]
    fn a_consumer_gets_some_messages_in_order_and_none_twice() {
        check(Mode::StompQueue, &[0, 2, 3], 3, &[]);
        check(Mode::StompQueue, &[0, 2, 1], 3, &[("disorder", 1)]);
        check(Mode::StompQueue, &[0, 0], 1, &[("disorder", 1), ("doubled-delivery", 1)]);
    }

    #[test]
    fn other_content_is_no_delivery() {
        let (mut connection, mut context) = open(Mode::StompTopic, 1);
        context.flow.publish(0);
        let mut bytes = message(0, &context);
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        connection.receive(&mut bytes, &mut context);
        connection.receive(&mut b"MESSAGE\nmessage-id:1\n\nwho are you?\0".to_owned(), &mut context);
        assert_eq!(context.faults.by_kind(), [(Fault::WrongDelivery, 2)]);
    }

    #[test]
    fn a_consumer_acknowledges_each_message() {
        let (mut connection, mut context) = open(Mode::StompQueue, 1);
        (0..2).for_each(|_| context.flow.publish(0));
        let mut bytes = [message(0, &context), message(1, &context)].concat();
        connection.receive(&mut bytes, &mut context);
        assert_eq!(sent(&mut connection, &mut context), "ACK\nid:a0\n\n\0ACK\nid:a1\n\n\0");
        assert_eq!((context.flow.take_freed(), context.flow.missing()), (Some(0), 0));
        connection.receive(&mut b"MESSAGE\nmessage-id:1\n\nno ack\0".to_owned(), &mut context);
        assert_eq!((connection.phase, context.faults.by_kind()), (Phase::Dying, vec![(Fault::NoAck, 1)]));
    }

    #[test]
    fn a_publisher_sends_marks_and_its_message_is_complete_once() {
        use crate::load::connection::SentAt;
        let (mut connection, mut context) = open(Mode::StompTopic, 0);
        connection.request(SentAt::Flush, &mut context);
        let frame = sent(&mut connection, &mut context);
        let (head, body) = frame.split_once("\n\n").expect("a head");
        assert!(head.starts_with("SEND\ndestination:/topic/ringsock-bench-"), "{head}");
        assert!(head.ends_with("\ncontent-length:256") && body.len() == 257, "{head}");
        assert_eq!(Mark::find(body.as_bytes()).map(|found| found.0.sequence), Some(0));
        assert_eq!((context.under_way, context.flow.missing()), (1, 1));
        assert!(connection.handle_complete(&mut context));
        assert!(!connection.handle_complete(&mut context));
        assert_eq!(context.under_way, 0);
    }

    #[test]
    fn a_connection_over_tcp_ends_when_the_server_has_taken_all() {
        let (mut connection, mut context) = open(Mode::StompQueue, 1);
        connection.close(&mut context);
        assert_eq!((connection.phase, context.open, context.closing), (Phase::Closing, 0, 1));
        assert_eq!(sent(&mut connection, &mut context), "DISCONNECT\nreceipt:disconnected\n\n\0");
        connection.receive(&mut b"RECEIPT\nreceipt-id:disconnected\n\n\0".to_owned(), &mut context);
        assert_eq!((connection.phase, context.closing, context.faults.count()), (Phase::Dying, 0, 0));
    }
}
