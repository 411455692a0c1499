//! Replaying golden vectors against a loaded model.

use std::time::{Duration, Instant};

use shared::manifest::{Budgets, TensorSpec, Tolerance};
use thiserror::Error;

use super::{Golden, InvalidGolden};
use crate::{
    checks::{WrongOutput, outputs_are_finite, outputs_match},
    engine::{EngineError, Session},
    tensor::Tensor,
};

/// What a replay measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayFigures {
    /// Cases replayed.
    pub cases: u32,
    /// Median latency.
    pub latency_p50_us: u64,
    /// Slowest case.
    pub latency_max_us: u64,
}

/// Why a replay did not pass.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum GoldenFailure {
    /// The golden vectors are not of this model.
    #[error(transparent)]
    Unfit(#[from] InvalidGolden),
    /// The engine failed on a case.
    #[error("golden case {case}: {error}")]
    Engine {
        /// Counted from 0.
        case: u32,
        /// What the engine said.
        error: EngineError,
    },
    /// An output is NaN, infinite or of another shape.
    #[error("golden case {case}: {error}")]
    WrongOutput {
        /// Counted from 0.
        case: u32,
        /// What is wrong.
        error: WrongOutput,
    },
    /// An output differs from its golden value.
    #[error("golden case {case}: {detail}")]
    Mismatch {
        /// Counted from 0.
        case: u32,
        /// Which output, where, and by how much.
        detail: String,
    },
    /// The median case took longer than the latency budget.
    #[error("the median golden case took {p50_us} µs; the latency budget is {budget_ms} ms")]
    TooSlow {
        /// Measured.
        p50_us: u64,
        /// Allowed.
        budget_ms: u32,
    },
}

/// Runs every case and compares outputs and median latency with what the manifest allows.
///
/// The median and not the slowest case is held against the budget: a device at work preempts a run now and then.
///
/// # Errors
/// At the first case that fails.
pub fn replay(
    session: &dyn Session,
    golden: &Golden,
    tolerance: &Tolerance,
    budgets: &Budgets,
) -> Result<ReplayFigures, GoldenFailure> {
    golden.check_fits(session.inputs(), session.outputs())?;
    // The first run of a shape compiles a plan; that belongs to loading, not to latency.
    run(session, golden, 0)?;
    let mut latencies = Vec::new();
    for case in 0..golden.cases() {
        let (outputs, latency) = run(session, golden, case)?;
        latencies.push(latency);
        compare(session.outputs(), &outputs, &golden.outputs(case), tolerance)
            .map_err(|detail| GoldenFailure::Mismatch { case, detail })?;
    }
    let figures = figures(latencies);
    if figures.latency_p50_us > u64::from(budgets.latency_ms) * 1_000 {
        let p50_us = figures.latency_p50_us;
        return Err(GoldenFailure::TooSlow { p50_us, budget_ms: budgets.latency_ms });
    }
    Ok(figures)
}

fn run(session: &dyn Session, golden: &Golden, case: u32) -> Result<(Vec<Tensor>, Duration), GoldenFailure> {
    let inputs = golden.inputs(case);
    let started = Instant::now();
    let outputs = session.run(&inputs).map_err(|error| GoldenFailure::Engine { case, error })?;
    let latency = started.elapsed();
    outputs_match(session.outputs(), &outputs)
        .and_then(|()| outputs_are_finite(session.outputs(), &outputs))
        .map_err(|error| GoldenFailure::WrongOutput { case, error })?;
    Ok((outputs, latency))
}

fn compare(
    specs: &[TensorSpec],
    outputs: &[Tensor],
    golden: &[(String, Tensor)],
    tolerance: &Tolerance,
) -> Result<(), String> {
    for (spec, found) in specs.iter().zip(outputs) {
        let Some((_, wanted)) = golden.iter().find(|(name, _)| *name == spec.name) else { continue };
        if found.shape() != wanted.shape() {
            return Err(format!("output '{}' is {found:?}, golden is {wanted:?}", spec.name));
        }
        if let Some(detail) = first_difference(found, wanted, tolerance) {
            return Err(format!("output '{}', element {detail}", spec.name));
        }
    }
    Ok(())
}

fn first_difference(found: &Tensor, wanted: &Tensor, tolerance: &Tolerance) -> Option<String> {
    if found.data() == wanted.data() {
        return None;
    }
    let allowed = |golden: f64| tolerance.absolute + tolerance.relative * golden.abs();
    let pairs = found.to_f64().into_iter().zip(wanted.to_f64());
    let (index, (found, golden)) = pairs.enumerate().find(|(_, (f, g))| (f - g).abs() > allowed(*g))?;
    Some(format!(
        "{index}: {found} where golden is {golden}; the difference is {:.3e}, allowed is {:.3e}",
        (found - golden).abs(),
        allowed(golden)
    ))
}

fn figures(mut latencies: Vec<Duration>) -> ReplayFigures {
    latencies.sort_unstable();
    let micros = |latency: Option<&Duration>| {
        latency.map_or(0, |latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX))
    };
    ReplayFigures {
        cases: u32::try_from(latencies.len()).unwrap_or(u32::MAX),
        latency_p50_us: micros(latencies.get(latencies.len() / 2)),
        latency_max_us: micros(latencies.last()),
    }
}
