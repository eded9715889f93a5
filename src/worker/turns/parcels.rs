//! Parcels between workers, time, and the end of a turn.

use std::sync::Arc;

use crate::handler::Parcel;
use crate::ring::RingHandle;
use crate::ring::scripted::Asked;
use crate::worker::turns::puppet::Puppet;
use crate::worker::turns::{Bench, awake};
use crate::worker::{Handle, Mail, Mailbox, Peer, PostError};

/// Two workers that know each other, the first with connections.
fn pair() -> [Bench<Puppet>; 2] {
    let mailboxes = [Arc::new(Mailbox::default()), Arc::new(Mailbox::default())];
    let [first, mut second] = [0, 1].map(|index| Bench::among(index, &mailboxes, Puppet::default(), awake()));
    assert_eq!(second.log(), ["start 1 of 2"]);
    [first.opened(), second]
}

fn wakes(asked: &[Asked]) -> usize {
    asked.iter().filter(|asked| **asked == Asked::Wake).count()
}

#[test]
fn parcels_arrive_in_order_and_one_wake_is_enough() {
    let [mut first, mut second] = pair();
    let asked = first.hear(20, 1, b"post 1 5 one;post 1 0 two;post 7 1 nowhere;post 1 9 three");
    assert_eq!(wakes(&asked), 1);
    second.turn(20, &[]);
    assert_eq!(second.log(), ["parcel one", "parcel two", "parcel three"]);
    // An answer wakes the other way round, and what it is sent at hand goes nowhere.
    first.hear(21, 1, b"post 1 1 send 5;post 1 1 post 0 1 back");
    assert_eq!(wakes(&second.turn(21, &[])), 1);
    first.log();
    first.turn(22, &[]);
    assert_eq!(first.log(), ["parcel back"]);
}

#[test]
fn what_finds_no_room_waits_and_arrives_in_order() {
    let [mut first, mut second] = pair();
    assert_eq!(wakes(&first.hear(20, 1, b"count 1 10000")), 1);
    first.hear(21, 1, b"backed;post 1 1 last");
    assert_eq!((first.log().last().map(String::as_str), first.hand.wait_ms()), (Some("backed up: true"), Some(1)));
    let mut got = Vec::new();
    for at_ms in 22..30 {
        second.turn(at_ms, &[]);
        got.extend(second.log());
        assert!(wakes(&first.turn(at_ms, &[])) <= 1);
    }
    let expect: Vec<_> = (0..10_000).map(|count| format!("parcel {count}")).chain(["parcel last".into()]).collect();
    assert!(got == expect, "{} arrived", got.len());
    first.hear(30, 1, b"backed");
    assert_eq!(first.log().last().map(String::as_str), Some("backed up: false"));
}

#[test]
fn a_mailbox_holds_so_many_bytes_but_a_parcel_of_any_size_when_it_is_empty() {
    let mailbox = Mailbox::default();
    let post = |mib: usize| mailbox.post(Mail::Parcel(Parcel { content: Box::new(()), bytes: mib << 20 })).is_ok();
    assert_eq!([post(10), post(6), post(1)], [true, true, false]);
    assert!(mailbox.take().is_some());
    assert_eq!([post(11), post(10), post(0)], [false, true, true]);
    while mailbox.take().is_some() {}
    assert_eq!([post(1_000), post(1)], [true, false]);
}

#[test]
fn what_waits_for_a_worker_that_has_ended_is_dropped() {
    let [mut first, second] = pair();
    first.hear(20, 1, b"count 1 5000");
    second.mailbox.end();
    first.turn(21, &[]);
    first.hear(22, 1, b"backed;post 1 1 late");
    assert_eq!(first.log().last().map(String::as_str), Some("backed up: false"));
}

#[test]
fn a_worker_does_not_end_before_its_parcels_have_left() {
    let [mut first, second] = pair();
    first.hear(20, 1, b"count 1 5000");
    first.mailbox.abort();
    first.mailbox.stop();
    assert!(!first.worker.is_at_rest());
    second.mailbox.end();
    first.turn(21, &[]);
    assert!(!first.worker.outbox.is_backed_up());
}

#[test]
fn what_a_worker_posts_to_itself_arrives_in_the_same_turn_in_order() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    let asked = bench.hear(20, 1, b"post 0 1 one;post 0 1 post 0 1 three;post 0 1 deliver 1 2");
    assert_eq!(asked, [Asked::Send(1, b"<==".to_vec())]);
    assert_eq!(bench.log()[1..], ["parcel one", "parcel post 0 1 three", "parcel deliver 1 2", "parcel three"]);
    // A turn ends in any case.
    bench.hear(21, 1, b"count 0 10000");
    let count = bench.log().len();
    assert!(count < 10_000, "{count}");
    bench.turn(22, &[]);
    assert_eq!(bench.hand.wait_ms(), Some(0));
    assert_eq!(count + bench.log().len(), 10_001);
}

#[test]
fn the_end_of_a_turn_is_told_once_and_what_it_asks_for_is_done_in_it() {
    let puppet = Puppet { at_end: "deliver 1 1;post 0 1 own", ..Puppet::default() };
    let mut bench = Bench::new(puppet, awake()).opened();
    assert_eq!(bench.hear(20, 1, b"x"), [Asked::Send(1, b"<=".to_vec())]);
    assert_eq!(bench.log(), ["[x] 1", "end", "parcel own"]);
    // The handler was called since: what it has gathered by that must not wait.
    bench.turn(21, &[]);
    assert_eq!(bench.hand.wait_ms(), Some(0));
}

#[test]
fn the_handler_is_called_when_its_time_has_come_and_not_before() {
    let mut bench = Bench::new(Puppet::default(), awake()).opened();
    bench.hear(20, 1, b"timeout 30");
    bench.turn(49, &[]);
    assert_eq!((bench.hand.wait_ms(), bench.log()), (Some(30), vec!["[timeout 30] 1".to_owned()]));
    bench.turn(50, &[]);
    assert_eq!((bench.hand.wait_ms(), bench.log()), (Some(1), vec!["timeout at 50".to_owned()]));
    bench.turn(60, &[]);
    assert_eq!(bench.log(), Vec::<String>::new());
}

#[test]
fn other_threads_post_to_workers_that_are_there() {
    let [first, mut second] = pair();
    let peer = |bench: &Bench<Puppet>| Peer { mailbox: bench.mailbox.clone(), ring: RingHandle::of_nothing() };
    let doorbell = crate::ring::Doorbell::new().expect("io_uring works here");
    let handle = Handle::new(vec![peer(&first), peer(&second)], doorbell);
    let parcel = |text: &str| Parcel { content: Box::new(text.to_owned()), bytes: 20 << 20 };
    // There is no ring to be woken, which is said, but the worker looks at its next turn.
    assert!(matches!(handle.post(1, parcel("one")), Ok(()) | Err(PostError::Wake { worker: 1, .. })));
    assert!(matches!(handle.post(1, parcel("two")), Err(PostError::Full { worker: 1 })));
    assert!(matches!(handle.post(2, parcel("two")), Err(PostError::NoWorker { worker: 2 })));
    first.mailbox.end();
    assert!(matches!(handle.post(0, parcel("two")), Err(PostError::Stopped { worker: 0 })));
    second.worker.handle_woken();
    assert_eq!(second.log(), ["parcel one"]);
}
