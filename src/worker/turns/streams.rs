//! Connections over streams, turn by turn.

use crate::ring::ReceiveEnd;
use crate::ring::scripted::Asked;
use crate::ring::scripted::Happens::{AcceptedBy, Ended, Readable, Received};
use crate::worker::Options;
use crate::worker::turns::puppet::{Puppet, delivered, text};
use crate::worker::turns::{Bench, awake, with_heartbeats};

#[test]
fn a_stream_is_open_when_it_is_accepted_and_its_bytes_go_both_ways_as_they_are() {
    let mut bench = Bench::new(Puppet::default(), awake());
    assert_eq!(bench.turn(1, &[(5, AcceptedBy(1))]), [Asked::Receive(5)]);
    assert_eq!(bench.log(), ["start 0 of 1", "stream 5"]);
    assert_eq!(bench.hear(2, 5, b"GET / HTTP/1.1\r\n\r\n"), [Asked::Accept(1)]);
    assert_eq!(bench.hear(3, 5, b"send 2"), [Asked::Send(5, b"..".to_vec())]);
    assert_eq!(bench.log(), ["[GET / HTTP/1.1\r\n\r\n] 5", "[send 2] 5"]);
    let counters = bench.worker.counters();
    assert_eq!((counters.opened, counters.stream_bytes, counters.messages), (1, 24, 0));
}

#[test]
fn accepts_are_shared_between_listeners_and_shared_anew_when_one_has_none() {
    let mut bench = Bench::new(Puppet::default(), Options { connections_max: 7, ..awake() });
    let accepts = |asked: &[Asked]| {
        [0, 1].map(|listener| asked.iter().filter(|asked| **asked == Asked::Accept(listener)).count())
    };
    // There were four for the one and three for the other, for which three come.
    let accepted: Vec<_> = (0..3).map(|slot| (slot, AcceptedBy(1))).collect();
    assert_eq!(accepts(&bench.turn(1, &accepted)), [0, 0]);
    assert_eq!(bench.turn(2, &[]), [Asked::CancelAccepts]);
    let anew = bench.turn(3, &[]);
    assert_eq!((accepts(&anew), anew.contains(&Asked::CancelAccepts)), ([2, 2], false));
    // With a single place left it is the first one's, and that is no reason to cancel.
    let accepted: Vec<_> = (3..5).map(|slot| (slot, AcceptedBy(1))).chain([(5, AcceptedBy(0))]).collect();
    assert_eq!(accepts(&bench.turn(4, &accepted)), [0, 0]);
    assert_eq!(bench.turn(5, &[]), []);
    assert_eq!(bench.worker.counters().accept_pauses, 0);
}

#[test]
fn a_stream_is_closed_by_fin_after_what_waits_and_ends_with_that_of_the_peer() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    assert_eq!(bench.hear(20, 1, b"send 3;close 1;send 1"), [Asked::Send(1, b"....".to_vec())]);
    assert_eq!(bench.log(), ["[send 3;close 1;send 1] 1", "Handler(CloseCode(1000)) 1"]);
    assert_eq!(bench.turn(21, &[]), [Asked::Shutdown(1)]);
    assert_eq!(bench.hear(22, 1, b"not heard any more"), []);
    assert_eq!(bench.turn(23, &[(1, Ended(ReceiveEnd::Eof))]), [Asked::Close(1)]);
    assert_eq!(bench.log(), Vec::<String>::new());
}

#[test]
fn a_closed_stream_whose_peer_does_not_end_is_cut() {
    let mut bench = Bench::new(Puppet::default(), Options { close_timeout_ms: 500, ..awake() }).opened();
    assert_eq!(bench.hear(20, 1, b"close 1"), [Asked::Shutdown(1)]);
    assert_eq!(bench.turn(400, &[]), []);
    assert_eq!(bench.turn(600, &[]), [Asked::Cancel(1)]);
    assert_eq!(bench.turn(601, &[(1, Ended(ReceiveEnd::Cancelled))]), [Asked::Close(1)]);
    assert_eq!(bench.worker.counters().close_timeouts, 1);
}

#[test]
fn the_end_of_a_stream_follows_its_last_bytes() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    let asked = bench.turn(20, &[(1, Received(b"send 1")), (1, Ended(ReceiveEnd::Eof))]);
    assert_eq!(asked, [Asked::Send(1, b".".to_vec())]);
    assert_eq!(bench.log(), ["[send 1] 1", "Lost 1"]);
    assert_eq!(bench.turn(21, &[]), [Asked::Close(1)]);
}

#[test]
fn a_stop_ends_streams_by_fin_and_accepts_of_all_listeners() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    bench.mailbox.stop();
    let asked = bench.turn(20, &[]);
    assert_eq!(asked, [Asked::Send(0, b"\x88\x0e\x03\xe9server stops".to_vec()), Asked::Shutdown(1)]);
    assert_eq!(bench.log(), ["Shutdown 1"]);
    assert_eq!(bench.turn(21, &[]), [Asked::CancelAccepts]);
    assert!(bench.worker.acceptor.is_idle());
    // One that was accepted meanwhile is not opened.
    let mut late = Bench::new(Puppet::default(), awake());
    late.mailbox.stop();
    late.turn(1, &[]);
    late.log();
    assert_eq!(late.turn(2, &[(0, AcceptedBy(1))]), [Asked::CancelAccepts, Asked::Close(0)]);
    assert_eq!(late.log(), Vec::<String>::new());
}

#[test]
fn a_broadcast_passes_streams_by_and_what_is_delivered_reaches_both() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    let asked = bench.hear(20, 0, &text("broadcast;deliver 1 5;deliver 0 3"));
    let socket = [&b"\x81\x04"[..], &delivered(3), b"\x81\x03all"].concat();
    assert_eq!(asked, [Asked::Send(0, socket), Asked::Send(1, delivered(5))]);
    let asked = bench.hear(21, 1, b"deliver 0 300;deliver 1 0");
    let socket = [&b"\x81\x7e\x01\x2d"[..], &delivered(300)].concat();
    assert_eq!(asked, [Asked::Send(0, socket), Asked::Send(1, delivered(0))]);
}

#[test]
fn a_stream_that_floods_gets_its_share_of_a_turn() {
    let options = Options { frames_per_turn_max: 2, ..awake() };
    let mut bench = Bench::new(Puppet::default(), options).opened();
    let lens = |bench: &mut Bench<Puppet>| bench.log().iter().map(String::len).collect::<Vec<_>>();
    // Twice 256 bytes are a turn's; brackets and number are four more in the log.
    assert_eq!(bench.hear(20, 1, &[b'a'; 600]), [Asked::CancelReceive(1)]);
    assert_eq!(lens(&mut bench), [512 + 4]);
    bench.hear(21, 1, &[b'a'; 300]);
    assert_eq!(lens(&mut bench), [88 + 4, 256 + 4]);
    bench.turn(22, &[]);
    assert_eq!(lens(&mut bench), [44 + 4]);
}

#[test]
fn a_quiet_stream_hibernates_and_is_never_pinged() {
    let mut bench = Bench::new(Puppet::default(), with_heartbeats());
    assert_eq!(bench.turn(1, &[(0, AcceptedBy(1))]), [Asked::Poll(0, 1)]);
    bench.turn(2, &[(0, Readable)]);
    // The end of a line is a sign of life, and no more.
    assert_eq!(bench.turn(3, &[(0, Received(b"\r\n")), (0, Ended(ReceiveEnd::Drained))]), [Asked::Poll(0, 1)]);
    assert_eq!(bench.turn(4, &[(0, Readable)]), [Asked::ReceiveNow(0)]);
    let asked = bench.turn(5, &[(0, Received(b"words")), (0, Ended(ReceiveEnd::Drained))]);
    assert_eq!(asked, [Asked::Receive(0)]);
    let asked: Vec<_> = (1..300).flat_map(|time| bench.turn(5 + time * 32, &[])).collect();
    assert_eq!(asked, [Asked::CancelReceive(0)]);
    assert_eq!((bench.worker.counters().pings, bench.worker.counters().hibernations), (0, 1));
}
