//! Hostile STOMP clients on real sockets, over TCP and over WebSocket: each gets a clear ERROR and its end, and nobody
//! else notices. Names of rows are those of the project's list of hostile inputs.

mod host;
mod stomp;

use ringsock::handler::stomp::{Options, Shared, SlowConsumer, Stomp};

use host::Host;
use stomp::{Client, Doors, Over, body, header};

fn start(adjust: impl FnOnce(&mut Options)) -> (Host, Doors) {
    let mut options = Options::default();
    adjust(&mut options);
    let shared = Shared::default();
    let host = Host::start(
        |server| server.stomp = Some(([127, 0, 0, 1], 0).into()),
        move |_| Stomp::new(options.clone(), &shared),
    );
    let doors = Doors { web: host.address, tcp: host.server.stomp_address().expect("it was asked for") };
    (host, doors)
}

/// Two who do nothing wrong, and talk to each other.
struct Bystanders(Client, Client);

impl Bystanders {
    fn meet(doors: Doors) -> Self {
        let mut listener = Client::connect(doors, Over::WebSocket, "1.2");
        listener.subscribe("/topic/bystanders", "");
        Self(Client::connect(doors, Over::Tcp, "1.1"), listener)
    }

    #[track_caller]
    fn talk(&mut self, what: &str) {
        self.0.say(&format!("SEND\ndestination:/topic/bystanders\n\n{what}\0"));
        assert_eq!(body(&self.1.frame()), what, "others go on");
    }
}

/// Sends `hostile` in a session of 1.2 (or without one), and expects the ERROR.
#[track_caller]
fn check(rows: &[(&str, &str, &str)], is_connected: bool) {
    let (host, doors) = start(|_| {});
    let mut bystanders = Bystanders::meet(doors);
    for over in [Over::Tcp, Over::WebSocket] {
        for (row, hostile, message) in rows {
            println!("{row} over {over:?}: {message}");
            let mut client = if is_connected { Client::connect(doors, over, "1.2") } else { Client::open(doors, over) };
            // A WebSocket has a limit for its messages, too.
            hostile.as_bytes().chunks(8 << 10).for_each(|part| client.send(part));
            client.expect_error(message);
            bystanders.talk(row);
        }
    }
    drop(bystanders);
    host.stop();
}

#[test]
fn what_comes_before_connect_is_refused() {
    let long_line = format!("CONNECT\nlogin:{}", "x".repeat(8 << 10));
    let long_body = format!("CONNECT\naccept-version:1.2\n\n{}", "x".repeat(8 << 10));
    check(
        &[
            ("S1", "SEND\ndestination:/topic/bystanders\n\nx\0", "the first frame is CONNECT"),
            ("S1", "SUBSCRIBE\nid:0\ndestination:/topic/bystanders\n\n\0", "the first frame is CONNECT"),
            ("S2", "CONNECTED\nversion:1.2\n\n\0", "the first frame is CONNECT"),
            ("S3", &long_line, "header is too long"),
            ("S6", &long_body, "body is too big"),
            ("S18", "CONNECT\naccept-version:1.2\nheart-beat:-1,0\n\n\0", "heart-beat is not two"),
            ("S18", "CONNECT\naccept-version:1.2\nheart-beat:1\n\n\0", "heart-beat is not two"),
            ("S21", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "unknown command"),
            ("S21", &"HELLO\n\n\0".repeat(1_000), "unknown command"),
            ("no version", "CONNECT\naccept-version:9.9\n\n\0", "supported versions are"),
        ],
        false,
    );
}

#[test]
fn frames_that_are_none_end_the_session_of_their_sender_alone() {
    let many_headers = format!("SEND\ndestination:/topic/a\n{}\n\0", "a:b\n".repeat(65));
    let long_header = format!("SEND\ndestination:/topic/a\nlong:{}\n\n\0", "x".repeat(8 << 10));
    let endless_header = format!("SEND\n{}", "x".repeat(8 << 10));
    let endless_body = format!("SEND\ndestination:/topic/a\n\n{}", "x".repeat(70 << 10));
    check(
        &[
            ("S2", "CONNECT\naccept-version:1.2\n\n\0", "the session is open already"),
            ("S2", "CONNECTED\nversion:1.2\n\n\0", "only servers send this"),
            ("S2", "MESSAGE\ndestination:/topic/a\nmessage-id:1\nsubscription:s\n\nx\0", "only servers send this"),
            ("S3", &endless_header, "header is too long"),
            ("S4", "SEND\ndestination:/topic/a\ncontent-length:-1\n\nx\0", "content-length is not"),
            ("S4", "SEND\ndestination:/topic/a\ncontent-length:+5\n\nx\0", "content-length is not"),
            ("S4", "SEND\ndestination:/topic/a\ncontent-length:1e3\n\nx\0", "content-length is not"),
            ("S4", "SEND\ndestination:/topic/a\ncontent-length:5 \n\nx\0", "content-length is not"),
            ("S4", "SEND\ndestination:/topic/a\ncontent-length:100000000000000000000\n\nx\0", "content-length"),
            ("S5", "SEND\ndestination:/topic/a\ncontent-length:1\n\nxy\0", "no NUL after the announced body"),
            ("S6", &endless_body, "body is too big"),
            ("S7", &many_headers, "too many headers"),
            ("S7", &long_header, "header is too long"),
            ("S7", &"X".repeat(34), "command is too long"),
            ("S8", "SEND\ndestination:/topic/a\nx:a\\tb\n\n\0", "escape sequence"),
            ("S8", "SEND\ndestination:/topic/a\nx:a\\\n\n\0", "escape sequence"),
            ("S8", "SEND\ndestination:/topic/a\nx:a\rb\n\n\0", "carriage return"),
            ("S8", "SEND\ndestination:/topic/a\nx\n\n\0", "header without a colon"),
            ("S21", "BOGUS\n\n\0", "unknown command"),
            ("S27", "SEND\ndestination:/topic/a\nx:a\0b\n\n\0", "NUL before the end"),
        ],
        true,
    );
}

#[test]
fn requests_that_cannot_be_end_the_session_of_their_sender_alone() {
    let deep = format!("SUBSCRIBE\nid:0\ndestination:/topic/{}\n\n\0", ["*"; 33].join("."));
    let long = format!("SUBSCRIBE\nid:0\ndestination:/topic/{}\n\n\0", "x".repeat(3 << 10));
    let subscriptions: String =
        (0..300).map(|number| format!("SUBSCRIBE\nid:{number}\ndestination:/topic/{number}\n\n\0")).collect();
    let transactions: String = (0..100).map(|number| format!("BEGIN\ntransaction:{number}\n\n\0")).collect();
    let endless_transaction =
        format!("BEGIN\ntransaction:t\n\n\0{}", "SEND\ndestination:/topic/a\ntransaction:t\n\nx\0".repeat(1_025));
    check(
        &[
            ("S11", "SUBSCRIBE\nid:0\ndestination:/topic/a\nselector:T(java.lang.Runtime)\n\n\0", "selectors"),
            ("S12", &deep, "at most 32 segments"),
            ("S12", "SUBSCRIBE\nid:0\ndestination:/topic/a*b\n\n\0", "a wildcard"),
            ("S13", &long, "at most 255 bytes"),
            ("S13", &subscriptions, "too many subscriptions"),
            ("S14", &"SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0".repeat(2), "subscription id is in use"),
            ("S14", "UNSUBSCRIBE\nid:0\n\n\0", "no such subscription"),
            ("S15", "ACK\nid:0-1-1\n\n\0", "no such message"),
            ("S15", "NACK\nid:whatever\n\n\0", "no such message"),
            ("S17", &transactions, "too many open transactions"),
            ("S17", &endless_transaction, "too many frames in the transaction"),
            ("S17", "COMMIT\ntransaction:t\n\n\0", "no such transaction"),
            ("S22", "SEND\ndestination:/exchange/a\ndestination:/topic/bystanders\n\nx\0", "supported destinations"),
            ("S23", "SEND\ndestination:/temp-queue/somebody\n\nx\0", "no such temporary queue"),
            ("S23", "SUBSCRIBE\nid:0\ndestination:/amq/queue/a\n\n\0", "supported destinations"),
        ],
        true,
    );
}

/// Row S9: what one writes into a header is no frame for another, whatever the versions.
#[test]
fn a_header_cannot_become_a_frame_of_its_own() {
    let (host, doors) = start(|_| {});
    for over in [Over::Tcp, Over::WebSocket] {
        let mut subscribers = ["1.0", "1.1", "1.2"].map(|version| Client::connect(doors, over, version));
        for subscriber in &mut subscribers {
            subscriber.subscribe("/topic/injected", "");
        }
        let mut attacker = Client::connect(doors, over, "1.2");
        let evil = "a\\n\\n\\r\\nMESSAGE\\ndestination\\c/topic/forged";
        attacker.say(&format!("SEND\ndestination:/topic/injected\nevil:{evil}\nreceipt:{evil}\n\none\0"));
        assert_eq!(header(&attacker.frame(), "receipt-id"), Some(evil), "escaped again");
        attacker.say("SEND\ndestination:/topic/injected\n\ntwo\0");
        for (subscriber, shown) in subscribers.iter_mut().zip([None, None, Some(evil)]) {
            let first = subscriber.frame();
            assert_eq!((body(&first), header(&first, "evil")), ("one", shown), "{first:?}");
            assert_eq!(body(&subscriber.frame()), "two", "there is no frame between");
        }
    }
    host.stop();
}

/// Row S10: headers that are the broker's to give are not a client's.
#[test]
fn a_client_cannot_give_headers_that_are_the_brokers() {
    let (host, doors) = start(|_| {});
    let mut subscriber = Client::connect(doors, Over::Tcp, "1.2");
    subscriber.subscribe("/topic/owned", "");
    let mut forger = Client::connect(doors, Over::Tcp, "1.2");
    forger.say("SEND\ndestination:/topic/owned\nmessage-id:1\nsubscription:x\nack:y\nredelivered:true\n\nz\0");
    let message = subscriber.frame();
    assert_eq!(header(&message, "subscription"), Some("s"));
    assert_eq!(message.matches("message-id:").count(), 1);
    assert_eq!((header(&message, "ack"), header(&message, "redelivered")), (None, None), "{message}");
    drop((subscriber, forger));
    host.stop();
}

/// Row S15: whoever never acknowledges gets as many as its prefetch, and no more.
#[test]
fn who_never_acknowledges_gets_no_more_than_its_prefetch() {
    let (host, doors) = start(|_| {});
    let mut consumer = Client::connect(doors, Over::Tcp, "1.2");
    consumer.subscribe("/queue/idle", "ack:client-individual\nprefetch-count:3\n");
    let mut producer = Client::connect(doors, Over::WebSocket, "1.2");
    for number in 0..10 {
        producer.say(&format!("SEND\ndestination:/queue/idle\nreceipt:{number}\n\n{number}\0"));
        assert_eq!(header(&producer.frame(), "receipt-id"), Some(&*number.to_string()));
    }
    let got: Vec<String> = (0..3).map(|_| body(&consumer.frame()).to_owned()).collect();
    assert_eq!(got, ["0", "1", "2"]);
    // Its own messages would come behind a fourth one.
    consumer.say("SEND\ndestination:/topic/none\nreceipt:still here\n\n\0");
    assert_eq!(header(&consumer.frame(), "receipt-id"), Some("still here"));
    // Another one gets what it had, marked, when it has gone.
    drop(consumer);
    let mut other = Client::connect(doors, Over::Tcp, "1.2");
    other.subscribe("/queue/idle", "ack:client\nprefetch-count:20\n");
    let frames: Vec<String> = (0..10).map(|_| other.frame()).collect();
    let bodies: Vec<&str> = frames.iter().map(|frame| body(frame)).collect();
    let mut sorted = bodies.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let again = frames.iter().filter(|frame| header(frame, "redelivered") == Some("true")).count();
    assert_eq!(again, 3);
    drop((other, producer));
    host.stop();
}

/// Rows S18 and S28: whoever agreed to heart-beats and is silent is closed, and so is one that never says CONNECT.
#[test]
fn the_silent_are_closed() {
    let (host, doors) = start(|options| {
        options.session.heart_beat.wants_ms = 100;
        options.session.login_timeout_ms = 300;
    });
    for over in [Over::Tcp, Over::WebSocket] {
        let mut silent = Client::open(doors, over);
        silent.say("CONNECT\naccept-version:1.2\nheart-beat:0,1\n\n\0");
        assert_eq!(header(&silent.frame(), "heart-beat"), Some("1000,100"));
        let mut liar = Client::open(doors, over);
        liar.say("CONNECT\naccept-version:1.2\nheart-beat:1,0\n\n\0");
        assert!(liar.frame().starts_with("CONNECTED"));
        liar.expect_error("nothing heard");
        let mut mute = Client::open(doors, over);
        mute.expect_error("no CONNECT in time");
        // Who has promised nothing may be silent.
        silent.say("SEND\ndestination:/topic/none\nreceipt:1\n\n\0");
        assert_eq!(silent.frame(), "RECEIPT\nreceipt-id:1\n\n");
    }
    host.stop();
}

/// Rows S19 and S20: heart-beats by the thousand, and frames cut and joined in any way.
#[test]
fn floods_of_heart_beats_and_frames_in_pieces_are_borne() {
    let (host, doors) = start(|_| {});
    for over in [Over::Tcp, Over::WebSocket] {
        let mut client = Client::connect(doors, over, "1.2");
        for _ in 0..5_000 {
            client.say("\n");
        }
        client
            .say("\nSEND\ndestination:/topic/none\nreceipt:1\n\n\0\n\nSEND\ndestination:/topic/none\nreceipt:2\n\n\0");
        assert_eq!(header(&client.frame(), "receipt-id"), Some("1"));
        assert_eq!(header(&client.frame(), "receipt-id"), Some("2"));
        client.subscribe("/topic/pieces", "");
        for byte in "SEND\ndestination:/topic/pieces\n\nh\u{e9}\0".bytes() {
            client.send(&[byte]);
        }
        assert_eq!(body(&client.frame()), "h\u{e9}");
        // The limit is for the whole frame, not for a message of the WebSocket.
        client.say("SEND\ndestination:/topic/pieces\n\n");
        for _ in 0..10 {
            client.say(&"x".repeat(8 << 10));
        }
        client.expect_error("body is too big");
    }
    host.stop();
}

/// Rows S13, slow consumers and S25: a subscriber that reads nothing is closed, or loses the oldest; publishers don't
/// notice.
#[test]
fn a_subscriber_that_reads_nothing_harms_nobody() {
    let (host, doors) = start(|options| {
        options.slow_consumers.add("lossy.#", SlowConsumer::DropOldest).expect("a pattern");
        options.backlog_max = (100, 1 << 20);
    });
    let mut stuck = Client::connect(doors, Over::Tcp, "1.2");
    stuck.subscribe("/topic/strict", "");
    let mut lossy = Client::connect(doors, Over::Tcp, "1.2");
    lossy.subscribe("/topic/lossy.a", "");
    let mut publisher = Client::connect(doors, Over::WebSocket, "1.2");
    let payload = "x".repeat(16 << 10);
    for number in 0..1_500 {
        for topic in ["strict", "lossy.a"] {
            publisher
                .say(&format!("SEND\ndestination:/topic/{topic}\nnumber:{number}\nreceipt:{number}\n\n{payload}\0"));
            assert_eq!(header(&publisher.frame(), "receipt-id"), Some(&*number.to_string()));
        }
    }
    // What is left of it in the sockets comes first.
    let mut last = String::new();
    loop {
        let frame = stuck.frame();
        if frame.starts_with("ERROR") || frame.is_empty() {
            last = if frame.is_empty() { last } else { frame };
            break;
        }
        last = frame;
    }
    assert!(last.contains("too slow"), "{}", &last[..last.len().min(200)]);
    let (mut numbers, mut dropped) = (Vec::new(), 0);
    while numbers.last() != Some(&1_499) {
        let frame = lossy.frame();
        dropped += header(&frame, "dropped").map_or(0, |count| count.parse::<usize>().expect("a number"));
        numbers.push(header(&frame, "number").and_then(|number| number.parse::<usize>().ok()).expect("a number"));
    }
    assert!(numbers.is_sorted(), "the order stays");
    assert!(dropped > 0, "some were dropped");
    assert_eq!(numbers.len() + dropped, 1_500, "and it was told how many");
    drop((stuck, lossy, publisher));
    host.stop();
}

/// Row S26: the RECEIPT of a DISCONNECT comes after everything before it took effect; what follows is not processed.
#[test]
fn a_disconnect_is_the_last_frame() {
    let (host, doors) = start(|_| {});
    for over in [Over::Tcp, Over::WebSocket] {
        for queue in 0..8 {
            let mut client = Client::connect(doors, over, "1.2");
            client.say(&format!(
                "SEND\ndestination:/queue/last-{queue}\n\none\0DISCONNECT\nreceipt:bye\n\n\0SEND\ndestination:/queue/last-{queue}\n\ntwo\0"
            ));
            assert_eq!(client.frame(), "RECEIPT\nreceipt-id:bye\n\n");
            assert_eq!((client.frame(), client.closed), (String::new(), Some(1000)));
            let mut consumer = Client::connect(doors, over, "1.1");
            consumer.subscribe(&format!("/queue/last-{queue}"), "ack:auto\n");
            assert_eq!(body(&consumer.frame()), "one");
            consumer.say("SEND\ndestination:/topic/none\nreceipt:1\n\n\0");
            assert_eq!(consumer.frame(), "RECEIPT\nreceipt-id:1\n\n", "there was no second one");
        }
    }
    host.stop();
}

/// Row S27: NULs in a body of announced length are content.
#[test]
fn a_body_with_nuls_arrives_whole() {
    let (host, doors) = start(|_| {});
    for over in [Over::Tcp, Over::WebSocket] {
        let mut client = Client::connect(doors, over, "1.2");
        client.subscribe("/topic/nuls", "");
        client.say("SEND\ndestination:/topic/nuls\ncontent-length:5\n\na\0b\0c\0");
        assert_eq!(body(&client.frame()), "a\0b\0c");
    }
    host.stop();
}

/// Rows S28 and S30: what is said of a session names no secret, also where it is refused.
#[test]
fn errors_repeat_no_passcode() {
    let (host, doors) = start(|_| {});
    let mut client = Client::open(doors, Over::Tcp);
    client.say("CONNECT\naccept-version:9\nlogin:me\npasscode:hunter2\n\n\0");
    let error = client.frame();
    assert!(error.starts_with("ERROR\n") && !error.contains("hunter2"), "{error}");
    // Empty ones are no login, and nothing else.
    let mut nobody = Client::open(doors, Over::Tcp);
    nobody.say("CONNECT\naccept-version:1.2\nhost:/\nlogin:\npasscode:\n\n\0");
    assert!(nobody.frame().starts_with("CONNECTED\n"));
    drop((client, nobody));
    host.stop();
}
