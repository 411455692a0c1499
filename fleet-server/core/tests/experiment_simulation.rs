//! What experiments promise, measured on seeded fleets. `--nocapture` prints the table of docs/experiments.md.

#![allow(clippy::print_stdout, reason = "the table is for people")]

mod streams;

use fleet_core::experiment::{Arm, Arms, ArmsJudge, Decision, Rules};
use streams::{DAY, LOOK_MINUTES, Scenario, Simulation, UNCHANGED};

/// Devices of each arm.
const ARM: usize = 50;

/// A runs already and B was brought by the experiment, as is usual.
const CHANGED: Arms<bool> = Arms { a: false, b: true };

/// How many experiments ended how, and after how many minutes.
#[derive(Clone, Default)]
struct Tally {
    experiments: u64,
    a: Vec<u64>,
    b: Vec<u64>,
    equal: Vec<u64>,
    split: Vec<u64>,
    /// The seeds that ended with a winner, to look at when there should be none.
    seeds: Vec<u64>,
}

fn run<const N: usize>(scenarios: [Scenario; N], experiments: u64, looks: u64) -> [Tally; N] {
    let mut simulation = Simulation::of(ARM, ARM);
    let mut tallies = [const { None }; N].map(|none: Option<Tally>| none.unwrap_or_default());
    for seed in 1..=experiments {
        simulation.restart(seed);
        let judge = ArmsJudge::start(&Rules::default(), &simulation.cohorts(), &simulation.history)
            .expect("the default rules are sound");
        for (scenario, tally) in scenarios.iter().zip(&mut tallies) {
            simulation.begin(*scenario);
            tally.count(&mut simulation, judge.clone(), seed, looks);
        }
    }
    scenarios.iter().zip(&tallies).for_each(|(scenario, tally)| println!("{}", tally.row(scenario.name)));
    tallies
}

impl Tally {
    /// Looks on after the arms were found equal, as nobody is obliged to stop then; ends with a winner.
    fn count(&mut self, simulation: &mut Simulation, mut judge: ArmsJudge, seed: u64, looks: u64) {
        self.experiments += 1;
        let mut equal_after = None;
        for _ in 0..looks {
            simulation.advance();
            let minutes = simulation.looks() * LOOK_MINUTES;
            let record = judge.observe(&simulation.look).expect("looks are numbered upwards");
            let ended = match record.standing().decision(CHANGED) {
                Some(Decision::Better { arm: Arm::A, .. }) => Some(&mut self.a),
                Some(Decision::Better { arm: Arm::B, .. }) => Some(&mut self.b),
                Some(Decision::Split { .. }) => Some(&mut self.split),
                Some(Decision::Equal { .. }) => {
                    equal_after = equal_after.or(Some(minutes));
                    None
                }
                None => None,
            };
            if let Some(ended) = ended {
                ended.push(minutes);
                self.seeds.push(seed);
                break;
            }
        }
        self.equal.extend(equal_after);
    }

    fn decided(&self) -> usize {
        self.a.len() + self.b.len() + self.split.len()
    }

    fn row(&self, name: &str) -> String {
        let part = |word: &str, minutes: &[u64]| {
            let percent = 100.0 * minutes.len() as f64 / self.experiments as f64;
            format!(" | {word} {percent:>5.1} % median {:>5} min", median(minutes))
        };
        format!(
            "{name:<44} {:>5} experiments{}{}{}{}",
            self.experiments,
            part("A better", &self.a),
            part("B better", &self.b),
            part("equal", &self.equal),
            part("split", &self.split)
        )
    }
}

fn median(minutes: &[u64]) -> u64 {
    let mut sorted = minutes.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[test]
fn without_a_difference_at_most_alpha_of_the_experiments_find_one_however_often_one_looks() {
    let restless =
        Scenario { name: "A/A, each device's latency moves by sd 5 %", restless: 0.05, ..UNCHANGED };
    let shock = Scenario {
        name: "A/A, latency +15 % and errors x2 everywhere",
        latency_everywhere: 1.15,
        errors_everywhere: 2.0,
        ..UNCHANGED
    };
    let [unchanged] = run([UNCHANGED], 1_000, 2 * DAY);
    let [restless] = run([restless], 1_000, DAY);
    for tally in [&unchanged, &restless] {
        assert!(tally.decided() <= 50, "{} of 1,000; seeds {:?}", tally.decided(), tally.seeds);
    }
    let [shocked] = run([shock], 200, DAY);
    assert!(shocked.decided() <= 10, "{} of 200; seeds {:?}", shocked.decided(), shocked.seeds);
    let equal = unchanged.equal.len();
    assert!(equal >= 950, "equal arms were found equal in {equal} of 1,000");
}

#[test]
fn a_difference_is_found_in_either_direction() {
    let scenarios = [
        Scenario { name: "B: latency +10 %", latency: 1.10, ..UNCHANGED },
        Scenario { name: "B: latency -10 %", latency: 0.90, ..UNCHANGED },
        Scenario { name: "B: latency +5 %", latency: 1.05, ..UNCHANGED },
        Scenario { name: "B: latency -5 %", latency: 0.95, ..UNCHANGED },
        Scenario { name: "B: errors 1 -> 0.5 %", errors: 0.5, ..UNCHANGED },
        Scenario { name: "B: errors 1 -> 2 %", errors: 2.0, ..UNCHANGED },
        Scenario { name: "B: confidence +0.05", confidence: 0.05, ..UNCHANGED },
        Scenario { name: "B: latency -10 %, errors 1 -> 2 %", latency: 0.90, errors: 2.0, ..UNCHANGED },
    ];
    let [slower, faster, little_slower, little_faster, fewer, more, surer, mixed] = run(scenarios, 100, DAY);
    for tally in [&slower, &little_slower, &more] {
        assert_eq!((tally.a.len(), tally.b.len()), (100, 0), "seeds {:?}", tally.seeds);
    }
    for tally in [&faster, &little_faster, &fewer, &surer] {
        assert_eq!((tally.a.len(), tally.b.len()), (0, 100), "seeds {:?}", tally.seeds);
    }
    assert_eq!(mixed.b.len(), 0, "what is worse in something does not win; seeds {:?}", mixed.seeds);
    assert!(median(&slower.a) <= 20, "{} min", median(&slower.a));
}

#[test]
fn arms_that_differ_by_more_than_a_margin_are_called_equal_in_at_most_one_experiment_of_twenty() {
    let near = [
        Scenario { name: "B: latency +1 %, within its margin", latency: 1.01, ..UNCHANGED },
        Scenario { name: "B: latency +2.5 %, beyond its margin", latency: 1.025, ..UNCHANGED },
        Scenario { name: "B: latency -2.5 %, beyond its margin", latency: 0.975, ..UNCHANGED },
        Scenario { name: "B: errors x1.3, beyond their margin", errors: 1.3, ..UNCHANGED },
    ];
    let [within, slower, faster, failing] = run(near, 200, DAY);
    assert!(within.decided() <= 10, "seeds {:?}", within.seeds);
    assert!(slower.equal.len() <= 10 && faster.equal.len() <= 10 && failing.equal.len() <= 10, "of 200 each");
}
