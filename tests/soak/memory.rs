//! The server's memory over time, and whether it was flat.

/// Samples of the resident memory, taken at even intervals over the whole run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Before the first connection.
    pub(crate) start_bytes: u64,
    samples: Vec<u64>,
    /// When all connections have ended.
    rest_bytes: Option<u64>,
}

impl Memory {
    pub(crate) fn new(start_bytes: u64) -> Self {
        Self { start_bytes, ..Self::default() }
    }

    pub(crate) fn push(&mut self, bytes: u64) {
        self.samples.push(bytes);
    }

    /// Takes the sample that comes after the last connection.
    pub(crate) fn rest(&mut self, bytes: u64) {
        self.rest_bytes = Some(bytes);
    }

    /// The most in each third of the time. The first is for warming up.
    pub(crate) fn maxima(&self) -> [u64; 3] {
        let count = self.samples.len();
        let third = |i: usize| self.samples[count * i / 3..count * (i + 1) / 3].iter().copied().max().unwrap_or(0);
        [third(0), third(1), third(2)]
    }

    /// The last sample with connections, and the one after them.
    pub(crate) fn end_bytes(&self) -> [u64; 2] {
        let end = self.samples.last().copied().unwrap_or(self.start_bytes);
        [end, self.rest_bytes.unwrap_or(end)]
    }

    /// What the last third may have at most to count as flat.
    pub(crate) fn bound_bytes(&self) -> u64 {
        let middle = self.maxima()[1];
        middle + middle * MARGIN_PERCENT / 100 + MARGIN_BYTES
    }

    pub(crate) fn is_flat(&self) -> bool {
        self.maxima()[2] <= self.bound_bytes()
    }
}

pub(crate) const MARGIN_PERCENT: u64 = 10;
pub(crate) const MARGIN_BYTES: u64 = 8 << 20;
