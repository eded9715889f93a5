//! What a server answers to frames, good and hostile, over real sockets.
//!
//! The rows are those of the list of hostile inputs, by their numbers. An answer is compared byte
//! by byte up to the FIN, so nothing can hide behind a Close.

mod client;
mod host;
mod witness;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use ringsock::handler::Echo;
use ringsock::proto::ws::{Opcode, ProtocolError, encoder};
use ringsock::{CloseCause, CloseCode, Options};

use socket2::SockRef;

use client::{Arrival, Client, connect, frame, request};
use host::Host;
use witness::{Report, Witness, witness};

/// The longest message by default.
const LIMIT: usize = 64 << 10;

/// A masked fragment.
fn fragment(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder::fragment_header(&mut out, opcode, fin, payload.len(), Some([0; 4]));
    out.extend_from_slice(payload);
    out
}

/// A server's frame with a short payload.
fn short(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("short");
    assert!(len < 126, "short");
    [&[first_byte, len], payload].concat()
}

/// A server's Close.
fn close(code: u16, reason: &str) -> Vec<u8> {
    short(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A server, and how many sessions it must have ended for a broken rule.
struct Trial {
    host: Host,
    broken: u64,
}

impl Trial {
    #[track_caller]
    fn start(adjust: impl FnOnce(&mut Options)) -> Self {
        Self { host: Host::start(adjust, |_| Echo::default()), broken: 0 }
    }

    /// Expects `answer`, whole and up to the FIN, to `pieces` that are written one by one.
    #[track_caller]
    fn check_pieces<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, expect: &[u8]) {
        let mut client = Client::open(self.host.address);
        for piece in pieces {
            client.send(piece);
        }
        let mut answer = Vec::new();
        client.stream.read_to_end(&mut answer).expect("a FIN follows the answer");
        let place = answer.iter().zip(expect).take_while(|(is, should)| is == should).count();
        let (is, should) = (&answer[place..], &expect[place..]);
        assert!(is.is_empty() && should.is_empty(), "after {place} bytes:\n{is:x?}\ninstead of\n{should:x?}");
    }

    /// Expects `answer` to `input`, whole, byte by byte and cut in two.
    #[track_caller]
    fn check(&self, input: &[u8], expect: &[u8]) {
        self.check_pieces([input], expect);
        self.check_pieces(input.chunks(1), expect);
        let (front, back) = input.split_at(input.len() / 2);
        self.check_pieces([front, back], expect);
    }

    /// Expects `input` to break a rule, and nothing that follows to be read.
    #[track_caller]
    fn check_broken(&mut self, input: &[u8], code: u16, reason: &str) {
        self.check_broken_after(&[], input, &[], code, reason);
    }

    /// The same after `before`, which is answered with `answer`.
    #[track_caller]
    fn check_broken_after(&mut self, before: &[u8], input: &[u8], answer: &[u8], code: u16, reason: &str) {
        let expect = [answer, &close(code, reason)].concat();
        let whole = [before, input].concat();
        self.check(&whole, &expect);
        let tail = [&whole[..], &frame(Opcode::Text, b"late"), &frame(Opcode::Close, b"")].concat();
        self.check_pieces([&tail[..]], &expect);
        self.broken += 4;
    }

    #[track_caller]
    fn end(self) {
        let tally = self.host.stop();
        assert_eq!(tally.sum(|worker| worker.protocol_errors), self.broken);
        assert_eq!(tally.sum(|worker| worker.close_timeouts), 0);
    }
}

#[test]
fn f1_f2_f3_lengths_are_judged_at_the_header() {
    let mut trial = Trial::start(|_| {});
    let long = |len: u64| [&[0x82, 0xff], &len.to_be_bytes()[..], &[1, 2, 3, 4]].concat();
    trial.check_broken(&long(1 << 63), 1002, "top bit of the length set");
    trial.check_broken(&long(u64::MAX), 1002, "top bit of the length set");
    trial.check_broken(&long(1 << 62), 1009, "message over the limit");
    trial.check_broken(&long(LIMIT as u64 + 1), 1009, "message over the limit");
    trial.check_broken(&long(300), 1002, "length not in its shortest form");
    trial.check_broken(&long(0), 1002, "length not in its shortest form");
    trial.check_broken(b"\x82\xfe\0\x05\x01\x02\x03\x04hello", 1002, "length not in its shortest form");
    trial.check_broken(b"\x82\xfe\0\x7d", 1002, "length not in its shortest form");
    trial.end();
}

#[test]
fn f2_many_peers_that_announce_much_are_refused_each() {
    let host = Host::start(|_| {}, |_| Echo::default());
    let huge = [&[0x82, 0xff], &(1_u64 << 62).to_be_bytes()[..], &[1, 2, 3, 4]].concat();
    let mut clients: Vec<Client> = (0..200).map(|_| Client::open(host.address)).collect();
    for client in &mut clients {
        client.send(&huge);
    }
    for client in &mut clients {
        client.expect(&Arrival::Close(Some(1009), "message over the limit".into()));
        client.expect(&Arrival::End);
    }
    drop(clients);
    assert_eq!(host.stop().sum(|worker| worker.protocol_errors), 200);
}

#[test]
fn f4_f5_f6_reserved_bits_unknown_opcodes_and_bare_frames_are_refused() {
    let mut trial = Trial::start(|_| {});
    let start = fragment(Opcode::Text, false, b"a");
    for bits in [0x40, 0x20, 0x10, 0x70] {
        for opcode in [0x81, 0x82, 0x88, 0x89, 0x8a] {
            trial.check_broken(&[bits | opcode, 0x80, 0, 0, 0, 0], 1002, "reserved bit set that means nothing here");
        }
        let continuation = [0x80 | bits, 0x80, 0, 0, 0, 0];
        trial.check_broken_after(&start, &continuation, b"", 1002, "reserved bit set that means nothing here");
    }
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        trial.check_broken(&[0x80 | opcode, 0x80, 0, 0, 0, 0], 1002, "unknown opcode");
        trial.check_broken(&[opcode, 0xff, 0x3f, 0, 0, 0, 0, 0, 0, 0], 1002, "unknown opcode");
    }
    trial.check_broken(b"\x81\x05Hello", 1002, "client frame without mask");
    trial.check_broken(b"\x88\x00", 1002, "client frame without mask");
    trial.check_broken_after(&start, b"\x80\x00", b"", 1002, "client frame without mask");
    trial.check_broken_after(
        &frame(Opcode::Text, b"Hello"),
        b"\x81\x00",
        b"\x81\x05Hello",
        1002,
        "client frame without mask",
    );
    trial.end();
}

#[test]
fn f7_control_frames_are_whole_and_short() {
    let mut trial = Trial::start(|_| {});
    for opcode in [0x8, 0x9, 0xa] {
        trial.check_broken(&[opcode, 0x80, 0, 0, 0, 0], 1002, "fragmented control frame");
        trial.check_broken(&[0x80 | opcode, 0xfe, 0, 126], 1002, "control frame over 125 bytes");
        trial.check_broken(&[0x80 | opcode, 0xff, 0x7f], 1002, "control frame over 125 bytes");
    }
    trial.end();
}

#[test]
fn f8_closes_that_may_not_be_sent_are_refused() {
    let mut trial = Trial::start(|_| {});
    for byte in [b"\0", b"\x03", b"\xff"] {
        trial.check_broken(&frame(Opcode::Close, byte), 1002, "close code of one byte");
    }
    for code in [0_u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        trial.check_broken(&frame(Opcode::Close, &code.to_be_bytes()), 1002, "close code not allowed");
        let with_reason = [&code.to_be_bytes(), "why".as_bytes()].concat();
        trial.check_broken(&frame(Opcode::Close, &with_reason), 1002, "close code not allowed");
    }
    for reason in [b"\xff".as_slice(), b"caf\xc3", b"\xed\xa0\x80"] {
        let payload = [b"\x03\xe8", reason].concat();
        trial.check_broken(&frame(Opcode::Close, &payload), 1007, "text is not UTF-8");
    }
    trial.end();
}

#[test]
fn a_close_is_answered_with_its_own_code_and_a_fin() {
    let trial = Trial::start(|_| {});
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        trial.check(&frame(Opcode::Close, &code.to_be_bytes()), &close(code, ""));
    }
    trial.check(&frame(Opcode::Close, b""), b"\x88\x00");
    let longest = [b"\x03\xe8".as_slice(), &[b'a'; 123]].concat();
    trial.check(&frame(Opcode::Close, &longest), &close(1000, ""));
    let inside = [fragment(Opcode::Text, false, b"never"), frame(Opcode::Close, b"\x03\xe8")].concat();
    trial.check(&inside, &close(1000, ""));
    trial.end();
}

#[test]
fn f9_fragments_keep_their_order() {
    let mut trial = Trial::start(|_| {});
    trial.check_broken(&fragment(Opcode::Continuation, true, b"a"), 1002, "continuation without a message");
    trial.check_broken(&fragment(Opcode::Continuation, false, b""), 1002, "continuation without a message");
    let whole = frame(Opcode::Text, b"Hello");
    let again = fragment(Opcode::Continuation, true, b"a");
    trial.check_broken_after(&whole, &again, b"\x81\x05Hello", 1002, "continuation without a message");
    let start = fragment(Opcode::Binary, false, b"a");
    for opcode in [Opcode::Text, Opcode::Binary] {
        trial.check_broken_after(
            &start,
            &fragment(opcode, true, b"b"),
            b"",
            1002,
            "new message inside a fragmented one",
        );
        trial.check_broken_after(
            &start,
            &fragment(opcode, false, b""),
            b"",
            1002,
            "new message inside a fragmented one",
        );
    }
    trial.end();
}

#[test]
fn f10_f11_the_number_of_fragments_is_limited() {
    let mut trial = Trial::start(|_| {});
    let first = fragment(Opcode::Binary, false, b"a");
    let more = |count| fragment(Opcode::Continuation, false, b"b").repeat(count);
    let last = fragment(Opcode::Continuation, true, b"c");
    trial.check_broken_after(&first, &more(1024), b"", 1008, "too many fragments");
    let largest = [&b"a"[..], &b"b".repeat(1022), b"c"].concat();
    let bye = frame(Opcode::Close, b"");
    let expect = [&[0x82, 126, 0x04, 0x00], &largest[..], b"\x88\x00"].concat();
    trial.check(&[first.clone(), more(1022), last.clone(), bye.clone()].concat(), &expect);

    let empty = |count| fragment(Opcode::Continuation, false, b"").repeat(count);
    trial.check_broken_after(&first, &empty(17), b"", 1008, "too many empty fragments");
    trial.check_broken(&[fragment(Opcode::Text, false, b""), empty(16)].concat(), 1008, "too many empty fragments");
    let spread = [first, empty(16), more(1), empty(16), last, bye].concat();
    trial.check(&spread, b"\x82\x03abc\x88\x00");
    trial.end();
}

#[test]
fn f10_fragments_that_take_too_long_are_cut_at_the_deadline() {
    let host = Host::start(|options| options.worker.assembly_timeout_ms = 300, |_| Echo::default());
    let mut slow = Client::open(host.address);
    slow.stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket takes this option");
    slow.send(&fragment(Opcode::Binary, false, b"a"));
    // Each byte makes progress, the deadline stands nevertheless.
    let mut answer = Vec::new();
    for _ in 0..1000 {
        slow.send(&fragment(Opcode::Continuation, false, b"b"));
        let mut buffer = [0; 64];
        match slow.stream.read(&mut buffer) {
            Ok(len) => {
                answer.extend_from_slice(&buffer[..len]);
                break;
            }
            Err(error) => {
                let waits = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
                assert!(waits.contains(&error.kind()), "{error}");
            }
        }
    }
    client::prepare(&slow.stream);
    slow.stream.read_to_end(&mut answer).expect("a FIN follows the Close");
    assert_eq!(answer, close(1008, "fragments took too long"));
    drop(slow);
    assert_eq!(host.stop().sum(|worker| worker.protocol_errors), 1);
}

#[test]
fn a_frame_that_never_ends_is_cut_at_the_assembly_deadline() {
    let trial = Trial::start(|options| options.worker.assembly_timeout_ms = 200);
    let whole = frame(Opcode::Binary, &[1; 1000]);
    trial.check_pieces([&whole[..900]], &close(1008, "fragments took too long"));
    trial.check_pieces([&whole[..10]], &close(1008, "fragments took too long"));
    let second = [&fragment(Opcode::Text, false, b"a"), &frame(Opcode::Ping, b"p")[..]].concat();
    let expect = [&b"\x8a\x01p"[..], &close(1008, "fragments took too long")].concat();
    trial.check_pieces([&second[..]], &expect);
    assert_eq!(trial.host.stop().sum(|worker| worker.protocol_errors), 3);
}

#[test]
fn f12_f13_the_limit_of_a_message_is_exact() {
    let mut trial = Trial::start(|_| {});
    let too_big = close(1009, "message over the limit");
    let bye = frame(Opcode::Close, b"");
    let largest = vec![b'a'; LIMIT];
    let echo = [&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0], &largest[..], b"\x88\x00"].concat();
    trial.check_pieces([&frame(Opcode::Text, &largest)[..], &bye], &echo);
    trial.check_pieces([&frame(Opcode::Text, &[&largest[..], b"a"].concat())[..]], &too_big);

    // 536 bytes and 65 times 1000 are the limit, too.
    let first = fragment(Opcode::Text, false, &[b'a'; 536]);
    let middle = fragment(Opcode::Continuation, false, &[b'a'; 1000]).repeat(64);
    let last = fragment(Opcode::Continuation, true, &[b'a'; 1000]);
    trial.check_pieces([&first[..], &middle, &last, &bye], &echo);
    let beyond = fragment(Opcode::Continuation, true, &[b'a'; 1001]);
    trial.check_pieces([&first[..], &middle, &beyond[..8]], &too_big);
    trial.check_pieces([&[first, middle, last[..8].to_vec(), vec![b'a'; 1000], bye].concat()[..]], &echo);
    trial.broken = 2;
    trial.end();
}

#[test]
fn f14_bad_text_fails_at_its_first_bad_byte() {
    let mut trial = Trial::start(|_| {});
    for bad in [
        b"\xff".as_slice(),
        b"\x80",
        b"\xc0",
        b"\xc1",
        b"\xc3\x28",
        b"\xe0\x80",
        b"\xed\xa0",
        b"\xf0\x80",
        b"\xf4\x90",
        b"\xf5",
        b"\xe2\x82\x28",
        b"\xf0\x9f\x92\x28",
    ] {
        let text = [b"caf\xc3\xa9 \xf0\x9f\xa6\x80", bad].concat();
        // A hundred bytes are announced, and the rest of them never comes.
        let header = [0x81, 0x80 | 100, 0, 0, 0, 0];
        trial.check_broken(&[&header, &text[..]].concat(), 1007, "text is not UTF-8");
        let first_header = [0x01, 0x80 | 100, 0, 0, 0, 0];
        trial.check_broken(&[&first_header, &text[..]].concat(), 1007, "text is not UTF-8");
        trial.check_broken(&frame(Opcode::Text, &text), 1007, "text is not UTF-8");
        let (good, last) = text.split_at(text.len() - 1);
        let pieces: Vec<u8> = good.chunks(1).flat_map(|byte| fragment(Opcode::Continuation, false, byte)).collect();
        let before = [fragment(Opcode::Text, false, b""), pieces, frame(Opcode::Ping, b"so far so good")].concat();
        let pong = short(0x8a, b"so far so good");
        trial.check_broken_after(
            &before,
            &fragment(Opcode::Continuation, false, last),
            &pong,
            1007,
            "text is not UTF-8",
        );
    }
    for cut in [b"\xc3".as_slice(), b"\xe2\x82", b"\xf0\x9f\x92"] {
        trial.check_broken(&frame(Opcode::Text, cut), 1007, "text is not UTF-8");
        let pieces = [fragment(Opcode::Text, false, cut), fragment(Opcode::Continuation, true, b"")].concat();
        trial.check_broken(&pieces, 1007, "text is not UTF-8");
    }
    trial.end();
}

#[test]
fn text_may_be_cut_anywhere_between_fragments_and_binary_may_be_anything() {
    let trial = Trial::start(|_| {});
    let text = "caf\u{e9} \u{20ac} \u{1f980}";
    let bytes: Vec<u8> = text.bytes().flat_map(|byte| fragment(Opcode::Continuation, false, &[byte])).collect();
    let end = [fragment(Opcode::Continuation, true, b""), frame(Opcode::Close, b"")].concat();
    let input = [fragment(Opcode::Text, false, b""), bytes, end].concat();
    trial.check(&input, &[short(0x81, text.as_bytes()), b"\x88\x00".to_vec()].concat());
    let input = [frame(Opcode::Binary, b"\xff\xc0\x80"), frame(Opcode::Close, b"")].concat();
    trial.check(&input, b"\x82\x03\xff\xc0\x80\x88\x00");
    trial.end();
}

#[test]
fn f15_every_ping_is_answered_in_order() {
    let trial = Trial::start(|_| {});
    let (mut input, mut expect) = (Vec::new(), Vec::new());
    for number in 0..2000_u32 {
        let payload = [&number.to_be_bytes()[..], &[7; 121]].concat();
        input.extend(frame(Opcode::Ping, &payload));
        expect.extend(short(0x8a, &payload));
    }
    input.extend(frame(Opcode::Close, b""));
    expect.extend(b"\x88\x00");
    trial.check_pieces([&input[..]], &expect);
    let between = [
        fragment(Opcode::Text, false, b"a"),
        frame(Opcode::Ping, b""),
        fragment(Opcode::Continuation, false, b"b"),
        frame(Opcode::Ping, b"second"),
        fragment(Opcode::Continuation, true, b"c"),
        frame(Opcode::Ping, b"third"),
        frame(Opcode::Close, b""),
    ];
    trial.check(&between.concat(), b"\x8a\x00\x8a\x06second\x81\x03abc\x8a\x05third\x88\x00");
    trial.end();
}

#[test]
fn f16_pongs_that_nobody_asked_for_are_ignored() {
    let trial = Trial::start(|_| {});
    let mut client = Client::open(trial.host.address);
    client.say(Opcode::Pong, b"unasked");
    client.check_echo("nothing came before this");
    drop(client);
    let flood = frame(Opcode::Pong, &[7; 125]).repeat(5000);
    let rest = [frame(Opcode::Text, b"Hello"), frame(Opcode::Pong, b""), frame(Opcode::Close, b"")].concat();
    trial.check_pieces([&flood[..], &rest], b"\x81\x05Hello\x88\x00");
    let between = [
        &fragment(Opcode::Text, false, b"a")[..],
        &frame(Opcode::Pong, b"p"),
        &fragment(Opcode::Continuation, true, b"b"),
        &rest,
    ];
    trial.check(&between.concat(), b"\x81\x02ab\x81\x05Hello\x88\x00");
    trial.end();
}

/// Starts a server whose handler closes when it is asked to.
#[track_caller]
fn host_of(witness: Witness, close_timeout_ms: u64) -> Host {
    Host::start(move |options| options.worker.close_timeout_ms = close_timeout_ms, move |_| witness.clone())
}

#[test]
fn a_close_by_the_handler_waits_for_the_peers_own() {
    let (witness, reports) = witness();
    let host = host_of(witness, 60_000);
    let mut client = Client::open(host.address);
    client.send(
        &[frame(Opcode::Text, b"before"), frame(Opcode::Text, b"close 4001 enough"), frame(Opcode::Text, b"after")]
            .concat(),
    );
    client.expect(&Arrival::Text("before".into()));
    client.expect(&Arrival::Close(Some(4001), "enough".into()));
    // Not yet closed: what comes now is dropped, pings too, and the peer's Close ends it.
    client.send(&[frame(Opcode::Text, b"more"), frame(Opcode::Ping, b"p"), frame(Opcode::Close, b"\x0f\xa1")].concat());
    client.expect(&Arrival::End);
    let code = CloseCode::new(4001).expect("a private code");
    assert_eq!(reports.closed().1, CloseCause::Handler(code));
    assert_eq!(host.stop().sum(|worker| worker.messages), 2);
}

#[test]
fn f17_a_peer_that_never_answers_our_close_is_cut_at_the_deadline() {
    let (witness, reports) = witness();
    let host = host_of(witness, 300);
    let mut client = Client::open(host.address);
    client.say(Opcode::Text, b"close 4001 enough");
    client.expect(&Arrival::Close(Some(4001), "enough".into()));
    let end = client.arrival();
    assert!(matches!(end, Arrival::End | Arrival::Reset), "{end:?}");
    let code = CloseCode::new(4001).expect("a private code");
    assert_eq!(reports.closed().1, CloseCause::Handler(code));
    assert_eq!(host.stop().sum(|worker| worker.close_timeouts), 1);
}

#[test]
fn f17_a_peer_that_talks_on_after_our_close_is_cut_at_the_deadline() {
    let (witness, _reports) = witness();
    let host = host_of(witness, 300);
    for input in [frame(Opcode::Text, b"close 4001 enough"), b"\x81\x00".to_vec()] {
        let mut client = Client::open(host.address);
        client.send(&input);
        assert!(matches!(client.arrival(), Arrival::Close(..)));
        // Behind the FIN there is nothing to wait for: the cut shows in the writes alone.
        let was_cut = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            client.stream.write_all(&frame(Opcode::Text, &[b'a'; 1000])).is_err()
        });
        assert!(was_cut, "talking on has put the deadline off");
    }
    let tally = host.stop();
    assert_eq!((tally.sum(|worker| worker.close_timeouts), tally.sum(|worker| worker.messages)), (2, 1));
}

#[test]
fn f17_a_peer_that_is_silent_after_its_close_gets_a_fin() {
    let host = Host::start(|_| {}, |_| Echo::default());
    let mut client = Client::open(host.address);
    client.say(Opcode::Close, b"\x03\xe8bye");
    client.expect(&Arrival::Close(Some(1000), String::new()));
    client.expect(&Arrival::End);
    drop(client);
    assert_eq!(host.stop().sum(|worker| worker.close_timeouts), 0);
}

#[test]
fn f18_data_after_a_close_is_discarded() {
    let (witness, reports) = witness();
    let host = host_of(witness, 60_000);
    let bye = frame(Opcode::Close, b"\x03\xe8");
    let mut client = Client::open(host.address);
    let late = [frame(Opcode::Text, b"late"), frame(Opcode::Ping, b"p"), b"\x81\x00".to_vec()].concat();
    client.send(&[&bye[..], &late].concat());
    client.expect(&Arrival::Close(Some(1000), String::new()));
    client.expect(&Arrival::End);
    assert_eq!(reports.closed().1, CloseCause::Peer(Some(CloseCode::NORMAL)));
    drop(client);
    // Whoever sends megabytes behind a Close may be reset, but is not listened to either.
    let mut client = Client::open(host.address);
    let _ = client.stream.write_all(&[bye, frame(Opcode::Binary, &[7; 60_000]).repeat(50)].concat());
    assert_eq!(reports.closed().1, CloseCause::Peer(Some(CloseCode::NORMAL)));
    drop(client);
    let tally = host.stop();
    assert_eq!((tally.sum(|worker| worker.messages), tally.sum(|worker| worker.protocol_errors)), (0, 0));
    assert_eq!(reports.so_far().iter().filter(|report| matches!(report, Report::Closed(..))).count(), 2);
}

#[test]
fn f20_eight_thousand_tiny_frames_in_one_write_are_answered_in_order() {
    let trial = Trial::start(|_| {});
    let (mut input, mut expect) = (Vec::new(), Vec::new());
    for number in 0..8000_u16 {
        input.extend(frame(Opcode::Binary, &number.to_be_bytes()));
        expect.extend(short(0x82, &number.to_be_bytes()));
    }
    for _ in 0..5 {
        trial.check_pieces(
            [&[&input[..], &frame(Opcode::Close, b"")].concat()[..]],
            &[&expect[..], b"\x88\x00"].concat(),
        );
    }
    assert_eq!(trial.host.stop().sum(|worker| worker.messages), 40_000);
}

#[test]
fn f21_a_whole_session_in_segments_of_any_size_is_the_same_session() {
    let host = Host::start(|_| {}, |_| Echo::default());
    let session = [
        request(),
        frame(Opcode::Text, b"Hello"),
        frame(Opcode::Binary, &[1; 200]),
        fragment(Opcode::Text, false, b"caf\xc3"),
        frame(Opcode::Ping, b"between"),
        fragment(Opcode::Continuation, true, b"\xa9"),
        frame(Opcode::Pong, b"unasked"),
        frame(Opcode::Text, b""),
        frame(Opcode::Close, b"\x0f\xa0done"),
    ]
    .concat();
    let expect = [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        &b"\x81\x05Hello\x82\x7e\x00\xc8"[..],
        &[1; 200],
        b"\x8a\x07between\x81\x05caf\xc3\xa9\x81\x00\x88\x02\x0f\xa0",
    ]
    .concat();
    let cuts = (1..session.len()).map(|cut| vec![&session[..cut], &session[cut..]]);
    for pieces in [1, 2, 3, 7, session.len()].map(|len| session.chunks(len).collect()).into_iter().chain(cuts) {
        let mut stream = connect(host.address);
        for piece in pieces {
            stream.write_all(piece).expect("the server reads");
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("a FIN follows the answer");
        assert_eq!(answer, expect);
    }
    host.stop();
}

#[test]
fn a_half_closed_peer_gets_its_replies() {
    let (witness, reports) = witness();
    let host = host_of(witness, 60_000);
    let mut client = Client::open(host.address);
    client.send(&[frame(Opcode::Text, b"one"), frame(Opcode::Ping, b"p"), frame(Opcode::Text, b"two")].concat());
    client.stream.shutdown(Shutdown::Write).expect("the connection is open");
    client.expect(&Arrival::Text("one".into()));
    client.expect(&Arrival::Pong(b"p".to_vec()));
    client.expect(&Arrival::Text("two".into()));
    client.expect(&Arrival::End);
    assert_eq!(reports.closed().1, CloseCause::Lost);
    // Straight after the request, with everything in one segment.
    let mut stream = connect(host.address);
    stream.write_all(&[request(), frame(Opcode::Text, b"three")].concat()).expect("the server reads");
    stream.shutdown(Shutdown::Write).expect("the connection is open");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("a FIN follows the answer");
    assert!(answer.ends_with(b"\r\n\r\n\x81\x05three"), "{answer:x?}");
    assert_eq!(reports.closed().1, CloseCause::Lost);
    assert_eq!(host.stop().sum(|worker| worker.lost), 2);
}

#[test]
fn a_half_closed_peer_gets_its_replies_although_reading_has_paused() {
    let (witness, reports) = witness();
    let host = host_of(witness, 60_000);
    // One reply that is more than the queue may hold and leaves in one send, one that does not, and
    // several that wait for one another.
    for (count, len) in [(1, 300_000), (1, 5_000_000), (10, 100_000)] {
        let mut client = Client::open(host.address);
        // One segment with the FIN in it: the server sees both in the turn in which it pauses.
        SockRef::from(&client.stream).set_tcp_cork(true).expect("a socket takes this option");
        client.send(&frame(Opcode::Text, format!("burst {len}").as_bytes()).repeat(count));
        client.stream.shutdown(Shutdown::Write).expect("the connection is open");
        for _ in 0..count {
            client.expect(&Arrival::Binary(vec![7; len]));
        }
        client.expect(&Arrival::End);
        assert_eq!(reports.closed().1, CloseCause::Lost);
    }
    let tally = host.stop();
    assert!(tally.sum(|worker| worker.pauses) >= 3);
    assert_eq!((tally.sum(|worker| worker.messages), tally.sum(|worker| worker.lost)), (12, 3));
}

#[test]
fn a_broken_rule_is_reported_once_with_its_name() {
    let (witness, reports) = witness();
    let host = host_of(witness, 60_000);
    for (input, error) in [
        (b"\x81\x00".to_vec(), ProtocolError::UnmaskedFrame),
        (frame(Opcode::Text, b"\xff"), ProtocolError::InvalidUtf8),
        (frame(Opcode::Close, b"\x03"), ProtocolError::TruncatedCloseCode),
    ] {
        let mut client = Client::open(host.address);
        let id = reports.opened();
        client.send(&input);
        assert_eq!(reports.closed(), (id, CloseCause::Protocol(error)));
        let code = error.close_code().get();
        client.expect(&Arrival::Close(Some(code), error.reason().into()));
        client.expect(&Arrival::End);
    }
    host.stop();
    assert_eq!(reports.so_far().iter().filter(|report| matches!(report, Report::Closed(..))).count(), 3);
}
