//! Many connections, slow ones and dead ones: every slot comes back, every queue is bounded, and
//! nobody gets what is another's.

mod client;
#[path = "load/flood.rs"]
mod flood;
mod host;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ringsock::handler::Echo;
use ringsock::proto::ws::{Opcode, ProtocolError};
use ringsock::worker::PostError;
use ringsock::{CloseCause, CloseCode, ConnectionId, Effects, Handler, Message, MessageKind, Options, encoder};
use socket2::SockRef;

use client::{Arrival, Client, connect, frame, request};
use flood::{Flood, connect_narrow, outgoing_bytes_max};
use host::Host;
use witness::{Report, Reports, Witness, witness};

/// Where a connection of the storm is when it ends.
const STAGES: [fn(SocketAddr) -> Client; 8] = [
    |address| sent(address, b"\x82"),
    |address| sent(address, &frame(Opcode::Binary, &[1; 300])[..3]),
    |address| sent(address, &frame(Opcode::Binary, &[1; 300])[..200]),
    |address| sent(address, &[&b"\x01\x81\0\0\0\0a"[..], &b"\x00\x81\0\0\0\0b".repeat(3)].concat()),
    |address| sent(address, &frame(Opcode::Close, b"\x03\xe8")),
    |address| sent(address, &frame(Opcode::Text, b"burst 20000").repeat(3)),
    |address| sent(address, b"\x81\x00"),
    |address| {
        let mut client = sent(address, b"");
        client.check_echo("all is well");
        client.say(Opcode::Close, b"\x03\xe8");
        client.expect(&Arrival::Close(Some(1000), String::new()));
        client.expect(&Arrival::End);
        client
    },
];

/// A connection that was opened and has sent `bytes`.
fn sent(address: SocketAddr, bytes: &[u8]) -> Client {
    let mut client = Client::open(address);
    client.send(bytes);
    client
}

/// How many connections each thread of the storm makes.
const STORM: usize = 2_500;

fn storm(address: SocketAddr) {
    let request = request();
    for number in 0..STORM {
        let stream = match number % 11 {
            stage @ 0..8 => STAGES[stage](address).stream,
            stage => {
                let mut stream = connect(address);
                stream.write_all(&request[..[0, 40, request.len()][stage - 8]]).expect("the server reads");
                stream
            }
        };
        if number % 2 == 0 {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket takes this option");
        }
    }
}

#[test]
fn ten_thousand_connections_that_end_at_any_stage_leave_every_slot_free() {
    let (witness, reports) = witness();
    // A slot that is lost at some stage is lost some hundred times, and there are few.
    let host = Host::start(|options| options.connections_max = Some(16), move |_| witness.clone());
    let address = host.address;
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(move || storm(address))).collect();
    for thread in threads {
        thread.join().expect("the storm passes");
    }
    // Each worker serves some of these, and has accepted all that came before by then.
    for _ in 0..40 {
        Client::open(address).check_echo("still here");
    }
    let tally = host.stop();
    assert_eq!(tally.sum(|worker| worker.accepted), 10_040);
    check_each_closed_once(&reports.so_far());
}

#[test]
fn a_fin_never_reaches_the_next_connection_in_the_slot() {
    let (witness, _reports) = witness();
    let host = Host::start(|options| options.workers = Some(1), move |_| witness.clone());
    let address = host.address;
    // A refusal is followed by a FIN. Peers that are gone by then have their slot freed at once,
    // and others come into it while the FIN may still be on its way.
    let crowd = || {
        for _ in 0..1_000 {
            let mut stream = connect(address);
            stream.write_all(b"\0").expect("the server reads");
            stream.read_exact(&mut [0]).expect("a refusal comes");
        }
    };
    let innocent = || {
        for _ in 0..1_000 {
            Client::open(address).check_echo("Hello");
        }
    };
    let busy = || {
        let mut client = Client::open(address);
        for _ in 0..500 {
            client.say(Opcode::Text, b"burst 200000");
            client.expect(&Arrival::Binary(vec![7; 200_000]));
        }
    };
    thread::scope(|scope| {
        scope.spawn(crowd);
        scope.spawn(crowd);
        scope.spawn(innocent);
        scope.spawn(innocent);
        scope.spawn(busy);
    });
    assert_eq!(host.stop().sum(|worker| worker.messages), 2_500);
}

/// Expects exactly one close for each connection that was opened, and returns the causes.
#[track_caller]
fn check_each_closed_once(reports: &[Report]) -> BTreeMap<ConnectionId, CloseCause> {
    let (mut opened, mut causes) = (BTreeSet::new(), BTreeMap::new());
    for report in reports {
        match *report {
            Report::Opened(id) => assert!(opened.insert(id), "{id:?} was opened twice"),
            Report::Closed(id, cause) => {
                assert!(opened.contains(&id), "{id:?} was closed before it was opened");
                assert_eq!(causes.insert(id, cause), None, "{id:?} was closed twice");
            }
            Report::Message(id) | Report::Drained(id) => {
                assert!(opened.contains(&id) && !causes.contains_key(&id), "{id:?} is not open");
            }
        }
    }
    assert!(opened.iter().eq(causes.keys()), "some were never closed");
    causes
}

#[test]
fn a_full_table_has_newcomers_wait_for_a_slot() {
    let (witness, reports) = witness();
    let adjust = |options: &mut Options| {
        options.workers = Some(1);
        options.connections_max = Some(1);
    };
    let host = Host::start(adjust, move |_| witness.clone());
    let mut first = Client::open(host.address);
    first.check_echo("alone");
    let first_id = reports.opened();
    let second = connect(host.address);
    let waiting = thread::spawn(move || Client::open_on(second).check_echo("at last"));
    first.check_echo("still alone");
    drop(first);
    assert_eq!(reports.closed().0, first_id, "the first leaves before the second comes");
    waiting.join().expect("the second is served");
    host.stop();
}

/// A witness that answers `wait` only when its gate opens, and keeps its worker waiting till then.
#[derive(Clone)]
struct Gated {
    gate: Arc<Barrier>,
    witness: Witness,
}

impl Handler for Gated {
    fn on_open(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        self.witness.on_open(connection, effects);
    }

    fn on_message(&mut self, connection: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        let waits = message.text() == Some("wait");
        self.witness.on_message(connection, message, effects);
        if waits {
            self.gate.wait();
        }
    }
}

#[test]
fn a_rush_of_newcomers_on_a_small_table_is_served_one_after_the_other() {
    let gate = Arc::new(Barrier::new(2));
    let (witness, _reports) = witness();
    let gated = Gated { gate: gate.clone(), witness };
    let adjust = |options: &mut Options| {
        options.workers = Some(1);
        options.connections_max = Some(8);
    };
    let host = Host::start(adjust, move |_| gated.clone());
    let mut first = Client::open(host.address);
    first.say(Opcode::Text, b"wait");
    // They all come in one turn of the worker, many more than it has slots for.
    let streams: Vec<_> = (0..300).map(|_| connect(host.address)).collect();
    gate.wait();
    first.expect(&Arrival::Text("wait".into()));
    for stream in streams {
        Client::open_on(stream).check_echo("Hello");
    }
    drop(first);
    assert_eq!(host.stop().sum(|worker| worker.accepted), 301);
}

/// The numbered message of a flood, with content of its own.
fn numbered(number: u32) -> Vec<u8> {
    let seed = number.to_be_bytes();
    (0..16 << 10).map(|index: usize| seed[index % 4] ^ index.to_le_bytes()[index / 4 % 2]).collect()
}

#[test]
fn a_peer_that_never_reads_is_not_read_either_and_later_gets_every_byte() {
    let (witness, reports) = witness();
    let adjust = |options: &mut Options| {
        options.workers = Some(1);
        options.worker.stall_timeout_ms = 60_000;
    };
    let host = Host::start(adjust, move |_| witness.clone());
    let mut flood = Flood::open(host.address, |number| frame(Opcode::Binary, &numbered(number)));
    let id = reports.opened();
    // The same worker serves others meanwhile.
    let mut neighbour = Client::open(host.address);
    flood.write_until_blocked(&mut neighbour);
    let messages = reports.so_far().iter().filter(|&&report| report == Report::Message(id)).count();
    // What was taken is either queued or in the sockets, and the queue ends with the message that
    // went over its bound.
    let taken = messages * numbered(0).len();
    let bound = (256 << 10) + 2 * numbered(0).len() + outgoing_bytes_max();
    assert!(taken > 256 << 10 && taken < bound, "{taken} bytes were taken, the bound is {bound}");

    let (mut client, count) = flood.finish();
    for number in 0..count {
        client.expect(&Arrival::Binary(numbered(number)));
    }
    client.expect(&Arrival::Close(None, String::new()));
    client.expect(&Arrival::End);
    neighbour.check_echo("still here");
    drop((client, neighbour));
    let tally = host.stop();
    assert!(tally.sum(|worker| worker.pauses) > 0);
    assert_eq!(tally.sum(|worker| worker.stalled), 0);
    let messages = reports.so_far().iter().filter(|&&report| report == Report::Message(id)).count();
    assert_eq!(u32::try_from(messages), Ok(count));
}

/// The payload of one ping of a flood.
fn ping(number: u32, index: u8) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[index; 121]].concat()
}

#[test]
fn a_peer_that_pings_and_never_reads_is_bounded_too() {
    let (witness, _reports) = witness();
    let adjust = |options: &mut Options| {
        options.workers = Some(1);
        options.worker.stall_timeout_ms = 60_000;
    };
    let host = Host::start(adjust, move |_| witness.clone());

    let mut flood = Flood::open(host.address, |number| {
        (0..100).flat_map(move |index| frame(Opcode::Ping, &ping(number, index))).collect()
    });
    let mut neighbour = Client::open(host.address);
    flood.write_until_blocked(&mut neighbour);
    let (mut client, count) = flood.finish();
    for (number, index) in (0..count).flat_map(|number| (0..100).map(move |index| (number, index))) {
        client.expect(&Arrival::Pong(ping(number, index)));
    }
    client.expect(&Arrival::Close(None, String::new()));
    client.expect(&Arrival::End);
    drop((client, neighbour));
    assert!(host.stop().sum(|worker| worker.pauses) > 0);
}

#[test]
fn a_peer_that_takes_nothing_for_too_long_is_cut() {
    let (witness, reports) = witness();
    let adjust = |options: &mut Options| {
        options.workers = Some(1);
        options.worker.stall_timeout_ms = 300;
    };
    let host = Host::start(adjust, move |_| witness.clone());
    let mut neighbour = Client::open(host.address);
    let mut flood = Flood::open(host.address, |number| frame(Opcode::Binary, &numbered(number)));
    flood.write_until_cut();
    assert_eq!(reports.closed().1, CloseCause::Stalled);
    neighbour.check_echo("still here");
    drop((flood, neighbour));
    let tally = host.stop();
    assert_eq!((tally.sum(|worker| worker.stalled), tally.sum(|worker| worker.lost)), (1, 1));
}

#[test]
fn a_drained_queue_is_told_to_the_handler() {
    let (witness, reports) = witness();
    let host = Host::start(|_| {}, move |_| witness.clone());
    // Both are over the bound: the first goes out in one send, the second waits for the reader.
    for len in [300_000, 10_000_000] {
        let mut client = Client::open_on(connect_narrow(host.address));
        let id = reports.opened();
        client.say(Opcode::Text, format!("burst {len}").as_bytes());
        client.expect(&Arrival::Binary(vec![7; len]));
        reports.find(|report| (report == Report::Drained(id)).then_some(()));
        client.check_echo("read again");
    }
    assert_eq!(host.stop().sum(|worker| worker.pauses), 2);
    assert_eq!(reports.so_far().iter().filter(|report| matches!(report, Report::Drained(_))).count(), 2);
}

/// A shared frame of 64 KiB that begins with its number, and what arrives of it.
fn announcement(number: u32) -> (ringsock::buf::SharedFrame, Arrival) {
    let payload = [&number.to_be_bytes()[..], &vec![9; 64 << 10]].concat();
    (encoder::shared(MessageKind::Binary, &payload), Arrival::Binary(payload))
}

/// How many announcements are more than the sockets and the queue of a narrow peer hold.
fn announcements_that_overflow() -> u32 {
    u32::try_from((outgoing_bytes_max() + (512 << 10)) / (64 << 10)).expect("small")
}

#[test]
fn a_broadcast_closes_the_slow_consumer_alone() {
    let (witness, reports) = witness();
    let host = Host::start(|options| options.worker.stall_timeout_ms = 60_000, move |_| witness.clone());
    let mut slow = Client::open_on(connect_narrow(host.address));
    let slow_id = reports.opened();
    let mut others: Vec<Client> = (0..6).map(|_| Client::open(host.address)).collect();
    let count = announcements_that_overflow();
    for number in 0..count {
        let (frame, arrival) = announcement(number);
        host.server.handle().broadcast(&frame).expect("every worker can be reached");
        // They keep up, however slow the machine is.
        for client in &mut others {
            client.expect(&arrival);
        }
    }
    let mut got = 0;
    let last = loop {
        let arrival = slow.arrival();
        if arrival != announcement(got).1 {
            break arrival;
        }
        got += 1;
    };
    assert_eq!(last, Arrival::Close(Some(1008), "too slow".into()), "after {got} of {count}");
    assert!(got > 0 && got < count, "{got} of {count}");
    slow.say(Opcode::Close, b"\x03\xf0");
    slow.expect(&Arrival::End);
    assert_eq!(reports.closed(), (slow_id, CloseCause::SlowConsumer));
    for client in &mut others {
        client.check_echo("still here");
    }
    drop((slow, others));
    let tally = host.stop();
    assert_eq!((tally.sum(|worker| worker.slow_consumers), tally.sum(|worker| worker.mail_dropped)), (1, 0));
}

#[test]
fn a_slow_consumer_that_stays_deaf_is_cut() {
    let (witness, reports) = witness();
    let short_end = |options: &mut Options| {
        options.worker.stall_timeout_ms = 60_000;
        options.worker.close_timeout_ms = 300;
    };
    let host = Host::start(short_end, move |_| witness.clone());
    let slow = Client::open_on(connect_narrow(host.address));
    let slow_id = reports.opened();
    let mut other = Client::open(host.address);
    for number in 0..announcements_that_overflow() {
        let (frame, arrival) = announcement(number);
        host.server.handle().broadcast(&frame).expect("every worker can be reached");
        other.expect(&arrival);
    }
    // Its queue is over the bound, so the deadline for its end runs.
    assert_eq!(reports.closed(), (slow_id, CloseCause::SlowConsumer));
    drop((slow, other));
    let tally = host.stop();
    assert_eq!((tally.sum(|worker| worker.slow_consumers), tally.sum(|worker| worker.close_timeouts)), (1, 1));
}

/// Passes messages on: `to NUMBER TEXT`, `close NUMBER TEXT` and `all TEXT`. Tells a new connection
/// its number.
#[derive(Clone, Default)]
struct Relay(Arc<Mutex<Vec<ConnectionId>>>);

impl Relay {
    fn all(&self) -> Vec<ConnectionId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Handler for Relay {
    fn on_open(&mut self, connection: ConnectionId, effects: &mut Effects<'_>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        effects.send_text(&all.len().to_string());
        all.push(connection);
    }

    fn on_message(&mut self, _: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        let (verb, rest) = message.text().and_then(|text| text.split_once(' ')).expect("an order");
        if verb == "all" {
            effects.broadcast(&encoder::shared(MessageKind::Text, rest.as_bytes()));
            return;
        }
        let (number, text) = rest.split_once(' ').expect("a number and a text");
        let target = self.all()[number.parse::<usize>().expect("a number")];
        match verb {
            "to" => effects.send_to(target, &encoder::shared(MessageKind::Text, text.as_bytes())),
            _ => effects.close_other(target, CloseCode::NORMAL, text),
        }
    }
}

/// Opens `count` connections to a relay; the place of each is its number.
#[track_caller]
fn relayed(host: &Host, count: usize) -> Vec<Client> {
    let open = |number: usize| {
        let mut client = Client::open(host.address);
        client.expect(&Arrival::Text(number.to_string()));
        client
    };
    (0..count).map(open).collect()
}

#[test]
fn messages_reach_connections_on_every_worker() {
    let relay = Relay::default();
    let workers = relay.clone();
    let host = Host::start(|_| {}, move |_| workers.clone());
    let mut clients = relayed(&host, 20);
    let ids = relay.all();
    assert_eq!(ids.iter().map(|id| id.worker).collect::<BTreeSet<_>>().len(), 2, "both workers have some");
    for from in 0..20 {
        for to in 0..20 {
            clients[from].say(Opcode::Text, format!("to {to} from {from} to {to}").as_bytes());
            clients[to].expect(&Arrival::Text(format!("from {from} to {to}")));
        }
    }
    for from in [0, 19] {
        clients[from].say(Opcode::Text, format!("all from {from}").as_bytes());
        for client in &mut clients {
            client.expect(&Arrival::Text(format!("from {from}")));
        }
    }
    let handle = host.server.handle();
    for (client, &id) in clients.iter_mut().zip(&ids) {
        handle.send(id, &encoder::shared(MessageKind::Text, b"from outside")).expect("the worker can be reached");
        client.expect(&Arrival::Text("from outside".into()));
    }
    let nowhere = ConnectionId { worker: 2, ..ids[0] };
    let lost = handle.send(nowhere, &encoder::shared(MessageKind::Text, b"lost"));
    assert!(matches!(lost, Err(PostError::NoWorker { worker: 2 })), "{lost:?}");
    drop(clients);
    assert_eq!(host.stop().sum(|worker| worker.mail_dropped), 0);
}

#[test]
fn connections_close_each_other_on_every_worker() {
    let relay = Relay::default();
    let workers = relay.clone();
    let host = Host::start(|_| {}, move |_| workers.clone());
    let mut clients = relayed(&host, 12);
    let ids = relay.all();
    for target in 1..8 {
        // Twice, and later a message: to a connection that is closed they go nowhere.
        for _ in 0..2 {
            clients[0].say(Opcode::Text, format!("close {target} by the first").as_bytes());
        }
        clients[target].expect(&Arrival::Close(Some(1000), "by the first".into()));
        clients[target].say(Opcode::Close, b"\x03\xe8");
        clients[target].expect(&Arrival::End);
        clients[0].say(Opcode::Text, format!("to {target} late").as_bytes());
    }
    let code = CloseCode::new(4000).expect("a private code");
    for target in 8..12 {
        host.server.handle().close(ids[target], code, "from outside").expect("the worker can be reached");
        clients[target].expect(&Arrival::Close(Some(4000), "from outside".into()));
        clients[target].say(Opcode::Close, b"\x0f\xa0");
        clients[target].expect(&Arrival::End);
    }
    // The slots are taken by others now, which must not get what was meant for their predecessors.
    let mut heirs: Vec<Client> = (12..24).map(|_| Client::open(host.address)).collect();
    for target in 1..12 {
        clients[0].say(Opcode::Text, format!("to {target} late").as_bytes());
        clients[0].say(Opcode::Text, format!("close {target} late").as_bytes());
    }
    clients[0].say(Opcode::Text, b"all the last word");
    for (number, heir) in (12..24).zip(&mut heirs) {
        heir.expect(&Arrival::Text(number.to_string()));
        heir.expect(&Arrival::Text("the last word".into()));
    }
    clients[0].say(Opcode::Text, b"close 0 itself");
    clients[0].expect(&Arrival::Text("the last word".into()));
    clients[0].expect(&Arrival::Close(Some(1000), "itself".into()));
    drop((clients, heirs));
    host.stop();
}

#[test]
fn a_full_mailbox_refuses_and_loses_nothing_that_it_took() {
    let gate = Arc::new(Barrier::new(2));
    let (witness, reports) = witness();
    let gated = Gated { gate: gate.clone(), witness };
    let host = Host::start(|options| options.workers = Some(1), move |_| gated.clone());
    let mut client = Client::open(host.address);
    let id = reports.opened();
    client.say(Opcode::Text, b"wait");
    reports.find(|report| (report == Report::Message(id)).then_some(()));
    // The worker is at the gate and looks into its mailbox no more.
    let handle = host.server.handle();
    let post = |number: u32| handle.send(id, &encoder::shared(MessageKind::Binary, &number.to_be_bytes()));
    let taken = (0..10_000).take_while(|&number| post(number).is_ok()).count();
    assert!(matches!(post(0), Err(PostError::Full { worker: 0 })));
    assert_eq!(taken, 4096);
    handle.close(id, CloseCode::NORMAL, "no more").expect("a close finds room where messages find none");
    gate.wait();
    client.expect(&Arrival::Text("wait".into()));
    for number in 0..4096_u32 {
        client.expect(&Arrival::Binary(number.to_be_bytes().to_vec()));
    }
    client.expect(&Arrival::Close(Some(1000), "no more".into()));
    drop(client);
    host.stop();
    assert!(matches!(post(0), Err(PostError::Stopped { worker: 0 })), "nobody is there any more");
    handle.stop().expect("what has stopped is stopped");
}

#[test]
fn nobody_gets_what_is_anothers() {
    let host = Host::start(|_| {}, |_| Echo::default());
    let address = host.address;
    // Lengths on either side of every boundary: of the header, of copying, of a receive buffer.
    let lengths = [0, 1, 125, 126, 1000, 16_384, 16_385, 40_000, 65_535, 65_536];
    let content =
        |nonce: u8, length: usize| -> Vec<u8> { (0_u8..251).map(|byte| byte ^ nonce).cycle().take(length).collect() };
    let talk = |first_nonce: u8| {
        let mut clients: Vec<(u8, Client)> =
            (first_nonce..first_nonce + 10).map(|nonce| (nonce, Client::open(address))).collect();
        for round in 0..30 {
            let length = |nonce: u8| lengths[(usize::from(nonce) + round) % lengths.len()];
            for (nonce, client) in &mut clients {
                client.say(Opcode::Binary, &content(*nonce, length(*nonce)));
            }
            for (nonce, client) in &mut clients {
                client.expect(&Arrival::Binary(content(*nonce, length(*nonce))));
            }
        }
    };
    thread::scope(|scope| {
        for first_nonce in [0, 10, 20, 30] {
            scope.spawn(move || talk(first_nonce));
        }
    });
    assert_eq!(host.stop().sum(|worker| worker.messages), 1200);
}

#[test]
fn a_deaf_peer_does_not_hold_up_the_stop() {
    let (witness, reports) = witness();
    let adjust = |options: &mut Options| {
        options.worker.stall_timeout_ms = 60_000;
        options.worker.close_timeout_ms = 300;
    };
    let host = Host::start(adjust, move |_| witness.clone());
    let mut client = Client::open_on(connect_narrow(host.address));
    let id = reports.opened();
    client.say(Opcode::Text, b"burst 50000000");
    reports.find(|report| (report == Report::Message(id)).then_some(()));
    assert_eq!(host.stop().sum(|worker| worker.close_timeouts), 1);
    assert_eq!(reports.closed(), (id, CloseCause::Shutdown));
}

/// Panics when it is told to.
struct Fragile;

impl Handler for Fragile {
    fn on_message(&mut self, _: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        assert!(message.text() != Some("panic"), "as the test wanted");
        effects.echo(message);
    }
}

#[test]
fn a_handler_that_panics_ends_the_whole_server() {
    let host = Host::start(|options| options.worker.close_timeout_ms = 300, |_| Fragile);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::open(host.address)).collect();
    clients[0].check_echo("fine so far");
    clients[0].say(Opcode::Text, b"panic");
    // Those of its worker are cut, the others are told that the server stops.
    for client in &mut clients {
        let end = client.arrival();
        let told = Arrival::Close(Some(1001), "server stops".into());
        assert!([Arrival::End, Arrival::Reset, told].contains(&end), "{end:?}");
    }
    let error = host.end().expect_err("a worker has panicked");
    assert!(error.to_string().starts_with("the thread 'ringsock-"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn an_abort_cuts_everybody_at_once_although_handles_live_on() {
    let host = Host::start(|_| {}, |_| Echo::default());
    let mut clients: Vec<Client> = (0..200).map(|_| Client::open(host.address)).collect();
    let _handle = host.server.handle();
    host.server.stopper().abort();
    host.end().expect("the server ends well");
    // The first worker to end may have told the other to stop before that was told to abort.
    let told = Arrival::Close(Some(1001), "server stops".into());
    for client in &mut clients {
        let end = Some(client.arrival()).filter(|end| *end != told).unwrap_or_else(|| client.arrival());
        assert!(matches!(end, Arrival::End | Arrival::Reset), "{end:?}");
    }
}

/// Connections that end one after the other, each in a way of its own.
struct Endings {
    host: Host,
    reports: Reports,
    expected: BTreeMap<ConnectionId, CloseCause>,
}

impl Endings {
    /// Expects a connection to close for `cause` when `end` ends it; `end` may keep it to the end.
    #[track_caller]
    fn check(&mut self, cause: CloseCause, end: impl FnOnce(Client, ConnectionId) -> Option<Client>) {
        let client = Client::open(self.host.address);
        let id = self.reports.opened();
        let kept = end(client, id);
        assert_eq!(self.reports.closed(), (id, cause));
        drop(kept);
        self.expected.insert(id, cause);
    }

    /// The same for a connection that sends `bytes` and stays.
    #[track_caller]
    fn check_sent(&mut self, cause: CloseCause, bytes: &[u8]) {
        self.check(cause, |mut client, _| {
            client.send(bytes);
            Some(client)
        });
    }
}

#[test]
fn every_connection_is_closed_once_and_for_the_right_cause() {
    let (witness, reports) = witness();
    let adjust = |options: &mut Options| {
        options.worker.stall_timeout_ms = 300;
        options.worker.close_timeout_ms = 1_000;
    };
    let host = Host::start(adjust, move |_| witness.clone());
    let handle = host.server.handle();
    let code = CloseCode::new(4001).expect("a private code");
    let mut endings = Endings { host, reports, expected: BTreeMap::new() };
    endings.check_sent(CloseCause::Peer(Some(CloseCode::NORMAL)), &frame(Opcode::Close, b"\x03\xe8bye"));
    endings.check_sent(CloseCause::Peer(None), &frame(Opcode::Close, b""));
    endings.check_sent(CloseCause::Protocol(ProtocolError::UnmaskedFrame), b"\x81\x00");
    endings.check_sent(CloseCause::Handler(code), &frame(Opcode::Text, b"close 4001"));
    endings.check_sent(CloseCause::Stalled, &frame(Opcode::Text, b"burst 50000000"));
    endings.check(CloseCause::Lost, |_, _| None);
    endings.check(CloseCause::Lost, |client, _| {
        client.stream.shutdown(Shutdown::Write).expect("the connection is open");
        Some(client)
    });
    endings.check(CloseCause::Lost, |client, _| {
        SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).expect("a socket takes this option");
        None
    });
    endings.check(CloseCause::Handler(code), |mut client, id| {
        handle.close(id, code, "from outside").expect("the worker can be reached");
        client.expect(&Arrival::Close(Some(4001), "from outside".into()));
        // The first cause stands, whatever the peer does then.
        client.send(b"\x81\x00");
        Some(client)
    });
    endings.check(CloseCause::Handler(code), |mut client, _| {
        client.say(Opcode::Text, b"close 4001");
        client.stream.shutdown(Shutdown::Write).expect("the connection is open");
        Some(client)
    });

    let Endings { host, reports, mut expected } = endings;
    let mut last: Vec<Client> = (0..10).map(|_| Client::open(host.address)).collect();
    expected.extend(last.iter().map(|_| (reports.opened(), CloseCause::Shutdown)));
    host.server.stop();
    for client in &mut last {
        client.expect(&Arrival::Close(Some(1001), "server stops".into()));
        client.say(Opcode::Close, b"\x03\xe9");
        client.expect(&Arrival::End);
    }
    host.stop();
    assert_eq!(check_each_closed_once(&reports.so_far()), expected);
}
