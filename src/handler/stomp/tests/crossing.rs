//! What several workers say to each other crosses on the way: none of it is taken for something else.

use super::cluster::{Cluster, body_of, check_over_workers, header_of};
use super::*;
use crate::handler::stomp::{Outgoing, Subscriber, Wish};

use std::sync::mpsc;

/// The name of a queue that lives on worker 1.
fn name_on_1(cluster: &Cluster) -> String {
    let mut names = (0..).map(|number| format!("q{number}"));
    names.find(|name| cluster.workers[0].worker_of(name) == 1).expect("one of them does")
}

/// Row S26: what another worker says of an UNSUBSCRIBE is no answer to a DISCONNECT.
#[test]
fn a_disconnect_is_not_done_when_an_unsubscribe_is() {
    let mut cluster = Cluster::new(2, &Options::default());
    let name = name_on_1(&cluster);
    let client = cluster.connect(0, "1.2");
    cluster.say(client, &format!("SUBSCRIBE\nid:a\ndestination:/queue/{name}\n\n\0"));
    cluster.whisper(client, b"UNSUBSCRIBE\nid:a\n\n\0");
    cluster.end_turn(0);
    assert!(cluster.hand_over(0, 1));
    cluster.end_turn(1);
    let last = format!("SEND\ndestination:/queue/{name}\n\nx\0DISCONNECT\nreceipt:bye\n\n\0");
    cluster.whisper(client, last.as_bytes());
    cluster.end_turn(0);
    assert!(cluster.hand_over(1, 0), "the word of the UNSUBSCRIBE comes");
    cluster.end_turn(0);
    assert_eq!(cluster.frames(client), [""; 0], "the SEND is still on its way");
    cluster.run();
    assert_eq!(cluster.frames(client), ["RECEIPT\nreceipt-id:bye\n\n"]);
}

/// A consumer that does not read keeps no message from others: what was not written is still in its queue.
#[test]
fn what_was_not_written_to_a_consumer_goes_to_another() {
    check_over_workers(&Options::default(), |cluster| {
        cluster.queue_bytes_max = 1_000;
        let stuck = cluster.connect(0, "1.2");
        cluster.say(stuck, "SUBSCRIBE\nid:a\ndestination:/queue/a\n\n\0");
        cluster.wires.get_mut(&stuck).expect("it is open").is_stuck = true;
        let producer = cluster.connect(1, "1.2");
        for number in 0..50 {
            cluster.say(producer, &format!("SEND\ndestination:/queue/a\n\n{number:0200}\0"));
        }
        let written = cluster.bodies(stuck);
        assert!((1..20).contains(&written.len()), "{} were written", written.len());
        cluster.cut(stuck);
        let other = cluster.connect(2, "1.2");
        cluster.say(other, "SUBSCRIBE\nid:a\ndestination:/queue/a\nprefetch-count:0\n\n\0");
        let bodies: Vec<usize> = cluster.bodies(other).iter().map(|body| body.parse().expect("a number")).collect();
        assert_eq!(bodies, (written.len()..50).collect::<Vec<_>>(), "the rest, in order");
        cluster.cut(other);
        cluster.run();
        assert_eq!(cluster.queue_count(), 0);
    });
}

/// A receipt waits while its client does not read, and comes when it does.
#[test]
fn receipts_wait_for_room_and_come_in_order() {
    check_over_workers(&Options::default(), |cluster| {
        cluster.queue_bytes_max = 300;
        let client = cluster.connect(1, "1.2");
        cluster.say(client, "SUBSCRIBE\nid:a\ndestination:/topic/a\nreceipt:0\n\n\0");
        cluster.wires.get_mut(&client).expect("it is open").is_stuck = true;
        let publisher = cluster.connect(0, "1.2");
        cluster.say(publisher, &format!("SEND\ndestination:/topic/a\n\n{}\0", "x".repeat(2_000)));
        cluster
            .whisper(client, b"SEND\ndestination:/queue/a\nreceipt:1\n\n\0SEND\ndestination:/topic/b\nreceipt:2\n\n\0");
        cluster.run();
        let frames = cluster.frames(client);
        assert_eq!((frames.len(), &*frames[0]), (2, "RECEIPT\nreceipt-id:0\n\n"), "{frames:?}");
        cluster.wires.get_mut(&client).expect("it is open").is_stuck = false;
        cluster.run();
        assert_eq!(cluster.receipts(client), ["1", "2"]);
    });
}

/// Dead letters are in their queue in the order in which they died.
#[test]
fn dead_letters_keep_their_order() {
    check_over_workers(&Options::default(), |cluster| {
        let client = cluster.connect(2, "1.2");
        for number in 1..5 {
            cluster.say(client, &format!("SEND\ndestination:/queue/a\n\n{number}\0"));
        }
        cluster.say(client, "SUBSCRIBE\nid:a\ndestination:/queue/a\nack:client\n\n\0");
        let last = cluster.frames(client).pop().expect("there are four");
        let ack = header_of(&last, "ack").expect("1.2 has it");
        cluster.say(client, &format!("NACK\nid:{ack}\nrequeue:false\n\n\0"));
        cluster.say(client, "SUBSCRIBE\nid:d\ndestination:/queue/DLQ\n\n\0");
        assert_eq!(cluster.bodies(client), ["1", "2", "3", "4"]);
    });
}

/// The queues of a worker are bounded together, too.
#[test]
fn all_queues_of_a_worker_share_a_bound() {
    let options = Options { queues_bytes_max: 10_000, ..Options::default() };
    let mut cluster = Cluster::new(1, &options);
    let client = cluster.connect(0, "1.2");
    for queue in 0..9 {
        cluster.say(client, &format!("SEND\ndestination:/queue/{queue}\nreceipt:r\n\n{}\0", "x".repeat(1_000)));
        assert_eq!(cluster.receipts(client), ["r"]);
    }
    let more = format!("SEND\ndestination:/queue/more\n\n{}\0", "x".repeat(1_000));
    assert_eq!(cluster.error(client, &more), "the queues of the server are full");
    let consumer = cluster.connect(0, "1.2");
    cluster.say(consumer, "SUBSCRIBE\nid:a\ndestination:/queue/0\n\n\0");
    assert_eq!(cluster.bodies(consumer).len(), 1);
    cluster.say(consumer, &more);
    assert_eq!(cluster.frames(consumer), [""; 0], "there is room again");
}

/// The program's own messages carry no header that is the broker's, and its subscribers get what is theirs.
#[test]
fn the_program_publishes_and_subscribes_like_anybody() {
    // Subscribers of the program's own are there for good.
    for workers in [1, 3] {
        let mut cluster = Cluster::new(workers, &Options::default());
        let (sender, receiver) = mpsc::channel();
        let subscriber = |sender: mpsc::Sender<String>| {
            Subscriber::new(move |message| {
                let text = String::from_utf8_lossy(message.body()).into_owned();
                if sender.send(format!("{} {text}", message.destination())).is_ok() { Wish::More } else { Wish::NoMore }
            })
        };
        for destination in ["/topic/a.*", "/queue/b"] {
            let subscriber = subscriber(sender.clone());
            cluster.call(workers - 1, None, |stomp, effects| {
                stomp.subscribe(destination, subscriber, effects).expect("a destination");
            });
            cluster.run();
        }
        let client = cluster.connect(1, "1.0");
        cluster.say(client, "SUBSCRIBE\ndestination:/topic/a.b\n\n\0");
        for destination in ["/topic/a.b", "/queue/b"] {
            let headers = [("content-length", "99"), ("note", "a:b"), ("subscription", "x")];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let message = Outgoing::new(destination, headers, b"hello").expect("a destination");
            cluster.call(0, None, |stomp, effects| stomp.publish(&message, effects));
            cluster.run();
        }
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["/topic/a.b hello", "/queue/b hello"]);
        let frame = cluster.frame(client);
        assert_eq!((header_of(&frame, "content-length"), header_of(&frame, "note")), (Some("5"), Some("a:b")));
        assert_eq!(body_of(&frame), "hello");
    }
}

/// The program answers a request like a client would.
#[test]
fn the_program_answers_where_a_request_wants_it() {
    check_over_workers(&Options::default(), |cluster| {
        let service = cluster.connect(0, "1.2");
        cluster.say(service, "SUBSCRIBE\nid:a\ndestination:/queue/rpc\n\n\0");
        let client = cluster.connect(2, "1.1");
        cluster.say(client, "SEND\ndestination:/queue/rpc\nreply-to:/temp-queue/r\n\nask\0");
        let request = cluster.frame(service);
        let reply_to = header_of(&request, "reply-to").expect("it was asked for");
        let answer = Outgoing::new(reply_to, [], b"answer").expect("a destination");
        cluster.call(0, None, |stomp, effects| stomp.publish(&answer, effects));
        cluster.run();
        let frame = cluster.frame(client);
        assert_eq!((header_of(&frame, "subscription"), body_of(&frame)), (Some("/temp-queue/r"), "answer"));
        assert!(Outgoing::new("/temp-queue/r", [], b"").is_err(), "that name is the client's own");
    });
}

/// However many commands the frames of some clients come to, a call gathers a bounded number of them, and all is
/// delivered in the end.
#[test]
fn what_is_for_very_many_takes_several_turns() {
    const COMMANDS_MAX: usize = 64 << 10;
    let mut cluster = Cluster::new(2, &Options::default());
    let subscribers: Vec<_> = (0..200).map(|_| cluster.connect(0, "1.2")).collect();
    for &id in &subscribers {
        cluster.say(id, "SUBSCRIBE\nid:a\ndestination:/topic/a\n\n\0");
    }
    let publishers: Vec<_> = (0..4).map(|number| cluster.connect(number % 2, "1.2")).collect();
    let send = "SEND\ndestination:/topic/a\n\nx\0".repeat(400);
    for &id in &publishers {
        cluster.whisper(id, send.as_bytes());
    }
    cluster.run();
    // The last one who has a share gets all of it.
    let share_max = (256 << 10) / "MESSAGE\nsubscription:a\n".len();
    assert!(cluster.most_commands <= COMMANDS_MAX + share_max, "{} in one call", cluster.most_commands);
    assert!(cluster.most_commands >= COMMANDS_MAX, "there were enough to be too many: {}", cluster.most_commands);
    for id in subscribers {
        assert_eq!(cluster.bodies(id).len(), 1_600);
    }
}
