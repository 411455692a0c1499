//! Writes seeded streams of one feature with where our detector raised its alarm, so that other tools can be asked about the
//! same streams. `tests/peers/evidently_drift.py` reads them.
//!
//!     cargo run --release -p muster-sketch --example drift_streams -- DIRECTORY
//!
//! `streams.csv` has a line for each run: the scenario, the kind of its values, the rows of the reference, those of the stream, the
//! sample with which the change begins, and after how many samples of the stream we raised an alarm (empty if we did not). In
//! `NUMBER.f32`, NUMBER being that of the line from 0, are the reference's rows and the stream's, as little-endian 32-bit floats;
//! a category is its number. Change and windows have nothing to do with each other: it begins anywhere within a thousand samples.

#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]

#[allow(dead_code, reason = "the simulation draws more")]
#[path = "../tests/drift_simulation/random.rs"]
mod random;

use std::{fmt::Write as _, fs, path::Path};

use muster_sketch::{
    categories::CategoryWindow,
    detector::{Baseline, Detector, Payoff, Rule, Scores, Threshold, Vocabulary, Zone},
    reference::{CategoryReference, NumericReference},
    window::NumericWindow,
};
use random::Random;

/// A look every 50 samples and at least a million samples between false alarms, as in the page.
const LOOK: usize = 50;
const LOOKS_BETWEEN_FALSE_ALARMS: f64 = 20_000.0;

/// The change begins after this many samples and up to a thousand more.
const BEFORE: usize = 1_000;

/// Categories with shares as 1, 1/2, 1/3 …; number 10 is new.
const CATEGORIES: usize = 10;

struct Scenario {
    name: &'static str,
    kind: Kind,
    reference: usize,
    runs: u64,
    /// Samples after the change.
    after: usize,
    /// A value so many samples after the change; 0 is before it.
    value: fn(&mut Random, usize) -> f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Number,
    Category,
}

const fn numbers(name: &'static str, after: usize, value: fn(&mut Random, usize) -> f64) -> Scenario {
    Scenario { name, kind: Kind::Number, reference: 10_000, runs: 40, after, value }
}

const fn categories(name: &'static str, after: usize, value: fn(&mut Random, usize) -> f64) -> Scenario {
    Scenario { kind: Kind::Category, ..numbers(name, after, value) }
}

const fn silent(scenario: Scenario) -> Scenario {
    Scenario { runs: 100, ..scenario }
}

const fn small_reference(scenario: Scenario) -> Scenario {
    Scenario { reference: 1_000, ..scenario }
}

const SCENARIOS: [Scenario; 18] = [
    silent(numbers("no drift", 20_000, |random, _| random.normal())),
    numbers("+0.1 s", 30_000, |random, after| shifted(random, after, 0.1)),
    numbers("+0.25 s", 20_000, |random, after| shifted(random, after, 0.25)),
    numbers("+0.5 s", 10_000, |random, after| shifted(random, after, 0.5)),
    numbers("+1 s", 10_000, |random, after| shifted(random, after, 1.0)),
    numbers("deviation ×1.25", 20_000, |random, after| scaled(random, after, 1.25)),
    numbers("deviation ×0.8", 20_000, |random, after| scaled(random, after, 0.8)),
    numbers("1 % outliers at +6 s", 20_000, outliers),
    numbers("ramp to +0.5 s over 20 thousand", 30_000, |random, after| {
        random.normal() + 0.5 * (after as f64 / 20_000.0).min(1.0)
    }),
    silent(small_reference(numbers("no drift", 20_000, |random, _| random.normal()))),
    small_reference(numbers("+0.25 s", 20_000, |random, after| shifted(random, after, 0.25))),
    small_reference(numbers("+0.5 s", 20_000, |random, after| shifted(random, after, 0.5))),
    small_reference(numbers("+1 s", 20_000, |random, after| shifted(random, after, 1.0))),
    silent(categories("no drift", 20_000, |random, _| category(random))),
    categories("rarest of ten +3 points", 20_000, |random, after| gained(random, after, 9.0, 0.03)),
    categories("fifth of ten +5 points", 20_000, |random, after| gained(random, after, 4.0, 0.05)),
    categories("new category 1 %", 20_000, |random, after| gained(random, after, 10.0, 0.01)),
    categories("top two swapped", 20_000, |random, after| match (after, category(random)) {
        (1.., 0.0) => 1.0,
        (1.., 1.0) => 0.0,
        (_, other) => other,
    }),
];

fn shifted(random: &mut Random, after: usize, by: f64) -> f64 {
    random.normal() + if after > 0 { by } else { 0.0 }
}

fn scaled(random: &mut Random, after: usize, by: f64) -> f64 {
    random.normal() * if after > 0 { by } else { 1.0 }
}

fn outliers(random: &mut Random, after: usize) -> f64 {
    let outlier = after > 0 && random.uniform() < 0.01;
    random.normal() + if outlier { 6.0 } else { 0.0 }
}

fn category(random: &mut Random) -> f64 {
    let all: f64 = (1..=CATEGORIES).map(|rank| 1.0 / rank as f64).sum();
    let mut place = random.uniform() * all;
    let found = (1..CATEGORIES).find(|&rank| {
        place -= 1.0 / rank as f64;
        place < 0.0
    });
    (found.unwrap_or(CATEGORIES) - 1) as f64
}

/// One category's share rises by `points`, the others give in proportion.
fn gained(random: &mut Random, after: usize, gaining: f64, points: f64) -> f64 {
    let all: f64 = (1..=CATEGORIES).map(|rank| 1.0 / rank as f64).sum();
    let share = if gaining < CATEGORIES as f64 { 1.0 / (gaining + 1.0) / all } else { 0.0 };
    // So that the share of all others falls by `points` in total.
    let taken = points / (1.0 - share);
    let usual = category(random);
    if after > 0 && usual != gaining && random.uniform() < taken { gaining } else { usual }
}

fn main() {
    let directory = std::env::args().nth(1).expect("the directory to write to");
    fs::create_dir_all(&directory).unwrap();
    let mut lines = "scenario,kind,reference,stream,change,ours\n".to_owned();
    let mut number = 0;
    for scenario in &SCENARIOS {
        for seed in 1..=scenario.runs {
            let run = Run::draw(scenario, seed);
            run.store(&Path::new(&directory).join(format!("{number}.f32")));
            let kind = if scenario.kind == Kind::Number { "num" } else { "cat" };
            let ours = run.alarm_after(scenario.kind).map_or_else(String::new, |samples| samples.to_string());
            let Run { reference, stream, change } = &run;
            writeln!(lines, "{},{kind},{},{},{change},{ours}", scenario.name, reference.len(), stream.len())
                .unwrap();
            number += 1;
        }
    }
    fs::write(Path::new(&directory).join("streams.csv"), lines).unwrap();
}

struct Run {
    reference: Vec<f32>,
    stream: Vec<f32>,
    change: usize,
}

impl Run {
    fn draw(scenario: &Scenario, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let reference = (0..scenario.reference).map(|_| (scenario.value)(&mut random, 0) as f32).collect();
        let change = BEFORE + random.below(1_000);
        let value = |sample: usize| (scenario.value)(&mut random, (sample + 1).saturating_sub(change)) as f32;
        Self { reference, stream: (0..change + scenario.after).map(value).collect(), change }
    }

    fn store(&self, path: &Path) {
        let all = self.reference.iter().chain(&self.stream);
        fs::write(path, all.flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    }

    /// Samples until the first alarm, as an agent counts and a detector looks.
    fn alarm_after(&self, kind: Kind) -> Option<usize> {
        let (scores, reference, looks) = match kind {
            Kind::Number => self.numeric(),
            Kind::Category => self.categorical(),
        };
        let threshold = Threshold::checks_between_false_alarms(LOOKS_BETWEEN_FALSE_ALARMS).unwrap();
        let rule = Rule { zone: Zone::default(), threshold, suppress_secs: 0 };
        let baseline = Baseline::of(&scores, &reference).unwrap();
        let mut detector = Detector::new(&scores);
        let alarm = |(look, counts): &(u64, Vec<u64>)| {
            let payoff = Payoff::of(&scores, &baseline, counts).unwrap();
            detector.observe(&scores, &rule, &payoff, *look).unwrap().is_some()
        };
        (1..).zip(looks).find(alarm).map(|(look, _)| look as usize * LOOK)
    }

    fn numeric(&self) -> (Scores, Vec<u64>, Vec<Vec<u64>>) {
        let reference = NumericReference::from_sample("value", &self.reference).unwrap();
        let counts = |values: &[f32]| {
            let mut window = NumericWindow::new(&reference);
            window.record_all(values).unwrap();
            window.seal().bins().to_vec()
        };
        let looks = self.stream.chunks_exact(LOOK).map(counts).collect();
        let usual = reference.counts().bins();
        (Scores::numeric(usual).unwrap(), usual.to_vec(), looks)
    }

    fn categorical(&self) -> (Scores, Vec<u64>, Vec<Vec<u64>>) {
        let mut counts = [0; CATEGORIES];
        self.reference.iter().for_each(|&category| counts[category as usize] += 1);
        let named =
            counts.iter().enumerate().map(|(category, &count)| (category.to_string(), count)).collect();
        let reference = CategoryReference::from_counts("value", named, 0).unwrap();
        let counts = |values: &[f32]| {
            let mut window = CategoryWindow::new(&reference);
            values.iter().for_each(|&category| window.record_class(category as usize).unwrap());
            window.seal().bins().to_vec()
        };
        let looks = self.stream.chunks_exact(LOOK).map(counts).collect();
        let usual = reference.counts().bins();
        (Scores::categorical(usual, Vocabulary::Closed).unwrap(), usual.to_vec(), looks)
    }
}
