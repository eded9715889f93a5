//! Topics: everybody who is subscribed gets everything, from whichever worker.

use super::cluster::{Cluster, body_of, header_of};
use super::*;

#[test]
fn a_message_reaches_all_subscribers_on_all_workers() {
    let mut cluster = Cluster::new(3, &Options::default());
    let subscribers: Vec<_> = (0..6).map(|number| cluster.connect(number % 3, "1.2")).collect();
    for &id in &subscribers {
        cluster.say(id, "SUBSCRIBE\nid:a\ndestination:/topic/x\nreceipt:r\n\n\0");
        assert_eq!(cluster.frames(id), ["RECEIPT\nreceipt-id:r\n\n"]);
    }
    let publisher = cluster.connect(1, "1.2");
    cluster
        .say(publisher, "SEND\ndestination:/topic/x\nnote:n\nreceipt:1\n\nhello\0SEND\ndestination:/topic/y\n\nno\0");
    assert_eq!(cluster.frames(publisher), ["RECEIPT\nreceipt-id:1\n\n"]);
    for id in subscribers {
        let frames = cluster.frames(id);
        assert_eq!(
            frames,
            ["MESSAGE\nsubscription:a\nmessage-id:1-1\ndestination:/topic/x\nnote:n\ncontent-length:5\n\nhello"]
        );
        assert_eq!((header_of(&frames[0], "note"), body_of(&frames[0])), (Some("n"), "hello"));
    }
}

#[test]
fn queues_on_any_worker_serve_consumers_on_any_other() {
    let mut cluster = Cluster::new(4, &Options::default());
    for queue in 0..16 {
        let consumer = cluster.connect(queue % 4, "1.2");
        cluster.say(consumer, &format!("SUBSCRIBE\nid:a\ndestination:/queue/{queue}\nack:client\nreceipt:r\n\n\0"));
        assert_eq!(cluster.frames(consumer), ["RECEIPT\nreceipt-id:r\n\n"]);
        let producer = cluster.connect((queue + 1) % 4, "1.1");
        cluster.say(producer, &format!("SEND\ndestination:/queue/{queue}\nreceipt:s\n\none\0"));
        assert_eq!(cluster.frames(producer), ["RECEIPT\nreceipt-id:s\n\n"]);
        let frames = cluster.frames(consumer);
        assert_eq!((frames.len(), body_of(&frames[0])), (1, "one"));
        let ack = header_of(&frames[0], "ack").expect("1.2 has it");
        cluster.say(consumer, &format!("ACK\nid:{ack}\nreceipt:k\n\n\0"));
        assert_eq!(cluster.frames(consumer), ["RECEIPT\nreceipt-id:k\n\n"]);
        cluster.say(consumer, &format!("ACK\nid:{ack}\nreceipt:k\n\n\0"));
        let error = cluster.frames(consumer);
        assert_eq!(header_of(&error[0], "message"), Some("no such message to acknowledge"));
        assert_eq!(header_of(&error[0], "receipt-id"), Some("k"));
    }
    cluster.run();
    assert_eq!(cluster.workers.iter().map(Stomp::queue_count).sum::<usize>(), 0, "nothing is left");
}
