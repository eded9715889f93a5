//! Pauses that the handler asks for, and queues that are full.

use crate::ring::ReceiveEnd;
use crate::ring::scripted::Asked;
use crate::ring::scripted::Happens::{Ended, Filled, Readable, Received};
use crate::worker::Options;
use crate::worker::turns::puppet::{Puppet, delivered, frame, text};
use crate::worker::turns::{Bench, awake};

/// A bound of queues that is quickly reached, though not by the answer to an upgrade.
fn narrow() -> Options {
    Options { send_queue_bytes_max: 200, ..awake() }
}

#[test]
fn nothing_behind_a_message_that_pauses_is_delivered_until_the_resume() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    let first = [text("pause"), text("two"), text("three")].concat();
    assert_eq!(bench.hear(20, 0, &first), [Asked::CancelReceive(0)]);
    // What is on its way is kept behind that.
    assert_eq!(bench.turn(21, &[(0, Received(&text("four"))), (0, Ended(ReceiveEnd::Cancelled))]), []);
    assert_eq!(bench.log(), ["[pause] 0"]);
    // Another one has it go on, in order, and pause again in the middle.
    assert_eq!(bench.hear(22, 1, b"resume 0"), [Asked::Receive(0)]);
    assert_eq!(bench.log(), ["[resume 0] 1", "[two] 0", "[three] 0", "[four] 0"]);
    bench.hear(23, 0, &[text("pause"), text("pause"), text("last")].concat());
    bench.hear(24, 1, b"resume 0;resume 0");
    assert_eq!(bench.log(), ["[pause] 0", "[resume 0;resume 0] 1", "[pause] 0", "[last] 0"]);
}

#[test]
fn a_stream_pauses_with_all_that_it_was_given_and_what_comes_then_waits() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    assert_eq!(bench.hear(20, 1, b"pause"), [Asked::CancelReceive(1)]);
    assert_eq!(bench.turn(21, &[(1, Received(b"a")), (1, Received(b"b")), (1, Ended(ReceiveEnd::Cancelled))]), []);
    assert_eq!(bench.log(), ["[pause] 1"]);
    assert_eq!(bench.hear(22, 0, &text("resume 1")), [Asked::Receive(1)]);
    assert_eq!(bench.log(), ["[resume 1] 0", "[ab] 1"]);
}

#[test]
fn a_pause_that_is_taken_back_in_the_same_call_is_none() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    assert_eq!(bench.hear(20, 0, &[text("pause;resume 0"), text("two")].concat()), []);
    assert_eq!(bench.log(), ["[pause;resume 0] 0", "[two] 0"]);
    // For one that is not paused, or not there, a resume does nothing.
    assert_eq!(bench.hear(21, 0, &text("resume 0;resume 1;resume 77")), []);
}

#[test]
fn the_end_of_a_paused_connection_is_acted_on_after_the_resume() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    bench.hear(20, 0, &[text("pause"), text("two")].concat());
    assert_eq!(bench.turn(21, &[(0, Ended(ReceiveEnd::Eof))]), []);
    assert_eq!(bench.hear(22, 1, b"resume 0"), [Asked::Close(0)]);
    assert_eq!(bench.log(), ["[pause] 0", "[resume 0] 1", "[two] 0", "Lost 0"]);
}

#[test]
fn a_paused_connection_that_is_closed_answers_the_close_that_waits() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    let close = b"\x88\x82\0\0\0\0\x03\xe8";
    bench.hear(20, 0, &[&text("pause")[..], &text("dropped"), close].concat());
    let asked = bench.hear(21, 1, b"close 0");
    assert_eq!(asked, [Asked::Send(0, b"\x88\x02\x03\xe8".to_vec())]);
    assert_eq!(bench.turn(22, &[(0, Ended(ReceiveEnd::Cancelled))]), [Asked::Close(0)]);
    assert_eq!(bench.log(), ["[pause] 0", "[close 0] 1", "Handler(CloseCode(1000)) 0"]);
    assert_eq!(bench.hand.wait_ms(), Some(0), "what waits is looked at at once");
}

#[test]
fn a_paused_connection_that_fails_is_told_and_keeps_nothing() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    bench.hear(20, 0, &[text("pause"), text("two")].concat());
    bench.hear(20, 1, b"pause");
    let failed = || Ended(ReceiveEnd::Failed(libc::ECONNRESET));
    assert_eq!(bench.turn(21, &[(0, failed()), (1, failed())]), [Asked::Close(0), Asked::Close(1)]);
    assert_eq!(bench.log(), ["[pause] 0", "[pause] 1", "Lost 0", "Lost 1"]);
    assert_eq!(bench.worker.context.pool.lent(), 0);
}

#[test]
fn a_message_in_pieces_is_not_late_while_its_connection_is_paused() {
    let mut bench = Bench::new(Puppet::default(), Options { assembly_timeout_ms: 500, ..awake() }).opened();
    bench.hear(20, 0, &[&text("pause")[..], b"\x01\x81\0\0\0\0a"].concat());
    assert_eq!((21..2_000).step_by(32).flat_map(|at_ms| bench.turn(at_ms, &[])).count(), 0);
    bench.hear(2_000, 1, b"resume 0");
    let closed: Vec<_> = (2_400..2_600).step_by(32).flat_map(|at_ms| bench.turn(at_ms, &[])).collect();
    let reason = b"\x03\xf0fragments took too long";
    assert!(matches!(&closed[..], [Asked::Send(0, bytes), ..] if bytes[2..] == reason[..]), "{closed:?}");
}

#[test]
fn a_resume_with_a_full_queue_waits_for_that_to_drain() {
    let mut bench = Bench::new(Puppet::default(), narrow()).opened();
    bench.hear(20, 0, &[text("pause"), text("two")].concat());
    bench.log();
    bench.hear(21, 1, b"deliver 0 300;resume 0");
    assert_eq!(bench.log(), ["[deliver 0 300;resume 0] 1", "full 0"]);
    bench.turn(22, &[]);
    assert_eq!(bench.log(), ["drained 0", "[two] 0"]);
    assert_eq!(bench.worker.counters().pauses, 1);
}

#[test]
fn a_queue_is_full_once_until_it_has_drained_whoever_filled_it() {
    let mut bench = Bench::new(Puppet { when_full: "send 250;deliver 1 250", ..Puppet::default() }, narrow()).opened();
    // By what the handler sends at hand, and by what it sends then.
    let asked = bench.hear(20, 0, &[text("send 250"), text("two")].concat());
    assert!(
        matches!(&asked[..], [Asked::Send(0, first), Asked::CancelReceive(0), Asked::Send(1, _)] if first.len() == 508)
    );
    assert_eq!(bench.log(), ["[send 250] 0", "full 0", "full 1"]);
    bench.turn(21, &[]);
    assert_eq!(bench.log(), ["drained 0", "[two] 0", "drained 1"]);
    bench.turn(22, &[]);
    assert_eq!(bench.log(), Vec::<String>::new());
    // By what is delivered to one that only listens.
    bench.hear(23, 0, &text("deliver 1 110;deliver 1 110;deliver 1 110"));
    assert_eq!(bench.log(), ["[deliver 1 110;deliver 1 110;deliver 1 110] 0", "full 1"]);
    bench.turn(24, &[]);
    assert_eq!(bench.log(), ["drained 1"]);
    assert_eq!(bench.worker.counters().slow_consumers, 0);
}

#[test]
fn who_is_paused_for_its_queue_by_the_handler_waits_for_the_handler() {
    let puppet = Puppet { when_full: "pause", when_drained: "two;resume 0", ..Puppet::default() };
    let mut bench = Bench::new(puppet, narrow()).opened();
    bench.hear(20, 0, &[text("send 250"), text("last")].concat());
    assert_eq!(bench.log(), ["[send 250] 0", "full 0"]);
    bench.turn(21, &[]);
    assert_eq!(bench.log(), ["drained 0", "[last] 0"]);
}

#[test]
fn what_is_delivered_to_a_queue_that_is_full_is_the_handlers_to_bound() {
    let mut bench = Bench::new(Puppet::default(), narrow()).opened();
    let deliver = |count| ["deliver 0 130"; 9][..count].join(";");
    bench.hear(20, 1, deliver(6).as_bytes());
    assert_eq!(bench.worker.counters().slow_consumers, 0);
    bench.turn(21, &[]);
    let asked = bench.hear(22, 1, deliver(9).as_bytes());
    assert_eq!(bench.worker.counters().slow_consumers, 0);
    let one = frame(0x81, &delivered(130));
    assert_eq!(asked, [Asked::Send(0, one.repeat(9))]);
}

#[test]
fn a_message_that_ends_in_its_block_during_a_pause_waits_too() {
    let options = Options { straight_bytes_min: 0, block_bytes_min: usize::MAX, ..narrow() };
    let mut bench = Bench::new(Puppet { when_full: "pause", ..Puppet::default() }, options).opened();
    let message = text("the message itself");
    bench.hear(20, 0, &message[..10]);
    assert_eq!(bench.turn(21, &[(0, Ended(ReceiveEnd::Cancelled))]), [Asked::Poll(0, 1)]);
    bench.turn(22, &[(0, Readable)]);
    assert_eq!(bench.turn(23, &[]), [Asked::Fill(0, 14)]);
    bench.hear(24, 1, b"deliver 0 300");
    assert_eq!(bench.log(), ["[deliver 0 300] 1", "full 0"]);
    // It is resumed while the kernel still has the block, and paused again.
    bench.hear(25, 1, b"resume 0;deliver 0 300");
    assert_eq!(bench.turn(26, &[(0, Filled(&message[10..]))]), []);
    assert_eq!(bench.log(), ["drained 0", "[resume 0;deliver 0 300] 1", "full 0", "drained 0"]);
    assert_eq!(bench.hear(27, 1, b"resume 0"), [Asked::Receive(0)]);
    assert_eq!(bench.log(), ["[resume 0] 1", "[the message itself] 0"]);
}
