//! ACK and NACK, redelivery and dead letters.

use super::cluster::{Cluster, body_of, check_over_workers, header_of};
use super::*;
use crate::broker::queue;
use crate::handler::ConnectionId;

/// Has a client consume a queue; returns it.
fn consumer(cluster: &mut Cluster, worker: u16, version: &str, head: &str) -> ConnectionId {
    let client = cluster.connect(worker, version);
    cluster.say(client, &format!("SUBSCRIBE\nid:s\n{head}\n\0"));
    client
}

fn send(cluster: &mut Cluster, destination: &str, bodies: &[&str]) {
    let client = cluster.connect(1, "1.2");
    for body in bodies {
        cluster.say(client, &format!("SEND\ndestination:{destination}\nreceipt:r\n\n{body}\0"));
        assert_eq!(cluster.receipts(client), ["r"]);
    }
    cluster.say(client, "DISCONNECT\n\n\0");
    cluster.cut(client);
}

/// The frame by which a client of this version settles a message.
fn settle(command: &str, version: &str, message: &str) -> String {
    let name = |header| header_of(message, header).expect("it has one").to_owned();
    match version {
        "1.2" => format!("{command}\nid:{}\nreceipt:k\n\n\0", name("ack")),
        "1.1" => format!("{command}\nmessage-id:{}\nsubscription:s\nreceipt:k\n\n\0", name("message-id")),
        _ => format!("{command}\nmessage-id:{}\nreceipt:k\n\n\0", name("message-id")),
    }
}

/// Items 80 to 84: in each version and mode, of a queue and of a topic.
#[test]
fn client_settles_all_before_and_client_individual_one() {
    check_over_workers(&Options::default(), |cluster| {
        for (version, command) in [("1.0", "ACK"), ("1.1", "ACK"), ("1.2", "ACK"), ("1.0", "NACK"), ("1.2", "NACK")] {
            for destination in ["/queue/a", "/topic/a"] {
                for (mode, is_cumulative) in [("client", true), ("client-individual", false)] {
                    let head = format!("destination:{destination}\nack:{mode}\n");
                    let client = consumer(cluster, 2, version, &head);
                    send(cluster, destination, &["1", "2", "3"]);
                    let messages = cluster.frames(client);
                    assert_eq!(messages.iter().map(|it| body_of(it)).collect::<Vec<_>>(), ["1", "2", "3"]);
                    cluster.say(client, &settle(command, version, &messages[1]));
                    let came: Vec<_> = cluster.frames(client).iter().map(|it| body_of(it).to_owned()).collect();
                    let expect = match (command, is_cumulative) {
                        ("ACK", _) => "",
                        (_, true) => "12",
                        (_, false) => "2",
                    };
                    assert_eq!(came.concat(), expect, "{version} {command} {mode} {destination}");
                    cluster.say(client, &settle("ACK", version, &messages[0]));
                    let last = cluster.frame(client);
                    assert_eq!(last.starts_with("ERROR"), is_cumulative, "{last}");
                    cluster.cut(client);
                    let drain = consumer(cluster, 0, "1.2", "destination:/queue/a\n");
                    cluster.cut(drain);
                    cluster.run();
                }
            }
        }
    });
}

/// Item 82: cumulative is within a subscription, and not over all of a connection.
#[test]
fn client_mode_settles_nothing_of_other_subscriptions() {
    check_over_workers(&Options::default(), |cluster| {
        let client = consumer(cluster, 2, "1.2", "destination:/queue/a\nack:client\n");
        cluster.say(client, "SUBSCRIBE\nid:b\ndestination:/queue/b\nack:client\n\n\0");
        for destination in ["/queue/a", "/queue/b"] {
            send(cluster, destination, &["1", "2"]);
        }
        let messages = cluster.frames(client);
        cluster.say(client, &settle("ACK", "1.2", &messages[3]));
        assert_eq!(cluster.receipts(client), ["k"]);
        cluster.say(client, &settle("ACK", "1.2", &messages[1]));
        assert_eq!(cluster.receipts(client), ["k"]);
        cluster.run();
        assert_eq!(cluster.queue_count(), 2);
        cluster.cut(client);
        cluster.run();
        assert_eq!(cluster.queue_count(), 0, "all was acknowledged");
    });
}

/// Item 81, row S15: an unknown id, another one's, and the same one twice.
#[test]
fn only_what_was_delivered_and_not_settled_can_be_acknowledged() {
    check_over_workers(&Options::default(), |cluster| {
        let client = consumer(cluster, 2, "1.2", "destination:/queue/a\nack:client-individual\n");
        send(cluster, "/queue/a", &["1"]);
        let message = cluster.frame(client);
        let ack = header_of(&message, "ack").expect("it has one").to_owned();
        let mut forged =
            vec!["0-2-1", "1-1-1", "0-0-0", "", "x", "0", "0-1", "-1-1-1", "0-1-1-1-1", "0-18446744073709551616-1"];
        forged.push(header_of(&message, "message-id").expect("it has one"));
        for id in forged {
            for command in ["ACK", "NACK"] {
                let other = consumer(cluster, 1, "1.2", "destination:/queue/a\nack:client-individual\n");
                cluster.error(other, &format!("{command}\nid:{id}\n\n\0"));
                let is_empty = cluster.frames(client).is_empty();
                assert!(is_empty, "nothing happens to others by {id}");
            }
        }
        let foreign = consumer(cluster, 2, "1.2", "destination:/queue/a\nack:client-individual\n");
        assert_eq!(cluster.error(foreign, &format!("ACK\nid:{ack}\n\n\0")), "no such message to acknowledge");
        cluster.say(client, &format!("ACK\nid:{ack}\nreceipt:k\n\n\0"));
        assert_eq!(cluster.receipts(client), ["k"]);
        assert_eq!(cluster.error(client, &format!("ACK\nid:{ack}\n\n\0")), "no such message to acknowledge");
    });
}

/// Items 80 and 87: an ACK needs what names the message in its version, and is of one that waits for it.
#[test]
fn an_ack_names_a_message_as_its_version_does() {
    check_over_workers(&Options::default(), |cluster| {
        let ack = |head: &str| format!("ACK\n{head}\n\0");
        for (version, head, expect) in [
            ("1.0", "id:1\n", "header message-id is missing"),
            ("1.1", "message-id:0-1\n", "header subscription is missing"),
            ("1.1", "subscription:s\n", "header message-id is missing"),
            ("1.2", "message-id:0-1\nsubscription:s\n", "header id is missing"),
        ] {
            let client = consumer(cluster, 1, version, "destination:/queue/a\nack:client\n");
            assert_eq!(cluster.error(client, &ack(head)), expect);
        }
        // What is not acknowledged has an id that says so.
        let client = consumer(cluster, 1, "1.1", "destination:/queue/b\n");
        send(cluster, "/queue/b", &["1"]);
        let message = cluster.frame(client);
        let error = cluster.error(client, &settle("ACK", "1.1", &message));
        assert_eq!(error, "no such message to acknowledge");
        // Another subscription's name is let pass: clients give any.
        let client = consumer(cluster, 1, "1.1", "destination:/queue/c\nack:client\n");
        send(cluster, "/queue/c", &["1"]);
        let message = cluster.frame(client).replace("subscription:s", "subscription:other");
        cluster.say(client, &settle("ACK", "1.1", &message));
        assert_eq!(cluster.receipts(client), ["k"]);
    });
}

/// Items 85, 86 and 61: what comes back goes to another consumer, in its old place, and says so.
#[test]
fn what_a_consumer_loses_is_offered_again_in_its_order() {
    check_over_workers(&Options::default(), |cluster| {
        for (end, is_clean) in [("", false), ("DISCONNECT\nreceipt:d\n\n\0", true), ("UNSUBSCRIBE\nid:s\n\n\0", true)] {
            let first = consumer(cluster, 0, "1.2", "destination:/queue/a\nack:client\nprefetch-count:3\n");
            send(cluster, "/queue/a", &["1", "2", "3", "4"]);
            let messages = cluster.frames(first);
            assert_eq!(messages.len(), 3, "no more than it may have");
            cluster.say(first, &settle("ACK", "1.2", &messages[0]));
            let second = consumer(cluster, 2, "1.2", "destination:/queue/a\nack:client\n");
            assert_eq!(cluster.frames(second), [""; 0], "what is new went to the first");
            cluster.say(first, end);
            if !is_clean {
                cluster.cut(first);
            }
            cluster.run();
            let again = cluster.frames(second);
            let of = |it: &String| (body_of(it).to_owned(), header_of(it, "redelivered").map(str::to_owned));
            let expect = ["2", "3", "4"].map(|body| (body.to_owned(), Some("true".to_owned())));
            assert_eq!(again.iter().map(of).collect::<Vec<_>>(), expect);
            cluster.say(second, &settle("ACK", "1.2", &again[2]));
            cluster.cut(second);
            cluster.run();
        }
    });
}

/// Item 85: with two consumers, a declined message goes to the other one.
#[test]
fn a_declined_message_goes_to_another_consumer() {
    check_over_workers(&Options::default(), |cluster| {
        let first = consumer(cluster, 0, "1.1", "destination:/queue/a\nack:client\n");
        send(cluster, "/queue/a", &["1"]);
        let message = cluster.frame(first);
        let second = consumer(cluster, 2, "1.2", "destination:/queue/a\nack:client\n");
        cluster.say(first, &settle("NACK", "1.1", &message));
        assert_eq!(cluster.receipts(first), ["k"]);
        let again = cluster.frame(second);
        assert_eq!((body_of(&again), header_of(&again, "redelivered")), ("1", Some("true")));
        cluster.say(second, &settle("ACK", "1.2", &again));
    });
}

/// Item 88: an ACK that crosses the end of its subscription is no fault.
#[test]
fn an_ack_after_unsubscribe_is_passed_by() {
    check_over_workers(&Options::default(), |cluster| {
        for command in ["ACK", "NACK"] {
            let client = consumer(cluster, 0, "1.2", "destination:/queue/a\nack:client\n");
            send(cluster, "/queue/a", &["1"]);
            let message = cluster.frame(client);
            let late = settle(command, "1.2", &message);
            cluster.say(client, &format!("UNSUBSCRIBE\nid:s\nreceipt:u\n\n\0{late}"));
            assert_eq!(cluster.receipts(client), ["u", "k"]);
            cluster.say(client, &late);
            assert_eq!(cluster.receipts(client), ["k"]);
            // Its place is another subscription's now.
            cluster.say(client, "SUBSCRIBE\nid:t\ndestination:/queue/b\nack:client\nreceipt:t\n\n\0");
            cluster.say(client, &late);
            assert_eq!(cluster.receipts(client), ["t", "k"]);
            let next = consumer(cluster, 1, "1.2", "destination:/queue/a\nack:client\n");
            let again = cluster.frame(next);
            assert_eq!(header_of(&again, "redelivered"), Some("true"), "{command} had no effect");
            cluster.say(next, &settle("ACK", "1.2", &again));
            cluster.cut(next);
        }
    });
}

fn tight() -> Options {
    let mut options = Options::default();
    options.queues.deliveries_max = 3;
    options.queues.age_ms_max = 10_000;
    options.queues.acknowledge_ms_max = 5_000;
    options.topic_queues.deliveries_max = 2;
    options
}

fn letter(cluster: &mut Cluster) -> String {
    let client = consumer(cluster, 0, "1.2", "destination:/queue/DLQ\n");
    let frame = cluster.frame(client);
    cluster.cut(client);
    frame
}

/// Row S16: what is declined, or takes its consumer down, again and again is a dead letter.
#[test]
fn a_poisonous_message_is_a_dead_letter() {
    check_over_workers(&tight(), |cluster| {
        for is_cut in [false, true] {
            send(cluster, "/queue/a", &["bad", "good"]);
            let mut client = consumer(cluster, 2, "1.2", "destination:/queue/a\nack:client\nprefetch-count:1\n");
            for round in 0..3 {
                let message = cluster.frame(client);
                let expect = (round > 0).then_some("true");
                assert_eq!((body_of(&message), header_of(&message, "redelivered")), ("bad", expect));
                if is_cut {
                    cluster.cut(client);
                    cluster.run();
                    client = consumer(cluster, round, "1.2", "destination:/queue/a\nack:client\nprefetch-count:1\n");
                } else {
                    cluster.say(client, &settle("NACK", "1.2", &message).replace("receipt:k\n", ""));
                }
            }
            let good = cluster.frame(client);
            assert_eq!(body_of(&good), "good");
            cluster.say(client, &settle("ACK", "1.2", &good));
            cluster.cut(client);
            let letter = letter(cluster);
            assert_eq!(header_of(&letter, "dead-letter-cause"), Some("delivered too often"));
            assert_eq!(header_of(&letter, "dead-letter-destination"), Some("/queue/a"));
            assert_eq!((header_of(&letter, "destination"), body_of(&letter)), (Some("/queue/DLQ"), "bad"));
        }
        cluster.run();
        assert_eq!(cluster.queue_count(), 0);
    });
}

/// Item 85: `requeue:false` makes a dead letter at once, of a queue and of a topic, with all that was in it.
#[test]
fn a_message_that_is_not_to_come_back_is_a_dead_letter() {
    check_over_workers(&tight(), |cluster| {
        for destination in ["/queue/a", "/topic/a"] {
            for note in ["note:n\n", "note:a\\nb\\cc\n"] {
                let head = format!("destination:{destination}\nack:client\n");
                let client = consumer(cluster, 2, "1.2", &head);
                let publisher = cluster.connect(1, "1.2");
                cluster.say(publisher, &format!("SEND\ndestination:{destination}\n{note}content-type:t\n\nbad\0"));
                let message = cluster.frame(client);
                let nack = settle("NACK", "1.2", &message).replace("receipt:k", "receipt:k\nrequeue:false");
                cluster.say(client, &nack);
                assert_eq!(cluster.receipts(client), ["k"]);
                let letter = letter(cluster);
                assert_eq!(header_of(&letter, "dead-letter-cause"), Some("rejected"));
                assert_eq!(header_of(&letter, "dead-letter-destination"), Some(destination));
                assert!(letter.contains(note) && letter.ends_with("content-length:3\n\nbad"), "{letter}");
                cluster.cut(client);
            }
        }
    });
}

/// A message that nobody takes in time is a dead letter; one that is dead there is dead for good.
#[test]
fn a_message_that_is_too_old_is_a_dead_letter() {
    check_over_workers(&tight(), |cluster| {
        send(cluster, "/queue/a", &["old"]);
        cluster.pass(9_000);
        assert_eq!(cluster.queue_count(), 1);
        cluster.pass(1_100);
        let letter = letter(cluster);
        assert_eq!(header_of(&letter, "dead-letter-cause"), Some("too old"));
        assert_eq!(cluster.queue_count(), 0);
        send(cluster, "/queue/DLQ", &["old"]);
        cluster.pass(11_000);
        assert_eq!(cluster.queue_count(), 0);
    });
}

/// Row S15: who never acknowledges gets no more than the prefetch, and is closed in the end.
#[test]
fn who_does_not_acknowledge_is_closed_and_what_it_has_goes_to_others() {
    check_over_workers(&tight(), |cluster| {
        let silent = consumer(cluster, 0, "1.2", "destination:/queue/a\nack:client\nprefetch-count:2\n");
        send(cluster, "/queue/a", &["1", "2", "3"]);
        assert_eq!(cluster.bodies(silent), ["1", "2"]);
        let other = consumer(cluster, 2, "1.2", "destination:/queue/a\nack:client\n");
        let third = cluster.frame(other);
        cluster.say(other, &settle("ACK", "1.2", &third).replace("receipt:k\n", ""));
        cluster.pass(4_900);
        assert_eq!(cluster.frames(silent), [""; 0]);
        cluster.pass(200);
        let error = cluster.frame(silent);
        assert_eq!(header_of(&error, "message"), Some("messages were not acknowledged in time"));
        let again = cluster.frames(other);
        assert_eq!(again.iter().map(|it| body_of(it)).collect::<Vec<_>>(), ["1", "2"]);
        cluster.say(other, &settle("ACK", "1.2", &again[1]));
    });
}

/// Row S15 and the limit of a connection: of all its subscriptions together so many messages are unacknowledged.
#[test]
fn all_subscriptions_of_a_connection_share_what_may_be_unacknowledged() {
    let options = Options { unacknowledged_max: 5, prefetch: 3, ..Options::default() };
    check_over_workers(&options, |cluster| {
        let client = cluster.connect(1, "1.2");
        for id in ["a", "b", "c"] {
            cluster.say(client, &format!("SUBSCRIBE\nid:{id}\ndestination:/queue/{id}\nack:client\n\n\0"));
            send(cluster, &format!("/queue/{id}"), &["1", "2", "3", "4"]);
        }
        let count = |cluster: &mut Cluster| cluster.bodies(client).len();
        assert_eq!(count(cluster), 3 + 2 + 1, "each has one in any case");
        cluster.say(client, "UNSUBSCRIBE\nid:a\n\n\0");
        cluster.say(client, "SUBSCRIBE\nid:d\ndestination:/topic/d\nack:client\n\n\0");
        for body in ["1", "2", "3", "4"] {
            send(cluster, "/topic/d", &[body]);
        }
        assert_eq!(count(cluster), 2, "what the first had is free");
        cluster.say(client, "SUBSCRIBE\nid:e\ndestination:/queue/a\nack:client\nprefetch-count:9\n\n\0");
        assert_eq!(count(cluster), 1);
    });
}

/// A queue that is full refuses, with the receipt that was asked for.
#[test]
fn a_full_queue_refuses_with_the_receipt() {
    let queues = queue::Limits { messages_max: 2, ..queue::Limits::default() };
    let options = Options { queues, ..Options::default() };
    check_over_workers(&options, |cluster| {
        send(cluster, "/queue/a", &["1", "2"]);
        let client = cluster.connect(1, "1.2");
        cluster.say(client, "SEND\ndestination:/queue/b\nreceipt:1\n\nx\0SEND\ndestination:/queue/a\nreceipt:2\n\nx\0");
        let frames = cluster.frames(client);
        assert_eq!(frames[0], "RECEIPT\nreceipt-id:1\n\n");
        assert_eq!(
            (header_of(&frames[1], "message"), header_of(&frames[1], "receipt-id")),
            (Some("queue is full"), Some("2"))
        );
    });
}
