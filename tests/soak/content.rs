//! What messages are made of: one long text and one long run of random bytes, made once, of which
//! every message is a slice. So the client need not keep what it sent to compare an echo with it.

use ringsock::proto::ws::{CONTROL_PAYLOAD_LEN_MAX, MessageKind};

use crate::random::Random;

/// The material of all messages of a run.
#[derive(Debug)]
pub(crate) struct Content {
    text: String,
    binary: Vec<u8>,
    size_max: usize,
}

/// A slice of the content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) kind: MessageKind,
    start: usize,
    pub(crate) len: usize,
}

impl Content {
    /// Material for messages of up to `size_max` bytes.
    pub(crate) fn new(seed: u64, size_max: usize) -> Self {
        let mut random = Random::new(seed, u64::MAX);
        let len = size_max + SPAN_LEN;
        let mut text = String::with_capacity(len + 4);
        while text.len() < len {
            // Runs of ASCII make both the fast and the slow path of a validator work.
            let alphabet = random.pick(&ALPHABETS);
            let run_len = 1 + random.below(RUN_LEN_MAX);
            text.extend((0..run_len).map(|_| random.pick(alphabet)));
        }
        let mut binary = vec![0; len];
        random.fill(&mut binary);
        Self { text, binary, size_max }
    }

    /// The longest message.
    pub(crate) fn size_max(&self) -> usize {
        self.size_max
    }

    /// A message of text or bytes. Its length is 0, or of any number of bits with the same
    /// probability, or at an edge of the protocol.
    pub(crate) fn message(&self, random: &mut Random) -> Sample {
        let len = if random.one_in(EDGE_ONE_IN) {
            random.pick(&EDGES).min(self.size_max)
        } else {
            let end = 1 << random.below(self.size_max.ilog2() as usize + 1);
            end / 2 + random.below(end - end / 2)
        };
        let len = if random.one_in(LARGEST_ONE_IN) { self.size_max } else { len };
        if random.one_in(2) { self.text(len, random) } else { self.binary(len, random) }
    }

    /// The payload of a Ping.
    pub(crate) fn ping(&self, random: &mut Random) -> Sample {
        let len = random.below(CONTROL_PAYLOAD_LEN_MAX + 1);
        self.binary(len, random)
    }

    /// The bytes of a sample.
    pub(crate) fn bytes(&self, sample: Sample) -> &[u8] {
        let bytes = match sample.kind {
            MessageKind::Text => self.text.as_bytes(),
            MessageKind::Binary => &self.binary,
        };
        &bytes[sample.start..sample.start + sample.len]
    }

    /// A text of `len` bytes, or up to three less: it begins and ends between characters.
    fn text(&self, len: usize, random: &mut Random) -> Sample {
        let start = self.text.floor_char_boundary(random.below(SPAN_LEN));
        let end = self.text.floor_char_boundary(start + len);
        Sample { kind: MessageKind::Text, start, len: end - start }
    }

    fn binary(&self, len: usize, random: &mut Random) -> Sample {
        Sample { kind: MessageKind::Binary, start: random.below(SPAN_LEN), len }
    }
}

/// Where samples begin.
const SPAN_LEN: usize = 1 << 20;
const RUN_LEN_MAX: usize = 100;
const EDGE_ONE_IN: usize = 16;
const LARGEST_ONE_IN: usize = 500;
/// On either side of where the form of a frame's length changes, and of a power of two.
const EDGES: [usize; 11] = [0, 1, 2, 125, 126, 127, 4096, 16_384, 65_535, 65_536, 65_537];
/// Characters of one to four bytes.
const ALPHABETS: [&[char]; 5] = [
    &['a', 'e', 'n', 'o', 'r', 's', 't', ' ', '.', '\n', '\0', '\u{7f}'],
    &['k', 'i', 'm', '"', '\\', '{', '}', '0', '9', ' '],
    &['\u{80}', 'é', 'ß', 'λ', 'Ж', 'ע', '\u{7ff}', ' '],
    &['\u{800}', '€', '漢', 'ก', '\u{d7ff}', '\u{e000}', '\u{ffff}'],
    &['\u{10000}', '😀', '𝄞', '\u{10ffff}', 'x'],
];
