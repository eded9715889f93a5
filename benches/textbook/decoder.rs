//! Reading frames the way a first implementation does: byte by byte, by the picture in the RFC.

/// A frame header.
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload_len: usize,
    pub(crate) key: [u8; 4],
    pub(crate) len: usize,
}

/// Reads the header of a frame of a client, or `None` if it is cut.
///
/// # Panics
///
/// If it breaks a rule of RFC 6455 section 5.2.
pub(crate) fn header(input: &[u8]) -> Option<Header> {
    if input.len() < 2 {
        return None;
    }
    let (fin, opcode) = (input[0] & 0x80 != 0, input[0] & 0x0f);
    let short_len = input[1] & 0x7f;
    assert_eq!(input[0] & 0x70, 0, "reserved bits");
    assert!(opcode < 3 || (8..11).contains(&opcode), "unknown opcode");
    assert!(opcode < 8 || fin && short_len < 126, "control frame");
    assert_ne!(input[1] & 0x80, 0, "no mask");
    let (len_len, shorter_max) = match short_len {
        126 => (2, 125),
        127 => (8, 65_535),
        _ => (0, 0),
    };
    let len = 2 + len_len + 4;
    if input.len() < len {
        return None;
    }
    let payload_len = match len_len {
        0 => u64::from(short_len),
        _ => input[2..2 + len_len].iter().fold(0, |len, &byte| len << 8 | u64::from(byte)),
    };
    assert!(len_len == 0 || payload_len > shorter_max, "not the shortest form");
    let key = [input[len - 4], input[len - 3], input[len - 2], input[len - 1]];
    let payload_len = usize::try_from(payload_len).expect("a length that fits into memory");
    Some(Header { fin, opcode, payload_len, key, len })
}
