//! What counting, sending and merging cost, beside KLL, the quantile sketch that is usual for this: Apache DataSketches in Rust, and
//! in C++ where `MUSTER_PYTHON` names a Python that has it.
//!
//!     cargo bench -p muster-sketch --bench sketch [-- rows|values|merges]
//!
//! Contestants take turns in an order that rotates; a figure is the median over the rounds, and a ratio the median of the
//! ratios within a round. Compile with the flags that ship: those of the oldest processor. What counts chooses its
//! vectors at run time nevertheless.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)] // a bench prints, and a panic is its failure report

mod contest;
mod cpp;
mod data;

use std::{hint::black_box, sync::Arc};

use contest::{Contest, ROUNDS, Table};
use cpp::Cpp;
use data::{Random, kll_of, reference, rows_of};
use datasketches::kll::{KllFloat, KllSketch};
use muster_sketch::{
    FloatHistogram,
    reference::{Reference, ReferenceValues},
    window::{FeatureWindow, MergedWindows, NumericWindow, Origin, RowWindow, Window},
};

const FEATURES: usize = 32;
/// Rows that fit into the nearest cache, where the row of an inference is when it is counted.
const ROWS: usize = 64;
/// How often our turn passes over the rows, so that a window is as long as windows are.
const PASSES: usize = 128;
/// KLL's turn, for about as long.
const KLL_PASSES: usize = 16;
const VALUES: usize = 65_536;
/// Rows of a window that is sent.
const SENT_ROWS: usize = 1_000;
const DEVICES: usize = 10_000;
/// Windows that are made; each is sent by many devices.
const DISTINCT: usize = 100;
/// Windows that arrive in a turn.
const TURN: usize = 50;

fn main() {
    let reference = Arc::new(reference(FEATURES));
    let (mut table, cpp) = (Table::default(), Cpp::start());
    let cpp = cpp.as_ref();
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_chosen = |part: &str| chosen.is_empty() || chosen.iter().any(|it| it == part);
    if is_chosen("rows") {
        rows(&reference, cpp, &mut table);
    }
    if is_chosen("values") {
        values(&reference, cpp, &mut table);
    }
    if is_chosen("merges") {
        let windows = windows(&reference);
        bytes(&reference, &windows, cpp, &mut table);
        merges(&reference, &windows, cpp, &mut table);
    }
    table.print();
}

fn rows(reference: &Arc<Reference>, cpp: Option<&Cpp>, table: &mut Table) {
    let rows = rows_of(&mut Random::new(1), ROWS, FEATURES);
    let mut ours = RowWindow::new(reference.numeric());
    let mut whole = FeatureWindow::new(Arc::clone(reference));
    let mut theirs: Vec<KllSketch<KllFloat<f32>>> =
        (0..FEATURES).map(|_| KllSketch::new(200).unwrap()).collect();
    let many_rows = |passes: usize| (0..passes).flat_map(|_| black_box(&rows));
    let mut contest = Contest::default();
    contest.add(ROWS * PASSES, || {
        many_rows(PASSES).for_each(|row| ours.record(row).unwrap());
        black_box(ours.seal());
    });
    contest.add(ROWS * PASSES, || {
        many_rows(PASSES).for_each(|row| whole.record(row, &[]).unwrap());
        black_box(whole.seal());
    });
    contest.add(ROWS * KLL_PASSES, || {
        for row in many_rows(KLL_PASSES) {
            for (sketch, &value) in theirs.iter_mut().zip(row) {
                sketch.update(KllFloat::<f32>::new(value).unwrap());
            }
        }
    });
    let in_cpp = join(&mut contest, cpp, "rows", ROWS * KLL_PASSES, 3);
    let result = contest.run();
    table.times("a row of 32 features", &result, 0, 2, in_cpp);
    table.times("the same, through FeatureWindow", &result, 1, 2, in_cpp);
}

/// Adds KLL in C++ as contestant number `place`, if it is there.
fn join<'a>(
    contest: &mut Contest<'a>,
    cpp: Option<&'a Cpp>,
    kind: &'static str,
    units: usize,
    place: usize,
) -> Option<usize> {
    let cpp = cpp?;
    contest.add_timed(units, move || cpp.turn(kind, units));
    Some(place)
}

fn values(reference: &Reference, cpp: Option<&Cpp>, table: &mut Table) {
    let mut random = Random::new(2);
    let values: Vec<f32> = (0..VALUES).map(|_| random.normal()).collect();
    let ReferenceValues::Numeric(numeric) = &reference.features()[0].values else { return };
    let (mut ours, mut single) = (NumericWindow::new(numeric), NumericWindow::new(numeric));
    let mut theirs = KllSketch::<KllFloat<f32>>::new(200).unwrap();
    let mut histogram = FloatHistogram::new();
    let part = &values[..VALUES / 8];
    let mut contest = Contest::default();
    contest.add(VALUES, || {
        ours.record_all(black_box(&values)).unwrap();
        black_box(ours.seal());
    });
    contest.add(VALUES, || {
        values.iter().for_each(|&value| single.record(black_box(value)).unwrap());
        black_box(single.seal());
    });
    contest.add(part.len(), || part.iter().for_each(|&value| histogram.record(black_box(value))));
    contest.add(part.len(), || {
        for &value in black_box(part) {
            theirs.update(KllFloat::<f32>::new(value).unwrap());
        }
    });
    let in_cpp = join(&mut contest, cpp, "values", part.len(), 4);
    let result = contest.run();
    table.times("a value of many of one feature", &result, 0, 3, in_cpp);
    table.times("a value of one feature alone", &result, 1, 3, in_cpp);
    table.times("a value, without a reference", &result, 2, 3, in_cpp);
}

fn windows(reference: &Arc<Reference>) -> Vec<Window> {
    let mut random = Random::new(3);
    let mut recorder = FeatureWindow::new(Arc::clone(reference));
    let window = |device: usize| {
        for row in rows_of(&mut random, SENT_ROWS, FEATURES) {
            recorder.record(&row, &[]).unwrap();
        }
        Window {
            reference: reference.id(),
            origin: Origin { device: format!("camera-{device:05}"), boot: format!("{device:08x}-boot") },
            sequence: 1,
            from_ms: 1_760_000_000_000,
            to_ms: 1_760_000_300_000,
            stride: 1,
            features: recorder.seal().unwrap(),
        }
    };
    (0..DISTINCT).map(window).collect()
}

fn bytes(reference: &Reference, windows: &[Window], cpp: Option<&Cpp>, table: &mut Table) {
    let ours: usize = windows.iter().map(|window| window.encode(reference).unwrap().len()).sum();
    let mut random = Random::new(4);
    let theirs: usize = (0..100).map(|_| kll_of(&mut random, SENT_ROWS).serialize().len()).sum();
    let per_feature = ours as f64 / (windows.len() * FEATURES) as f64;
    let in_cpp = cpp.map_or(f64::NAN, |cpp| cpp.turn("bytes", DISTINCT));
    table.figure("a feature and window on the wire", "B", per_feature, theirs as f64 / 100.0, in_cpp);
    table.figure("a window of 32 features", "B", ours as f64 / windows.len() as f64, f64::NAN, f64::NAN);
}

fn merges(reference: &Arc<Reference>, windows: &[Window], cpp: Option<&Cpp>, table: &mut Table) {
    // Every turn brings new devices, the one to warm up included.
    let encoded: Vec<Vec<u8>> = (0..TURN * (ROUNDS + 1))
        .map(|device| {
            let mut window = windows[device % DISTINCT].clone();
            window.origin.device = format!("camera-{device:05}");
            window.encode(reference).unwrap()
        })
        .collect();
    let mut decoded = windows.to_vec();
    let mut random = Random::new(5);
    let sketches: Vec<_> = (0..DISTINCT).map(|_| kll_of(&mut random, SENT_ROWS)).collect();
    let serialized: Vec<_> = sketches.iter().map(KllSketch::serialize).collect();
    let sum = || MergedWindows::new(Arc::clone(reference), DEVICES);
    let (mut added, mut received) = (sum(), sum());
    let mut arriving = encoded.iter();
    let kll = || KllSketch::<KllFloat<f32>>::new(200).unwrap();
    let mut contest = Contest::default();
    contest.add(DISTINCT * FEATURES, || {
        for window in &mut decoded {
            window.sequence += 1;
            added.add(window).unwrap();
        }
    });
    contest.add(TURN * FEATURES, || {
        for bytes in arriving.by_ref().take(TURN) {
            received.add(&Window::decode(bytes, reference).unwrap()).unwrap();
        }
    });
    contest.add(DISTINCT, || {
        let mut sum = kll();
        sketches.iter().for_each(|sketch| sum.merge(sketch).unwrap());
        black_box(sum.n());
    });
    contest.add(DISTINCT, || {
        let mut sum = kll();
        serialized.iter().for_each(|bytes| sum.merge(&KllSketch::deserialize(bytes).unwrap()).unwrap());
        black_box(sum.n());
    });
    let merging = join(&mut contest, cpp, "merge", DISTINCT, 4);
    let reading = join(&mut contest, cpp, "read", DISTINCT, 5);
    let result = contest.run();
    table.times("adding a feature and window", &result, 0, 2, merging);
    table.times("reading it from the wire and adding it", &result, 1, 3, reading);
    for (what, contestant) in [("added", 0), ("read and added", 1)] {
        let all = result.median(contestant) * (DEVICES * FEATURES) as f64 / 1e6;
        table.figure(&format!("10,000 windows of 32 features, {what}"), "ms", all, f64::NAN, f64::NAN);
    }
}
