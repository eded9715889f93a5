//! Frames in, the same frames out, without their keys.

/// Where in the stream of frames a connection is.
#[derive(Default)]
pub struct Frames {
    /// A header that has not arrived whole.
    header: [u8; HEADER_LEN_MAX],
    header_len: usize,
    /// What is still to come of the payload.
    left: u64,
}

const HEADER_LEN_MAX: usize = 14;
const MASKED: u8 = 0x80;
const CLOSE: u8 = 0x88;

impl Frames {
    /// Answers what has arrived; says whether it was a Close, after which there is nothing.
    pub fn answer(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> bool {
        while !bytes.is_empty() {
            if self.left > 0 {
                let len = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                out.extend_from_slice(&bytes[..len]);
                bytes = &bytes[len..];
                self.left -= len as u64;
                continue;
            }
            let (first, len) = if self.header_len == 0
                && let Some(len) = header_len(bytes).filter(|&len| len <= bytes.len())
            {
                self.left = announce(&bytes[..len], out);
                (bytes[0], len)
            } else {
                self.header[self.header_len] = bytes[0];
                self.header_len += 1;
                let header = &self.header[..self.header_len];
                if header_len(header) != Some(header.len()) {
                    bytes = &bytes[1..];
                    continue;
                }
                self.left = announce(header, out);
                self.header_len = 0;
                (header[0], 1)
            };
            if first == CLOSE {
                return true;
            }
            bytes = &bytes[len..];
        }
        false
    }
}

/// How long the header at the front of `bytes` is, if that can be told yet. Clients mask.
fn header_len(bytes: &[u8]) -> Option<usize> {
    bytes.get(1).map(|second| match second & !MASKED {
        126 => 8,
        127 => 14,
        _ => 6,
    })
}

/// Appends the header of the answer to a frame with this header; returns the length of its payload.
fn announce(header: &[u8], out: &mut Vec<u8>) -> u64 {
    if header[0] == CLOSE {
        out.extend_from_slice(&[CLOSE, 0]);
        return 0;
    }
    let unkeyed = &header[..header.len() - 4];
    let start = out.len();
    out.extend_from_slice(unkeyed);
    out[start + 1] &= !MASKED;
    let left = match *unkeyed {
        [_, len] => u64::from(len & !MASKED),
        [_, _, a, b] => u64::from(u16::from_be_bytes([a, b])),
        [_, _, ref len @ ..] => u64::from_be_bytes(len.try_into().expect("the longest header has eight bytes here")),
        _ => unreachable!("headers have two bytes, four or ten before the key"),
    };
    out.reserve(usize::try_from(left).expect("lengths fit the address space"));
    left
}
