//! The key that proves to a client that its handshake was understood.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::Digest;
use sha1::Sha1;

/// The length of a Sec-WebSocket-Accept value: 20 bytes in base64.
pub const ACCEPT_KEY_LEN: usize = 28;

/// Makes the Sec-WebSocket-Accept value for a Sec-WebSocket-Key (RFC 6455 section 4.2.2).
///
/// ```
/// let accept = ringsock::proto::http::accept_key("dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(&accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[must_use]
pub fn accept_key(key: &str) -> [u8; ACCEPT_KEY_LEN] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    encode(&digest.into())
}

/// A key as a client sends it: 16 bytes in base64.
pub(super) fn encode_key(nonce: &[u8; NONCE_LEN]) -> [u8; KEY_LEN] {
    encode(nonce)
}

/// Whether `key` is 16 bytes in canonical base64 with padding.
pub(super) fn is_key(key: &[u8]) -> bool {
    // The decoder wants room for whole groups, so two more than it fills.
    let mut nonce = [0; NONCE_LEN + 2];
    key.len() == KEY_LEN && STANDARD.decode_slice(key, &mut nonce) == Ok(NONCE_LEN)
}

fn encode<const LEN: usize, const ENCODED_LEN: usize>(bytes: &[u8; LEN]) -> [u8; ENCODED_LEN] {
    const { assert!(LEN.div_ceil(3) * 4 == ENCODED_LEN) };
    let mut encoded = [0; ENCODED_LEN];
    STANDARD.encode_slice(bytes, &mut encoded).expect("the lengths were compared when this was compiled");
    encoded
}

/// The string that RFC 6455 section 1.3 appends to the key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const NONCE_LEN: usize = 16;
const KEY_LEN: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_gives_its_accept_key() {
        assert_eq!(&accept_key("dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_example_of_the_rfc_is_its_nonce_in_base64() {
        assert_eq!(&encode_key(b"the sample nonce"), b"dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[track_caller]
    fn check(key: &str, expect: bool) {
        assert_eq!(is_key(key.as_bytes()), expect, "{key}");
    }

    #[test]
    fn a_key_is_sixteen_bytes_in_canonical_base64() {
        check("dGhlIHNhbXBsZSBub25jZQ==", true);
        check("AAAAAAAAAAAAAAAAAAAAAA==", true);
        check("//////////////////////==", false); // bits that no byte has
        check("/////////////////////w==", true);
        check("", false);
        check("dGhlIHNhbXBsZSBub25j", false); // 15 bytes
        check("dGhlIHNhbXBsZSBub25jZWU=", false); // 17 bytes
        check("dGhlIHNhbXBsZSBub25jZWUh", false); // 18 bytes
        check("dGhlIHNhbXBsZSBub25jZQ", false); // no padding
        check("dGhlIHNhbXBsZSBub25jZQ=", false);
        check("dGhlIHNhbXBsZSBub25jZQ===", false);
        check("dGhlIHNhbXBsZSBub25jZR==", false); // trailing bits set
        check("dGhlIHNhbXBsZSBub25jZ===", false);
        check("dGhlIHNhbXBsZSBub25j_-==", false); // the URL alphabet
        check("dGhlIHNh bXBsZSBub25jZQ==", false);
        check("dGhlIHNhbXBsZSBub25\u{e9}Z==", false);
    }
}
