//! What the metric verdict promises, measured on seeded fleets. `--nocapture` prints the table of docs/verdict.md.

#![allow(clippy::print_stdout, reason = "the table is for people")]

mod streams;

use fleet_core::verdict::{CanaryJudge, MetricVerdict, VerdictPolicy};
use streams::{DAY, LOOK_MINUTES, Scenario, Simulation, UNCHANGED};

/// How many rollouts ended how, and after how many minutes.
#[derive(Clone, Default)]
struct Tally {
    rollouts: u64,
    degraded: Vec<u64>,
    healthy: Vec<u64>,
}

/// Every scenario on the same fleets, one row each.
fn run<const N: usize>(scenarios: [Scenario; N], rollouts: u64) -> [Tally; N] {
    run_on(Simulation::new(), scenarios, rollouts)
}

fn run_on<const N: usize>(mut simulation: Simulation, scenarios: [Scenario; N], rollouts: u64) -> [Tally; N] {
    let mut tallies = [const { Tally { rollouts: 0, degraded: vec![], healthy: vec![] } }; N];
    for seed in 1..=rollouts {
        simulation.restart(seed);
        let started = CanaryJudge::start(VerdictPolicy::default(), simulation.cohorts(), &simulation.history);
        let judge = started.expect("the default policy is sound");
        for (scenario, tally) in scenarios.iter().zip(&mut tallies) {
            simulation.begin(*scenario);
            tally.count(&mut simulation, judge.clone());
        }
    }
    scenarios.iter().zip(&tallies).for_each(|(scenario, tally)| println!("{}", tally.row(scenario.name)));
    tallies
}

impl Tally {
    /// Looks on after the verdict is healthy, as nobody is obliged to stop; ends where a rollout would be rolled back.
    fn count(&mut self, simulation: &mut Simulation, mut judge: CanaryJudge) {
        self.rollouts += 1;
        let mut healthy_after = None;
        for _ in 0..DAY {
            simulation.advance();
            let minutes = simulation.looks() * LOOK_MINUTES;
            match judge.observe(&simulation.look).expect("looks are numbered upwards").verdict {
                MetricVerdict::Degraded(_) => {
                    self.degraded.push(minutes);
                    break;
                }
                MetricVerdict::Healthy { .. } => healthy_after = healthy_after.or(Some(minutes)),
                MetricVerdict::Insufficient { .. } => {}
            }
        }
        self.healthy.extend(healthy_after);
    }

    fn row(&self, name: &str) -> String {
        let (degraded, healthy) = (self.degraded.len(), self.healthy.len());
        format!(
            "{name:<44} {:>5} rollouts | degraded {degraded:>5} ({:>5.1} %) median {:>5} min | \
             healthy {healthy:>5} ({:>5.1} %) median {:>5} min",
            self.rollouts,
            100.0 * degraded as f64 / self.rollouts as f64,
            median(&self.degraded),
            100.0 * healthy as f64 / self.rollouts as f64,
            median(&self.healthy),
        )
    }
}

fn median(minutes: &[u64]) -> u64 {
    let mut sorted = minutes.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[test]
fn no_harm_is_condemned_in_at_most_one_rollout_of_a_thousand() {
    let shock = Scenario {
        name: "A/A, latency +15 % and errors x2 everywhere",
        latency_everywhere: 1.15,
        errors_everywhere: 2.0,
        ..UNCHANGED
    };
    let restless =
        Scenario { name: "A/A, each device's latency moves by sd 5 %", restless: 0.05, ..UNCHANGED };
    let tallies = run([UNCHANGED, shock, restless], 2_000);
    let condemned = tallies.map(|tally| tally.degraded.len());
    assert!(condemned.iter().all(|&condemned| condemned <= 2), "{condemned:?} of 2,000 each");
}

#[test]
fn harm_is_found_while_it_matters() {
    let faults = [
        Scenario { name: "latency +10 %", latency: 1.10, ..UNCHANGED },
        Scenario { name: "errors 1 -> 3 %", errors: 3.0, ..UNCHANGED },
        Scenario { name: "latency +5 %", latency: 1.05, ..UNCHANGED },
        Scenario { name: "latency +25 %", latency: 1.25, ..UNCHANGED },
        Scenario { name: "errors 1 -> 10 %", errors: 10.0, ..UNCHANGED },
        Scenario { name: "confidence -0.05", confidence: -0.05, ..UNCHANGED },
        Scenario { name: "errors 1 -> 1.5 %", errors: 1.5, ..UNCHANGED },
        Scenario {
            name: "latency +10 %, devices move by sd 5 %",
            latency: 1.10,
            restless: 0.05,
            ..UNCHANGED
        },
    ];
    let tallies = run(faults, 300);
    let found = tallies.clone().map(|tally| tally.degraded.len());
    assert!(found[..6].iter().all(|&found| found == 300), "{found:?} of 300 each");
    let medians = tallies.map(|tally| median(&tally.degraded));
    assert!(medians[0] <= 20 && medians[1] <= 35, "{medians:?} minutes");
}

#[test]
fn bursts_of_failures_on_single_devices_are_not_taken_for_the_candidate() {
    let mut bursts = Simulation::new();
    bursts.bursts = 0.0025;
    let scenarios = [
        Scenario { name: "A/A, bursts of errors on single devices", ..UNCHANGED },
        Scenario { name: "errors 1 -> 3 %, the same bursts", errors: 3.0, ..UNCHANGED },
    ];
    let [unchanged, failing] = run_on(bursts, scenarios, 100);
    assert_eq!((unchanged.degraded.len(), failing.degraded.len()), (0, 100));
}

#[test]
fn a_model_worse_than_a_margin_is_promoted_in_at_most_one_rollout_of_twenty() {
    let near = [
        Scenario { name: "latency +1 %, within its margin", latency: 1.01, ..UNCHANGED },
        Scenario { name: "latency +2.5 %, beyond its margin", latency: 1.025, ..UNCHANGED },
        Scenario { name: "errors x1.3, beyond their margin", errors: 1.3, ..UNCHANGED },
    ];
    let [within, slower, failing] = run(near, 200);
    assert_eq!(within.degraded.len(), 0);
    assert!(slower.healthy.len() <= 10 && failing.healthy.len() <= 10, "of 200 each");
}

/// Who must never be promoted, as too few are harmed for most bets to be lost.
#[test]
fn a_few_canaries_that_are_much_slower_are_not_outvoted_by_the_rest() {
    for (noise, percent) in [(0.3 / 4.2, "0.3 %"), (1.0, "4.2 %")] {
        let mut simulation = Simulation::new();
        simulation.noise *= noise;
        println!("noise of a device and look {percent}:");
        let few = [
            Scenario { name: "2 of 10 canaries three times as slow", harmed: (2, 3.0), ..UNCHANGED },
            Scenario { name: "1 of 10 canaries three times as slow", harmed: (1, 3.0), ..UNCHANGED },
            Scenario { name: "2 of 10 canaries +15 %", harmed: (2, 1.15), ..UNCHANGED },
        ];
        let tallies = run_on(simulation, few, 10);
        assert!(tallies.iter().all(|tally| tally.healthy.is_empty()), "noise {percent}");
    }
}

#[test]
fn the_smallest_cohorts_condemn_no_more_than_large_ones() {
    let restless = Scenario { name: "A/A, 3 v 20, latency moves by sd 5 %", restless: 0.05, ..UNCHANGED };
    let drifting = Scenario { name: "A/A, 3 v 20, latency drifts by sd 5 %", memory: 0.995, ..restless };
    let tallies = run_on(Simulation::of(3, 20), [restless, drifting], 2_000);
    let condemned = tallies.map(|tally| tally.degraded.len());
    assert!(condemned.iter().all(|&condemned| condemned <= 2), "{condemned:?} of 2,000 each");
}

#[test]
fn one_control_that_breaks_neither_hides_harm_nor_makes_it() {
    let broken = [
        ((3.0, 1.0), "one control three times as slow"),
        ((30.0, 1.0), "one control 30 times as slow"),
        ((10.0, 10.0), "one control ten times slower each look"),
    ];
    for (odd_control, name) in broken {
        println!("{name}:");
        let base = Scenario { odd_control, ..UNCHANGED };
        let scenarios = [
            Scenario { name: "A/A", ..base },
            Scenario { name: "latency +2.5 %", latency: 1.025, ..base },
            Scenario { name: "latency +10 %", latency: 1.1, ..base },
            Scenario { name: "latency +100 %", latency: 2.0, ..base },
        ];
        let [unchanged, near, slower, twice] = run_on(Simulation::new(), scenarios, 10);
        assert_eq!(unchanged.degraded.len(), 0, "{name}");
        assert!(near.healthy.is_empty() && slower.healthy.is_empty() && twice.healthy.is_empty(), "{name}");
        assert_eq!((slower.degraded.len(), twice.degraded.len()), (10, 10), "{name}");
    }
}
