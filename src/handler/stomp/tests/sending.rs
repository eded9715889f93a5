//! SEND, SUBSCRIBE, UNSUBSCRIBE and MESSAGE.

use super::cluster::{Cluster, body_of, check_over_workers, header_of};
use super::*;

const WILDCARD: &str = "wildcards (*, # and >) are only for SUBSCRIBE to /topic/NAME";
const UNSUPPORTED: &str = "supported destinations are /topic/NAME, /queue/NAME and /temp-queue/NAME";

/// Items 64, 67 and 68 of the checklist of brokers: a frame that can't be obeyed ends the session, with its receipt.
#[test]
fn a_destination_is_needed_and_is_one_that_there_is() {
    check_over_workers(&Options::default(), |cluster| {
        for (command, expect) in [
            ("SEND\n", "header destination is missing"),
            ("SUBSCRIBE\nid:1\n", "header destination is missing"),
            ("SEND\ndestination:/queue/*\n", WILDCARD),
            ("SEND\ndestination:/exchange/a\n", UNSUPPORTED),
            (
                "SUBSCRIBE\nid:1\ndestination:/topic/a.#.b\n",
                "the wildcards # and > are the last segment of their destination",
            ),
            ("SUBSCRIBE\nid:1\ndestination:/queue/a.#\n", WILDCARD),
        ] {
            let client = cluster.connect(1, "1.2");
            cluster.say(client, &format!("{command}receipt:r\n\n\0"));
            let error = cluster.frame(client);
            assert_eq!(header_of(&error, "receipt-id"), Some("r"), "{error}");
            assert_eq!(header_of(&error, "message"), Some(expect), "{command}");
        }
    });
}

/// Items 37, 38, 65, 66 and 77: subscribers get the sender's headers, and none that are about its frame.
#[test]
fn a_message_has_the_senders_headers_and_not_those_of_its_frame() {
    check_over_workers(&Options::default(), |cluster| {
        let subscriber = cluster.connect(0, "1.2");
        cluster.say(subscriber, "SUBSCRIBE\nid:0\ndestination:/topic/a.*\n\n\0");
        let publisher = cluster.connect(1, "1.2");
        let headers = "destination:/topic/a.b\ncontent-type:text/x;y=\"z\"\nempty:\nnote:one\nnote:two\nreceipt:r\n";
        cluster.say(
            publisher,
            &format!("BEGIN\ntransaction:t\n\n\0SEND\n{headers}transaction:t\ncontent-length:2\n\nhi\0"),
        );
        cluster.say(publisher, "COMMIT\ntransaction:t\n\n\0");
        let message = cluster.frame(subscriber);
        let (head, rest) = message.split_once("\ndestination:").expect("it has one");
        assert!(head.starts_with("MESSAGE\nsubscription:0\nmessage-id:"), "{message}");
        assert_eq!(rest, "/topic/a.b\ncontent-type:text/x;y=\"z\"\nempty:\nnote:one\nnote:two\ncontent-length:2\n\nhi");
        cluster.say(publisher, "SEND\ndestination:/topic/a.b\n\n\0");
        assert!(!cluster.frame(subscriber).contains("content-"), "nothing is invented");
    });
}

/// Item 29 and row S10: what is the broker's to say, no sender says.
#[test]
fn a_sender_can_not_speak_for_the_broker() {
    check_over_workers(&Options::default(), |cluster| {
        let subscriber = cluster.connect(2, "1.2");
        cluster.say(subscriber, "SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0");
        let publisher = cluster.connect(1, "1.1");
        let forged = "message-id:x\nsubscription:x\nack:x\nredelivered:true\n";
        cluster.say(publisher, &format!("SEND\n{forged}destination:/topic/a\n\n\0"));
        let message = cluster.frame(subscriber);
        assert_eq!(header_of(&message, "subscription"), Some("0"));
        assert!(!message.contains(":x") && !message.contains("redelivered") && !message.contains("ack"), "{message}");
    });
}

/// Row S10: neither how many were dropped, nor why a letter is dead, is the sender's to say.
#[test]
fn a_sender_can_not_say_what_was_dropped_or_why_it_is_dead() {
    check_over_workers(&Options::default(), |cluster| {
        let subscriber = cluster.connect(2, "1.2");
        cluster.say(subscriber, "SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0");
        let publisher = cluster.connect(1, "1.1");
        cluster.say(publisher, "SEND\ndropped:7\ndestination:/topic/a\n\n\0");
        assert_eq!(header_of(&cluster.frame(subscriber), "dropped"), None);
        let consumer = cluster.connect(0, "1.2");
        for queue in ["a", "DLQ"] {
            cluster.say(consumer, &format!("SUBSCRIBE\nid:{queue}\ndestination:/queue/{queue}\nack:client\n\n\0"));
        }
        cluster.say(publisher, "SEND\ndead-letter-cause:none\ndestination:/queue/a\n\n\0");
        let message = cluster.frame(consumer);
        let ack = header_of(&message, "ack").expect("it acknowledges");
        cluster.say(consumer, &format!("NACK\nid:{ack}\nrequeue:false\n\n\0"));
        assert_eq!(header_of(&cluster.frame(consumer), "dead-letter-cause"), Some("rejected"));
    });
}

/// Item 69 to 71: an id is needed but in 1.0, is used once on a connection, and a mode is one of three.
#[test]
fn a_subscription_has_an_id_of_its_own() {
    check_over_workers(&Options::default(), |cluster| {
        for version in ["1.1", "1.2"] {
            let client = cluster.connect(1, version);
            assert_eq!(cluster.error(client, "SUBSCRIBE\ndestination:/topic/a\n\n\0"), "header id is missing");
        }
        for destination in ["/topic/a", "/queue/a", "/temp-queue/a"] {
            let (one, other) = (cluster.connect(1, "1.2"), cluster.connect(2, "1.2"));
            let subscribe = format!("SUBSCRIBE\nid:1\ndestination:{destination}\nreceipt:r\n\n\0");
            for client in [one, other] {
                cluster.say(client, &subscribe);
                assert_eq!(cluster.receipts(client), ["r"]);
            }
            assert_eq!(cluster.error(one, &subscribe), "subscription id is in use");
        }
        let client = cluster.connect(1, "1.0");
        let error = cluster.error(client, "SUBSCRIBE\nid:1\nack:some\ndestination:/topic/a\n\n\0");
        assert_eq!(error, "header ack is auto, client or client-individual");
    });
}

/// Items 72 and 74: without an id a subscription of 1.0 goes by its destination.
#[test]
fn a_1_0_subscription_without_an_id_goes_by_its_destination() {
    check_over_workers(&Options::default(), |cluster| {
        for destination in ["/topic/a", "/queue/a"] {
            let client = cluster.connect(1, "1.0");
            cluster.say(client, &format!("SUBSCRIBE\ndestination:{destination}\n\n\0"));
            cluster.say(client, &format!("SEND\ndestination:{destination}\n\nhi\0"));
            let message = cluster.frame(client);
            assert_eq!((header_of(&message, "subscription"), body_of(&message)), (None, "hi"));
            cluster.say(client, &format!("UNSUBSCRIBE\ndestination:{destination}\nreceipt:u\n\n\0"));
            assert_eq!(cluster.receipts(client), ["u"]);
            let error = cluster.error(client, &format!("UNSUBSCRIBE\ndestination:{destination}\n\n\0"));
            assert_eq!(error, "no such subscription");
        }
    });
}

/// Items 74 to 76: UNSUBSCRIBE names what there is; after its receipt nothing comes, and the id is free.
#[test]
fn after_the_receipt_of_unsubscribe_nothing_comes() {
    check_over_workers(&Options::default(), |cluster| {
        for destination in ["/topic/a", "/queue/a"] {
            let (client, publisher) = (cluster.connect(1, "1.2"), cluster.connect(2, "1.2"));
            for round in 0..3 {
                let subscribe = format!("SUBSCRIBE\nid:1\ndestination:{destination}\nreceipt:s\n\n\0");
                cluster.say(client, &subscribe);
                cluster.whisper(publisher, format!("SEND\ndestination:{destination}\n\n{round}\0").as_bytes());
                cluster.say(client, "UNSUBSCRIBE\nid:1\nreceipt:u\n\n\0");
                let frames = cluster.frames(client);
                assert_eq!(frames.last().map(String::as_str), Some("RECEIPT\nreceipt-id:u\n\n"), "{frames:?}");
                cluster.say(publisher, &format!("SEND\ndestination:{destination}\n\nlate\0"));
                assert_eq!(cluster.frames(client), [""; 0]);
            }
            assert_eq!(cluster.error(client, "UNSUBSCRIBE\nid:1\nreceipt:u\n\n\0"), "no such subscription");
        }
        let client = cluster.connect(1, "1.2");
        assert_eq!(cluster.error(client, "UNSUBSCRIBE\ndestination:/topic/a\n\n\0"), "header id is missing");
    });
}

/// Item 73: whatever is sent after the receipt of SUBSCRIBE, on whichever connection, is delivered.
#[test]
fn a_subscription_is_active_when_its_receipt_comes() {
    for workers in [1, 2, 4] {
        let mut cluster = Cluster::new(workers, &Options::default());
        let publisher = cluster.connect(1, "1.2");
        for (number, pattern) in ["a.b", "a.*", "a.#", "#"].into_iter().enumerate() {
            let subscriber = cluster.connect(u16::try_from(number).expect("few"), "1.2");
            let subscribe = format!("SUBSCRIBE\nid:1\ndestination:/topic/{pattern}\nreceipt:s\n\n\0");
            // Not even its own worker ends a turn before the SEND.
            cluster.whisper(subscriber, subscribe.as_bytes());
            assert_eq!(cluster.receipts(subscriber), ["s"]);
            cluster.say(publisher, "SEND\ndestination:/topic/a.b\n\nhi\0");
            assert_eq!(cluster.bodies(subscriber), ["hi"], "{pattern} over {workers}");
        }
        cluster.end();
    }
}

/// Item 78: the header `ack` is there in 1.2 if it is needed, and another one each time.
#[test]
fn each_delivery_that_is_acknowledged_has_an_ack_of_its_own() {
    check_over_workers(&Options::default(), |cluster| {
        let publisher = cluster.connect(0, "1.2");
        for version in ["1.0", "1.1", "1.2"] {
            let mut acks = std::collections::BTreeSet::new();
            let client = cluster.connect(1, version);
            for (id, mode) in ["auto", "client", "client-individual"].into_iter().enumerate() {
                for destination in ["/topic/a", "/queue/a"] {
                    let name = format!("{id}{destination}");
                    let head = format!("SUBSCRIBE\nid:{name}\ndestination:{destination}\nack:{mode}");
                    cluster.say(client, &format!("{head}\n\n\0"));
                    cluster.say(publisher, &format!("SEND\ndestination:{destination}\n\n\0"));
                    for message in cluster.frames(client) {
                        let is_auto = header_of(&message, "subscription").is_some_and(|id| id.starts_with('0'));
                        assert_eq!(header_of(&message, "ack").is_some(), version == "1.2" && !is_auto, "{message}");
                        let name = header_of(&message, if version == "1.2" { "ack" } else { "message-id" });
                        assert!(is_auto || acks.insert(name.expect("it has one").to_owned()), "{message}");
                    }
                }
            }
            cluster.cut(client);
            cluster.run();
        }
    });
}

/// Items 23, 26 and row S9: no header that one client sends is a line, or a frame, to another one.
#[test]
fn a_header_stays_one_header_in_every_version() {
    check_over_workers(&Options::default(), |cluster| {
        let publisher = cluster.connect(1, "1.2");
        let all: Vec<_> = [("1.0", 0), ("1.1", 1), ("1.2", 2)]
            .map(|(version, worker)| {
                let client = cluster.connect(worker, version);
                cluster.say(client, "SUBSCRIBE\nid:1\ndestination:/topic/a\n\n\0");
                cluster.say(client, "SUBSCRIBE\nid:2\ndestination:/queue/a\nack:client\nprefetch-count:1\n\n\0");
                client
            })
            .into();
        for destination in ["/topic/a", "/queue/a", "/queue/a", "/queue/a"] {
            let evil = "x\\n\\nbody\\nMESSAGE\\ndestination\\c/queue/evil:1\ny:a\\rb\\cc\\\\d\nz\\cz:1\n";
            cluster.say(publisher, &format!("SEND\ndestination:{destination}\n{evil}note:n\n\nhi\0"));
        }
        let expect = [
            "note:n\n",
            "x\\n\\nbody\\nMESSAGE\\ndestination\\c/queue/evil:1\nz\\cz:1\nnote:n\n",
            "x\\n\\nbody\\nMESSAGE\\ndestination\\c/queue/evil:1\ny:a\\rb\\cc\\\\d\nz\\cz:1\nnote:n\n",
        ];
        for (client, expect) in all.into_iter().zip(expect) {
            let messages = cluster.frames(client);
            assert_eq!(messages.len(), 2, "{messages:?}");
            for message in messages {
                let (head, body) = message.split_once("\n\n").expect("it has a head");
                let head = head.split_once("destination:/").expect("it has one").1;
                let headers = head.split_once('\n').expect("more follow").1;
                assert_eq!((headers, body), (format!("{expect}content-length:2").as_str(), "hi"));
            }
        }
    });
}

/// Row S27: a body with NULs arrives as it was.
#[test]
fn a_body_may_have_nuls() {
    check_over_workers(&Options::default(), |cluster| {
        for destination in ["/topic/a", "/queue/a"] {
            let (client, publisher) = (cluster.connect(2, "1.0"), cluster.connect(1, "1.2"));
            cluster.say(client, &format!("SUBSCRIBE\nid:1\ndestination:{destination}\n\n\0"));
            // One more header is written in another way for 1.0.
            for more in ["", "note:a\\cb\n"] {
                let send = format!("SEND\ndestination:{destination}\ncontent-length:5\n{more}\n\0\0\n\0x\0");
                cluster.say(publisher, &send);
                let wire = cluster.wires.get_mut(&client).expect("it is open");
                let received = mem::take(&mut wire.received);
                assert!(received.ends_with(b"content-length:5\n\n\0\0\n\0x\0"), "{received:?}");
            }
            cluster.cut(client);
        }
    });
}

/// Row S22: where a message goes is what was checked, of two destinations the first one.
#[test]
fn of_two_destinations_the_first_counts() {
    check_over_workers(&Options::default(), |cluster| {
        let client = cluster.connect(1, "1.2");
        for topic in ["a", "b"] {
            cluster.say(client, &format!("SUBSCRIBE\nid:{topic}\ndestination:/topic/{topic}\nid:x\n\n\0"));
        }
        cluster.say(client, "SEND\ndestination:/topic/a\ndestination:/topic/b\nreceipt:1\nreceipt:2\n\nhi\0");
        let frames = cluster.frames(client);
        assert_eq!(frames[0], "RECEIPT\nreceipt-id:1\n\n");
        assert_eq!((frames.len(), header_of(&frames[1], "subscription")), (2, Some("a")));
        assert!(!frames[1].contains("/topic/b"), "{frames:?}");
    });
}
