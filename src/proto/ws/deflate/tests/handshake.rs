//! The extension in the requests and answers of a handshake.

use crate::proto::http::Accepted;
use crate::proto::http::ClientRequest;
use crate::proto::http::HeadLimits;
use crate::proto::http::Request;
use crate::proto::http::write_switching_protocols;
use crate::proto::http::write_upgrade_request;
use crate::proto::ws::deflate::{AnswerError, Offer, Parameters, Policy, WindowBits, negotiate};

const KEY: [u8; 16] = *b"the sample nonce";
const ACCEPT_KEY: &[u8; 28] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const PLENTY: usize = 36 << 10;

fn bits(bits: u8) -> Option<WindowBits> {
    Some(WindowBits::new(bits).unwrap())
}

fn dedicated(window_bits: u8) -> Policy {
    Policy::Dedicated { window_bits: WindowBits::new(window_bits).unwrap() }
}

fn request(offers: &str) -> ClientRequest<'_> {
    ClientRequest { host: "localhost", path: "/", key: KEY, origin: None, subprotocols: &[], extensions: Some(offers) }
}

fn negotiated(offers: &str, policy: Policy, memory_left: usize) -> Option<Parameters> {
    let mut head = Vec::new();
    write_upgrade_request(&mut head, &request(offers));
    let request = Request::parse(&head, &HeadLimits::default()).unwrap();
    negotiate(request.upgrade().unwrap().unwrap().extensions(), policy, memory_left)
}

/// Checks the server's answer to `offers`, both written without the extension's name.
#[track_caller]
fn check(policy: Policy, memory_left: usize, offers: &[&str], expect: Option<&str>) {
    let offers: Vec<_> = offers.iter().map(|offer| format!("permessage-deflate{offer}")).collect();
    let answer = negotiated(&offers.join(", "), policy, memory_left);
    let answer = answer.map(|parameters| parameters.header_value().as_str().to_owned());
    assert_eq!(answer, expect.map(|words| format!("permessage-deflate{words}")), "{offers:?}");
}

const SHARED: &str = "; server_no_context_takeover; client_no_context_takeover";

#[test]
fn a_route_without_compression_declines_everything() {
    check(Policy::Off, PLENTY, &["", "; client_max_window_bits"], None);
    assert_eq!(Policy::default(), Policy::Off);
}

#[test]
fn a_shared_compressor_asks_both_sides_to_keep_nothing() {
    let check = |offer: &str, expect: &str| check(Policy::Shared, 0, &[offer], Some(&format!("{SHARED}{expect}")));
    check("", "");
    check("; client_max_window_bits", "");
    check("; client_max_window_bits=10", "");
    check("; server_no_context_takeover", "");
    check("; client_no_context_takeover", "");
    check("; server_max_window_bits=15", "; server_max_window_bits=15");
    check("; server_max_window_bits=9", "; server_max_window_bits=9");
    check("; server_max_window_bits=8", "; server_max_window_bits=8");
    check("; server_max_window_bits=\"10\"", "; server_max_window_bits=10");
}

#[test]
fn a_dedicated_window_of_15_bits_needs_no_parameter() {
    let check = |offer: &str, expect: &str| check(dedicated(15), PLENTY, &[offer], Some(expect));
    check("", "");
    check("; client_max_window_bits", "; client_max_window_bits=15");
    check("; client_max_window_bits=10", "; client_max_window_bits=10");
    check("; server_max_window_bits=15", "; server_max_window_bits=15");
    check("; server_max_window_bits=9", "; server_max_window_bits=9");
    check("; server_no_context_takeover", "; server_no_context_takeover");
    check("; client_no_context_takeover", "; client_no_context_takeover");
    check("; client_no_context_takeover; client_max_window_bits", "; client_no_context_takeover");
}

#[test]
fn a_smaller_dedicated_window_is_named() {
    let check = |offer: &str, expect: &str| check(dedicated(12), PLENTY, &[offer], Some(expect));
    check("; client_max_window_bits", "; server_max_window_bits=12; client_max_window_bits=12");
    check("; client_max_window_bits=15", "; server_max_window_bits=12; client_max_window_bits=12");
    check("; client_max_window_bits=8", "; server_max_window_bits=12; client_max_window_bits=8");
    check(
        "; client_max_window_bits; server_max_window_bits=10",
        "; server_max_window_bits=10; client_max_window_bits=12",
    );
    check(
        "; client_max_window_bits; server_max_window_bits=8",
        "; server_max_window_bits=8; client_max_window_bits=12",
    );
}

#[test]
fn a_client_that_can_not_use_a_smaller_window_is_asked_to_keep_nothing() {
    check(dedicated(12), PLENTY, &[""], Some("; client_no_context_takeover; server_max_window_bits=12"));
    check(
        dedicated(9),
        PLENTY,
        &["; server_no_context_takeover"],
        Some("; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9"),
    );
}

#[test]
fn an_offer_against_the_rfc_is_declined() {
    for words in [
        "; unknown",
        "; client_max_window_bits; unknown=1",
        "; Client_max_window_bits",
        "; server_no_context_takeover=true",
        "; server_no_context_takeover=15",
        "; client_no_context_takeover=\"x\"",
        "; server_max_window_bits",
        "; server_max_window_bits=7",
        "; server_max_window_bits=16",
        "; server_max_window_bits=08",
        "; server_max_window_bits=0xf",
        "; server_max_window_bits=99999999999999999999",
        "; server_max_window_bits=-9",
        "; client_max_window_bits=7",
        "; client_max_window_bits=16",
        "; client_max_window_bits=09",
        "; client_max_window_bits=010",
        "; client_max_window_bits=x",
        "; client_max_window_bits; client_max_window_bits",
        "; client_max_window_bits=10; client_max_window_bits=10",
        "; server_max_window_bits=10; server_max_window_bits=10",
        "; server_no_context_takeover; server_no_context_takeover",
        "; client_no_context_takeover; client_no_context_takeover",
    ] {
        for policy in [Policy::Shared, dedicated(15), dedicated(9)] {
            check(policy, PLENTY, &[words], None);
        }
    }
}

#[test]
fn the_first_offer_that_is_good_wins() {
    check(dedicated(15), PLENTY, &["; server_max_window_bits=10", ""], Some("; server_max_window_bits=10"));
    check(dedicated(15), PLENTY, &["", "; server_max_window_bits=10"], Some(""));
    check(
        dedicated(15),
        PLENTY,
        &["; unknown", "; server_max_window_bits=16", "; server_max_window_bits=9", ""],
        Some("; server_max_window_bits=9"),
    );
    check(Policy::Shared, 0, &["; unknown", "; server_max_window_bits"], None);
    assert_eq!(negotiated("permessage-bzip2, x-webkit-deflate-frame, Permessage-Deflate", dedicated(15), PLENTY), None);
    assert!(negotiated("permessage-bzip2; a=1, permessage-deflate", dedicated(15), PLENTY).is_some());
}

#[test]
fn a_connection_that_memory_does_not_suffice_for_gets_what_costs_none() {
    check(dedicated(15), 36_864, &[""], Some(""));
    check(dedicated(15), 36_863, &[""], Some(SHARED));
    check(dedicated(15), 0, &["; server_no_context_takeover; client_no_context_takeover"], Some(SHARED));
    check(dedicated(15), 4_096, &["; client_no_context_takeover"], Some("; client_no_context_takeover"));
    let narrow = "; server_max_window_bits=9; client_max_window_bits=9";
    check(dedicated(9), 1_024, &["; client_max_window_bits"], Some(narrow));
    check(dedicated(9), 1_023, &["; client_max_window_bits"], Some(SHARED));
    assert_eq!(negotiated("permessage-deflate", Policy::Shared, 0).unwrap().memory_max(), 0);
}

#[track_caller]
fn check_offer(offer: Offer, expect: &str) {
    assert_eq!(offer.header_value().as_str(), format!("permessage-deflate{expect}"));
}

#[test]
fn an_offer_names_what_it_asks_for() {
    check_offer(Offer::default(), "");
    check_offer(Offer { client_max_window_bits: bits(15), ..Offer::default() }, "; client_max_window_bits");
    check_offer(Offer { client_max_window_bits: bits(9), ..Offer::default() }, "; client_max_window_bits=9");
    let everything = Offer {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: bits(15),
        client_max_window_bits: bits(15),
    };
    check_offer(everything, &format!("{SHARED}; server_max_window_bits=15; client_max_window_bits"));
}

/// Checks what `offer` makes of an answer with these extensions.
#[track_caller]
fn check_answer(offer: Offer, answer: &str, expect: Result<Option<&str>, AnswerError>) {
    let mut head = Vec::new();

    write_switching_protocols(&mut head, ACCEPT_KEY, None, Some(answer).filter(|answer| !answer.is_empty()));
    let accepted = Accepted::parse(&head, KEY).unwrap();
    let outcome = offer.check(accepted.extensions());
    let shown = outcome.map(|parameters| parameters.map(|parameters| parameters.to_string()));
    assert_eq!(shown, expect.map(|words| words.map(|words| format!("permessage-deflate{words}"))), "{answer}");
}

#[test]
fn a_client_accepts_what_it_offered_and_what_it_need_not_offer() {
    let plain = Offer::default();
    check_answer(plain, "", Ok(None));
    check_answer(plain, "permessage-deflate", Ok(Some("")));
    check_answer(plain, "other", Ok(None));
    for words in [SHARED, "; server_max_window_bits=9", "; server_no_context_takeover"] {
        check_answer(plain, &format!("permessage-deflate{words}"), Ok(Some(words)));
    }
    let windows = Offer { server_max_window_bits: bits(12), client_max_window_bits: bits(12), ..plain };
    let narrower = "; server_max_window_bits=11; client_max_window_bits=8";
    check_answer(windows, &format!("permessage-deflate{narrower}"), Ok(Some(narrower)));
    let as_promised = "; server_max_window_bits=12; client_max_window_bits=12";
    check_answer(windows, "permessage-deflate; server_max_window_bits=12", Ok(Some(as_promised)));
    let stands_alone = Offer { client_no_context_takeover: true, ..plain };
    check_answer(stands_alone, "permessage-deflate", Ok(Some("; client_no_context_takeover")));
}

#[test]
fn a_client_fails_an_answer_against_the_rfc() {
    let all = Offer {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: bits(12),
        client_max_window_bits: bits(12),
    };
    let check = |offer: Offer, words: &str, expect: AnswerError| {
        check_answer(offer, &format!("permessage-deflate{words}"), Err(expect));
    };
    check(all, "; server_max_window_bits=12, permessage-deflate", AnswerError::Repeated);
    for words in [
        "; unknown",
        "; client_max_window_bits",
        "; server_max_window_bits",
        "; server_max_window_bits=16",
        "; client_max_window_bits=7",
        "; server_no_context_takeover=1",
        "; server_no_context_takeover; server_no_context_takeover",
    ] {
        check(all, words, AnswerError::InvalidParameter);
    }
    check(all, "", AnswerError::DemandIgnored);
    check(all, "; server_no_context_takeover", AnswerError::DemandIgnored);
    check(all, "; server_max_window_bits=12", AnswerError::DemandIgnored);
    check(all, "; server_no_context_takeover; server_max_window_bits=13", AnswerError::DemandIgnored);
    check(Offer::default(), "; client_max_window_bits=15", AnswerError::NotOffered);
    let narrow = Offer { client_max_window_bits: bits(10), ..Offer::default() };
    check(narrow, "; client_max_window_bits=11", AnswerError::NotOffered);
}

#[test]
fn a_client_accepts_what_the_server_negotiates_from_its_offer() {
    let windows = || (8..=15).map(bits).chain([None]);
    for server in windows() {
        for client in windows() {
            for flags in 0..4 {
                let offer = Offer {
                    server_no_context_takeover: flags & 1 != 0,
                    client_no_context_takeover: flags & 2 != 0,
                    server_max_window_bits: server,
                    client_max_window_bits: client,
                };
                for policy in (8..=15).map(dedicated).chain([Policy::Shared]) {
                    let ours = negotiated(offer.header_value().as_str(), policy, PLENTY).unwrap();
                    assert!(ours.memory_max() <= PLENTY);
                    let mut head = Vec::new();

                    let answer = ours.header_value();
                    write_switching_protocols(&mut head, ACCEPT_KEY, None, Some(answer.as_str()));
                    let accepted = Accepted::parse(&head, KEY).unwrap();
                    let theirs = offer.check(accepted.extensions()).unwrap().unwrap();
                    assert_eq!(theirs.server_context().memory_max(), ours.server_context().memory_max());
                    // The client may promise a smaller window than the answer names.
                    assert!(theirs.client_context().memory_max() <= ours.client_context().memory_max());
                }
            }
        }
    }
}
