//! What a thread measures: latencies by interval, and how much went through.

use std::sync::mpsc::Sender;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::clock::nanoseconds;

/// Latencies in nanoseconds, to three digits.
pub(super) type Latencies = Histogram<u64>;

/// The range that a histogram tells apart. What is longer counts as this.
const LATENCY_NS_MIN: u64 = 100;
const LATENCY_NS_MAX: u64 = 120_000_000_000;
const DIGITS: u8 = 3;
/// How many intervals a window has at most, and how short they get.
const INTERVALS_MAX: u64 = 100;
const INTERVAL_NS_MIN: u64 = 100_000_000;

/// The time that is measured, in equal intervals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Window {
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) interval_ns: u64,
}

/// What happened on one thread in one interval.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) interval: usize,
    pub(super) latencies: Latencies,
    pub(super) operations: u64,
    pub(super) bytes: u64,
}

/// Counts and measures on one thread.
#[derive(Debug)]
pub(super) struct Recorder {
    window: Window,
    samples: Sender<Sample>,
    current: Sample,
    /// The clock stands inside the window.
    inside: bool,
    /// The window has begun, or is over.
    begun: bool,
    /// A latency that came up `same_count` times in a row: replies of a turn to requests of a turn
    /// all have the same.
    same_ns: u64,
    same_count: u64,
    /// Latencies of messages that were sent only to verify idle connections.
    verified: Option<Latencies>,
}

impl Window {
    /// The window of a run that has not begun.
    pub(super) const NEVER: Self = Self { start_ns: u64::MAX, end_ns: u64::MAX, interval_ns: 1 };

    pub(super) fn new(start_ns: u64, duration: Duration) -> Self {
        let len_ns = nanoseconds(duration);
        let interval_ns = len_ns.div_ceil(INTERVALS_MAX).max(INTERVAL_NS_MIN);
        Self { start_ns, end_ns: start_ns.saturating_add(len_ns), interval_ns }
    }

    pub(super) fn contains(&self, at_ns: u64) -> bool {
        (self.start_ns..self.end_ns).contains(&at_ns)
    }

    /// The interval of a time: the last one for whatever is later.
    pub(super) fn interval_of(&self, at_ns: u64) -> usize {
        let last_ns = self.end_ns.saturating_sub(self.start_ns + 1);
        let index = at_ns.saturating_sub(self.start_ns).min(last_ns) / self.interval_ns;
        usize::try_from(index).expect("a window has at most a hundred intervals")
    }

    /// How long an interval is; the last one may be shorter.
    pub(super) fn interval_len_ns(&self, interval: usize) -> u64 {
        let start_ns = self.interval_ns * interval as u64;
        (self.end_ns - self.start_ns).saturating_sub(start_ns).min(self.interval_ns)
    }
}

impl Sample {
    pub(super) fn new(interval: usize) -> Self {
        Self { interval, latencies: new_latencies(), operations: 0, bytes: 0 }
    }
}

impl Recorder {
    /// A recorder that counts nothing until it is told its window.
    pub(super) fn new(samples: Sender<Sample>) -> Self {
        Self {
            window: Window::NEVER,
            samples,
            current: Sample::new(0),
            inside: false,
            begun: false,
            same_ns: 0,
            same_count: 0,
            verified: None,
        }
    }

    pub(super) fn begin(&mut self, window: Window) {
        self.window = window;
    }

    /// Begins a turn: hands the interval over that has ended.
    pub(super) fn advance(&mut self, now_ns: u64) {
        self.inside = self.window.contains(now_ns);
        self.begun = now_ns >= self.window.start_ns;
        if self.begun && self.window.interval_of(now_ns) != self.current.interval {
            self.flush(self.window.interval_of(now_ns));
        }
    }

    /// Counts an operation that ended now, if the window is open.
    pub(super) fn count(&mut self, bytes: usize) {
        if self.inside {
            self.current.operations += 1;
            self.current.bytes += bytes as u64;
        }
    }

    /// Records the latency of a message that was sent only to verify an idle connection, whenever it
    /// is answered.
    pub(super) fn verify(&mut self, latency_ns: u64) {
        self.verified.get_or_insert_with(new_latencies).saturating_record(latency_ns);
    }

    /// Records a latency that ended now, if the window has begun. Nothing is sent after its end, so
    /// what comes then are the late replies, and those must not be left out.
    pub(super) fn measure(&mut self, latency_ns: u64) {
        if self.begun {
            self.add(latency_ns, 1);
        }
    }

    /// Records the latency of `count` messages that were due at `due_ns`, if the window was open
    /// then, however late it is.
    pub(super) fn measure_due(&mut self, due_ns: u64, now_ns: u64, count: u64) {
        if self.window.contains(due_ns) {
            self.add(now_ns.saturating_sub(due_ns), count);
        }
    }

    /// The time that is measured.
    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// Hands over what is left, and returns what verifying took.
    pub(super) fn finish(&mut self) -> Option<Latencies> {
        self.add_same();
        self.hand_over(self.current.interval);
        self.verified.take()
    }

    fn add(&mut self, latency_ns: u64, count: u64) {
        if latency_ns != self.same_ns {
            self.add_same();
            self.same_ns = latency_ns;
        }
        self.same_count = self.same_count.saturating_add(count);
    }

    fn add_same(&mut self) {
        if self.same_count > 0 {
            self.current.latencies.saturating_record_n(self.same_ns, self.same_count);
            self.same_count = 0;
        }
    }

    /// Goes on to another interval. A histogram is large, so one in which nothing happened is kept.
    fn flush(&mut self, next: usize) {
        self.add_same();
        if self.current.operations == 0 && self.current.latencies.is_empty() {
            self.current.interval = next;
        } else {
            self.hand_over(next);
        }
    }

    fn hand_over(&mut self, next: usize) {
        let sample = std::mem::replace(&mut self.current, Sample::new(next));
        // Nobody listens any more when the run was given up.
        let _ = self.samples.send(sample);
    }
}

/// An empty histogram.
pub(super) fn new_latencies() -> Latencies {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, DIGITS).expect("the bounds are a range")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_window_has_equal_intervals_and_perhaps_a_shorter_last_one() {
        let window = Window::new(1_000 * MS, Duration::from_millis(220));
        assert_eq!((window.end_ns, window.interval_ns), (1_220 * MS, 100 * MS));
        let intervals = [999, 1_000, 1_099, 1_100, 1_219, 1_220, 9_000].map(|ms| window.interval_of(ms * MS));
        assert_eq!(intervals, [0, 0, 0, 1, 2, 2, 2]);
        assert_eq!([0, 1, 2].map(|interval| window.interval_len_ns(interval) / MS), [100, 100, 20]);
        assert_eq!(Window::new(0, Duration::from_secs(100)).interval_ns, 1_000 * MS);
    }

    #[test]
    fn what_ends_in_the_window_counts_and_late_replies_are_measured() {
        let (sender, samples) = channel();
        let mut recorder = Recorder::new(sender);
        recorder.advance(0);
        recorder.count(1);
        recorder.begin(Window::new(100 * MS, Duration::from_millis(200)));
        for at_ms in [50, 120, 260, 350] {
            recorder.advance(at_ms * MS);
            recorder.count(10);
            recorder.measure(MS);
            recorder.measure_due(150 * MS, (150 + at_ms) * MS, 1);
        }
        recorder.measure_due(99 * MS, 400 * MS, 1);
        recorder.verify(200 * MS);
        let verified = recorder.finish().expect("there was one");
        assert_eq!(verified.len(), 1);
        let samples: Vec<Sample> = samples.try_iter().collect();
        let seen: Vec<_> = samples
            .iter()
            .map(|sample| (sample.interval, sample.operations, sample.bytes, sample.latencies.len()))
            .collect();
        assert_eq!(seen, [(0, 1, 10, 3), (1, 1, 10, 4)]);
        let max: Vec<u64> = samples.iter().map(|sample| sample.latencies.max() / MS).collect();
        assert_eq!(max, [120, 350]);
    }

    #[test]
    fn equal_latencies_in_a_row_count_each() {
        let (sender, samples) = channel();
        let mut recorder = Recorder::new(sender);
        recorder.begin(Window::new(0, Duration::from_millis(50)));
        recorder.advance(0);
        for latency in [5_000, 5_000, 5_000, 7_000, 5_000] {
            recorder.measure(latency);
        }
        recorder.finish();
        let sample = samples.try_recv().expect("one interval");
        assert_eq!((sample.latencies.count_at(5_000), sample.latencies.count_at(7_000)), (4, 1));
    }
}
