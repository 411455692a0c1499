//! The reference that devices count against, made from the publisher's sample: read features off every case, run the
//! model for those of its answers, cut bins.
//!
//! Features are read by the code that devices read them with. The model is run on some of the cases only: evenly over the
//! sample, whatever the order that it is in, and as many as the time allows.

mod collect;
mod cut;
mod order;
mod runs;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use muster_engine::{Session, features::Extractor};
use muster_sketch::reference::{MIN_REFERENCE_ROWS, Reference, ReferenceError};
use shared::manifest::{DriftSpec, Reading, Side};

use super::{
    features::{Model, Plan, Planned, What},
    report::DriftReport,
    sample::Sample,
};
use collect::Collector;
use order::evenly;
use runs::Runs;

/// Rows that features of inputs are read from. Distances and findings of broken data are held against them, and their error shrinks
/// with the root of the number: at so many it is a thirtieth of that at the fewest allowed. Detectors hold a device against its
/// own first rows, and become no faster by more of these.
const MAX_INPUT_ROWS: usize = 1_000_000;

/// Numbers that are held at a time: 128 MiB.
const MAX_VALUES: usize = 1 << 25;

/// Time to run the model on the sample, on a machine that may do other things. A model of 100 ms is run on 1,200 cases.
pub(super) const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A reference with where its features are read, and how it came about.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) spec: DriftSpec,
    pub(super) report: DriftReport,
}

/// What was read of the sample.
struct Seen {
    features: Vec<Planned>,
    inputs: Collector,
    runs: Runs,
    notes: Vec<String>,
}

/// Makes the reference, running the model for at most `run_limit`.
///
/// # Errors
/// Says which feature has no reference, and why.
pub(super) fn make(
    plan: &Plan,
    sample: &Sample,
    session: &dyn Session,
    run_limit: Duration,
) -> Result<Made, String> {
    let model = Model { inputs: session.inputs(), outputs: session.outputs() };
    let seen = look(plan, sample, session, run_limit)?;
    let mut report = DriftReport {
        reference: String::new(),
        features: seen.features.len(),
        kinds: kinds(&seen.features),
        derived: plan.is_derived(),
        cases: sample.cases() as u64,
        input_rows: seen.inputs.rows() as u64,
        output_rows: seen.runs.answers.rows() as u64,
        unanswered: seen.runs.unanswered,
        notes: seen.notes.clone(),
    };
    let spec = cut(plan, seen)?;
    spec.check(model.inputs, model.outputs)?;
    report.reference = spec.reference.id().to_string();
    Ok(Made { spec, report })
}

/// Reads the features of the sample.
fn look(plan: &Plan, sample: &Sample, session: &dyn Session, run_limit: Duration) -> Result<Seen, String> {
    let model = Model { inputs: session.inputs(), outputs: session.outputs() };
    let features = plan.features(model, sample.header())?;
    check_size(sample, &features, model)?;
    let inputs = read_inputs(&features, sample, model)?;
    let runs = runs::run(of(&features, Side::Output), sample, session, run_limit)?;
    let notes: Vec<String> = runs.note().into_iter().collect();
    match runs.too_slow() {
        None => Ok(Seen { features, inputs, runs, notes }),
        Some(why) if plan.is_derived() => {
            let notes = [notes, vec![format!("answers of the model are not watched: {why}")]].concat();
            let features = of(&features, Side::Input);
            Ok(Seen { features, inputs, runs: Runs::none(model)?, notes })
        }
        Some(why) => Err(format!("{why}: leave the features of outputs out of features.toml")),
    }
}

/// A sample that is too small for any feature is refused before the model is run on it.
fn check_size(sample: &Sample, features: &[Planned], model: Model<'_>) -> Result<(), String> {
    let extractor = Extractor::new(&[], model.inputs, model.outputs).map_err(|error| error.to_string())?;
    let rows = match sample.cases() {
        0 => 0,
        cases => extractor.rows(&sample.case(0)?).saturating_mul(cases) as u64,
    };
    match features.first() {
        Some(first) if rows < MIN_REFERENCE_ROWS => {
            let feature = first.name.clone();
            Err(ReferenceError::TooFewRows { feature, usable: rows, unusable: 0 }.to_string())
        }
        Some(_) | None => Ok(()),
    }
}

fn read_inputs(features: &[Planned], sample: &Sample, model: Model<'_>) -> Result<Collector, String> {
    let mut collector = Collector::new(of(features, Side::Input), model)?;
    let watched = collector.features();
    let most = MAX_VALUES.checked_div(watched).map_or(0, |rows| rows.min(MAX_INPUT_ROWS));
    for case in evenly(sample.cases(), most) {
        if collector.rows() >= most {
            break;
        }
        collector.take(case, &sample.case(case)?, &[]);
    }
    Ok(collector)
}

fn cut(plan: &Plan, seen: Seen) -> Result<DriftSpec, String> {
    let (mut inputs, mut outputs) = (seen.inputs.into_columns(), seen.runs.answers.into_columns());
    let (mut references, mut sources) = (vec![], vec![]);
    for feature in &seen.features {
        let columns = match feature.side {
            Side::Input => &mut inputs,
            Side::Output => &mut outputs,
        };
        let column = columns.next().expect("each side's columns are those of its features");
        let (reference, codes) = cut::reference(feature, &column)?;
        references.push(reference);
        sources.push(feature.source(codes));
    }
    let reference = Reference::new(references).map_err(|error| error.to_string())?;
    Ok(DriftSpec { sources, reference, capture: plan.capture, guardrail: plan.guardrail })
}

fn of(features: &[Planned], side: Side) -> Vec<Planned> {
    features.iter().filter(|feature| feature.side == side).cloned().collect()
}

fn kinds(features: &[Planned]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for feature in features {
        let kind = match &feature.what {
            What::Number(Reading::Image { .. }) => "image",
            What::Number(Reading::Projection { .. }) => "embedding",
            What::Number(Reading::Confidence) => "confidence",
            What::Number(Reading::Entropy) => "entropy",
            What::Number(_) => "numeric",
            What::Code { .. } => "categorical",
            What::TopClass { .. } => "class",
        };
        *kinds.entry(kind.to_owned()).or_insert(0) += 1;
    }
    kinds
}
