//! What the metric `drift` promises, measured on seeded fleets whose devices count real windows. `--nocapture` prints the
//! table of docs/verdict.md.
//!
//! Ten canaries and twenty controls with two features each. Every device differs from the reference by itself, by a standard
//! deviation of 0.3 in each feature, and closes a window of 300 rows in each look of half an hour. Two days: one of history.

#![allow(clippy::print_stdout, reason = "the table is for people")]
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report")]

mod streams;

use std::sync::LazyLock;

use fleet_core::verdict::{CanaryJudge, Cohorts, Figures, Look, Metric, MetricVerdict, VerdictPolicy};
use muster_sketch::{
    canary::Sample, distance::of_numbers, reference::NumericReference, window::NumericWindow,
};
use shared::DeviceId;
use streams::Random;

const CANARIES: usize = 10;
const DEVICES: usize = 30;
const FEATURES: usize = 2;
const ROWS: usize = 300;
const DAY: u64 = 48;
const LOOK_MINUTES: u64 = 30;
const FLEETS: u64 = 60;

static REFERENCE: LazyLock<NumericReference> = LazyLock::new(|| {
    let mut random = Random::new(0xD21F);
    let sample: Vec<f32> = (0..10_000).map(|_| random.normal() as f32).collect();
    NumericReference::from_sample("brightness", &sample).unwrap()
});

/// How many rollouts were condemned, after how many minutes.
struct Found {
    condemned: Vec<u64>,
    healthy: usize,
}

/// One scenario on every fleet: what is added to the inputs of canaries, and of everybody.
fn run(name: &str, canaries: f64, everybody: f64) -> Found {
    let mut found = Found { condemned: vec![], healthy: 0 };
    for seed in 1..=FLEETS {
        rollout(seed, canaries, everybody, &mut found);
    }
    found.condemned.sort_unstable();
    let median = found.condemned.get(found.condemned.len() / 2).copied().unwrap_or(0);
    println!(
        "{name:<44} {FLEETS} rollouts | condemned {:>3}, median {median} min | healthy {}",
        found.condemned.len(),
        found.healthy
    );
    found
}

fn rollout(seed: u64, canaries: f64, everybody: f64, found: &mut Found) {
    let mut random = Random::new(seed);
    let own: Vec<[f64; FEATURES]> =
        (0..DEVICES).map(|_| std::array::from_fn(|_| 0.3 * random.normal())).collect();
    let history: Vec<Look> = (0..DAY).map(|number| look(&mut random, &own, number, 0.0, 0.0)).collect();
    let cohorts = Cohorts {
        canaries: (0..CANARIES).map(id).collect(),
        controls: (CANARIES..DEVICES).map(id).collect(),
    };
    let mut judge = CanaryJudge::start(VerdictPolicy::default(), cohorts, &history).unwrap();
    for number in DAY..2 * DAY {
        let record = judge.observe(&look(&mut random, &own, number, canaries, everybody)).unwrap();
        if let MetricVerdict::Degraded(why) = &record.verdict {
            assert_eq!(why.metric, Metric::Drift);
            found.condemned.push((number - DAY + 1) * LOOK_MINUTES);
            return;
        }
        let evidence = record.metrics[&Metric::Drift].e_not_worse;
        if number == 2 * DAY - 1 && evidence >= record.promote_at {
            found.healthy += 1;
        }
    }
}

fn look(random: &mut Random, own: &[[f64; FEATURES]], number: u64, canaries: f64, everybody: f64) -> Look {
    let figures = |(n, own): (usize, &[f64; FEATURES])| {
        let moved = everybody + if n < CANARIES { canaries } else { 0.0 };
        let sum = own.iter().map(|own| window(random, own + moved)).sum();
        let sample = Sample { sum, count: FEATURES as u64 };
        (id(n), Figures::from([(Metric::Drift, sample)]))
    };
    Look { number, devices: own.iter().enumerate().map(figures).collect() }
}

/// The population stability index of one window, less its noise floor, as an agent tells it.
fn window(random: &mut Random, mean: f64) -> f64 {
    let mut window = NumericWindow::new(&REFERENCE);
    let rows: [f32; ROWS] = std::array::from_fn(|_| (mean + random.normal()) as f32);
    window.record_all(&rows).unwrap();
    let psi = of_numbers(&REFERENCE, &window.seal()).unwrap().psi;
    psi.value - psi.noise_floor
}

fn id(number: usize) -> DeviceId {
    DeviceId::new(format!("d{number:02}")).unwrap()
}

#[test]
fn canaries_whose_inputs_move_are_condemned_and_nobody_else_is() {
    let same = run("A/A, nothing moves", 0.0, 0.0);
    let world = run("A/A, inputs +0.5 s on every device", 0.0, 0.5);
    let moved = run("inputs +0.5 s on canaries", 0.5, 0.0);
    let moved_with_the_world = run("inputs +0.75 s on canaries, +0.25 s on all", 0.75, 0.25);
    assert_eq!((same.condemned.len(), world.condemned.len()), (0, 0));
    assert!(same.healthy as u64 > FLEETS / 2, "{} of {FLEETS}", same.healthy);
    assert!(moved.condemned.len() as u64 >= FLEETS * 9 / 10, "{} of {FLEETS}", moved.condemned.len());
    assert!(moved_with_the_world.condemned.len() as u64 > FLEETS / 2);
}
