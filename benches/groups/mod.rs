//! Groups of benchmarks, and how long they are measured.
//!
//! A member called `ringsock` is the one to judge. `ringsock, …` is another way of ours, and one in
//! parentheses does only a part of the work: neither is a rival, see `perf/bench_summary.py`.

use std::fmt::Display;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use mimalloc::MiMalloc;

/// The server's own, so that libraries that allocate for each message are measured with a fast one.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A group of benchmarks that do the same work.
pub(crate) type Group<'c> = BenchmarkGroup<'c, WallTime>;

/// Runs `benches` as the command line says.
pub(crate) fn run(benches: impl FnOnce(&mut Criterion)) {
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    benches(&mut criterion);
    criterion.final_summary();
}

/// A group that takes about half a second for each of its many members.
pub(crate) fn group<'c>(criterion: &'c mut Criterion, name: &str) -> Group<'c> {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(400));
    group.sample_size(20).nresamples(1_001);
    group
}

/// Measures `work`, which does what `throughput` says each time that it is called.
pub(crate) fn measure<R>(
    group: &mut Group<'_>,
    name: &str,
    row: impl Display,
    throughput: Throughput,
    work: impl FnMut() -> R,
) {
    group.throughput(throughput);
    let mut work = work;
    group.bench_function(BenchmarkId::new(name, row), |bencher| bencher.iter(&mut work));
}
