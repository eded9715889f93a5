//! `ringsock bench` as a program, against a server of the library: what it reports is what the
//! server has counted, and what goes wrong is named.

#[path = "bench_command/pinger.rs"]
mod pinger;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Output};

use ringsock::worker::Counters;
use ringsock::{
    Accept, ConnectionId, Effects, Handler, Message, MessageKind, Options, Policy, Refusal, Request, Server, Upgrade,
    WindowBits, encoder,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use pinger::Pinger;

/// Windows that are tried in turn: on a busy machine nothing at all may end within a short one.
const WINDOWS_MS: [u64; 4] = [200, 1_000, 5_000, 25_000];

/// Agrees to compress with whoever offers it.
fn compressing() -> Result<Accept, Refusal> {
    Ok(Accept { compression: Policy::Dedicated { window_bits: WindowBits::MAX }, ..Accept::default() })
}

struct Echo;

impl Handler for Echo {
    fn on_upgrade(&mut self, _: ConnectionId, _: &Request<'_>, _: &Upgrade<'_>) -> Result<Accept, Refusal> {
        compressing()
    }

    fn on_message(&mut self, _: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        effects.echo(message);
    }
}

/// Flips a bit of every message.
struct Corrupt;

impl Handler for Corrupt {
    fn on_message(&mut self, _: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        let mut bytes = message.bytes().to_vec();
        bytes[3] ^= 1;
        effects.send_binary(&bytes);
    }
}

/// Sends every message to everybody, with the sender's number in front.
struct Chat;

impl Handler for Chat {
    fn on_upgrade(&mut self, _: ConnectionId, _: &Request<'_>, _: &Upgrade<'_>) -> Result<Accept, Refusal> {
        compressing()
    }

    fn on_message(&mut self, from: ConnectionId, message: &mut Message<'_>, effects: &mut Effects<'_>) {
        let text = message.text().unwrap_or("not text");
        let line = format!("{}: {text}", from.key.slot);
        effects.broadcast(&encoder::shared(MessageKind::Text, line.as_bytes()));
    }
}

/// Closes on the first message.
struct Farewell;

impl Handler for Farewell {
    fn on_message(&mut self, _: ConnectionId, _: &mut Message<'_>, effects: &mut Effects<'_>) {
        effects.close(ringsock::CloseCode::POLICY_VIOLATION, "no");
    }
}

/// Closes as soon as a connection is open.
struct Doorman;

impl Handler for Doorman {
    fn on_open(&mut self, _: ConnectionId, effects: &mut Effects<'_>) {
        effects.close(ringsock::CloseCode::POLICY_VIOLATION, "full");
    }

    fn on_message(&mut self, _: ConnectionId, _: &mut Message<'_>, _: &mut Effects<'_>) {}
}

fn start<H: Handler + 'static>(make_handler: fn(u16) -> H) -> Server {
    let mut options = Options::development();
    options.listen.set_port(0);
    options.connections_max = Some(512);
    Server::start(options, make_handler).expect("io_uring works here")
}

fn stop(server: Server) -> Counters {
    server.stop();
    let mut sum = Counters::default();
    for worker in server.join().expect("no worker fails") {
        sum.opened += worker.opened;
        sum.messages += worker.messages;
        sum.protocol_errors += worker.protocol_errors;
        sum.lost += worker.lost;
    }
    sum
}

fn bench(address: SocketAddr, options: &str) -> Output {
    bench_for(WINDOWS_MS[0], address, options)
}

fn bench_for(window_ms: u64, address: SocketAddr, options: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock"));
    command.args(["bench", &format!("ws://{address}/chat?room=1"), "--json", "-", "--warmup", "50ms"]);
    command.args(["--duration", &format!("{window_ms}ms")]).args(options.split_whitespace());
    command.output().expect("the program was built")
}

#[track_caller]
fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Runs the load against a server of its own, in the first window in which something ends; returns
/// what it reported and what the server counted.
#[track_caller]
fn run<H: Handler + 'static>(make_handler: fn(u16) -> H, options: &str) -> (Output, Value, Counters) {
    for window_ms in WINDOWS_MS {
        let server = start(make_handler);
        let output = bench_for(window_ms, server.address(), options);
        let counters = stop(server);
        let report = report(&output);
        if report["operations"] != 0 {
            return (output, report, counters);
        }
    }
    panic!("{options}: nothing has ended within {WINDOWS_MS:?} ms");
}

/// Runs the load against a server that does all it should.
#[track_caller]
fn check<H: Handler + 'static>(make_handler: fn(u16) -> H, options: &str) -> (Value, Counters) {
    let (output, report, counters) = run(make_handler, options);
    assert_eq!(report["error_count"], 0, "{options}: {}", report["errors"]);
    assert!(output.status.success(), "{options}: {}", output.status);
    assert_eq!(report["totals"]["opened"], counters.opened, "{options}");
    assert_eq!((counters.protocol_errors, counters.lost), (0, 0), "{options}");
    let latency = &report["latency_us"];
    assert!(latency["p50"].as_f64() > Some(0.0) && latency["p50"].as_f64() <= latency["max"].as_f64(), "{latency}");
    (report, counters)
}

#[track_caller]
fn check_echo(options: &str) {
    let (report, counters) = check(|_| Echo, options);
    let totals = &report["totals"];
    assert_eq!((&totals["sent"], &totals["received"]), (&counters.messages.into(), &counters.messages.into()));
    assert!(report["operations"].as_u64() <= totals["received"].as_u64(), "the window is a part of the run");
}

#[test]
fn ping_pong_is_what_the_server_has_counted() {
    check_echo("--connections 8");
    check_echo("--connections 5 --threads 2 --text --fragments 3 --size 0:1,1:1,2:1,125:5,126:5,70000:1");
}

#[test]
fn pipelines_are_what_the_server_has_counted() {
    check_echo("--connections 4 --depth 16 --size 16:70,1024:25,65536:5");
    check_echo("--connections 4 --depth 7 --no-validate");
}

#[test]
fn a_fixed_rate_is_kept_and_its_latency_counts_from_the_due_time() {
    let (report, counters) = check(|_| Echo, "--connections 4 --threads 2 --rate 2000");
    assert_eq!(report["totals"]["sent"], counters.messages);
    // 2,000 a second for the warm-up of 50 ms and the window, but for what a busy machine leaves.
    let unsent = report["totals"]["unsent"].as_u64().expect("a number");
    let window_s = report["options"]["duration_s"].as_f64().expect("a number");
    assert_eq!((counters.messages + unsent) as f64, 2_000.0 * window_s + 100.0);
    let measured = report["latency_us"]["count"].as_f64().expect("a number");
    assert_eq!(measured, 2_000.0 * window_s, "every message that was due in the window, sent or not");
}

#[test]
fn every_subscriber_gets_every_broadcast_message() {
    // At a rate at which no subscriber falls far behind, however long a busy machine lets it wait:
    // the server rightly cuts those that do.
    let options = "--mode broadcast --connections 6 --publishers 2 --threads 2 --text --rate 200";
    let (report, counters) = check(|_| Chat, options);
    assert_eq!(counters.opened, 8);
    assert_eq!(report["totals"]["sent"], counters.messages);
    assert_eq!(report["totals"]["received"], counters.messages * 8);
}

#[test]
fn compressed_messages_are_checked_and_their_lengths_told() {
    for offer in ["takeover", "no-takeover"] {
        check_echo(&format!("--connections 3 --depth 4 --text --size 100:1,1000:5,20000:1 --deflate={offer}"));
        let (report, _) = check(
            |_| Chat,
            &format!("--mode broadcast --connections 3 --rate 100 --size 1000 --text --deflate={offer}"),
        );
        assert_eq!(report["options"]["deflate"], offer);
        let number = |name: &str| report["totals"][name].as_u64().expect("a number");
        let [compressed, inflated, all] = ["compressed_bytes", "inflated_bytes", "received_bytes"].map(number);
        assert_eq!(inflated, all, "{offer}: the server compresses messages of that length");
        assert!(compressed > 0 && compressed < inflated, "{offer}: {compressed} of {inflated}");
    }
    let (report, _) = check(|_| Echo, "");
    assert_eq!((&report["options"]["deflate"], &report["totals"]["inflated_bytes"]), (&Value::Null, &0.into()));
}

#[test]
fn a_server_that_does_not_compress_is_named() {
    let server = start(|_| Corrupt);
    check_fault(&bench(server.address(), "--deflate"), "uncompressed", "does not compress");
    stop(server);
}

#[test]
fn a_storm_counts_upgrades() {
    let (report, counters) = check(|_| Echo, "--mode connect --connections 4");
    assert!(report["operations"].as_u64() <= Some(counters.opened));
    assert_eq!(report["operation"], "upgrades");
}

#[test]
fn idle_connections_are_held_and_a_sample_is_verified() {
    let (report, counters) = check(|_| Echo, "--mode idle --connections 300 --threads 3");
    assert_eq!((&report["totals"]["held"], counters.opened), (&300.into(), 300));
    let totals = &report["totals"];
    assert_eq!((&totals["sent"], &totals["received"]), (&counters.messages.into(), &counters.messages.into()));
    assert_eq!((&report["options"]["active"], &report["options"]["rate"]), (&100.into(), &1_000.into()));
    // The schedule is kept by the active ones alone; each of the others is asked once.
    let verified = &report["verified_latency_us"];
    assert_eq!(verified["count"], 200);
    assert!(verified["p50"].as_f64() > Some(0.0) && verified["p50"].as_f64() <= verified["p99"].as_f64(), "{verified}");
    let due = 1_000.0 * report["options"]["duration_s"].as_f64().expect("a number");
    assert_eq!(report["latency_us"]["count"].as_f64(), Some(due), "every message that was due in the window");
    assert!(report["opens_per_s"].as_f64() > Some(0.0) && report["closing_s"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn nobody_has_to_be_active() {
    let server = start(|_| Echo);
    let output = bench(server.address(), "--mode idle --connections 30 --threads 7 --active 0");
    let (report, counters) = (report(&output), stop(server));
    assert!(output.status.success(), "{}", report["errors"]);
    assert_eq!((&report["operations"], &report["latency_us"]["count"]), (&0.into(), &0.into()));
    assert_eq!((&report["totals"]["held"], &report["verified_latency_us"]["count"]), (&30.into(), &30.into()));
    assert_eq!(counters.messages, 30);
}

#[test]
fn pings_to_idle_connections_are_answered_and_counted() {
    let pinger = Pinger::start(40);
    let output = bench(pinger.address, "--mode idle --connections 40 --threads 2 --active 10 --rate 200");
    let (report, pings) = (report(&output), pinger.join());
    assert!(output.status.success(), "{}", report["errors"]);
    assert_eq!((&report["totals"]["pings"], &report["totals"]["held"]), (&pings.into(), &40.into()));
    let received = report["totals"]["received"].as_u64().expect("a number");
    assert_eq!(pings, 40 + received, "one for each connection and one for each echo");
}

#[test]
fn idle_connections_that_the_server_ends_are_told() {
    let server = start(|_| Doorman);
    check_fault(&bench(server.address(), "--mode idle --connections 20"), "closed", "with code 1008");
    stop(server);
}

#[test]
fn others_are_served_while_some_read_slowly() {
    let (output, report, counters) = run(|_| Echo, "--mode slow --connections 8 --slow-readers 2 --read-delay 50ms");
    assert!(output.status.success(), "{}", report["errors"]);
    let totals = &report["totals"];
    let number = |name: &str| totals[name].as_u64().expect("a number");
    assert_eq!(number("sent"), number("received"));
    assert!(number("flood_sent") > 0);
    assert!(counters.messages >= number("received") + number("flood_received"), "{counters:?} {totals}");
    assert!(counters.messages <= number("sent") + number("flood_sent"), "{counters:?} {totals}");
}

/// Expects a failure with this error, and these words in its description.
#[track_caller]
fn check_fault(output: &Output, name: &str, words: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report = report(output);
    let errors = report["errors"].as_array().expect("a list");
    let found = errors.iter().find(|error| error["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} is not among {errors:?}"));
    assert!(found["example"].as_str().is_some_and(|text| text.contains(words)), "{found}");
    assert!(found["count"].as_u64() > Some(0) && found["fix"].is_string(), "{found}");
}

#[test]
fn a_wrong_echo_is_noticed() {
    let server = start(|_| Corrupt);
    let output = bench(server.address(), "--connections 2 --depth 4");
    check_fault(&output, "wrong-echo", "byte 3 of 125 was sent as");
    let output = bench(server.address(), "--connections 2 --depth 4 --no-validate");
    assert!(output.status.success(), "nobody looks: {}", String::from_utf8_lossy(&output.stdout));
    stop(server);
}

#[test]
fn an_echo_is_no_broadcast() {
    let server = start(|_| Echo);
    // Long enough to open the connections on a busy machine; what is missing is waited for as long.
    let output = bench(server.address(), "--mode broadcast --connections 3 --timeout 5s");
    check_fault(&output, "missing-delivery", "did not reach a subscriber");
    stop(server);
}

#[test]
fn a_refused_port_is_named() {
    // Bound, so that nobody else gets the port, but not listening.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("sockets work here");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback is ours");
    let address = socket.local_addr().expect("bound").as_socket().expect("an address");
    check_fault(&bench(address, "--connections 300"), "refused", "refused");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is ours");
    let output = bench(mute.local_addr().expect("bound"), "--connections 3 --timeout 200ms");
    check_fault(&output, "open-timeout", "took too long");
}

#[test]
fn a_close_is_named_by_its_code() {
    let server = start(|_| Farewell);
    check_fault(&bench(server.address(), "--connections 3"), "closed", "with code 1008");
    stop(server);
}

#[test]
fn options_that_can_not_be_are_refused() {
    for (line, words) in [
        ("bench wss://localhost/", "wss is not supported"),
        ("bench ws://127.0.0.1:1/ --mode rate", "--rate"),
        ("bench ws://127.0.0.1:1/ --rate 5 --mode connect", "needs --mode rate, broadcast or idle"),
        ("bench ws://127.0.0.1:1/ --active 5", "needs --mode idle"),
        ("bench ws://127.0.0.1:1/ --mode idle --active 65", "use a number from 0 to 64"),
        ("bench ws://127.0.0.1:1/ --size 1:0", "not a weight"),
        ("bench ws://127.0.0.1:1/ --connections 0", "--connections 0 is not possible"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_ringsock")).args(line.split(' ')).output().expect("it was built");
        assert_eq!(output.status.code(), Some(2), "{line}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(words), "{line}: {text}");
    }
    let output = bench(SocketAddr::from(([127, 0, 0, 1], 1)), "--connections 2000000 --threads 1");
    assert_eq!(output.status.code(), Some(78), "the system would have to be configured");
    assert!(String::from_utf8_lossy(&output.stderr).contains("more --threads"));
    let output = bench(SocketAddr::from(([127, 0, 0, 1], 1)), "--server-pid 4294967295");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--server-pid"));
}

#[test]
fn a_picture_and_a_table_are_made() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench.svg");
    let server = start(|_| Echo);
    let draw = |window_ms: u64| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock"));
        command.args(["bench", &format!("ws://{}/", server.address()), "-w", "0", "--plot"]).arg(&path);
        command.args(["--duration", &format!("{window_ms}ms"), "--server-pid", &std::process::id().to_string()]);
        String::from_utf8_lossy(&command.output().expect("it was built").stdout).into_owned()
    };
    // Without an answer within the window there is no latency to show.
    let table = WINDOWS_MS.into_iter().map(draw).find(|table| table.contains("latency"));
    let table = table.expect("something ends within half a minute");
    stop(server);
    for word in ["ping-pong to ws://", "messages", "p99.9", "server CPU", "client CPU", "errors        none"] {
        assert!(table.contains(word), "{word} is missing in:\n{table}");
    }
    let svg = std::fs::read_to_string(path).expect("it was written");
    assert!(svg.starts_with("<svg") && svg.contains("p99"), "{svg}");
}
