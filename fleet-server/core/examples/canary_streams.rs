//! Writes the streams of the simulation as CSV, with our verdict beside each look, so that the rules of others can be asked
//! about the same fleets. `tests/peers/canary_rules.py` reads it.
//!
//!     cargo run --release -p fleet-core --example canary_streams -- 200

#[path = "../tests/streams/mod.rs"]
mod streams;

use std::io::{self, BufWriter, Write};

use fleet_core::verdict::{CanaryJudge, MetricVerdict, VerdictPolicy};
use streams::{DAY, Pooled, Scenario, Simulation, UNCHANGED};

const SCENARIOS: [Scenario; 6] = [
    UNCHANGED,
    Scenario {
        name: "A/A with a common shock",
        latency_everywhere: 1.15,
        errors_everywhere: 2.0,
        ..UNCHANGED
    },
    Scenario { name: "latency +5 %", latency: 1.05, ..UNCHANGED },
    Scenario { name: "latency +10 %", latency: 1.10, ..UNCHANGED },
    Scenario { name: "errors 1 to 1.5 %", errors: 1.5, ..UNCHANGED },
    Scenario { name: "errors 1 to 3 %", errors: 3.0, ..UNCHANGED },
];

fn main() -> io::Result<()> {
    let rollouts = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(200);
    let mut out = BufWriter::new(io::stdout().lock());
    write!(out, "scenario,rollout,look,verdict")?;
    for side in ["canary", "control"] {
        write!(out, ",{side}_n,{side}_latency,{side}_latency_squares,{side}_errors")?;
    }
    writeln!(out)?;
    let mut simulation = Simulation::new();
    for seed in 1..=rollouts {
        simulation.restart(seed);
        let started = CanaryJudge::start(VerdictPolicy::default(), simulation.cohorts(), &simulation.history);
        let judge = started.expect("the default policy is sound");
        for scenario in SCENARIOS {
            simulation.begin(scenario);
            write_rollout(&mut out, &mut simulation, judge.clone(), scenario.name, seed)?;
        }
    }
    out.flush()
}

fn write_rollout(
    out: &mut impl Write,
    simulation: &mut Simulation,
    mut judge: CanaryJudge,
    scenario: &str,
    rollout: u64,
) -> io::Result<()> {
    for look in 1..=DAY {
        simulation.advance();
        let record = judge.observe(&simulation.look).expect("looks are numbered upwards");
        let verdict = match record.verdict {
            MetricVerdict::Healthy { .. } => "healthy",
            MetricVerdict::Degraded(_) => "degraded",
            MetricVerdict::Insufficient { .. } => "insufficient",
        };
        write!(out, "{scenario},{rollout},{look},{verdict}")?;
        let (canary, control) = simulation.pooled();
        for Pooled { inferences, latency, latency_squares, errors } in [canary, control] {
            write!(out, ",{inferences},{latency:.3},{latency_squares:.1},{errors}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
