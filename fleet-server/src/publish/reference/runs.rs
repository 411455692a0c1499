//! The model's answers to cases of the sample.

use std::time::{Duration, Instant};

use muster_engine::{Session, Tensor, outputs_are_finite, outputs_match};
use muster_sketch::reference::MIN_REFERENCE_ROWS;

use super::{
    collect::Collector,
    order::{evenly, spread},
};
use crate::publish::{
    features::{Model, Planned},
    sample::Sample,
};

/// Cases that the model is run on: more make zones narrower than the drifts that people care about.
const MAX_RUNS: usize = 20_000;

/// What was read of the answers.
pub(super) struct Runs {
    pub(super) answers: Collector,
    /// Cases without an answer, or with one that is not finite. Devices do not pass such answers on, nor count them.
    pub(super) unanswered: u64,
    /// Cases that the model was run on.
    tried: usize,
    took: Duration,
    /// Whether the time was up before all chosen cases were run.
    is_cut_short: bool,
}

/// Runs the model for the features of its outputs, if there are any.
pub(super) fn run(
    features: Vec<Planned>,
    sample: &Sample,
    session: &dyn Session,
    limit: Duration,
) -> Result<Runs, String> {
    let model = Model { inputs: session.inputs(), outputs: session.outputs() };
    let mut runs = Runs::of(Collector::new(features, model)?);
    if runs.answers.features() == 0 {
        return Ok(runs);
    }
    let chosen: Vec<usize> = evenly(sample.cases(), MAX_RUNS).collect();
    let since = Instant::now();
    for place in spread(chosen.len()) {
        if runs.answers.rows() >= MAX_RUNS {
            break;
        }
        if since.elapsed() >= limit {
            runs.is_cut_short = true;
            break;
        }
        let inputs = sample.case(chosen[place])?;
        runs.tried += 1;
        match answer(session, &inputs) {
            Some(outputs) => runs.answers.take(chosen[place], &inputs, &outputs),
            None => runs.unanswered += 1,
        }
    }
    runs.took = since.elapsed();
    runs.checked()
}

/// What a device would pass on.
fn answer(session: &dyn Session, inputs: &[(String, Tensor)]) -> Option<Vec<Tensor>> {
    let outputs = session.run(inputs).ok()?;
    let is_sound = outputs_match(session.outputs(), &outputs)
        .and_then(|()| outputs_are_finite(session.outputs(), &outputs))
        .is_ok();
    is_sound.then_some(outputs)
}

impl Runs {
    /// None.
    pub(super) fn none(model: Model<'_>) -> Result<Self, String> {
        Ok(Self::of(Collector::new(vec![], model)?))
    }

    fn of(answers: Collector) -> Self {
        Self { answers, unanswered: 0, tried: 0, took: Duration::ZERO, is_cut_short: false }
    }

    fn checked(self) -> Result<Self, String> {
        if self.is_cut_short || self.has_enough() {
            return Ok(self);
        }
        Err(format!(
            "of the {} cases of the sample, the model failed on {} or gave them an answer that is not finite, and a \
             reference of its answers needs {MIN_REFERENCE_ROWS} rows: see what it cannot answer, or bring a larger sample",
            self.tried, self.unanswered
        ))
    }

    fn has_enough(&self) -> bool {
        self.answers.rows() as u64 >= MIN_REFERENCE_ROWS
    }

    /// Why there are too few answers, if the time was up too early.
    pub(super) fn too_slow(&self) -> Option<String> {
        (self.is_cut_short && !self.has_enough()).then(|| {
            format!(
                "in {} s the model was run on {} cases of the sample, and a reference needs {MIN_REFERENCE_ROWS}",
                self.took.as_secs(),
                self.tried
            )
        })
    }

    /// What the publisher should know.
    pub(super) fn note(&self) -> Option<String> {
        (self.unanswered > 0).then(|| {
            format!(
                "on {} of the {} cases that it was run on, the model failed or gave an answer that is not finite",
                self.unanswered, self.tried
            )
        })
    }
}
