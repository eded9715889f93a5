//! How far a run is, on the terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::load::Progress;
use crate::load::series::Point;
use crate::load::table;

/// A bar on standard error. It draws nothing where that is no terminal.
pub(super) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar as long as warm-up and window together.
    pub(super) fn new(progress: Progress, length: Duration) -> Self {
        let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let target = match progress {
            Progress::Shown => ProgressDrawTarget::stderr(),
            Progress::Hidden => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(length_ms), target);
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:30} {msg}");
        bar.set_style(style.expect("the template was tried when this was written"));
        Self { bar }
    }

    pub(super) fn show_opening(&self, ready: u32, threads: u32) {
        self.bar.set_message(format!("opening connections, {ready} of {threads} threads are ready"));
    }

    pub(super) fn show(&self, passed: Duration, latest: Option<Point>) {
        self.bar.set_position(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        let words = latest.map_or_else(
            || String::from("warming up"),
            |point| {
                let per_s = table::count(point.operations_per_s);
                format!("{per_s}/s, p50 {}, p99 {}", table::time(point.latency.p50), table::time(point.latency.p99))
            },
        );
        self.bar.set_message(words);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
