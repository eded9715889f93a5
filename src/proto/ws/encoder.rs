//! Frames as bytes (RFC 6455 section 5.2).

use crate::buf::SharedFrame;
use crate::proto::ws::CloseCode;
use crate::proto::ws::event::MessageKind;
use crate::proto::ws::header::COMPRESSED;
use crate::proto::ws::{CONTROL_PAYLOAD_LEN_MAX, HEADER_LEN_MAX, Opcode, Role};
use crate::simd::mask;
use crate::simd::mask::Key;

/// Appends the header of a frame that ends its message, with the length in its shortest form.
pub fn header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize, key: Option<Key>) {
    fragment_header(out, opcode, true, payload_len, key);
}

/// Appends a frame header.
pub fn fragment_header(out: &mut Vec<u8>, opcode: Opcode, fin: bool, payload_len: usize, key: Option<Key>) {
    debug_assert!(
        !opcode.is_control() || fin && payload_len <= CONTROL_PAYLOAD_LEN_MAX,
        "control frames are whole and short"
    );
    let mask = u8::from(key.is_some()) << 7;
    with_header(u8::from(fin) << 7 | opcode as u8, mask, payload_len, |header| out.extend_from_slice(header));
    if let Some(key) = key {
        out.extend_from_slice(&key);
    }
}

/// Writes the header of a server's frame that ends its message right before the payload, which goes from
/// `start` to the end of `bytes`. Returns where the frame begins, or `None` if there is no room for it.
pub fn header_before(bytes: &mut [u8], start: usize, opcode: Opcode) -> Option<usize> {
    with_header(0x80 | opcode as u8, 0, bytes.len().checked_sub(start)?, |header| {
        let at = start.checked_sub(header.len())?;
        bytes[at..start].copy_from_slice(header);
        Some(at)
    })
}

/// Calls `put` with a header up to the length, in its shortest form. `mask` is the bit beside the length.
fn with_header<T>(first: u8, mask: u8, payload_len: usize, put: impl FnOnce(&[u8]) -> T) -> T {
    let len = payload_len as u64;
    // The lengths are compared, so the casts below lose nothing.
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..126), _) => put(&[first, mask | len]),
        (_, Ok(len)) => {
            let [a, b] = len.to_be_bytes();
            put(&[first, mask | 126, a, b])
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = len.to_be_bytes();
            put(&[first, mask | 127, a, b, c, d, e, f, g, h])
        }
    }
}

/// How long the header of a frame is that `sender` sends: clients mask.
#[must_use]
pub fn header_len(payload_len: usize, sender: Role) -> usize {
    let key_len = if sender == Role::Client { size_of::<Key>() } else { 0 };
    with_header(0, 0, payload_len, <[u8]>::len) + key_len
}

/// Appends a whole frame. `key` masks it: `None` in the role of a server, a fresh one for every
/// frame in that of a client.
///
/// ```
/// use ringsock::proto::ws::{Opcode, encoder};
///
/// let mut out = Vec::new();
/// encoder::frame(&mut out, Opcode::Text, b"Hello", None);
/// assert_eq!(out, b"\x81\x05Hello");
/// ```
pub fn frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: Option<Key>) {
    header(out, opcode, payload.len(), key);
    match key {
        Some(key) => {
            mask::append(out, payload, key);
        }
        None => out.extend_from_slice(payload),
    }
}

/// Appends a whole frame with the compressed form of a message (RFC 7692 section 6).
pub fn compressed_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: Option<Key>) {
    let start = out.len();
    frame(out, opcode, payload, key);
    mark_compressed(&mut out[start..]);
}

/// Marks the frame at the front of `bytes` as the first of a compressed message: sets RSV1.
pub fn mark_compressed(bytes: &mut [u8]) {
    bytes[0] |= COMPRESSED;
}

/// Appends a Close frame. A reason that is too long is cut at a character.
pub fn close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str, key: Option<Key>) {
    let mut payload = [0; CONTROL_PAYLOAD_LEN_MAX];
    let len = match code {
        None => 0,
        Some(code) => {
            let reason = &reason.as_bytes()[..reason.floor_char_boundary(CONTROL_PAYLOAD_LEN_MAX - 2)];
            payload[..2].copy_from_slice(&code.get().to_be_bytes());
            payload[2..2 + reason.len()].copy_from_slice(reason);
            2 + reason.len()
        }
    };
    frame(out, Opcode::Close, &payload[..len], key);
}

/// Encodes a message of a server once, to be sent to any number of peers.
#[must_use]
pub fn shared(kind: MessageKind, payload: &[u8]) -> SharedFrame {
    let mut out = Vec::with_capacity(HEADER_LEN_MAX + payload.len());
    frame(&mut out, kind.opcode(), payload, None);
    SharedFrame::new(&out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ws::{FrameHeader, ReservedBits};

    #[test]
    fn a_header_is_written_before_a_payload_where_there_is_room() {
        for (len, header_len) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut bytes = vec![7; HEADER_LEN_MAX + len];
            let at = header_before(&mut bytes, HEADER_LEN_MAX, Opcode::Binary);
            assert_eq!(at, Some(HEADER_LEN_MAX - header_len));
            let mut expect = Vec::new();
            frame(&mut expect, Opcode::Binary, &vec![7; len], None);
            assert_eq!(bytes[HEADER_LEN_MAX - header_len..], expect);
            assert_eq!(
                header_before(&mut bytes[HEADER_LEN_MAX - header_len + 1..], header_len - 1, Opcode::Binary),
                None
            );
        }
        assert_eq!(header_before(&mut [], 1, Opcode::Binary), None);
    }

    #[test]
    fn the_shortest_form_of_length_is_chosen_at_every_boundary() {
        for (len, header_len) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10), (1 << 40, 10)] {
            let mut out = Vec::new();
            header(&mut out, Opcode::Binary, len, None);
            assert_eq!(out.len(), header_len, "payload of {len} bytes");
            let header = FrameHeader::parse(&out, Role::Client, ReservedBits::Unused).expect("valid").expect("whole");
            assert_eq!((header.payload_len, header.fin), (len as u64, true));
        }
    }

    #[test]
    fn the_examples_of_section_5_7_are_encoded_to_the_letter() {
        #[track_caller]
        fn check(opcode: Opcode, fin: bool, payload: &[u8], key: Option<Key>, expect: &[u8]) {
            let mut out = Vec::new();
            fragment_header(&mut out, opcode, fin, payload.len(), key);
            mask::append(&mut out, payload, key.unwrap_or_default());
            assert_eq!(out, expect);
        }
        let key = Some([0x37, 0xfa, 0x21, 0x3d]);
        check(Opcode::Text, true, b"Hello", None, b"\x81\x05Hello");
        check(Opcode::Text, true, b"Hello", key, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        check(Opcode::Text, false, b"Hel", None, b"\x01\x03Hel");
        check(Opcode::Continuation, true, b"lo", None, b"\x80\x02lo");
        check(Opcode::Ping, true, b"Hello", None, b"\x89\x05Hello");
        check(Opcode::Pong, true, b"Hello", key, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        close(&mut out, Some(CloseCode::NORMAL), &"é".repeat(100), None);
        assert_eq!(&out[..4], &[0x88, 124, 0x03, 0xe8]);
        assert_eq!(&out[4..], "é".repeat(61).as_bytes());
    }

    #[test]
    fn a_close_without_a_code_has_no_payload() {
        let mut out = Vec::new();
        close(&mut out, None, "ignored", None);
        assert_eq!(out, [0x88, 0]);
    }
}
