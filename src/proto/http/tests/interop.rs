//! Handshakes against tungstenite's halves.

use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::generate_request;
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server;

use crate::proto::http::Accepted;
use crate::proto::http::ClientRequest;
use crate::proto::http::HeadScanner;
use crate::proto::http::Request;
use crate::proto::http::tests::LIMITS;
use crate::proto::http::write_upgrade_request;

#[test]
fn a_request_of_tungstenite_is_accepted() {
    let (head, key) = generate_request("ws://localhost:9001/chat?a=b".into_client_request().unwrap()).unwrap();
    assert_eq!(HeadScanner::new().scan(&head, &LIMITS), Ok(Some(head.len())));
    let request = Request::parse(&head, &LIMITS).unwrap();
    assert_eq!((request.path(), request.query(), request.host()), ("/chat", Some("a=b"), "localhost:9001"));
    let accept = request.upgrade().unwrap().unwrap().accept_key();
    assert_eq!(std::str::from_utf8(&accept).unwrap(), derive_accept_key(key.as_bytes()));
}

#[test]
fn tungstenite_accepts_our_request_and_its_answer_is_accepted() {
    let key = [0xa5; 16];
    let request = ClientRequest {
        host: "localhost:9001",
        path: "/chat?a=b",
        key,
        subprotocols: &["chat", "superchat"],
        extensions: Some("permessage-deflate; client_max_window_bits"),
        origin: Some("http://localhost"),
    };
    let mut head = Vec::new();
    write_upgrade_request(&mut head, &request);
    let (head_len, parsed) = server::Request::try_parse(&head).unwrap().unwrap();
    assert_eq!(head_len, head.len());
    let response = server::create_response(&parsed).unwrap();
    let mut answer = Vec::new();
    server::write_response(&mut answer, &response).unwrap();
    let accepted = Accepted::parse(&answer, key).unwrap();
    assert_eq!(accepted.check_offered(&request), Ok(()));
}
