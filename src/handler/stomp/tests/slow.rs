//! Clients that do not take what is sent to them, and limits of what they have.

use super::cluster::{Cluster, body_of, check_over_workers, header_of};
use super::*;
use crate::handler::ConnectionId;
use crate::proto::ws::CloseCode;

fn with_policy(policy: SlowConsumer, backlog_max: (usize, usize)) -> Options {
    let mut options = Options { backlog_max, ..Options::default() };
    options.slow_consumers.add("#", policy).expect("it is a pattern");
    options
}

/// A client that is subscribed to `destination`, and stuck, so that what comes waits.
fn stuck(cluster: &mut Cluster, destination: &str, head: &str) -> ConnectionId {
    cluster.queue_bytes_max = 100;
    let client = cluster.connect(2, "1.2");
    cluster.say(client, &format!("SUBSCRIBE\nid:1\ndestination:{destination}\n{head}\n\0"));
    cluster.wires.get_mut(&client).expect("it is open").is_stuck = true;
    client
}

fn unstick(cluster: &mut Cluster, client: ConnectionId) -> Vec<String> {
    cluster.wires.get_mut(&client).expect("it is open").is_stuck = false;
    cluster.run();
    cluster.frames(client)
}

fn publish(cluster: &mut Cluster, destination: &str, bodies: std::ops::Range<u32>) {
    let publisher = cluster.connect(1, "1.2");
    for body in bodies {
        cluster.say(publisher, &format!("SEND\ndestination:{destination}\n\n{body:03}\0"));
    }
    cluster.cut(publisher);
}

fn bodies_of(frames: &[String]) -> Vec<&str> {
    frames.iter().map(|frame| body_of(frame)).collect()
}

/// By default a slow subscriber is closed, and told why; what it had subscribed to is gone.
#[test]
fn a_slow_subscriber_is_closed() {
    check_over_workers(&with_policy(SlowConsumer::Close, (5, 1 << 20)), |cluster| {
        let (slow, quick) = (stuck(cluster, "/topic/a", ""), cluster.connect(2, "1.2"));
        cluster.say(quick, "SUBSCRIBE\nid:1\ndestination:/topic/#\n\n\0");
        publish(cluster, "/topic/a", 0..20);
        let frames = cluster.frames(slow);
        let error = frames.last().expect("there are some");
        assert_eq!(header_of(error, "message"), Some("subscriber is too slow for its topic"));
        assert_eq!(cluster.closed(slow), Some(CloseCode::PROTOCOL_ERROR));
        assert_eq!(cluster.bodies(quick).len(), 20, "others get all");
        let count: usize = cluster.workers.iter().map(Stomp::topic_subscription_count).sum();
        assert_eq!(count, 1);
    });
}

/// Where the oldest are dropped, the next message says how many.
#[test]
fn a_slow_subscriber_is_told_how_many_were_dropped() {
    for (backlog_max, len) in [((5, 1 << 20), 5), ((100, 200), 3)] {
        check_over_workers(&with_policy(SlowConsumer::DropOldest, backlog_max), |cluster| {
            let client = stuck(cluster, "/topic/a", "");
            publish(cluster, "/topic/a", 0..50);
            let before = cluster.frames(client);
            assert!(before.iter().all(|frame| header_of(frame, "dropped").is_none()));
            let after = unstick(cluster, client);
            assert!(after.len() <= len && after.len() > 1, "{after:?}");
            let dropped = 50 - before.len() - after.len();
            assert_eq!(header_of(&after[0], "dropped"), Some(dropped.to_string().as_str()));
            assert!(after[1..].iter().all(|frame| header_of(frame, "dropped").is_none()));
            assert_eq!(bodies_of(&after).last(), Some(&"049"));
            assert_eq!(cluster.workers.iter().map(|it| it.counters().dropped).sum::<u64>(), dropped as u64);
        });
    }
}

/// Where only the latest counts, it is of each destination, behind those that came first.
#[test]
fn of_each_destination_the_latest_waits() {
    check_over_workers(&with_policy(SlowConsumer::KeepLatest, (100, 1 << 20)), |cluster| {
        let client = stuck(cluster, "/topic/price.*", "");
        publish(cluster, "/topic/price.fill", 0..3);
        cluster.frames(client);
        for round in 0..3 {
            for topic in ["a", "b"] {
                publish(cluster, &format!("/topic/price.{topic}"), round..round + 1);
            }
        }
        let frames = unstick(cluster, client);
        let of = |frame: &String| {
            (header_of(frame, "destination").expect("it has one").to_owned(), body_of(frame).to_owned())
        };
        let latest: Vec<_> = frames.iter().map(of).filter(|(destination, _)| !destination.ends_with("fill")).collect();
        let expect = ["a", "b"].map(|topic| (format!("/topic/price.{topic}"), "002".to_owned()));
        assert_eq!(latest, expect);
        let dropped = frames.iter().filter_map(|frame| header_of(frame, "dropped")?.parse::<usize>().ok());
        assert!(dropped.sum::<usize>() >= 4, "{frames:?}");
    });
}

/// A subscription that acknowledges is bounded by its prefetch, and what waits for that by its own queue.
#[test]
fn what_waits_for_a_subscription_that_acknowledges_is_bounded() {
    let mut options = Options { prefetch: 2, ..Options::default() };
    options.topic_queues.messages_max = 4;
    check_over_workers(&options, |cluster| {
        let client = cluster.connect(2, "1.2");
        cluster.say(client, "SUBSCRIBE\nid:1\ndestination:/topic/a\nack:client\n\n\0");
        publish(cluster, "/topic/a", 0..10);
        let frames = cluster.frames(client);
        assert_eq!(bodies_of(&frames), ["000", "001"]);
        let ack = header_of(&frames[1], "ack").expect("it has one");
        cluster.say(client, &format!("ACK\nid:{ack}\n\n\0"));
        let frames = cluster.frames(client);
        assert_eq!(bodies_of(&frames), ["008", "009"]);
        assert_eq!(header_of(&frames[0], "dropped"), Some("6"));
    });
}

/// What is not acknowledged comes from a queue no faster than it is read.
#[test]
fn a_stuck_consumer_leaves_the_rest_of_its_queue_to_others() {
    check_over_workers(&Options::default(), |cluster| {
        let client = stuck(cluster, "/queue/a", "prefetch-count:10\n");
        publish(cluster, "/queue/a", 0..30);
        let seen = cluster.frames(client).len();
        let other = cluster.connect(0, "1.2");
        cluster.say(other, "SUBSCRIBE\nid:1\ndestination:/queue/a\n\n\0");
        let others = cluster.bodies(other);
        assert!(others.len() >= 20 - seen, "{others:?}");
        let rest = unstick(cluster, client);
        assert_eq!(seen + others.len() + rest.len(), 30);
    });
}

/// Row S25: receipts that nobody reads fill the send queue, and then nothing more is read.
#[test]
fn receipts_that_are_not_read_stop_the_client() {
    check_over_workers(&Options::default(), |cluster| {
        cluster.queue_bytes_max = 64 << 10;
        let client = cluster.connect(1, "1.2");
        cluster.wires.get_mut(&client).expect("it is open").is_stuck = true;
        let receipt = "r".repeat(4_000);
        for number in 0..100 {
            let destination = if number % 2 == 0 { "/queue/a" } else { "/topic/a" };
            cluster.say(client, &format!("SEND\ndestination:{destination}\nreceipt:{receipt}\n\n\0"));
        }
        let held = cluster.wires[&client].received.len();
        assert!(held < (64 << 10) + 3 * 4_100, "{held} bytes");
        assert!(!cluster.has_read_all(client));
        assert_eq!(unstick(cluster, client).len(), 100);
    });
}

/// Receipts that wait for other workers are limited: beyond that frames wait, and none is lost.
#[test]
fn receipts_that_wait_are_limited() {
    let options = Options { receipts_max: 4, ..Options::default() };
    let mut cluster = Cluster::new(3, &options);
    let client = cluster.connect(0, "1.2");
    let queue = (0..100).find(|queue| cluster.workers[0].worker_of(&queue.to_string()) == 1).expect("one is there");
    let sends: String =
        (0..50).map(|number| format!("SEND\ndestination:/queue/{queue}\nreceipt:{number}\n\n\0")).collect();
    cluster.whisper(client, sends.as_bytes());
    assert_eq!(cluster.workers[0].counters().published, 4);
    cluster.run();
    assert_eq!(cluster.receipts(client).len(), 50);
    cluster.end();
}

/// Row S13: so many subscriptions and no more, and all of their memory comes back.
#[test]
fn subscriptions_are_limited_and_leave_nothing() {
    check_over_workers(&Options { subscriptions_max: 50, ..Options::default() }, |cluster| {
        let name = |number: usize| format!("{}.{number}", "x".repeat(250 - 2));
        let bytes = |cluster: &Cluster| cluster.workers.iter().map(|it| it.topics.memory_bytes()).sum::<usize>();
        let before = bytes(cluster);
        for worker in 0..20 {
            let client = cluster.connect(worker, "1.2");
            for number in 0..50 {
                let destination = if number % 2 == 0 { "/topic/" } else { "/queue/" };
                let name = name(number);
                cluster.say(client, &format!("SUBSCRIBE\nid:{number}\ndestination:{destination}{name}\n\n\0"));
            }
            assert_eq!(cluster.closed(client), None);
            let error = cluster.error(client, "SUBSCRIBE\nid:x\ndestination:/topic/x\n\n\0");
            assert_eq!(error, "too many subscriptions");
        }
        cluster.run();
        assert_eq!((cluster.queue_count(), bytes(cluster)), (0, before));
    });
}

/// Queues of a worker are limited; a name that is used no more costs nothing.
#[test]
fn queues_are_limited_and_forgotten() {
    check_over_workers(&Options { queues_max: 3, ..Options::default() }, |cluster| {
        for round in 0..200 {
            let client = cluster.connect(1, "1.2");
            let queue = format!("/queue/{round}");
            cluster.say(client, &format!("SUBSCRIBE\nid:1\ndestination:{queue}\n\n\0SEND\ndestination:{queue}\n\nx\0"));
            assert_eq!(cluster.bodies(client), ["x"]);
            cluster.cut(client);
            cluster.run();
        }
        let client = cluster.connect(1, "1.2");
        let sends: String = (0..30).map(|queue| format!("SEND\ndestination:/queue/{queue}\n\n\0")).collect();
        assert_eq!(cluster.error(client, &sends), "too many queues");
        assert!(cluster.queue_count() <= 3 * cluster.workers.len());
    });
}

/// Other workers that cannot keep up slow down those who send to them, and nothing is lost.
#[test]
fn who_sends_to_a_worker_that_cannot_keep_up_waits() {
    check_over_workers(&Options::default(), |cluster| {
        let consumer = cluster.connect(0, "1.2");
        cluster.say(consumer, "SUBSCRIBE\nid:1\ndestination:/queue/a\n\n\0SUBSCRIBE\nid:2\ndestination:/topic/a\n\n\0");
        let client = cluster.connect(1, "1.2");
        cluster.is_backed_up = true;
        let sends = "SEND\ndestination:/queue/a\n\nx\0SEND\ndestination:/topic/a\n\nx\0".repeat(10);
        cluster.say(client, &sends);
        assert_eq!(cluster.bodies(consumer).len(), 1, "one frame went");
        cluster.run();
        assert_eq!(cluster.bodies(consumer).len(), 0);
        cluster.is_backed_up = false;
        cluster.run();
        assert_eq!(cluster.bodies(consumer).len(), 19);
    });
}

/// More than a turn may write waits for the next one, in order, behind it what comes meanwhile.
#[test]
fn what_a_turn_has_no_room_for_comes_in_the_next_ones() {
    for head in ["", "ack:client\n"] {
        check_over_workers(&Options::default(), |cluster| {
            cluster.queue_bytes_max = 16 << 20;
            let client = cluster.connect(2, "1.2");
            cluster.say(client, &format!("SUBSCRIBE\nid:1\ndestination:/topic/a\n{head}\n\0"));
            let publisher = cluster.connect(2, "1.2");
            let body = |number: u32| format!("{number:03}{}", "x".repeat(30_000));
            for start in [0, 15] {
                let sends =
                    (start..start + 15).map(|number| format!("SEND\ndestination:/topic/a\n\n{}\0", body(number)));
                cluster.whisper(publisher, sends.collect::<String>().as_bytes());
                cluster.end_turn(publisher.worker);
            }
            let first = cluster.bodies(client).len();
            assert!(first < 30, "a turn writes no more than it may");
            cluster.run();
            let rest = cluster.bodies(client);
            assert_eq!(first + rest.len(), 30);
            let start = u32::try_from(first).expect("few");
            assert!(rest.into_iter().zip(start..).all(|(it, number)| it == body(number)), "in order");
        });
    }
}

/// What waits for a subscription goes with it: the one that has its place then gets none of it.
#[test]
fn what_waits_for_a_subscription_that_ends_is_not_anothers() {
    check_over_workers(&Options::default(), |cluster| {
        cluster.queue_bytes_max = 100;
        let client = cluster.connect(2, "1.2");
        let publishers: Vec<_> = (0..6).map(|_| cluster.connect(2, "1.2")).collect();
        cluster.say(client, "SUBSCRIBE\nid:1\ndestination:/topic/a\n\n\0");
        cluster.wires.get_mut(&client).expect("it is open").is_stuck = true;
        cluster.is_backed_up = true;
        let change = "UNSUBSCRIBE\nid:1\n\n\0SUBSCRIBE\nid:2\ndestination:/topic/b\n\n\0";
        cluster.say(client, &["SEND\ndestination:/topic/c\n\n\0", change].concat());
        for publisher in publishers {
            cluster.say(publisher, "SEND\ndestination:/topic/a\n\n1\0");
        }
        let before = cluster.bodies(client).len();
        assert!((1..6).contains(&before), "some wait");
        cluster.is_backed_up = false;
        cluster.run();
        publish(cluster, "/topic/b", 7..8);
        let frames = unstick(cluster, client);
        assert_eq!(bodies_of(&frames), ["007"]);
        assert_eq!(header_of(&frames[0], "subscription"), Some("2"));
    });
}
