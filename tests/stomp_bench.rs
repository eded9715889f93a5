//! `ringsock bench --stomp` as a program: what it reports is what a broker has counted, and what a broker does wrong
//! is named.

#[path = "stomp_bench/broker.rs"]
mod broker;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::atomic::Ordering;

use serde_json::Value;

use broker::{Broker, Misdeed};

/// Windows that are tried in turn: on a busy machine nothing at all may end within a short one.
const WINDOWS_MS: [u64; 4] = [200, 1_000, 5_000, 25_000];

fn bench(window_ms: u64, address: SocketAddr, options: &str) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock"));
    command.args(["bench", &format!("ws://{address}/stomp"), "--json", "-", "--warmup", "50ms"]);
    command.args(["--duration", &format!("{window_ms}ms")]).args(options.split_whitespace());
    let output = command.output().expect("the program was built");
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output, report)
}

/// Runs the load on a broker that does all it should: messages sent, received and acknowledged.
#[track_caller]
fn check(options: &str) -> [u64; 3] {
    for window_ms in WINDOWS_MS {
        let (server, counts) = Broker::start(Misdeed::None);
        let (output, report) = bench(window_ms, server.address(), options);
        server.stop();
        server.join().expect("no worker fails");
        assert!(output.status.success() && report["error_count"] == 0, "{options}: {}", report["errors"]);
        let [sent, acknowledged] = [&counts.sent, &counts.acknowledged].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(report["totals"]["sent"], sent, "{options}");
        if report["operations"] != 0 {
            assert_eq!(report["operation"], "deliveries");
            return [sent, report["totals"]["received"].as_u64().expect("a number"), acknowledged];
        }
    }
    panic!("{options}: nothing has ended within {WINDOWS_MS:?} ms");
}

/// Expects these errors, in any order, on a broker that does something wrong.
#[track_caller]
fn check_faults(misdeed: Misdeed, options: &str, expect: &[&str]) {
    let (server, _) = Broker::start(misdeed);
    let (output, report) = bench(WINDOWS_MS[1], server.address(), &format!("{options} --timeout 3s"));
    server.stop();
    server.join().expect("no worker fails");
    let errors = report["errors"].as_array().expect("a list");
    let mut names: Vec<&str> = errors.iter().filter_map(|error| error["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!((output.status.code(), &names[..]), (Some(1), expect), "{misdeed:?}: {errors:?}");
}

#[test]
fn every_subscriber_gets_every_message() {
    let [sent, received, acknowledged] = check("--stomp -c 6 --publishers 2 --size 34:1,300:1,20000:1");
    assert_eq!((received, acknowledged), (sent * 6, 0));
    let [sent, received, _] = check("--stomp=topic -c 5 --rate 200 --binary --fragments 2");
    assert_eq!(received, sent * 5);
    let [sent, received, _] = check("--stomp -c 5 --quorum 50 --depth 1");
    assert_eq!(received, sent * 5);
}

#[test]
fn every_message_of_a_queue_is_consumed_and_acknowledged_once() {
    for options in ["-c 1", "-c 4 --publishers 3 --queues 2", "-c 2 --rate 300"] {
        let [sent, received, acknowledged] = check(&format!("--stomp=queue {options}"));
        assert_eq!((received, acknowledged), (sent, sent), "{options}");
    }
}

#[test]
fn what_happens_to_a_message_of_a_topic_is_named() {
    check_faults(Misdeed::Loses, "--stomp -c 3", &["disorder", "missing-delivery"]);
    check_faults(Misdeed::Doubles, "--stomp -c 3", &["disorder"]);
    check_faults(Misdeed::Alters, "--stomp -c 3", &["disorder", "missing-delivery", "wrong-delivery"]);
    check_faults(Misdeed::Swaps, "--stomp -c 3", &["disorder", "missing-delivery"]);
}

#[test]
fn what_happens_to_a_message_of_a_queue_is_named() {
    check_faults(Misdeed::Loses, "--stomp=queue -c 2", &["missing-delivery"]);
    check_faults(Misdeed::Doubles, "--stomp=queue -c 2", &["disorder", "doubled-delivery"]);
    check_faults(Misdeed::Alters, "--stomp=queue -c 2", &["missing-delivery", "wrong-delivery"]);
}

#[test]
fn a_broker_that_refuses_is_quoted() {
    let (server, _) = Broker::start(Misdeed::Refuses);
    let (output, report) = bench(WINDOWS_MS[0], server.address(), "--stomp -c 3");
    server.stop();
    server.join().expect("no worker fails");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["errors"][0]["example"], "the server sent an ERROR: not today");
    assert_eq!((&report["totals"]["failed"], &report["options"]["mode"]), (&4.into(), &"stomp-topic".into()));
}
