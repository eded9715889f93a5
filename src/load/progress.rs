//! How far a run is, on the terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::load::board::Standing;
use crate::load::series::Point;
use crate::load::table;
use crate::load::{Mode, Plan, Progress};
use crate::sys::capacity::grouped;

/// A bar on standard error: first over the connections to be opened, then over the time, then over the
/// connections to be closed. It draws nothing where that is no terminal.
pub(super) struct Bar {
    bar: ProgressBar,
    mode: Mode,
    connections: u64,
    /// Of warm-up and window together.
    len_ms: u64,
    /// Of connections, then of pings.
    pulse: Pulse,
    /// The most connections that were alive, which is how many there are to be closed.
    alive_max: u64,
}

/// How fast a count has grown of late.
#[derive(Debug, Default)]
struct Pulse {
    at: Duration,
    count: u64,
    per_s: f64,
}

/// Over how long growth is measured.
const PULSE: Duration = Duration::from_secs(1);

impl Bar {
    pub(super) fn new(plan: &Plan) -> Self {
        let target = match plan.progress {
            Progress::Shown => ProgressDrawTarget::stderr(),
            Progress::Hidden => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(plan.connection_count().into()), target);
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:30} {msg}");
        bar.set_style(style.expect("the template was tried when this was written"));
        Self {
            bar,
            mode: plan.mode,
            connections: plan.connection_count().into(),
            len_ms: milliseconds(plan.warmup + plan.duration),
            pulse: Pulse::default(),
            alive_max: 0,
        }
    }

    pub(super) fn show_opening(&mut self, passed: Duration, standing: Standing) {
        let per_s = self.pulse.beat(passed, standing.opened);
        let words = opening_words(standing.opened, self.connections, per_s);
        self.draw(standing.opened, self.connections, words);
    }

    /// Shows the time that has `passed` since the start, and what happened of late.
    pub(super) fn show(&mut self, passed: Duration, standing: Standing, latest: Option<Point>) {
        let words = if self.mode == Mode::Idle {
            holding_words(standing.open, self.pulse.beat(passed, standing.pings), latest)
        } else {
            latest.map_or_else(|| String::from("warming up"), |point| echo_words(&point))
        };
        self.alive_max = self.alive_max.max(standing.alive);
        self.draw(milliseconds(passed), self.len_ms, words);
    }

    pub(super) fn show_closing(&mut self, standing: Standing) {
        self.alive_max = self.alive_max.max(standing.alive);
        let words = format!("closing: {} connections left", grouped(standing.alive));
        self.draw(self.alive_max - standing.alive, self.alive_max, words);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn draw(&self, position: u64, len: u64, words: String) {
        self.bar.set_length(len);
        self.bar.set_position(position);
        self.bar.set_message(words);
    }
}

impl Pulse {
    /// The growth of a count a second.
    fn beat(&mut self, at: Duration, count: u64) -> f64 {
        // The clock and the count begin anew when something else is counted.
        if at < self.at || count < self.count {
            *self = Self { at, count, per_s: 0.0 };
        }
        let passed = at - self.at;
        if passed >= PULSE {
            let per_s = (count - self.count) as f64 / passed.as_secs_f64();
            *self = Self { at, count, per_s };
        } else if self.per_s <= 0.0 && !passed.is_zero() {
            // Until it is known better.
            return (count - self.count) as f64 / passed.as_secs_f64();
        }
        self.per_s
    }
}

fn opening_words(opened: u64, wanted: u64, per_s: f64) -> String {
    let [opened, wanted] = [opened, wanted].map(grouped);
    format!("opening: {opened} of {wanted} connections, {}/s", table::count(per_s))
}

fn holding_words(open: u64, pings_per_s: f64, latest: Option<Point>) -> String {
    let echoes = latest.filter(|point| point.latency.count > 0);
    let echoes = echoes.map_or_else(String::new, |point| format!("; echoes {}", echo_words(&point)));
    format!("holding {} connections, {} pings/s{echoes}", grouped(open), table::count(pings_per_s))
}

fn echo_words(point: &Point) -> String {
    let per_s = table::count(point.operations_per_s);
    format!("{per_s}/s, p50 {}, p99 {}", table::time(point.latency.p50), table::time(point.latency.p99))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Latency;

    #[test]
    fn growth_is_that_of_the_last_second_or_more() {
        let mut pulse = Pulse::default();
        let mut beat = |at_ms, count| pulse.beat(Duration::from_millis(at_ms), count);
        assert_eq!([beat(0, 0), beat(500, 50), beat(1_000, 60), beat(1_500, 900)], [0.0, 100.0, 60.0, 60.0]);
        assert_eq!([beat(3_000, 1_060), beat(100, 1_060), beat(1_100, 1_070)], [500.0, 0.0, 10.0]);
    }

    #[test]
    fn the_words_say_how_far_it_is() {
        assert_eq!(opening_words(12_345, 100_000, 5_200.0), "opening: 12,345 of 100,000 connections, 5.2 k/s");
        assert_eq!(holding_words(100_000, 0.0, None), "holding 100,000 connections, 0.0 pings/s");
        let latency = Latency { count: 9, p50: 90_000, p99: 1_200_000, ..Latency::default() };
        let point = Point { operations_per_s: 1_000.0, latency, ..Point::default() };
        let words = "holding 7 connections, 3.3 k pings/s; echoes 1.0 k/s, p50 90 µs, p99 1.20 ms";
        assert_eq!(holding_words(7, 3_300.0, Some(point)), words);
    }
}
