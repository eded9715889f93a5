//! What subscriptions of STOMP clients allocate, with everything that a broker keeps of them: a million of them, and
//! all of it back when their clients have gone.

mod counting;

use ringsock::buf::{Pool, SendQueue};
use ringsock::handler::stomp::{Options, Shared, Stomp};
use ringsock::handler::{CloseCause, Commands, Transport};
use ringsock::slab::Key;
use ringsock::{ConnectionId, Effects, Handler};

use counting::BYTES;

/// The promise, in bytes.
const BYTES_MAX: usize = 96;

/// Calls a handler about a connection; what it sends and asks for goes nowhere.
fn call(stomp: &mut Stomp, id: ConnectionId, call: impl FnOnce(&mut Stomp, &mut Effects<'_>)) {
    let (mut queue, mut pool, mut commands) = (SendQueue::default(), Pool::default(), Commands::default());
    let mut effects =
        Effects::new(id, &mut queue, 0, &mut pool, &mut commands).with_transport(Transport::Stream, 1_000);
    call(stomp, &mut effects);
    queue.clear(&mut pool);
}

/// Bytes for each of `count` subscriptions, of clients with so many each, to the topics that `topic` names.
fn bytes_each(count: u32, of_client: u32, topic: impl Fn(u32) -> String) -> usize {
    let mut stomp = Stomp::new(Options::default(), &Shared::default());
    stomp.on_start(0, 1);
    let clients: Vec<ConnectionId> =
        (0..count / of_client).map(|slot| ConnectionId { worker: 0, key: Key { slot, generation: 0 } }).collect();
    for &id in &clients {
        call(&mut stomp, id, |stomp, effects| stomp.on_open(id, effects));
        call(&mut stomp, id, |stomp, effects| {
            stomp.on_bytes(id, b"CONNECT\naccept-version:1.2\nhost:/\n\n\0", effects);
        });
    }
    let before = BYTES.get();
    let mut number = 0;
    for &id in &clients {
        for subscription in 0..of_client {
            let frame = format!("SUBSCRIBE\nid:sub-{subscription}\ndestination:/topic/{}\n\n\0", topic(number));
            call(&mut stomp, id, |stomp, effects| stomp.on_bytes(id, frame.as_bytes(), effects));
            number += 1;
        }
    }
    assert_eq!(stomp.topic_subscription_count(), count as usize, "none was refused");
    let bytes = BYTES.get() - before;
    for id in clients {
        call(&mut stomp, id, |stomp, effects| stomp.on_close(id, CloseCause::Lost, effects));
    }
    assert_eq!((stomp.client_count(), stomp.topic_subscription_count()), (0, 0));
    let left = BYTES.get() - before.min(BYTES.get());
    assert!(left < 1 << 20, "{left} bytes are left of {bytes}");
    bytes / count as usize
}

#[test]
fn a_million_subscriptions_take_what_was_promised() {
    let shared = [(1_000_000, 100, 1_000), (100_000, 10, 10_000), (100_000, 250, 10), (100_000, 1, 100)];
    let shared = shared.map(|(count, of_client, topics)| (count, of_client, topics, BYTES_MAX));
    // Where each has a topic of its own, that is kept by name, for one subscription alone.
    let own = (100_000, 100, 100_000, BYTES_MAX + 48);
    for (count, of_client, topics, bytes_max) in shared.into_iter().chain([own]) {
        let bytes = bytes_each(count, of_client, |number| format!("room.{:07}", number % topics));
        println!("{count}, {of_client} for each client, {topics} topics: {bytes} bytes for a subscription");
        assert!(bytes <= bytes_max, "{bytes} bytes for each, {of_client} for each client");
    }
}
