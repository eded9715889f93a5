//! BEGIN, COMMIT and ABORT.

use super::cluster::{Cluster, body_of, check_over_workers, header_of};
use super::*;
use crate::broker::{queue, transaction};
use crate::handler::ConnectionId;

const BEGIN: &str = "BEGIN\ntransaction:t\n\n\0";
const COMMIT: &str = "COMMIT\ntransaction:t\nreceipt:c\n\n\0";
const ABORT: &str = "ABORT\ntransaction:t\nreceipt:a\n\n\0";

/// A client that is subscribed to `destination` with this mode.
fn subscriber(cluster: &mut Cluster, destination: &str, mode: &str) -> ConnectionId {
    let client = cluster.connect(2, "1.2");
    cluster.say(client, &format!("SUBSCRIBE\nid:{destination}\ndestination:{destination}\nack:{mode}\n\n\0"));
    client
}

fn ack_of(message: &str) -> &str {
    header_of(message, "ack").expect("it has one")
}

/// Items 89, 90 and 96 of the checklist of brokers, row S17.
#[test]
fn a_transaction_is_named_and_open_and_open_once() {
    check_over_workers(&Options::default(), |cluster| {
        for (text, expect) in [
            ("BEGIN\n\n\0", "header transaction is missing"),
            ("COMMIT\n\n\0", "header transaction is missing"),
            ("ABORT\n\n\0", "header transaction is missing"),
            ("BEGIN\ntransaction:t\n\n\0BEGIN\ntransaction:t\n\n\0", "transaction is open already"),
            ("COMMIT\ntransaction:t\n\n\0", "no such transaction"),
            ("ABORT\ntransaction:t\n\n\0", "no such transaction"),
            ("BEGIN\ntransaction:t\n\n\0COMMIT\ntransaction:t\n\n\0ABORT\ntransaction:t\n\n\0", "no such transaction"),
            ("SEND\ndestination:/topic/a\ntransaction:t\n\n\0", "no such transaction"),
            ("SEND\ndestination:/queue/a\ntransaction:t\n\n\0", "no such transaction"),
        ] {
            let client = cluster.connect(1, "1.2");
            assert_eq!(cluster.error(client, text), expect, "{text}");
        }
        for command in ["ACK", "NACK"] {
            let client = subscriber(cluster, "/queue/a", "client");
            cluster.say(client, "SEND\ndestination:/queue/a\n\n\0");
            let messages = cluster.frames(client);
            let error = cluster.error(client, &format!("{command}\nid:{}\ntransaction:t\n\n\0", ack_of(&messages[0])));
            assert_eq!(error, "no such transaction");
        }
        assert_eq!(cluster.queue_count(), 1, "the message of the last ones, and nothing of the SENDs");
    });
}

/// Items 92 and 94: all of it comes at COMMIT, in order, behind what was sent meanwhile; an id is used again.
#[test]
fn what_was_sent_in_a_transaction_comes_at_its_commit() {
    check_over_workers(&Options::default(), |cluster| {
        let destinations = ["/queue/a", "/topic/a", "/queue/b", "/queue/c", "/topic/b"];
        let all = destinations.map(|destination| subscriber(cluster, destination, "auto"));
        let (one, other) = (cluster.connect(1, "1.2"), cluster.connect(1, "1.0"));
        for round in 0..2 {
            for client in [one, other] {
                cluster.say(client, BEGIN);
                for number in 0..2 {
                    for destination in destinations {
                        let head = format!("SEND\ndestination:{destination}\ntransaction:t");
                        cluster.say(client, &format!("{head}\n\n{round}{number}\0"));
                    }
                }
                let between = destinations.map(|it| format!("SEND\ndestination:{it}\n\nbetween\0")).concat();
                cluster.say(client, &between);
                assert!(all.iter().all(|&it| cluster.bodies(it) == ["between"]));
                cluster.say(client, COMMIT);
                assert_eq!(cluster.receipts(client), ["c"]);
                assert!(all.iter().all(|&it| cluster.bodies(it) == [format!("{round}0"), format!("{round}1")]));
            }
        }
    });
}

/// Items 53 and 91: on other frames the header means nothing, nor does one that nobody knows.
#[test]
fn only_sends_and_acknowledgements_are_parts_of_transactions() {
    check_over_workers(&Options::default(), |cluster| {
        let client = cluster.connect(1, "1.2");
        let more = "transaction:none\nx-unknown:1\nreceipt:r\n\n\0";
        for frame in ["SUBSCRIBE\nid:1\ndestination:/queue/a\n", "UNSUBSCRIBE\nid:1\n", "DISCONNECT\n"] {
            cluster.say(client, &[frame, more].concat());
            assert_eq!(cluster.receipts(client), ["r"], "{frame}");
        }
    });
}

/// Item 97: transactions that are open together do not mix.
#[test]
fn transactions_do_not_mix() {
    check_over_workers(&Options::default(), |cluster| {
        let consumer = subscriber(cluster, "/queue/a", "auto");
        let client = cluster.connect(0, "1.1");
        cluster.say(client, "BEGIN\ntransaction:1\n\n\0BEGIN\ntransaction:2\n\n\0BEGIN\ntransaction:3\n\n\0");
        for number in 0..6 {
            let transaction = 1 + number % 3;
            cluster.say(client, &format!("SEND\ndestination:/queue/a\ntransaction:{transaction}\n\n{number}\0"));
        }
        cluster.say(client, "COMMIT\ntransaction:3\n\n\0ABORT\ntransaction:1\n\n\0COMMIT\ntransaction:2\n\n\0");
        assert_eq!(cluster.bodies(consumer), ["2", "5", "1", "4"]);
    });
}

/// Item 93: after ABORT a message is where it was: with its consumer, who may acknowledge it again.
#[test]
fn abort_drops_sends_and_leaves_messages_with_their_consumer() {
    check_over_workers(&Options::default(), |cluster| {
        for destination in ["/queue/a", "/topic/a"] {
            for command in ["ACK", "NACK"] {
                let client = subscriber(cluster, destination, "client");
                cluster.say(client, &format!("SEND\ndestination:{destination}\n\n1\0"));
                let message = cluster.frame(client);
                cluster.say(client, BEGIN);
                cluster.say(client, &format!("{command}\nid:{}\ntransaction:t\n\n\0", ack_of(&message)));
                cluster.say(client, &format!("SEND\ndestination:{destination}\ntransaction:t\n\n2\0{ABORT}"));
                assert_eq!(cluster.receipts(client), ["a"], "nothing comes again");
                cluster.say(client, &format!("ACK\nid:{}\nreceipt:k\n\n\0", ack_of(&message)));
                assert_eq!(cluster.receipts(client), ["k"]);
                cluster.cut(client);
                cluster.run();
                assert_eq!(cluster.queue_count(), 0, "it was acknowledged, and 2 never sent");
            }
        }
    });
}

/// Items 91 to 93: acknowledgements of a transaction take effect with it.
#[test]
fn acknowledgements_take_effect_at_commit() {
    check_over_workers(&Options::default(), |cluster| {
        let client = subscriber(cluster, "/queue/a", "client-individual");
        for body in ["keep", "take", "return"] {
            cluster.say(client, &format!("SEND\ndestination:/queue/a\n\n{body}\0"));
        }
        let messages = cluster.frames(client);
        cluster.say(client, BEGIN);
        cluster.say(client, &format!("ACK\nid:{}\ntransaction:t\n\n\0", ack_of(&messages[1])));
        cluster.say(client, &format!("NACK\nid:{}\ntransaction:t\n\n\0", ack_of(&messages[2])));
        assert_eq!(cluster.frames(client), [""; 0], "not yet");
        cluster.say(client, COMMIT);
        let frames = cluster.frames(client);
        let again: Vec<_> = frames.iter().filter(|frame| frame.starts_with("MESSAGE")).collect();
        assert_eq!((frames.len(), body_of(again[0])), (2, "return"));
        cluster.cut(client);
        let next = subscriber(cluster, "/queue/a", "auto");
        assert_eq!(cluster.bodies(next), ["keep", "return"]);
    });
}

/// A message that was settled otherwise, or has gone back with its subscription, is not settled by COMMIT: nothing of
/// the transaction takes effect, whether the queue lives here or elsewhere.
#[test]
fn a_commit_whose_messages_are_not_there_any_more_has_no_effect() {
    check_over_workers(&Options::default(), |cluster| {
        for way in ["ACK", "UNSUBSCRIBE", "UNSUBSCRIBE and so on"] {
            for queue in ["a", "b", "c", "d"] {
                let queue = format!("/queue/{queue}");
                let client = subscriber(cluster, &queue, "client");
                cluster.say(client, &format!("SEND\ndestination:{queue}\n\n1\0"));
                let message = cluster.frame(client);
                let ack = format!("ACK\nid:{}\n", ack_of(&message));
                cluster.say(client, &format!("{BEGIN}{ack}transaction:t\n\n\0"));
                let other = if way == "ACK" { format!("{ack}\n\0") } else { format!("UNSUBSCRIBE\nid:{queue}\n\n\0") };
                let rest = format!("SEND\ndestination:/queue/other\ntransaction:t\n\nno\0{COMMIT}");
                if way.ends_with("on") {
                    cluster.say(client, &other);
                    cluster.say(client, &rest);
                } else {
                    cluster.say(client, &[other, rest].concat());
                }
                let error = cluster.frame(client);
                assert_eq!(header_of(&error, "receipt-id"), Some("c"), "{way} {error}");
                let next = subscriber(cluster, &queue, "auto");
                assert_eq!(cluster.bodies(next).len(), usize::from(way != "ACK"), "{way} {queue}");
                cluster.cut(next);
            }
        }
        cluster.run();
        assert_eq!(cluster.queue_count(), 0, "nothing was sent");
    });
}

/// Item 95: who leaves, or is cut off, commits nothing.
#[test]
fn open_transactions_end_with_their_connection() {
    check_over_workers(&Options::default(), |cluster| {
        for end in ["DISCONNECT\n\n\0", ""] {
            let client = cluster.connect(1, "1.2");
            cluster.say(client, &format!("{BEGIN}SEND\ndestination:/queue/a\ntransaction:t\n\n1\0{end}"));
            cluster.cut(client);
            cluster.run();
            assert_eq!(cluster.queue_count(), 0);
        }
    });
}

/// All or nothing: where one queue of many is full, none gets anything, and the room is free again.
#[test]
fn a_commit_for_which_a_queue_has_no_room_has_no_effect() {
    let queues = queue::Limits { messages_max: 2, ..queue::Limits::default() };
    let options = Options { queues, ..Options::default() };
    check_over_workers(&options, |cluster| {
        let client = cluster.connect(1, "1.2");
        cluster.say(client, "SEND\ndestination:/queue/a\n\n0\0");
        for _ in 0..3 {
            let client = cluster.connect(2, "1.2");
            let sends = ["b", "c", "a", "d", "a"]
                .map(|queue| format!("SEND\ndestination:/queue/{queue}\ntransaction:t\n\n1\0"));
            let error = cluster.error(client, &format!("{BEGIN}{}{COMMIT}", sends.concat()));
            assert_eq!(error, "a queue of the transaction is full");
            assert_eq!(cluster.queue_count(), 1);
        }
        cluster.say(client, &format!("{BEGIN}SEND\ndestination:/queue/a\ntransaction:t\n\n2\0{COMMIT}"));
        assert_eq!(cluster.receipts(client), ["c"], "there was room for one");
        let consumer = subscriber(cluster, "/queue/a", "auto");
        assert_eq!(cluster.bodies(consumer), ["0", "2"]);
    });
}

/// The same where the session ends while workers are asked: none of them keeps the room.
#[test]
fn a_session_that_ends_within_its_commit_keeps_no_room() {
    let queues = queue::Limits { messages_max: 1, ..queue::Limits::default() };
    let options = Options { queues, ..Options::default() };
    for workers in [2, 3, 4] {
        let mut cluster = Cluster::new(workers, &options);
        let filler = cluster.connect(0, "1.2");
        cluster.say(filler, "SEND\ndestination:/queue/full\n\n0\0");
        for worker in 0..workers {
            let client = cluster.connect(worker, "1.2");
            let sends: String =
                (0..8).map(|queue| format!("SEND\ndestination:/queue/{queue}\ntransaction:t\n\n1\0")).collect();
            // The refusal of the first SEND comes while COMMIT waits.
            cluster.say(client, &format!("{BEGIN}{sends}SEND\ndestination:/queue/full\n\n1\0{COMMIT}"));
            let error = cluster.frame(client);
            assert_eq!(header_of(&error, "message"), Some("queue is full"), "{error}");
            assert_eq!(cluster.queue_count(), 1, "no queue is kept for what does not come");
        }
        cluster.end();
    }
}

/// Item 101: the receipt of a SEND in a transaction comes at once, or with COMMIT and never after ABORT; it holds up
/// none of other frames.
#[test]
fn receipts_of_a_transaction_come_at_once_or_with_commit() {
    let send = |id: &str| format!("SEND\ndestination:/queue/a\ntransaction:t\nreceipt:{id}\n\n1\0");
    check_over_workers(&Options::default(), |cluster| {
        let client = cluster.connect(1, "1.2");
        cluster.say(client, &format!("{BEGIN}{}", send("1")));
        assert_eq!(cluster.receipts(client), ["1"]);
    });
    let on_commit =
        Options { transaction_receipts: TransactionReceipts::OnCommit, receipts_max: 3, ..Options::default() };
    check_over_workers(&on_commit, |cluster| {
        let client = subscriber(cluster, "/queue/b", "client");
        cluster.say(client, "SEND\ndestination:/queue/b\n\n1\0");
        let message = cluster.frame(client);
        cluster.say(client, &format!("{BEGIN}{}{ABORT}", send("1")));
        assert_eq!(cluster.receipts(client), ["a"]);
        let ack = format!("ACK\nid:{}\ntransaction:t\nreceipt:k\n\n\0", ack_of(&message));
        cluster.say(client, &format!("{BEGIN}{}{ack}{}", send("1"), send("2")));
        assert_eq!(cluster.receipts(client), [""; 0]);
        cluster.say(client, "SEND\ndestination:/queue/c\nreceipt:o\n\n1\0");
        assert_eq!(cluster.receipts(client), ["o"]);
        cluster.say(client, &[send("3"), send("4"), COMMIT.into()].concat());
        assert_eq!(cluster.receipts(client), ["1", "k", "2", "3", "4", "c"]);
    });
}

/// Item 97, row S17: so many at a time, so many frames and bytes in each, and so long.
#[test]
fn transactions_are_limited() {
    let transactions = transaction::Limits { count_max: 2, actions_max: 3, bytes_max: 500, age_ms_max: 5_000 };
    check_over_workers(&Options { transactions, ..Options::default() }, |cluster| {
        let client = cluster.connect(1, "1.2");
        let many = ["1", "2", "3"].map(|id| format!("BEGIN\ntransaction:{id}\n\n\0")).concat();
        assert_eq!(cluster.error(client, &many), "too many open transactions");
        let send = "SEND\ndestination:/queue/a\ntransaction:t\n\n1\0";
        let client = cluster.connect(1, "1.2");
        assert_eq!(cluster.error(client, &[BEGIN, &send.repeat(4)].concat()), "too many frames in the transaction");
        let client = cluster.connect(1, "1.2");
        let large = send.replace("\n1\0", &format!("\n{}\0", "x".repeat(600)));
        assert_eq!(cluster.error(client, &[BEGIN, &large].concat()), "transaction is too large");
        let client = cluster.connect(1, "1.2");
        cluster.say(client, &[BEGIN, send].concat());
        cluster.pass(4_900);
        assert_eq!(cluster.frames(client), [""; 0]);
        cluster.pass(200);
        assert_eq!(header_of(&cluster.frame(client), "message"), Some("transaction was open for too long"));
        assert_eq!(cluster.queue_count(), 0);
    });
}
