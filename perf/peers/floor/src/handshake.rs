//! The answer to an upgrade, whatever it asks for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_NAME: &[u8] = b"sec-websocket-key:";

/// Answers a request that has arrived whole; returns where it ends.
pub fn answer(request: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let key = request[..end]
        .split(|&byte| byte == b'\n')
        .find(|line| line.len() > KEY_NAME.len() && line[..KEY_NAME.len()].eq_ignore_ascii_case(KEY_NAME))
        .map_or(&b""[..], |line| line[KEY_NAME.len()..].trim_ascii());
    let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    out.extend_from_slice(format!("Sec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes());
    Some(end)
}
