//! What all threads measured, over time and together.

use crate::load::clock::seconds;
use crate::load::recorder::{Latencies, Sample, Window, new_latencies};

/// Latencies in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: u64,
    /// Nine in ten are at most this.
    pub p90: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// 999 of 1,000 are at most this.
    pub p99_9: u64,
    /// The longest.
    pub max: u64,
}

/// One interval of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// The end of the interval, in seconds since the window began.
    pub at_s: f64,
    /// Operations a second.
    pub operations_per_s: f64,
    /// Bytes of messages a second.
    pub bytes_per_s: f64,
    /// Latencies of operations that ended in it.
    pub latency: Latency,
}

/// Samples of all threads, by interval.
#[derive(Debug)]
pub(super) struct Series {
    intervals: Vec<Sample>,
}

impl Series {
    pub(super) const fn new() -> Self {
        Self { intervals: Vec::new() }
    }

    pub(super) fn add(&mut self, sample: &Sample) {
        let next = self.intervals.len();
        self.intervals.extend((next..=sample.interval).map(Sample::new));
        let interval = &mut self.intervals[sample.interval];
        interval.operations += sample.operations;
        interval.bytes += sample.bytes;
        interval.latencies.add(&sample.latencies).expect("all histograms have the same bounds");
    }

    /// Operations, bytes and latencies over the whole window.
    pub(super) fn sum(&self) -> (u64, u64, Latency) {
        let mut all = new_latencies();
        for interval in &self.intervals {
            all.add(&interval.latencies).expect("all histograms have the same bounds");
        }
        let operations = self.intervals.iter().map(|interval| interval.operations).sum();
        let bytes = self.intervals.iter().map(|interval| interval.bytes).sum();
        (operations, bytes, Latency::of(&all))
    }

    pub(super) fn points(&self, window: Window) -> Vec<Point> {
        self.intervals.iter().map(|interval| point(interval, window)).collect()
    }

    /// The last interval but one, which all threads have handed over: for the progress bar.
    pub(super) fn latest(&self, window: Window) -> Option<Point> {
        self.intervals.iter().rev().nth(1).map(|interval| point(interval, window))
    }
}

fn point(interval: &Sample, window: Window) -> Point {
    let len_ns = window.interval_len_ns(interval.interval);
    let len_s = seconds(len_ns);
    let per_s = |count: u64| if len_s > 0.0 { count as f64 / len_s } else { 0.0 };
    Point {
        at_s: seconds(window.interval_ns * interval.interval as u64 + len_ns),
        operations_per_s: per_s(interval.operations),
        bytes_per_s: per_s(interval.bytes),
        latency: Latency::of(&interval.latencies),
    }
}

impl Latency {
    pub(super) fn of(latencies: &Latencies) -> Self {
        let at = |quantile| latencies.value_at_quantile(quantile).min(latencies.max());
        Self {
            count: latencies.len(),
            mean: latencies.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: latencies.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sample(interval: usize, latencies: &[u64]) -> Sample {
        let mut sample = Sample::new(interval);
        sample.operations = latencies.len() as u64;
        sample.bytes = 10 * sample.operations;
        for &latency in latencies {
            sample.latencies.record(latency).unwrap();
        }
        sample
    }

    #[test]
    fn threads_are_merged_by_interval_and_in_all() {
        let mut series = Series::new();
        series.add(&sample(1, &[300_000]));
        series.add(&sample(0, &[100_000, 200_000]));
        series.add(&sample(1, &[400_000]));
        let points = series.points(Window::new(0, Duration::from_millis(150)));
        assert_eq!(points.len(), 2);
        assert_eq!((points[0].at_s, points[0].operations_per_s, points[0].bytes_per_s), (0.1, 20.0, 200.0));
        assert_eq!((points[1].at_s, points[1].operations_per_s), (0.15, 40.0));
        let (operations, bytes, latency) = series.sum();
        assert_eq!((operations, bytes, latency.count), (4, 40, 4));
        assert!((199_900..=200_300).contains(&latency.p50), "{latency:?}");
        assert!((399_900..=400_400).contains(&latency.max), "{latency:?}");
    }
}
