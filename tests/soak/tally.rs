//! What clients count.

use std::ops::AddAssign;
use std::time::Duration;

use ringsock::proto::ws::MessageKind;

use crate::content::Sample;

/// The sum of what happened on the connections of one thread, or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Connections opened.
    pub(crate) connections: u64,
    /// Connections that ended with a Close each way.
    pub(crate) closes: u64,
    /// Connections that we ended with a reset.
    pub(crate) resets: u64,
    /// Text messages whose echo was right.
    pub(crate) texts: u64,
    /// Binary messages whose echo was right.
    pub(crate) binaries: u64,
    /// The same messages by length, see [`SIZE_CLASSES`].
    pub(crate) sizes: [u64; SIZE_CLASSES.len()],
    /// Messages whose echo was awaited when their connection was reset.
    pub(crate) unanswered: u64,
    /// Data frames sent.
    pub(crate) fragments: u64,
    /// Pings whose Pong was right.
    pub(crate) pings: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// The longest time in which not a byte went either way on a connection that waited for some.
    pub(crate) silence_max: Duration,
}

impl Tally {
    /// Messages whose echo was right.
    pub(crate) fn messages(&self) -> u64 {
        self.texts + self.binaries
    }

    pub(crate) fn count_echo(&mut self, sample: Sample) {
        match sample.kind {
            MessageKind::Text => self.texts += 1,
            MessageKind::Binary => self.binaries += 1,
        }
        let class = SIZE_CLASSES.iter().position(|class| sample.len <= class.0);
        self.sizes[class.expect("the last class has no bound")] += 1;
    }
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.connections += other.connections;
        self.closes += other.closes;
        self.resets += other.resets;
        self.texts += other.texts;
        self.binaries += other.binaries;
        for (size, other) in self.sizes.iter_mut().zip(other.sizes) {
            *size += other;
        }
        self.unanswered += other.unanswered;
        self.fragments += other.fragments;
        self.pings += other.pings;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.silence_max = self.silence_max.max(other.silence_max);
    }
}

/// The longest message of each class, by the form of its frame's length, and a name for it.
pub(crate) const SIZE_CLASSES: [(usize, &str); 5] =
    [(0, "empty"), (125, "to 125 B"), (65_535, "to 64 KiB"), (262_143, "to 256 KiB"), (usize::MAX, "longer")];
