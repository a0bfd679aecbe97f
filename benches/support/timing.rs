//! How the rows are timed.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{Bencher, BenchmarkGroup, Criterion};

pub(crate) type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// A row's name, and what adds `ours` and `floor` to its group.
pub(crate) type Row = (&'static str, fn(&mut Group<'_>));

/// Criterion with these times for each measurement, unless the command line has others.
pub(crate) fn criterion(warm_up: Duration, measurement: Duration) -> Criterion {
    // Tells the allocator of glibc to keep what is freed. Else it may hand the top of its heap back
    // to the system with every message of 64 KiB, or not, as its heap happens to lie: a third of
    // the time of such a row, in any column.
    drop(black_box(vec![0_u8; 16 << 20]));
    let criterion = Criterion::default().warm_up_time(warm_up).measurement_time(measurement);
    criterion.sample_size(50).configure_from_args()
}

/// All rows of a bench, each in a group of its own.
pub(crate) fn run(rows: &[Row]) {
    let mut criterion = criterion(Duration::from_secs(1), Duration::from_secs(3));
    for (name, row) in rows {
        let mut group = criterion.benchmark_group(*name);
        row(&mut group);
        group.finish();
    }
    criterion.final_summary();
}

/// Adds a column to a row, timed at another depth of the stack with each sample.
///
/// An exchange of curve25519-dalek takes up to a third longer where its frame lies badly in its 4
/// KiB page, which the same code does in every run of a loop or in none. So that neither column of
/// a ratio is the lucky one, the samples go through all places in a page, and the median is that of
/// a usual place.
pub(crate) fn column(
    group: &mut Group<'_>,
    name: &str,
    mut routine: impl FnMut(&mut Bencher<'_, WallTime>),
) {
    let mut sample = 0_usize;
    group.bench_function(name, |bencher| {
        sample = sample.wrapping_add(PLACE);
        at_depth(sample % PLACES, &mut || routine(bencher));
    });
}

/// Frames of 128 bytes or more: so many reach through a page.
const PLACES: usize = 32;
/// Samples near each other go far apart; it has no factor in common with the above.
const PLACE: usize = 13;

#[inline(never)]
fn at_depth(frames: usize, routine: &mut dyn FnMut()) {
    let mut frame = black_box([0_u8; 112]);
    match frames.checked_sub(1) {
        Some(frames) => at_depth(frames, routine),
        None => routine(),
    }
    black_box(&mut frame);
}

/// Times one step, over at most `count` steps from each state that `setup` makes: making the state
/// is not timed, and neither is dropping it.
///
/// Sessions move on with every message; this keeps them within the phase that a row is about.
pub(crate) fn steps<S, O>(
    bencher: &mut Bencher<'_, WallTime>,
    count: u64,
    mut setup: impl FnMut() -> S,
    mut step: impl FnMut(&mut S, usize) -> O,
) {
    bencher.iter_custom(|iterations| {
        let mut left = iterations;
        let mut elapsed = Duration::ZERO;
        while left > 0 {
            let now = left.min(count);
            let mut state = setup();
            let start = Instant::now();
            for number in 0..usize::try_from(now).expect("a few") {
                black_box(step(&mut state, number));
            }
            elapsed += start.elapsed();
            drop(state);
            left -= now;
        }
        elapsed
    });
}

/// A figure that is not criterion's, in the form that table.py reads: nanoseconds or bytes.
pub(crate) fn figure(row: &str, of: &str, value: impl std::fmt::Display, unit: &str) {
    println!("figure\t{row}\t{of}\t{value}\t{unit}");
}
