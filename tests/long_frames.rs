//! Frames that are longer than a receive buffer, which the kernel writes straight into their message.

mod client;
mod host;

use std::thread;
use std::time::Duration;

use ringsock::handler::Echo;
use ringsock::proto::ws::{Opcode, encoder};
use socket2::SockRef;

use client::{Arrival, Client, frame};
use host::Host;

/// The longest message of these tests.
const LONG: usize = 4 << 20;
/// From so many bytes on a frame is received straight into its message.
const STRAIGHT: usize = 20_000;

fn start() -> Host {
    let adjust = |options: &mut ringsock::Options| {
        options.worker.messages.message_bytes_max = LONG;
        options.worker.straight_bytes_min = STRAIGHT;
    };
    Host::start(adjust, |_| Echo::default())
}

/// A text of `len` bytes in which each character has three, but for what is left over.
fn text(len: usize) -> String {
    let mut text: String = "日本語を".chars().cycle().take(len / 3).collect();
    text.extend("abc".chars().take(len % 3));
    text
}

#[test]
fn messages_on_either_side_of_the_bound_come_back_in_any_order() {
    let host = start();
    let mut client = Client::open(host.address);
    let lengths = [STRAIGHT - 1, STRAIGHT, 100, STRAIGHT + 5000, 300_000, 0, 1 << 20, 1 << 20, 7, LONG, 65_536, LONG];
    for (number, len) in lengths.into_iter().enumerate() {
        if number % 2 == 0 {
            let text = text(len);
            client.say(Opcode::Text, text.as_bytes());
            client.expect(&Arrival::Text(text));
        } else {
            let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
            client.say(Opcode::Binary, &bytes);
            client.expect(&Arrival::Binary(bytes));
        }
    }
    drop(client);
    assert_eq!(host.stop().sum(|worker| worker.messages), lengths.len() as u64);
}

#[test]
fn short_frames_may_stand_on_either_side_of_a_long_one_in_one_write() {
    let host = start();
    let mut client = Client::open(host.address);
    let long = text(500_000);
    let mut bytes = frame(Opcode::Text, b"before");
    bytes.extend(frame(Opcode::Text, long.as_bytes()));
    bytes.extend(frame(Opcode::Ping, b"between"));
    bytes.extend(frame(Opcode::Text, long.as_bytes()));
    bytes.extend(frame(Opcode::Text, b"after"));
    let writer = client.stream.try_clone().expect("a socket can be shared");
    thread::scope(|scope| {
        scope.spawn(|| std::io::Write::write_all(&mut &writer, &bytes).expect("the server reads"));
        for expect in [
            Arrival::Text("before".into()),
            Arrival::Text(long.clone()),
            Arrival::Pong(b"between".to_vec()),
            Arrival::Text(long.clone()),
            Arrival::Text("after".into()),
        ] {
            client.expect(&expect);
        }
    });
    drop((client, writer));
    host.stop();
}

#[test]
fn long_fragments_are_joined_around_a_ping() {
    let host = start();
    let mut client = Client::open(host.address);
    let text = text(900_000);
    let mut rest = text.as_bytes();
    let mut opcode = Opcode::Text;
    // Cut inside characters, in long and in short fragments.
    for len in [200_000, 10, 300_001, 5, 399_984] {
        let (piece, after) = rest.split_at(len);
        let mut out = Vec::new();
        encoder::fragment_header(&mut out, opcode, after.is_empty(), len, Some([0; 4]));
        out.extend_from_slice(piece);
        client.send(&out);
        (rest, opcode) = (after, Opcode::Continuation);
        if !rest.is_empty() {
            client.say(Opcode::Ping, b"between");
            client.expect(&Arrival::Pong(b"between".to_vec()));
        }
    }
    client.expect(&Arrival::Text(text));
    drop(client);
    host.stop();
}

#[test]
fn bad_text_far_into_a_long_frame_is_refused_before_its_end() {
    let host = start();
    let mut client = Client::open(host.address);
    let mut bytes = text(300_000).into_bytes();
    bytes.push(0xff);
    bytes.resize(LONG, b'a');
    // The rest never comes.
    client.send(&frame(Opcode::Text, &bytes)[..400_000]);
    client.expect(&Arrival::Close(Some(1007), "text is not UTF-8".into()));
    drop(client);
    host.stop();
}

#[test]
fn peers_that_vanish_within_a_long_frame_leave_nothing_behind() {
    let host = start();
    for number in 0..200_usize {
        let mut client = Client::open(host.address);
        client.send(&frame(Opcode::Binary, &vec![1; LONG])[..STRAIGHT / 2 + number * 3000]);
        if number % 2 == 0 {
            SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).expect("a socket takes this option");
        }
    }
    Client::open(host.address).check_echo("still here");
    host.stop();
}

#[test]
fn a_server_stops_although_long_frames_are_under_way() {
    let host = start();
    let open = || {
        let mut client = Client::open(host.address);
        client.send(&frame(Opcode::Binary, &vec![1; LONG])[..100_000]);
        client
    };
    let mut clients: Vec<Client> = (0..20).map(|_| open()).collect();
    host.server.stop();
    for client in &mut clients {
        client.expect(&Arrival::Close(Some(1001), "server stops".into()));
    }
    drop(clients);
    host.stop();
}
