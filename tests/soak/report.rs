//! The result of a run as a table.

use std::fmt;
use std::time::Duration;

use crate::memory::{MARGIN_BYTES, MARGIN_PERCENT, Memory};
use crate::plan::Plan;
use crate::tally::{SIZE_CLASSES, Tally};

/// Everything that a run has found out.
pub(crate) struct Report {
    pub(crate) plan: Plan,
    pub(crate) elapsed: Duration,
    pub(crate) tally: Tally,
    pub(crate) memory: Memory,
    /// Slots given out midway and at the end, if the kernel shows them.
    pub(crate) slots: (Option<usize>, Option<usize>),
    pub(crate) farewell: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, tally, memory, slots, .. } = self;
        let seconds = self.elapsed.as_secs_f64();
        writeln!(
            f,
            "soak of {seconds:.1} s: {} connections at a time, messages of 0 to {} B, seed {}",
            plan.connections, plan.size_max, plan.seed
        )?;
        writeln!(
            f,
            "  connections {} in all: {} closed in order, {} reset",
            tally.connections, tally.closes, tally.resets
        )?;
        writeln!(
            f,
            "  messages    {} text, {} binary, each echo right; {} unanswered at resets",
            tally.texts, tally.binaries, tally.unanswered
        )?;
        let sizes: Vec<String> =
            SIZE_CLASSES.iter().zip(tally.sizes).map(|(class, count)| format!("{count} {}", class.1)).collect();
        writeln!(f, "  sizes       {}", sizes.join(", "))?;
        writeln!(f, "  frames      {} of data, {} pings, each pong right", tally.fragments, tally.pings)?;
        let rate = |bytes: u64| bytes as f64 / seconds / 1e6;
        writeln!(
            f,
            "  bytes       {} out at {:.0} MB/s, {} in at {:.0} MB/s",
            tally.bytes_sent,
            rate(tally.bytes_sent),
            tally.bytes_received,
            rate(tally.bytes_received)
        )?;
        writeln!(f, "  silence     {:.2} s on one connection at most", tally.silence_max.as_secs_f64())?;
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let [first, middle, last] = memory.maxima().map(mebibytes);
        let [end, rest] = memory.end_bytes().map(mebibytes);
        writeln!(
            f,
            "  memory      {:.1} MiB at the start; at most {first:.1}, {middle:.1}, {last:.1} MiB in the thirds of the \
             time; {end:.1} MiB at the end; {rest:.1} MiB without connections",
            mebibytes(memory.start_bytes),
        )?;
        writeln!(
            f,
            "              {}: the last third may have {:.1} MiB, the middle + {MARGIN_PERCENT} % + {} MiB",
            if memory.is_flat() { "flat" } else { "NOT FLAT" },
            mebibytes(memory.bound_bytes()),
            MARGIN_BYTES >> 20
        )?;
        let slot_count = |count: Option<usize>| count.map_or("unknown".to_owned(), |count| count.to_string());
        writeln!(f, "  slots       {} taken midway, {} at the end", slot_count(slots.0), slot_count(slots.1))?;
        writeln!(f, "  server      {}", self.farewell)
    }
}
