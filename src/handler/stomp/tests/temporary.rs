//! Temporary queues, and replies to them.

use super::cluster::{Cluster, body_of, check_over_workers, header_of};
use super::*;
use crate::handler::ConnectionId;

/// A service that gets requests from `/queue/service`.
fn service(cluster: &mut Cluster) -> ConnectionId {
    let service = cluster.connect(2, "1.2");
    cluster.say(service, "SUBSCRIBE\nid:1\ndestination:/queue/service\n\n\0");
    service
}

/// Sends a request whose answer goes to the temporary queue of this name; returns where the service is to answer.
fn ask(cluster: &mut Cluster, client: ConnectionId, service: ConnectionId, name: &str) -> String {
    cluster.say(client, &format!("SEND\ndestination:/queue/service\nreply-to:/temp-queue/{name}\n\nask\0"));
    let request = cluster.frame(service);
    header_of(&request, "reply-to").expect("it has one").to_owned()
}

/// Row S24, and as RabbitMQ has it: a request makes a subscription for its answers, which has the queue's name, and
/// whoever gets the request is told a name that nobody can guess.
#[test]
fn a_request_subscribes_to_its_answers() {
    check_over_workers(&Options::default(), |cluster| {
        let (service, client) = (service(cluster), cluster.connect(1, "1.2"));
        let reply_to = ask(cluster, client, service, "foo");
        let (start, end) = reply_to.rsplit_once('/').expect("it has a name");
        let token = start.strip_prefix("/temp-queue/").and_then(|rest| rest.split('-').next()).expect("it has one");
        assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()) && end == "foo");
        for body in ["1", "2"] {
            cluster.say(service, &format!("SEND\ndestination:{reply_to}\nreceipt:r\nnote:a\\cb\n\n{body}\0"));
            assert_eq!(cluster.receipts(service), ["r"]);
            let answer = cluster.frame(client);
            assert_eq!(header_of(&answer, "subscription"), Some("/temp-queue/foo"));
            assert_eq!((header_of(&answer, "ack"), body_of(&answer)), (None, body));
            assert_eq!(header_of(&answer, "note"), Some("a\\cb"));
        }
        assert_eq!(ask(cluster, client, service, "foo"), reply_to, "it stays the same");
        assert_ne!(ask(cluster, client, service, "bar"), reply_to);
        let other = cluster.connect(1, "1.0");
        let others = ask(cluster, other, service, "foo");
        assert_ne!(others, reply_to);
        cluster.say(service, &format!("SEND\ndestination:{others}\n\nx\0"));
        assert_eq!((cluster.bodies(client).len(), cluster.bodies(other).len()), (0, 1));
    });
}

/// Rows S23 and S24: another connection gets nothing of it, whatever it says.
#[test]
fn a_temporary_queue_is_its_connections_alone() {
    check_over_workers(&Options::default(), |cluster| {
        let (service, client) = (service(cluster), cluster.connect(1, "1.2"));
        let reply_to = ask(cluster, client, service, "foo");
        let thief = cluster.connect(0, "1.2");
        for (id, destination) in ["/temp-queue/foo", &reply_to, "/topic/#"].into_iter().enumerate() {
            cluster.say(thief, &format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\n\n\0"));
        }
        cluster.say(service, &format!("SEND\ndestination:{reply_to}\n\nsecret\0"));
        assert_eq!(cluster.bodies(client), ["secret"]);
        assert_eq!(cluster.frames(thief), [""; 0]);
        let (_, rest) = reply_to["/temp-queue/".len()..].split_once('-').expect("a token comes first");
        let wrong = "0".repeat(32);
        for guess in [format!("{wrong}-{rest}"), format!("{wrong}-9-1-0/foo"), format!("{wrong}-0-999-0/foo")] {
            let guess = format!("/temp-queue/{guess}");
            cluster.say(thief, &format!("SEND\ndestination:{guess}\nreceipt:r\n\nx\0"));
            assert_eq!(cluster.receipts(thief), ["r"], "nobody is told whether it is there: {guess}");
        }
        assert_eq!(cluster.frames(client), [""; 0]);
        let error = cluster.error(thief, "SEND\ndestination:/temp-queue/none\n\nx\0");
        assert_eq!(error, "no such temporary queue of this connection");
    });
}

/// Answers to one who is gone are lost, and counted; a connection in the same place gets none of them.
#[test]
fn answers_to_one_who_is_gone_are_lost() {
    check_over_workers(&Options::default(), |cluster| {
        let (service, client) = (service(cluster), cluster.connect(1, "1.2"));
        let reply_to = ask(cluster, client, service, "foo");
        cluster.cut(client);
        let next = cluster.connect(1, "1.2");
        assert_eq!(next.key.slot, client.key.slot);
        ask(cluster, next, service, "foo");
        cluster.say(service, &format!("SEND\ndestination:{reply_to}\nreceipt:r\n\nx\0"));
        assert_eq!(cluster.receipts(service), ["r"]);
        assert_eq!(cluster.frames(next), [""; 0]);
        assert_eq!(cluster.workers.iter().map(|it| it.counters().lost_replies).sum::<u64>(), 1);
    });
}

/// A connection may subscribe to a temporary queue of its own, acknowledge, and send to it.
#[test]
fn a_connection_has_temporary_queues_of_its_own() {
    check_over_workers(&Options::default(), |cluster| {
        let (service, client) = (service(cluster), cluster.connect(1, "1.2"));
        cluster.say(client, "SUBSCRIBE\nid:mine\ndestination:/temp-queue/foo\nack:client\nprefetch-count:1\n\n\0");
        let reply_to = ask(cluster, client, service, "foo");
        for body in ["1", "2"] {
            cluster.say(service, &format!("SEND\ndestination:{reply_to}\n\n{body}\0"));
        }
        let first = cluster.frame(client);
        assert_eq!((header_of(&first, "subscription"), body_of(&first)), (Some("mine"), "1"));
        let ack = header_of(&first, "ack").expect("it acknowledges");
        cluster.say(client, &format!("NACK\nid:{ack}\n\n\0"));
        let again = cluster.frame(client);
        assert_eq!((header_of(&again, "redelivered"), body_of(&again)), (Some("true"), "1"));
        cluster.say(client, &format!("ACK\nid:{}\n\n\0", header_of(&again, "ack").expect("it acknowledges")));
        assert_eq!(cluster.bodies(client), ["2"]);
        cluster.say(client, "UNSUBSCRIBE\nid:mine\nreceipt:u\n\n\0");
        cluster.say(
            client,
            "SUBSCRIBE\nid:mine\ndestination:/temp-queue/bar\n\n\0SEND\ndestination:/temp-queue/bar\n\nx\0",
        );
        assert_eq!(cluster.frames(client).len(), 2);
    });
}

/// A reply-to is passed on as it is: a service may have another one answer, and names that are none are none of ours.
#[test]
fn a_reply_to_is_passed_on() {
    check_over_workers(&Options::default(), |cluster| {
        let (service, client) = (service(cluster), cluster.connect(1, "1.2"));
        let reply_to = ask(cluster, client, service, "foo");
        let other = cluster.connect(0, "1.2");
        cluster.say(other, "SUBSCRIBE\nid:1\ndestination:/topic/other\n\n\0");
        for to in [reply_to.as_str(), "/queue/answers", "mail"] {
            cluster.say(service, &format!("SEND\ndestination:/topic/other\nreply-to:{to}\n\nx\0"));
            assert_eq!(header_of(&cluster.frame(other), "reply-to"), Some(to));
        }
        cluster.say(other, &format!("SEND\ndestination:{reply_to}\n\nfrom another\0"));
        assert_eq!(cluster.bodies(client), ["from another"]);
        for (name, expect) in [
            ("", "the name of a destination has an empty segment".to_owned()),
            (&"x".repeat(129), "the name of a temporary queue has at most 128 bytes".to_owned()),
        ] {
            let client = cluster.connect(1, "1.2");
            let send = format!("SEND\ndestination:/queue/service\nreply-to:/temp-queue/{name}\n\nask\0");
            assert_eq!(cluster.error(client, &send), expect);
        }
    });
}
