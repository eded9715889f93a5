//! Sessions: what comes behind CONNECT, receipts, heart-beats, and the end.

use super::cluster::{check_over_workers, header_of};
use super::*;
use crate::proto::stomp::{HeartBeat, SessionOptions};
use crate::proto::ws::CloseCode;

/// Items 40 and 42 of the checklist of brokers, rows S1, S2 and S21: the first wrong frame ends the session, and
/// nothing behind it counts.
#[test]
fn the_first_wrong_frame_is_the_last() {
    check_over_workers(&Options::default(), |cluster| {
        let send = "SEND\ndestination:/queue/a\n\nx\0".repeat(3);
        let client = cluster.open(1);
        assert_eq!(cluster.error(client, &send), "the first frame is CONNECT or STOMP");
        for wrong in ["CONNECT\naccept-version:1.2\n\n\0", "MESSAGE\n\n\0", "nonsense\n\n\0", "BEGIN\n\n\0"] {
            let client = cluster.connect(2, "1.2");
            cluster.say(client, &[wrong, &wrong.repeat(1_000), &send].concat());
            assert!(cluster.frame(client).starts_with("ERROR\n"));
            cluster.say(client, &send);
            assert_eq!(cluster.frames(client), [""; 0]);
        }
        assert_eq!(cluster.queue_count(), 0, "nothing was routed");
        let errors: u64 = cluster.workers.iter().map(|stomp| stomp.counters().errors).sum();
        assert_eq!(errors, 5);
    });
}

/// Items 46, 50 and 51, row S24: what is pipelined behind CONNECT is handled after it; no session is another's.
#[test]
fn frames_behind_connect_are_handled_after_it() {
    check_over_workers(&Options::default(), |cluster| {
        let mut sessions = std::collections::BTreeSet::new();
        for worker in 0..100 {
            let client = cluster.open(worker % 3);
            let connect = "CONNECT\naccept-version:1.1,1.2\nhost:/\nreceipt:no\n\n\0";
            let rest = "SUBSCRIBE\nid:a\\cb\ndestination:/topic/a\nreceipt:1\\c\n\n\0SEND\ndestination:/topic/a\n\nx\0";
            cluster.say(client, &[connect, rest, "DISCONNECT\nreceipt:2\n\n\0"].concat());
            let frames = cluster.frames(client);
            assert_eq!(header_of(&frames[0], "version"), Some("1.2"));
            let session = header_of(&frames[0], "session").expect("it has one");
            assert!(session.len() == 32 && session.bytes().all(|byte| byte.is_ascii_hexdigit()), "{session}");
            assert!(sessions.insert(session.to_owned()));
            assert_eq!(frames[1], "RECEIPT\nreceipt-id:1\\c\n\n");
            assert_eq!(header_of(&frames[2], "subscription"), Some("a\\cb"));
            assert_eq!((frames.len(), frames[3].as_str()), (4, "RECEIPT\nreceipt-id:2\n\n"));
            cluster.cut(client);
        }
    });
}

/// Item 52, row S28: who does not CONNECT in time is closed, and whatever it says meanwhile.
#[test]
fn a_client_that_does_not_connect_in_time_is_closed() {
    check_over_workers(&Options::default(), |cluster| {
        let (silent, slow) = (cluster.open(1), cluster.open(2));
        for _ in 0..9 {
            cluster.pass(1_000);
            cluster.say(slow, "\n");
        }
        cluster.say(slow, "CONNECT\naccept-");
        for client in [silent, slow] {
            assert_eq!((cluster.closed(client), cluster.frames(client)), (None, Vec::new()));
        }
        cluster.pass(1_100);
        for client in [silent, slow] {
            assert_eq!(header_of(&cluster.frame(client), "message"), Some("no CONNECT in time"));
            assert_eq!(cluster.closed(client), Some(CloseCode::PROTOCOL_ERROR));
        }
    });
}

/// Items 26, 98 and 99: every frame may ask for a receipt, which has its name and comes in the order of frames.
#[test]
fn every_frame_gets_its_receipt_in_order() {
    check_over_workers(&Options::default(), |cluster| {
        for (version, name, echo) in
            [("1.2", "r\\c\\n\\r\\\\", "r\\c\\n\\r\\\\"), ("1.1", "é\\c", "é\\c"), ("1.0", "a\\n:b", "a\\n:b")]
        {
            let client = cluster.connect(1, version);
            let mut all = String::new();
            for queue in ["a", "b", "c"] {
                for frame in [
                    format!("SUBSCRIBE\nid:{queue}\ndestination:/queue/{queue}\nack:client\n"),
                    format!("BEGIN\ntransaction:{queue}\n"),
                    format!("SEND\ndestination:/topic/{queue}\n"),
                    format!("SEND\ndestination:/queue/{queue}\n"),
                    format!("SEND\ndestination:/queue/{queue}\ntransaction:{queue}\n"),
                    format!("COMMIT\ntransaction:{queue}\n"),
                    format!("BEGIN\ntransaction:{queue}\n"),
                    format!("ABORT\ntransaction:{queue}\n"),
                    format!("UNSUBSCRIBE\nid:{queue}\n"),
                ] {
                    let number = all.matches('\0').count();
                    all.push_str(&format!("{frame}receipt:{name}{number}\n\n\0"));
                }
            }
            cluster.say(client, &format!("{all}DISCONNECT\nreceipt:{name}27\n\n\0"));
            let frames = cluster.frames(client);
            let receipts: Vec<_> = frames.iter().filter(|frame| frame.starts_with("RECEIPT")).collect();
            let expect: Vec<_> = (0..28).map(|number| format!("RECEIPT\nreceipt-id:{echo}{number}\n\n")).collect();
            assert_eq!(receipts, expect.iter().collect::<Vec<_>>());
            assert_eq!(cluster.closed(client), Some(CloseCode::NORMAL));
            let drain = cluster.connect(0, "1.2");
            for queue in ["a", "b", "c"] {
                cluster.say(drain, &format!("SUBSCRIBE\nid:{queue}\ndestination:/queue/{queue}\n\n\0"));
            }
            assert_eq!(cluster.bodies(drain).len(), 6);
            cluster.cut(drain);
        }
    });
}

/// Items 100, 106 and 107: a frame that fails has an ERROR with its receipt, and no RECEIPT; nothing follows, not even
/// what others had promised.
#[test]
fn nothing_follows_an_error() {
    let mut options = Options::default();
    options.queues.messages_max = 1;
    check_over_workers(&options, |cluster| {
        let client = cluster.connect(1, "1.2");
        let subscribe = "SUBSCRIBE\nid:1\ndestination:/topic/a\n\n\0SEND\ndestination:/topic/a\n\n0\0";
        let sends: String =
            (0..9).map(|number| format!("SEND\ndestination:/queue/{}\nreceipt:{number}\n\n\0", number % 5)).collect();
        cluster.say(client, &[subscribe, &sends].concat());
        let frames = cluster.frames(client);
        let at = frames.iter().position(|frame| frame.starts_with("ERROR")).expect("a queue is full");
        let receipts: Vec<_> = frames[1..at].iter().map(|frame| header_of(frame, "receipt-id")).collect();
        assert_eq!(receipts, ["0", "1", "2", "3", "4"].map(Some)[..receipts.len()]);
        assert_eq!(frames.len(), at + 1, "{frames:?}");
        assert_eq!(header_of(&frames[at], "receipt-id"), Some("5"));
        assert_eq!(cluster.closed(client), Some(CloseCode::PROTOCOL_ERROR));
        let publisher = cluster.connect(2, "1.2");
        cluster.say(publisher, "SEND\ndestination:/topic/a\n\n1\0");
        assert_eq!(cluster.frames(client), [""; 0]);
    });
}

/// Items 102 to 104, row S26: the RECEIPT of DISCONNECT comes when all before it has taken effect, and nothing after it
/// has any.
#[test]
fn disconnect_ends_when_all_before_it_is_done() {
    let options = Options { frames_per_turn_max: 2, ..Options::default() };
    check_over_workers(&options, |cluster| {
        for receipt in ["receipt:d\n", ""] {
            let client = cluster.connect(1, "1.2");
            let sends: String = (0..5).map(|queue| format!("SEND\ndestination:/queue/{queue}\n\n\0")).collect();
            cluster.whisper(client, format!("{sends}DISCONNECT\n{receipt}\n\0{sends}CONNECT\n\n\0").as_bytes());
            for _ in 0..100 {
                if cluster.closed(client).is_some() {
                    break;
                }
                assert_eq!(cluster.frames(client), [""; 0], "it is not done yet");
                for worker in 0..u16::try_from(cluster.workers.len()).expect("few") {
                    cluster.end_turn(worker);
                    cluster.expire(worker);
                    cluster.end_turn(worker);
                    for from in 0..3 {
                        cluster.hand_over(from, worker);
                    }
                }
            }
            assert_eq!(cluster.closed(client), Some(CloseCode::NORMAL));
            assert_eq!(cluster.frames(client).len(), receipt.len().min(1));
            assert_eq!(cluster.queue_count(), 5, "all is there by now");
            let drain = cluster.connect(0, "1.2");
            for queue in 0..5 {
                cluster.say(drain, &format!("SUBSCRIBE\nid:{queue}\ndestination:/queue/{queue}\n\n\0"));
            }
            assert_eq!(cluster.bodies(drain).len(), 5, "and nothing twice");
            cluster.cut(drain);
            cluster.run();
        }
    });
}

/// Item 105: frames that have come whole are processed though the connection is gone; a cut one is not.
#[test]
fn whole_frames_of_a_lost_connection_are_processed() {
    let options = Options { frames_per_turn_max: 1, receipts_max: 2, ..Options::default() };
    check_over_workers(&options, |cluster| {
        let client = cluster.connect(1, "1.2");
        let transaction =
            "BEGIN\ntransaction:t\n\n\0SEND\ndestination:/queue/t\ntransaction:t\n\n\0COMMIT\ntransaction:t\n\n\0";
        let sends: String =
            (0..8).map(|queue| format!("SEND\ndestination:/queue/{queue}\nreceipt:{queue}\n\n\0")).collect();
        cluster.whisper(client, format!("{transaction}{sends}SEND\ndestination:/queue/cut\n\nx").as_bytes());
        cluster.cut(client);
        // Its slot is another one's by now.
        let next = cluster.connect(1, "1.2");
        cluster.run();
        assert_eq!((cluster.queue_count(), cluster.frames(next)), (9, Vec::new()));
    });
}

/// A frame that came in two pieces leaves no block behind if its connection is lost while it takes effect.
#[test]
fn a_cut_frame_of_a_lost_connection_leaves_no_block() {
    check_over_workers(&Options::default(), |cluster| {
        for last in ["DISCONNECT\nreceipt:d\n\n\0", "BEGIN\ntransaction:t\n\n\0COMMIT\ntransaction:t\n\n\0"] {
            for cut in 0..last.len() {
                let client = cluster.connect(1, "1.2");
                for queue in 0..3 {
                    cluster.whisper(client, format!("SEND\ndestination:/queue/{queue}\n\n\0").as_bytes());
                }
                cluster.whisper(client, &last.as_bytes()[..cut]);
                cluster.whisper(client, &last.as_bytes()[cut..]);
                cluster.cut(client);
            }
        }
    });
}

fn beating() -> Options {
    let heart_beat = HeartBeat { can_ms: 1_000, wants_ms: 2_000 };
    Options { session: SessionOptions { heart_beat, ..SessionOptions::default() }, ..Options::default() }
}

fn connect(heart_beat: &str) -> String {
    format!("CONNECT\naccept-version:1.1\nheart-beat:{heart_beat}\n\n\0")
}

/// Items 55, 56, 58 and 62: a beat comes before the period is over, if nothing else has come.
#[test]
fn a_heart_beat_comes_when_nothing_else_does() {
    check_over_workers(&beating(), |cluster| {
        let client = cluster.open(1);
        cluster.say(client, &connect("0,1500"));
        assert_eq!(header_of(&cluster.frame(client), "heart-beat"), Some("1000,2000"));
        for _ in 0..5 {
            // A quarter of the period early, and a tick of the wheel.
            cluster.pass(1_200);
            assert_eq!(cluster.frame(client), "\n");
        }
        cluster.say(client, "SUBSCRIBE\nid:1\ndestination:/topic/a\n\n\0");
        let publisher = cluster.connect(2, "1.2");
        for _ in 0..10 {
            cluster.pass(700);
            cluster.say(publisher, "SEND\ndestination:/topic/a\n\nx\0");
            assert_eq!(cluster.bodies(client), ["x"], "no beat while messages come");
        }
        let old = cluster.open(1);
        cluster.say(old, &connect("100,100").replace("1.1", "1.0"));
        assert_eq!(header_of(&cluster.frame(old), "heart-beat"), None);
        cluster.pass(20_000);
        assert_eq!((cluster.frames(old), cluster.closed(old)), (Vec::new(), None), "1.0 has none");
    });
}

/// Items 57 to 61, row S18: silence of two periods ends the session, any byte prolongs it; what it had comes back.
#[test]
fn silence_of_two_periods_ends_the_session() {
    check_over_workers(&beating(), |cluster| {
        let client = cluster.open(1);
        cluster.say(client, &connect("500,0"));
        cluster.say(client, "SUBSCRIBE\nid:1\ndestination:/queue/a\nack:client\n\n\0SEND\ndestination:/queue/a\n\nx\0");
        cluster.frames(client);
        for byte in ["\n", "S", "E", "N", "D", "\n"] {
            cluster.pass(3_900);
            assert_eq!((cluster.frames(client), cluster.closed(client)), (Vec::new(), None));
            cluster.say(client, byte);
        }
        cluster.pass(4_100);
        assert_eq!(header_of(&cluster.frame(client), "message"), Some("nothing heard, not even a heart-beat"));
        let next = cluster.connect(2, "1.2");
        cluster.say(next, "SUBSCRIBE\nid:1\ndestination:/queue/a\n\n\0");
        assert_eq!(header_of(&cluster.frame(next), "redelivered"), Some("true"));
        for wrong in ["1", "T,0", "0,-10", "1,2,3"] {
            let client = cluster.open(1);
            assert_eq!(cluster.error(client, &connect(wrong)), "heart-beat is not two decimal numbers");
        }
    });
}

/// Item 60: a client is not silent because its frames wait for others.
#[test]
fn a_client_that_is_held_up_is_not_silent() {
    check_over_workers(&beating(), |cluster| {
        let client = cluster.open(1);
        cluster.say(client, &connect("500,0"));
        cluster.frames(client);
        cluster.is_backed_up = true;
        cluster.whisper(client, "SEND\ndestination:/queue/a\n\n\0".repeat(3).as_bytes());
        for _ in 0..20 {
            cluster.pass(500);
            cluster.whisper(client, b"\n");
        }
        assert_eq!((cluster.frames(client), cluster.closed(client)), (Vec::new(), None));
        cluster.is_backed_up = false;
        cluster.run();
        cluster.say(client, "DISCONNECT\nreceipt:d\n\n\0");
        assert_eq!(cluster.receipts(client), ["d"]);
        assert_eq!(cluster.queue_count(), 1);
    });
}

/// A client that reads nothing gets no beats on top, and nobody looks at it all the time.
#[test]
fn a_client_that_does_not_read_gets_no_heart_beats() {
    check_over_workers(&beating(), |cluster| {
        cluster.queue_bytes_max = 1_000;
        let client = cluster.open(1);
        cluster.say(client, &connect("0,1000"));
        cluster.say(client, "SUBSCRIBE\nid:1\ndestination:/topic/a\n\n\0");
        cluster.frames(client);
        cluster.wires.get_mut(&client).expect("it is open").is_stuck = true;
        cluster.say(client, &format!("SEND\ndestination:/topic/a\n\n{}\0", "x".repeat(1_000)));
        assert_eq!(cluster.frames(client).len(), 1);
        let mut looks = 0;
        for _ in 0..100 {
            cluster.now_ms += 32;
            let (now_ms, worker) = (cluster.now_ms, client.worker);
            let due_ms = cluster.workers[usize::from(worker)].poll_timeout(now_ms);
            looks += usize::from(due_ms.is_some_and(|due_ms| due_ms <= now_ms));
            cluster.expire(worker);
        }
        assert_eq!((looks, cluster.frames(client)), (4, Vec::new()), "one look in a period of 750 ms");
        cluster.wires.get_mut(&client).expect("it is open").is_stuck = false;
        cluster.pass(1_100);
        assert_eq!(cluster.frame(client), "\n");
    });
}
