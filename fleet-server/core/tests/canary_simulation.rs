//! What the metric verdict promises, measured on seeded fleets. `--nocapture` prints the table of docs/verdict.md.

mod streams;

use fleet_core::verdict::{CanaryJudge, MetricVerdict, VerdictPolicy};
use streams::{DAY, LOOK_MINUTES, Scenario, Simulation, UNCHANGED};

/// How many rollouts ended how, and after how many minutes.
struct Tally {
    rollouts: u64,
    degraded: Vec<u64>,
    healthy: Vec<u64>,
    /// Healthy at some look and degraded later, or the other way round.
    healthy_ever: u64,
}

/// Looks on after the verdict is healthy, as nobody is obliged to stop; ends where a rollout would be rolled back.
fn run(scenario: Scenario, rollouts: u64) -> Tally {
    let mut simulation = Simulation::new(scenario);
    let mut tally = Tally { rollouts, degraded: vec![], healthy: vec![], healthy_ever: 0 };
    for seed in 1..=rollouts {
        simulation.restart(seed);
        let started = CanaryJudge::start(VerdictPolicy::default(), Simulation::cohorts(), &simulation.history);
        let mut judge = started.expect("the default policy is sound");
        let mut healthy_after = None;
        for _ in 0..DAY {
            simulation.advance();
            let minutes = simulation.looks() * LOOK_MINUTES;
            match judge.observe(&simulation.look).expect("looks are numbered upwards").verdict {
                MetricVerdict::Degraded(_) => {
                    tally.degraded.push(minutes);
                    break;
                }
                MetricVerdict::Healthy { .. } if healthy_after.is_none() => healthy_after = Some(minutes),
                MetricVerdict::Healthy { .. } | MetricVerdict::Insufficient { .. } => {}
            }
        }
        tally.healthy.extend(healthy_after);
    }
    tally.healthy_ever = tally.healthy.len() as u64;
    println!("{}", tally.row(scenario.name));
    tally
}

impl Tally {
    fn row(&self, name: &str) -> String {
        let (degraded, healthy) = (self.degraded.len() as u64, self.healthy_ever);
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
fn an_unchanged_model_is_rolled_back_in_at_most_one_rollout_of_a_thousand() {
    assert!(run(UNCHANGED, 2_000).degraded.len() <= 2);
}

#[test]
fn a_shock_that_hits_everybody_condemns_nobody() {
    let shock = Scenario {
        name: "A/A, latency +15 % and errors x2 everywhere",
        latency_everywhere: 1.15,
        errors_everywhere: 2.0,
        ..UNCHANGED
    };
    assert!(run(shock, 2_000).degraded.len() <= 2);
}

#[test]
fn devices_that_wander_from_their_history_by_themselves_condemn_nobody() {
    let restless = Scenario { name: "A/A, every device moves by sd 5 %", restless: 0.05, ..UNCHANGED };
    assert!(run(restless, 1_000).degraded.len() <= 1);
}

#[test]
fn a_model_that_is_a_tenth_slower_is_found_in_twenty_minutes() {
    let tally = run(Scenario { name: "latency +10 %", latency: 1.10, ..UNCHANGED }, 300);
    assert_eq!(tally.degraded.len() as u64, tally.rollouts);
    assert!(median(&tally.degraded) <= 20, "{} minutes", median(&tally.degraded));
}

#[test]
fn tripled_errors_are_found_in_thirty_five_minutes() {
    let tally = run(Scenario { name: "errors 1 -> 3 %", errors: 3.0, ..UNCHANGED }, 300);
    assert_eq!(tally.degraded.len() as u64, tally.rollouts);
    assert!(median(&tally.degraded) <= 35, "{} minutes", median(&tally.degraded));
}

#[test]
fn smaller_and_larger_faults_are_found_within_the_day() {
    let faults = [
        Scenario { name: "latency +5 %", latency: 1.05, ..UNCHANGED },
        Scenario { name: "latency +25 %", latency: 1.25, ..UNCHANGED },
        Scenario { name: "errors 1 -> 10 %", errors: 10.0, ..UNCHANGED },
        Scenario { name: "confidence -0.05", confidence: -0.05, ..UNCHANGED },
        Scenario { name: "latency +10 %, devices move by sd 5 %", latency: 1.10, restless: 0.05, ..UNCHANGED },
        Scenario { name: "errors 1 -> 1.5 %", errors: 1.5, ..UNCHANGED },
    ];
    let found = faults.map(|scenario| run(scenario, 100).degraded.len());
    assert!(found[..4].iter().all(|&found| found == 100), "{found:?}");
}

#[test]
fn a_model_worse_than_a_margin_is_promoted_in_at_most_one_rollout_of_twenty() {
    let slower = run(Scenario { name: "latency +2.5 %, beyond its margin", latency: 1.025, ..UNCHANGED }, 200);
    let failing = run(Scenario { name: "errors x1.3, beyond their margin", errors: 1.3, ..UNCHANGED }, 200);
    assert!(slower.healthy_ever <= 10 && failing.healthy_ever <= 10);
}
