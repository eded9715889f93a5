//! Sessions: what may come when, and what is due when.

use super::*;

const OPTIONS: SessionOptions = SessionOptions {
    first: Limits { headers_max: 8, header_bytes_max: 64, body_bytes_max: 16, allows_any_body: true },
    frames: Limits { headers_max: 8, header_bytes_max: 64, body_bytes_max: 100, allows_any_body: true },
    login_timeout_ms: 10_000,
    heart_beat: HeartBeat { can_ms: 1_000, wants_ms: 2_000 },
};

/// A session, its client's bytes and what it wrote.
struct Bench {
    session: Session,
    pool: Pool,
    out: Vec<u8>,
    now_ms: u64,
}

impl Bench {
    fn new() -> Self {
        Self { session: Session::new(OPTIONS, 0), pool: Pool::default(), out: Vec::new(), now_ms: 0 }
    }

    /// A session that is open in `version`.
    fn open(version: Version) -> Self {
        let mut bench = Self::new();
        let connect = format!("CONNECT\naccept-version:{}\nheart-beat:500,1500\n\n\0", version.name());
        assert_eq!(bench.say(connect.as_bytes()), ["Connect"]);
        bench.out.clear();
        bench
    }

    /// What comes of `input`, each by its Debug form up to the first blank or brace; an ERROR is `message`. A CONNECT
    /// is accepted.
    fn say(&mut self, input: &[u8]) -> Vec<String> {
        self.say_and(input, |request| {
            let form = format!("{:?}", request.action);
            form.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
        })
    }

    fn say_and(&mut self, mut input: &[u8], mut show: impl FnMut(&Request<'_>) -> String) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.session.receive(&mut input, self.now_ms, &mut self.pool) {
                Ok(Some(Incoming::Request(request))) => seen.push(show(&request)),
                Ok(Some(Incoming::Connect(_))) => {
                    seen.push("Connect".into());
                    assert!(self.session.accept("s1", "", self.now_ms, &mut self.out));
                }
                Ok(None) => return seen,
                Err(failure) => {
                    failure.write(self.session.version(), &mut self.out);
                    seen.push(failure.fault.message().into());
                }
            }
        }
    }

    fn wrote(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out)).expect("what we write here is text")
    }

    /// Lets time pass up to the next thing that is due; returns when that is.
    fn wait(&mut self) -> u64 {
        self.now_ms = self.session.poll_timeout().expect("something is due");
        if let Err(failure) = self.session.handle_timeout(self.now_ms, &mut self.out) {
            failure.write(self.session.version(), &mut self.out);
        }
        self.now_ms
    }
}

/// The ERROR with which `input` ends an open session.
#[track_caller]
fn check_fault(version: Version, input: &str, message: &str) {
    let mut bench = Bench::open(version);
    assert_eq!(bench.say(format!("{input}\n\0").as_bytes()), [message], "{input:?} in {version:?}");
    let wrote = bench.wrote();
    assert!(wrote.starts_with(&format!("ERROR\nmessage:{message}\ncontent-type:text/plain\n")), "{wrote:?}");
    assert_eq!(bench.say(b"SEND\ndestination:/a\n\n\0"), Vec::<String>::new(), "nothing follows an ERROR");
}

#[track_caller]
fn check_action(version: Version, input: &str, action: &str) {
    assert_eq!(Bench::open(version).say(format!("{input}\n\0").as_bytes()), [action], "{input:?} in {version:?}");
}

/// Item 40 and row S1: the first frame is CONNECT or STOMP.
#[test]
fn the_first_frame_opens_the_session() {
    for first in ["SEND\ndestination:/a\n", "SUBSCRIBE\nid:1\ndestination:/a\n", "DISCONNECT\n", "CONNECTED\n"] {
        let mut bench = Bench::new();
        assert_eq!(bench.say(format!("{first}\n\0").as_bytes()), [Fault::NotConnected.message()]);
    }
}

/// Item 41: STOMP is CONNECT by another name.
#[test]
fn stomp_opens_a_session_as_connect_does() {
    let mut bench = Bench::new();
    assert_eq!(bench.say(b"STOMP\naccept-version:1.2\nhost:a\n\n\0"), ["Connect"]);
    assert_eq!(bench.wrote(), "CONNECTED\nversion:1.2\nheart-beat:1000,2000\nsession:s1\n\n\0");
}

/// Items 42 and 11, row S2.
#[test]
fn a_second_connect_and_a_servers_command_are_errors() {
    check_fault(Version::V1_2, "CONNECT\naccept-version:1.2\n", Fault::AlreadyConnected.message());
    check_fault(Version::V1_1, "STOMP\n", Fault::AlreadyConnected.message());
    for command in ["CONNECTED", "MESSAGE", "RECEIPT", "ERROR"] {
        check_fault(Version::V1_2, &format!("{command}\n"), Fault::ServerCommand.message());
    }
}

/// Items 43 and 62: without a version it is 1.0, which has no heart-beats.
#[test]
fn without_a_version_it_is_1_0_without_heart_beats() {
    let mut bench = Bench::new();
    bench.say(b"CONNECT\nheart-beat:1000,nonsense\n\n\0");
    assert_eq!(bench.wrote(), "CONNECTED\nversion:1.0\nsession:s1\n\n\0");
    assert_eq!((bench.session.periods(), bench.session.poll_timeout()), (Periods::default(), None));
}

/// Items 45 and 25: no version in common is an ERROR that says which there are.
#[test]
fn no_common_version_is_an_error_that_names_ours() {
    let mut bench = Bench::new();
    assert_eq!(bench.say(b"CONNECT\naccept-version:2.1\nreceipt:x\n\n\0").len(), 1);
    let text = "supported versions are 1.0, 1.1 and 1.2";
    let expect =
        format!("ERROR\nmessage:{text}\ncontent-type:text/plain\nversion:1.0,1.1,1.2\ncontent-length:39\n\n{text}\0");
    assert_eq!(bench.wrote(), expect);
}

/// Item 47: the name of the server may be left out, and item 50: a CONNECT gets no RECEIPT.
#[test]
fn a_connect_gets_no_receipt() {
    let mut bench = Bench::new();
    bench.say(b"CONNECT\naccept-version:1.1\nreceipt:r\n\n\0");
    assert!(!bench.wrote().contains("receipt"));
}

/// Item 48: clients that name no host are let in, and what they say of themselves is kept out of logs.
#[test]
fn a_login_has_what_the_client_says_and_does_not_show_the_passcode() {
    let mut session = Session::new(OPTIONS, 0);
    let mut pool = Pool::default();
    let mut input = &b"CONNECT\nlogin:a\\cb\npasscode:secret\n\n\0"[..];
    let login = match session.receive(&mut input, 0, &mut pool) {
        Ok(Some(Incoming::Connect(login))) => login,
        other => panic!("{other:?}"),
    };
    assert_eq!((login.host.as_deref(), login.login.as_deref()), (None, Some(r"a\cb")));
    assert_eq!(login.passcode.as_deref(), Some("secret"));
    assert!(!format!("{login:?}").contains("secret"));
}

/// Item 51: what follows CONNECT in the same bytes is handled after it, by the version that was agreed on.
#[test]
fn what_follows_a_connect_waits_for_its_answer() {
    let mut session = Session::new(OPTIONS, 0);
    let (mut pool, mut out) = (Pool::default(), Vec::new());
    let mut input = &b"CONNECT\naccept-version:1.2\n\n\0BEGIN\ntransaction:a\\cb\n\n\0"[..];
    assert!(matches!(session.receive(&mut input, 0, &mut pool), Ok(Some(Incoming::Connect(_)))));
    let before = input.len();
    assert!(session.receive(&mut input, 0, &mut pool).is_ok_and(|none| none.is_none()));
    assert_eq!(input.len(), before);
    assert!(session.accept("s1", "", 0, &mut out));
    assert!(!session.accept("s1", "", 0, &mut out), "it is open");
    let begin = session.receive(&mut input, 0, &mut pool).expect("a good frame");
    let Some(Incoming::Request(request)) = begin else { panic!("{begin:?}") };
    assert!(matches!(request.action, Action::Begin(name) if name == "a:b"));
}

/// Items 52 and row S28: a client that does not CONNECT is closed, whatever else it sends.
#[test]
fn a_client_that_does_not_connect_is_closed() {
    let mut bench = Bench::new();
    bench.now_ms = 9_000;
    bench.say(b"\n\n\nCONN");
    assert_eq!(bench.wait(), 10_000);
    assert!(bench.wrote().starts_with("ERROR\nmessage:no CONNECT in time\n"));
    assert_eq!(bench.session.poll_timeout(), None);
}

/// Row S28: nor does the time for it begin anew, and an answer that comes too late opens nothing.
#[test]
fn an_answer_that_comes_too_late_opens_nothing() {
    let mut session = Session::new(OPTIONS, 0);
    let (mut pool, mut out) = (Pool::default(), Vec::new());
    assert!(!session.accept("s1", "", 0, &mut out), "nobody asked");
    let mut input = &b"CONNECT\naccept-version:1.2\n\n\0"[..];
    assert!(matches!(session.receive(&mut input, 9_000, &mut pool), Ok(Some(Incoming::Connect(_)))));
    session.handle_said(9_500);
    assert_eq!(session.poll_timeout(), Some(10_000));
    let failure = session.handle_timeout(10_000, &mut out).expect_err("the time is over");
    assert_eq!(failure.fault, Fault::LoginTimeout);
    assert!(!session.accept("s1", "", 10_001, &mut out));
    assert_eq!(out, b"");
}

/// Item 113: before CONNECT the limits are narrower, and those after it hold from the next frame on.
#[test]
fn limits_are_narrower_before_connect() {
    let mut bench = Bench::new();
    assert_eq!(bench.say(b"CONNECT\ncontent-length:17\n\n"), [StompError::BodyTooBig.message()]);
    let mut bench = Bench::open(Version::V1_2);
    assert_eq!(bench.say(format!("SEND\ndestination:/a\n\n{}\0", "x".repeat(100)).as_bytes()), ["Send"]);
}

/// Items 55 to 58: our heart-beats come when nothing else was said, a quarter of the period before it is over.
#[test]
fn heart_beats_come_when_nothing_else_was_said() {
    let mut bench = Bench::open(Version::V1_2);
    let agreed = Periods { send_ms: Some(1_500), expect_ms: Some(2_000) };
    assert_eq!(bench.session.periods(), agreed);
    assert_eq!((bench.wait(), bench.wrote()), (1_125, "\n".into()));
    bench.session.handle_said(2_900);
    bench.say(b"\n");
    assert_eq!((bench.wait(), bench.wrote()), (4_025, "\n".into()));
}

/// Items 59 to 61, row S18: any byte is a sign of life, and silence for two periods ends the session.
#[test]
fn any_byte_is_a_sign_of_life_and_silence_ends_the_session() {
    let mut bench = Bench::open(Version::V1_1);
    bench.now_ms = 3_999;
    bench.say(b"S");
    bench.session.handle_said(7_000);
    assert_eq!((bench.wait(), bench.session.poll_timeout()), (7_999, None));
    assert!(bench.wrote().starts_with("ERROR\nmessage:nothing heard, not even a heart-beat\n"));
}

/// Item 57: a heart-beat of another form is an error.
#[test]
fn a_heart_beat_is_two_numbers() {
    for value in ["1000", "T,0", "0,-10", "1,2,3"] {
        let mut bench = Bench::new();
        let connect = format!("CONNECT\naccept-version:1.2\nheart-beat:{value}\n\n\0");
        assert_eq!(bench.say(connect.as_bytes()), [Fault::InvalidHeartBeat.message()]);
    }
}

/// Items 64 and 68.
#[test]
fn send_and_subscribe_name_a_destination() {
    for version in ALL_VERSIONS {
        check_fault(version, "SEND\n", Fault::MissingDestination.message());
        check_fault(version, "SEND\ndestination:\n", Fault::MissingDestination.message());
        check_fault(version, "SUBSCRIBE\nid:1\n", Fault::MissingDestination.message());
    }
}

/// Items 65 and 29, row S10: subscribers get a sender's headers, but none that is about the frame, or the broker's.
#[test]
fn a_senders_headers_are_passed_on_but_not_the_brokers() {
    let input = "SEND\ndestination:/a\nreceipt:1\ntransaction:t\nmessage-id:9\nsubscription:8\nack:7\nredelivered:true\n\
                 colour:red\ncontent-length:2\ncontent-type:text/plain\ncolour:blue\n\nhi\0";
    let mut bench = Bench { session: Session::new(SessionOptions::default(), 0), ..Bench::new() };
    bench.say(b"CONNECT\naccept-version:1.2\n\n\0");
    let seen = bench.say_and(input.as_bytes(), |request| match &request.action {
        Action::Send(message) => format!("{:?} {:?}", message.passed_on().collect::<Vec<_>>(), request.receipt),
        other => panic!("{other:?}"),
    });
    let headers = r#"[("colour", "red"), ("content-type", "text/plain"), ("colour", "blue")] Some("1")"#;
    assert_eq!(seen, [headers]);
}

/// Items 69 and 74: from 1.1 on subscriptions have ids; in 1.0 they may go by their destination.
#[test]
fn subscriptions_have_ids_except_in_1_0() {
    check_action(Version::V1_0, "SUBSCRIBE\ndestination:/a\n", "Subscribe");
    check_action(Version::V1_0, "UNSUBSCRIBE\ndestination:/a\n", "Unsubscribe");
    for version in [Version::V1_1, Version::V1_2] {
        check_action(version, "SUBSCRIBE\nid:1\ndestination:/a\n", "Subscribe");
        check_fault(version, "SUBSCRIBE\ndestination:/a\n", Fault::MissingId.message());
        check_fault(version, "UNSUBSCRIBE\ndestination:/a\n", Fault::MissingId.message());
    }
}

/// Item 71.
#[test]
fn a_mode_of_acknowledgement_is_one_of_three() {
    for version in ALL_VERSIONS {
        for mode in ["auto", "client", "client-individual"] {
            check_action(version, &format!("SUBSCRIBE\nid:1\ndestination:/a\nack:{mode}\n"), "Subscribe");
        }
        check_fault(version, "SUBSCRIBE\nid:1\ndestination:/a\nack:never\n", Fault::UnknownAckMode.message());
    }
}

/// Row S11: nothing evaluates a selector.
#[test]
fn a_selector_is_an_error() {
    let input = "SUBSCRIBE\nid:1\ndestination:/a\nselector:T(java.lang.Runtime)\n";
    check_fault(Version::V1_2, input, Fault::Selector.message());
    check_fault(
        Version::V1_2,
        "SUBSCRIBE\nid:1\ndestination:/a\nprefetch-count:-1\n",
        Fault::InvalidPrefetch.message(),
    );
}

/// Items 80 and 84: each version names a message in its own way.
#[test]
fn each_version_names_an_acknowledged_message_in_its_own_way() {
    for command in ["ACK", "NACK"] {
        let action = if command == "ACK" { "Ack" } else { "Nack" };
        check_action(Version::V1_0, &format!("{command}\nmessage-id:1\n"), action);
        check_action(Version::V1_1, &format!("{command}\nmessage-id:1\nsubscription:2\n"), action);
        check_action(Version::V1_2, &format!("{command}\nid:1\nsubscription:2\n"), action);
        check_fault(Version::V1_0, &format!("{command}\nid:1\n"), Fault::MissingMessageId.message());
        check_fault(Version::V1_1, &format!("{command}\nmessage-id:1\n"), Fault::MissingSubscription.message());
        check_fault(Version::V1_2, &format!("{command}\nmessage-id:1\n"), Fault::MissingId.message());
    }
}

/// Item 89.
#[test]
fn transactions_have_names() {
    for command in ["BEGIN", "COMMIT", "ABORT"] {
        check_fault(Version::V1_2, &format!("{command}\n"), Fault::MissingTransaction.message());
    }
    check_action(Version::V1_2, "BEGIN\ntransaction:t\n", "Begin");
    check_action(Version::V1_2, "COMMIT\ntransaction:t\n", "Commit");
    check_action(Version::V1_2, "ABORT\ntransaction:t\n", "Abort");
}

/// Items 98 and 53: every frame but CONNECT may ask for a receipt, and unknown headers mean nothing.
#[test]
fn every_request_may_ask_for_a_receipt() {
    let requests = [
        "SEND\ndestination:/a\n",
        "SUBSCRIBE\nid:1\ndestination:/a\n",
        "UNSUBSCRIBE\nid:1\n",
        "ACK\nid:1\n",
        "NACK\nid:1\n",
        "BEGIN\ntransaction:t\n",
        "COMMIT\ntransaction:t\n",
        "ABORT\ntransaction:t\n",
        "DISCONNECT\n",
    ];
    for request in requests {
        let mut bench = Bench::open(Version::V1_2);
        let input = format!("{request}x-unknown:1\nreceipt:r\\c1\n\n\0");
        let seen = bench.say_and(input.as_bytes(), |request| format!("{:?}", request.receipt));
        assert_eq!(seen, [r#"Some("r:1")"#], "{request:?}");
    }
}

/// Items 100 and 107: the ERROR has the id of the receipt that was asked for, and never a RECEIPT beside it.
#[test]
fn an_error_has_the_id_of_the_receipt() {
    let mut bench = Bench::open(Version::V1_2);
    bench.say(b"SEND\nreceipt:r\\c1\n\n\0");
    let wrote = bench.wrote();
    assert!(wrote.contains("\nreceipt-id:r\\c1\n"), "{wrote:?}");
}

/// Whatever a failure says can be written in every version.
#[test]
fn messages_of_faults_need_no_escapes() {
    let faults = [
        Fault::NotConnected,
        Fault::AlreadyConnected,
        Fault::ServerCommand,
        Fault::NoCommonVersion,
        Fault::InvalidHeartBeat,
        Fault::AccessRefused,
        Fault::LoginTimeout,
        Fault::Silent,
        Fault::MissingDestination,
        Fault::MissingId,
        Fault::MissingMessageId,
        Fault::MissingSubscription,
        Fault::MissingTransaction,
        Fault::UnknownAckMode,
        Fault::InvalidPrefetch,
        Fault::InvalidRequeue,
        Fault::Selector,
    ];
    for fault in faults {
        assert!(!fault.message().contains([':', '\\', '\n', '\r']), "{fault:?}");
    }
}
