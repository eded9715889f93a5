//! Single turns of a worker, where it matters what comes together in one.

mod parcels;
mod pauses;
mod puppet;
mod streams;

use std::ops::Range;
use std::sync::Arc;

use crate::handler::{Echo, Handler};
use crate::ring::ReceiveEnd;
use crate::ring::scripted::Happens::{Accepted, Ended, Filled, Readable, Received};
use crate::ring::scripted::{Asked, Hand, Happens, ScriptedDriver};
use crate::timer::TICK_MS;
use crate::worker::shortage::RECEIVES_PER_PLACE;
use crate::worker::{Beat, Mailbox, Options, Pressure, Status, Worker};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// The deadlines of this test's server, and a time that is short beside them.
const TIMEOUT_MS: u64 = 1_000;
const SOON_MS: u64 = 50;

/// Receives are armed from the beginning.
fn awake() -> Options {
    Options { hibernate_after_ms: None, ..Options::default() }
}

struct Bench<H = Echo> {
    hand: Hand,
    mailbox: Arc<Mailbox>,
    worker: Worker<ScriptedDriver, H>,
}

impl Bench {
    /// A worker with `count` connections that have been upgraded at 50 ms.
    fn open(count: u32) -> Self {
        Self::open_with(count, awake())
    }

    fn open_with(count: u32, options: Options) -> Self {
        let hand = Hand::default();
        let options = Options { handshake_timeout_ms: TIMEOUT_MS, close_timeout_ms: TIMEOUT_MS, ..options };
        let mailbox = Arc::new(Mailbox::default());
        let worker = Worker::new(0, hand.driver(), Echo::default(), options, mailbox.clone(), Vec::new());
        let mut bench = Self { hand, mailbox, worker };
        let all = |what: fn() -> Happens<'static>| (0..count).map(|slot| (slot, what())).collect::<Vec<_>>();
        // In parts, as they are asked for.
        bench.turn(0, &[]);
        for part in all(|| Accepted).chunks(32) {
            bench.turn(0, part);
            bench.turn(0, &[]);
        }
        bench.turn(SOON_MS, &all(|| Received(REQUEST)));
        bench.turn(SOON_MS, &[]);
        bench
    }
}

impl<H: Handler> Bench<H> {
    /// One turn that ends at `now_ms`; returns what it asked for.
    fn turn(&mut self, now_ms: u64, happens: &[(u32, Happens<'_>)]) -> Vec<Asked> {
        self.hand.next(now_ms, happens);
        self.worker.turn().expect("a scripted driver never fails");
        self.hand.asked()
    }
}

#[test]
fn a_close_is_answered_though_the_deadline_of_the_handshake_passes_in_its_turn() {
    let mut bench = Bench::open(1);
    let asked = bench.turn(TIMEOUT_MS + SOON_MS, &[(0, Received(b"\x88\x82\0\0\0\0\x03\xe8"))]);
    assert_eq!(asked, [Asked::Send(0, b"\x88\x02\x03\xe8".to_vec())]);
    // What follows is the end of the connection, in order and in time.
    assert_eq!(bench.turn(TIMEOUT_MS + 2 * SOON_MS, &[]), [Asked::Cancel(0)]);
    let cancelled = bench.turn(TIMEOUT_MS + 2 * SOON_MS, &[(0, Ended(ReceiveEnd::Cancelled))]);
    assert_eq!(cancelled, [Asked::Close(0)]);
    let counters = bench.worker.counters();
    assert_eq!((counters.handshake_timeouts, counters.close_timeouts), (0, 0));
}

#[test]
fn a_storm_of_connections_is_accepted_a_part_each_turn_and_not_beyond_the_room() {
    let hand = Hand::default();
    let options = Options { connections_max: 40, ..awake() };
    let worker = Worker::new(0, hand.driver(), Echo::default(), options, Arc::default(), Vec::new());
    let mut bench = Bench { hand, mailbox: Arc::default(), worker };
    let accepts = |asked: &[Asked]| asked.iter().filter(|asked| **asked == Asked::Accept(0)).count();
    let accepted = |slots: Range<u32>| slots.map(|slot| (slot, Accepted)).collect::<Vec<_>>();
    assert_eq!(accepts(&bench.turn(0, &[])), 32);
    assert_eq!(accepts(&bench.turn(0, &accepted(0..32))), 0);
    assert_eq!(accepts(&bench.turn(0, &accepted(0..0))), 8);
    assert_eq!(accepts(&bench.turn(0, &accepted(32..40))), 0);
    bench.turn(0, &[]);
    assert_eq!(bench.worker.counters().accept_pauses, 1, "there is no more room");
    // One leaves, and there is room for one.
    bench.turn(1, &[(7, Ended(ReceiveEnd::Eof))]);
    assert_eq!(bench.turn(1, &[(7, Happens::Closed)]), []);
    assert_eq!(bench.turn(1, &[]), [Asked::Accept(0)]);
}

#[test]
fn a_connection_between_frames_goes_on_receiving_whatever_is_received_straight() {
    let mut bench = Bench::open_with(1, Options { straight_bytes_min: 0, ..awake() });
    assert_eq!(bench.turn(60, &[(0, Ended(ReceiveEnd::Exhausted))]), [Asked::Receive(0)]);
    let asked = bench.turn(61, &[(0, Received(b"\x82\x80\0\0\0\0"))]);
    assert_eq!(asked, [Asked::Send(0, b"\x82\0".to_vec())]);
}

#[test]
fn after_a_long_message_the_next_one_is_received_into_a_block_and_sent_from_there() {
    let mut bench = Bench::open_with(1, Options { block_bytes_min: 300, ..awake() });
    let message = |len: u16| {
        let [a, b] = len.to_be_bytes();
        [&[0x82, 0xfe, a, b, 0, 0, 0, 0][..], &vec![7; len.into()]].concat()
    };
    let echo = |len: u16| Asked::Send(0, [&[0x82, 0x7e][..], &len.to_be_bytes(), &vec![7; len.into()]].concat());
    assert_eq!(bench.turn(60, &[(0, Received(&message(300)))]), [echo(300), Asked::CancelReceive(0)]);
    assert_eq!(bench.turn(61, &[(0, Ended(ReceiveEnd::Cancelled))]), [Asked::Poll(0, 1)]);
    assert_eq!(bench.turn(62, &[(0, Readable)]), []);
    assert_eq!(bench.turn(63, &[]), [Asked::Fill(0, 308)]);
    let copied = bench.worker.counters().copied_bytes;
    // A longer one comes, in two parts.
    let longer = message(20_000);
    assert_eq!(bench.turn(64, &[(0, Filled(&longer[..308]))]), [Asked::Poll(0, 19_700)]);
    bench.turn(65, &[(0, Readable)]);
    assert_eq!(bench.turn(66, &[]), [Asked::Fill(0, 19_700)]);
    assert_eq!(bench.turn(67, &[(0, Filled(&longer[308..]))]), [echo(20_000), Asked::Poll(0, 1)]);
    assert_eq!(bench.worker.counters().copied_bytes - copied, 300, "to a longer block");
    // Then a short one: receive buffers are the better place for what follows.
    bench.turn(68, &[(0, Readable)]);
    assert_eq!(bench.turn(69, &[]), [Asked::Fill(0, 20_008)]);
    assert_eq!(bench.turn(70, &[(0, Filled(&message(200)))]), [echo(200), Asked::Receive(0)]);
}

#[test]
fn a_bad_frame_in_a_block_is_refused_as_anywhere() {
    let mut bench = Bench::open_with(1, Options { block_bytes_min: 0, ..awake() });
    bench.turn(60, &[(0, Received(b"\x82\x81\0\0\0\0a"))]);
    assert_eq!(bench.turn(61, &[(0, Ended(ReceiveEnd::Cancelled))]), [Asked::Poll(0, 1)]);
    bench.turn(62, &[(0, Readable)]);
    assert_eq!(bench.turn(63, &[]), [Asked::Fill(0, 7)]);
    let asked = bench.turn(64, &[(0, Filled(b"\x83\x80\0\0\0\0"))]);
    assert!(matches!(&asked[0], Asked::Send(0, bytes) if bytes.starts_with(b"\x88") && bytes[2..4] == [0x03, 0xea]));
}

#[test]
fn when_buffers_are_short_the_message_that_was_begun_first_goes_on_first() {
    let mut bench = Bench::open(3);
    // Slot 2 begins a message of 1,000 bytes, then slot 1 does, then slot 0 sends a whole one.
    let begin = [&b"\x82\xfe\x03\xe8\0\0\0\0"[..], &[7; 100]].concat();
    bench.turn(60, &[(2, Received(&begin))]);
    bench.turn(61, &[(1, Received(&begin))]);
    bench.turn(62, &[(2, Received(&[7; 100]))]);
    bench.turn(63, &[(0, Received(b"\x82\x80\0\0\0\0"))]);
    let short = || Ended(ReceiveEnd::NoBuffers);
    let asked = bench.turn(64, &[(0, short()), (1, short()), (2, short())]);
    assert_eq!(asked, [Asked::Receive(2), Asked::Receive(1), Asked::Receive(0)]);
    assert_eq!(bench.worker.counters().buffer_shortages, 3);
}

#[test]
fn a_message_that_never_ends_does_not_keep_its_place_for_ever() {
    let mut bench = Bench::open(2);
    let begin = [&b"\x82\xfe\xff\xff\0\0\0\0"[..], &[7; 10]].concat();
    bench.turn(60, &[(1, Received(&begin))]);
    bench.turn(61, &[(0, Received(b"\x82\x80\0\0\0\0"))]);
    let short = || Ended(ReceiveEnd::NoBuffers);
    for _ in 0..RECEIVES_PER_PLACE {
        bench.turn(62, &[(1, Received(&[7]))]);
    }
    assert_eq!(bench.turn(63, &[(0, short()), (1, short())]), [Asked::Receive(1), Asked::Receive(0)]);
    bench.turn(64, &[(1, Received(&[7]))]);
    assert_eq!(bench.turn(65, &[(0, short()), (1, short())]), [Asked::Receive(0), Asked::Receive(1)]);
}

#[test]
fn who_is_not_served_keeps_its_place_and_who_is_goes_to_the_end() {
    let mut bench = Bench::open(3);
    let message = || Received(b"\x82\x80\0\0\0\0");
    bench.turn(60, &[(0, message()), (1, message()), (2, message())]);
    bench.turn(61, &[(1, message())]);
    let short = || Ended(ReceiveEnd::NoBuffers);
    let asked = bench.turn(62, &[(0, message()), (0, Ended(ReceiveEnd::Exhausted)), (1, short()), (2, short())]);
    let asked: Vec<_> = asked.into_iter().filter(|asked| matches!(asked, Asked::Receive(_))).collect();
    assert_eq!(asked, [Asked::Receive(2), Asked::Receive(1), Asked::Receive(0)]);
}

/// Heartbeats of a second, and hibernation after half of that, looked at in ticks of 32 ms.
fn with_heartbeats() -> Options {
    let ping = Some(Beat { interval_ms: 1_024, timeout_ms: 512 });
    Options { ping, hibernate_after_ms: Some(320), ..Options::default() }
}

const PONG: &[u8] = b"\x8a\x80\0\0\0\0";

fn ping(slot: u32) -> Asked {
    Asked::Send(slot, vec![0x89, 0])
}

#[test]
fn a_quiet_connection_is_pinged_and_one_that_answers_stays() {
    let mut bench = Bench::open_with(1, Options { hibernate_after_ms: None, ..with_heartbeats() });
    assert_eq!(bench.turn(1_023, &[]), []);
    assert_eq!(bench.turn(1_088, &[]), [ping(0)]);
    assert_eq!(bench.turn(1_200, &[(0, Received(PONG))]), []);
    assert_eq!(bench.turn(1_200 + 1_000, &[]), [], "the interval begins with the pong");
    assert_eq!(bench.turn(1_200 + 1_088, &[]), [ping(0)]);
    assert_eq!(bench.worker.counters().pings, 2);
}

#[test]
fn pings_go_out_each_interval_though_the_timeout_is_longer() {
    let beat = Some(Beat { interval_ms: 1_024, timeout_ms: 10_240 });
    let mut bench = Bench::open_with(1, Options { ping: beat, hibernate_after_ms: None, ..Options::default() });
    assert_eq!(bench.turn(1_088, &[]), [ping(0)]);
    bench.turn(1_100, &[(0, Received(PONG))]);
    assert_eq!(bench.turn(2_111, &[]), []);
    assert_eq!(bench.turn(2_112, &[]), [ping(0)]);
    // Without an answer nothing follows until the timeout.
    for at_ms in (2_113..2_112 + 10_240).step_by(100) {
        assert_eq!(bench.turn(at_ms, &[]), []);
    }
    assert!(matches!(&bench.turn(2_112 + 10_240, &[])[..], [Asked::Send(0, bytes)] if bytes[0] == 0x88));
    assert_eq!(bench.worker.counters().pings, 2);
}

#[test]
fn a_tick_with_many_pings_leaves_room_for_what_comes_meanwhile() {
    let mut bench = Bench::open_with(200, Options { hibernate_after_ms: None, ..with_heartbeats() });
    // A worker that was held up has all of them due at once; what is due early is spread over the interval.
    let pings = |asked: &[Asked]| {
        asked.iter().filter(|asked| matches!(asked, Asked::Send(_, bytes) if bytes == b"\x89\0")).count()
    };
    assert_eq!(pings(&bench.turn(1_500, &[])), 32);
    // The next turn doesn't wait.
    let next = bench.turn(1_500, &[(0, Received(b"\x82\x80\0\0\0\0"))]);
    assert_eq!((pings(&next), next.contains(&Asked::Send(0, b"\x82\0".to_vec()))), (32, true));
}

#[test]
fn a_silent_connection_is_told_and_closed() {
    let mut bench = Bench::open_with(1, Options { hibernate_after_ms: None, ..with_heartbeats() });
    assert_eq!(bench.turn(1_088, &[]), [ping(0)]);
    assert_eq!(bench.turn(1_088 + 511, &[]), []);
    let asked = bench.turn(1_088 + 512, &[]);
    assert_eq!(asked, [Asked::Send(0, b"\x88\x20\x03\xf3nothing heard, not even a pong".to_vec())]);
    assert_eq!(bench.turn(1_700, &[]), [Asked::Cancel(0)]);
    assert_eq!(bench.turn(1_701, &[(0, Ended(ReceiveEnd::Cancelled))]), [Asked::Close(0)]);
    assert_eq!(bench.worker.counters().silent, 1);
}

#[test]
fn whatever_comes_is_a_sign_of_life() {
    let mut bench = Bench::open_with(1, Options { hibernate_after_ms: None, ..with_heartbeats() });
    assert_eq!(bench.turn(1_088, &[]), [ping(0)]);
    // The first byte of a frame, and the rest long after the timeout.
    assert_eq!(bench.turn(1_500, &[(0, Received(b"\x82"))]), []);
    assert_eq!(bench.turn(2_400, &[]), [], "within a message, its own deadline counts");
    bench.turn(2_500, &[(0, Received(b"\x80\0\0\0\0"))]);
    assert_eq!(bench.turn(2_500 + 1_000, &[]), []);
    assert_eq!(bench.turn(2_500 + 1_088, &[]), [ping(0)]);
}

#[test]
fn connections_opened_together_are_pinged_one_after_the_other() {
    let mut bench = Bench::open_with(256, Options { hibernate_after_ms: None, ..with_heartbeats() });
    let mut most = 0;
    for tick in 2..36 {
        let asked = bench.turn(tick * TICK_MS, &[]);
        let pings = asked.iter().filter(|asked| matches!(asked, Asked::Send(_, bytes) if bytes == b"\x89\0")).count();
        most = most.max(pings);
    }
    assert_eq!(bench.worker.counters().pings, 256);
    assert!(most <= 12, "{most} at once, where 256 over 32 ticks are 8 each");
}

#[test]
fn a_connection_hibernates_until_its_first_message_and_when_it_is_quiet_again() {
    let mut bench = Bench::open_with(1, Options { ping: None, ..with_heartbeats() });
    assert_eq!(bench.turn(60, &[(0, Ended(ReceiveEnd::Drained))]), [Asked::Poll(0, 1)], "the request was there");
    // A pong does not wake it.
    assert_eq!(bench.turn(61, &[(0, Readable)]), [Asked::ReceiveNow(0)]);
    assert_eq!(bench.turn(62, &[(0, Received(PONG)), (0, Ended(ReceiveEnd::Drained))]), [Asked::Poll(0, 1)]);
    // What is more than a buffer holds is received at once, too.
    assert_eq!(bench.turn(63, &[(0, Readable)]), [Asked::ReceiveNow(0)]);
    let first = bench.turn(64, &[(0, Received(PONG)), (0, Ended(ReceiveEnd::Exhausted))]);
    assert_eq!(first, [Asked::ReceiveNow(0)]);
    assert_eq!(bench.turn(65, &[(0, Ended(ReceiveEnd::Drained))]), [Asked::Poll(0, 1)]);
    // A message does.
    assert_eq!(bench.turn(100, &[(0, Readable)]), [Asked::ReceiveNow(0)]);
    let message = || Received(b"\x82\x80\0\0\0\0");
    let woken = bench.turn(101, &[(0, message()), (0, Ended(ReceiveEnd::Drained))]);
    assert_eq!(woken, [Asked::Send(0, b"\x82\0".to_vec()), Asked::Receive(0)]);
    // It was lively when it is looked at, and quiet the next time.
    assert_eq!(bench.turn(500, &[]), []);
    assert_eq!(bench.turn(900, &[]), [Asked::CancelReceive(0)]);
    assert_eq!(bench.turn(901, &[(0, Ended(ReceiveEnd::Cancelled))]), [Asked::Poll(0, 1)]);
    assert_eq!(bench.worker.counters().hibernations, 1);
}

#[test]
fn a_hibernating_connection_ends_as_any_other() {
    let mut bench = Bench::open_with(2, Options { ping: None, ..with_heartbeats() });
    bench.turn(60, &[(0, Ended(ReceiveEnd::Drained)), (1, Ended(ReceiveEnd::Drained))]);
    let asked = bench.turn(500, &[(0, Readable), (1, Readable)]);
    assert_eq!(asked, [Asked::ReceiveNow(0), Asked::ReceiveNow(1)]);
    let ends = [(0, Ended(ReceiveEnd::Eof)), (1, Ended(ReceiveEnd::Failed(libc::ETIMEDOUT)))];
    assert_eq!(bench.turn(501, &ends), [Asked::Close(0), Asked::Close(1)]);
    assert_eq!((bench.worker.counters().lost, bench.worker.counters().silent), (1, 1));
}

#[test]
fn without_buffers_what_the_poll_told_of_is_received_later() {
    let mut bench = Bench::open_with(1, Options { ping: None, ..with_heartbeats() });
    bench.turn(60, &[(0, Ended(ReceiveEnd::Drained))]);
    bench.turn(61, &[(0, Readable)]);
    assert_eq!(bench.turn(62, &[(0, Ended(ReceiveEnd::NoBuffers))]), [Asked::ReceiveNow(0)]);
}

#[test]
fn while_memory_is_tight_nobody_is_accepted_and_when_it_is_short_the_newest_are_closed() {
    let mut bench = Bench::open(65);
    bench.mailbox.press(Pressure::Tight);
    assert_eq!(bench.turn(60, &[]), []);
    assert_eq!(bench.turn(61, &[]), [Asked::CancelAccepts]);
    bench.mailbox.press(Pressure::Short { bytes: 0 });
    let close = |slot| Asked::Send(slot, b"\x88\x0f\x03\xf5out of memory".to_vec());
    assert_eq!(bench.turn(62, &[]), [close(64), close(63)], "one in 64");
    assert_eq!(bench.turn(63, &[]), [], "once for each word");
    bench.mailbox.press(Pressure::Short { bytes: 0 });
    assert_eq!(bench.turn(64, &[]), [], "what those free who were told is yet to be seen");
    assert_eq!((bench.worker.counters().shed, bench.mailbox.connections()), (2, 65));
}

#[test]
fn a_cancel_that_misses_accepts_is_made_again() {
    let mut bench = Bench::open(0);
    bench.hand.miss_accepts(3);
    bench.mailbox.stop();
    assert_eq!(bench.turn(60, &[]), []);
    assert_eq!(bench.turn(61, &[]), [Asked::CancelAccepts]);
    bench.hand.next(62, &[]);
    assert_eq!(bench.worker.turn().expect("a scripted driver never fails"), Status::Stopped);
    assert_eq!(bench.hand.asked(), [Asked::CancelAccepts]);
}

#[test]
fn operations_of_the_dying_that_a_cancel_misses_are_cancelled_again() {
    let mut bench = Bench::open(1);
    bench.mailbox.abort();
    bench.turn(60, &[]);
    assert!(bench.turn(61, &[]).contains(&Asked::Cancel(0)));
    assert!(!bench.turn(500, &[]).contains(&Asked::Cancel(0)));
    let again: Vec<_> = [1_059, 1_090].iter().flat_map(|&at_ms| bench.turn(at_ms, &[])).collect();
    assert!(again.contains(&Asked::Cancel(0)), "{again:?}");
}

#[test]
fn a_message_in_pieces_has_its_deadline_again_after_a_pause() {
    let options = Options { send_queue_bytes_max: 16, assembly_timeout_ms: 500, ..awake() };
    let mut bench = Bench::open_with(1, options);
    // It pauses at the end of what was received: the answer to the Ping is over the bound of the queue.
    let input = [&b"\x01\x81\0\0\0\0a"[..], b"\x89\x94\0\0\0\0aaaaaaaaaaaaaaaaaaaa"].concat();
    let asked = bench.turn(60, &[(0, Received(&input))]);
    assert!(matches!(&asked[0], Asked::Send(0, bytes) if bytes[0] == 0x8a), "{asked:?}");
    assert!(bench.worker.counters().pauses > 0);
    let closed: Vec<_> = (64..700).step_by(32).flat_map(|at_ms| bench.turn(at_ms, &[])).collect();
    let reason = b"\x03\xf0fragments took too long";
    assert!(
        closed.iter().any(|asked| matches!(asked, Asked::Send(0, bytes) if bytes[2..] == reason[..])),
        "{closed:?}"
    );
}

#[test]
fn what_is_answered_while_memory_is_short_is_sent() {
    let mut bench = Bench::open(2);
    bench.mailbox.press(Pressure::Short { bytes: 1 << 30 });
    let asked = bench.turn(60, &[(0, Received(b"\x82\x80\0\0\0\0"))]);
    assert_eq!(asked[0], Asked::Send(0, b"\x82\0".to_vec()));
    assert!(!asked.contains(&Asked::Cancel(0)), "who takes its answers is not slow");
    assert_eq!(bench.worker.counters().shed, 1);
}

#[test]
fn nobody_is_silent_to_a_worker_that_was_held_up() {
    let mut bench = Bench::open_with(1, Options { hibernate_after_ms: None, ..with_heartbeats() });
    assert_eq!(bench.turn(1_088, &[]), [ping(0)]);
    // Seconds pass in one turn, and the pong is heard in the next one.
    assert_eq!(bench.turn(9_000, &[]), []);
    assert_eq!(bench.turn(9_001, &[(0, Received(PONG))]), []);
    assert_eq!(bench.turn(10_100, &[]), [ping(0)]);
    assert_eq!(bench.worker.counters().silent, 0);
}

#[test]
fn who_was_told_that_memory_is_short_may_say_goodbye() {
    let mut bench = Bench::open(1);
    bench.mailbox.press(Pressure::Short { bytes: 0 });
    assert_eq!(bench.turn(60, &[]).last(), Some(&Asked::Send(0, b"\x88\x0f\x03\xf5out of memory".to_vec())));
    bench.mailbox.press(Pressure::Short { bytes: 0 });
    assert_eq!(bench.turn(160, &[]), [Asked::CancelAccepts], "not cut off by the next word");
    assert_eq!(bench.worker.counters().shed, 1);
}
