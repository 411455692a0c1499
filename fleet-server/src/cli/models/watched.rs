//! What is watched of a model, in words.

use muster_sketch::{
    detector::Vocabulary,
    reference::{FeatureReference, ReferenceValues},
};
use serde_json::Value;
use shared::manifest::{DriftSpec, FeatureSource, ImageStatistic, Reading, Side};

use crate::publish::worker::DriftReport;

/// What the gate says of the reference; nothing of a model without one.
pub(super) fn of_report(gate: &Value) -> Vec<String> {
    let report = gate.get("drift").cloned().and_then(|drift| serde_json::from_value(drift).ok());
    let Some(DriftReport { features, kinds, derived, cases, input_rows, output_rows, notes, .. }) = report
    else {
        return vec![];
    };
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let how = if derived { ", derived from the model" } else { "" };
    let mut lines = vec![format!("  drift         {features} features watched{how}: {}", kinds.join(", "))];
    let rows = format!("{input_rows} rows for inputs, {output_rows} for answers");
    lines.push(format!("  sample        {cases} cases: {rows}"));
    lines.extend(notes.iter().map(|note| format!("  note          {note}")));
    lines
}

/// Each feature and how devices count.
pub(super) fn of_manifest(drift: Option<&DriftSpec>) -> Vec<String> {
    let Some(drift) = drift else {
        return vec!["  drift         not watched: published without a reference".into()];
    };
    let every = match drift.capture.every {
        Some(1) => "every row".to_owned(),
        Some(every) => format!("every {every}th row"),
        None => "rows as far apart as needed".to_owned(),
    };
    let (secs, rows) = (drift.capture.window_secs, drift.capture.min_rows);
    let mut lines = vec![
        format!("  drift         reference {}", drift.reference.id()),
        format!("  counting      {every}, windows of {secs} s and at least {rows} rows"),
    ];
    if let Some(guardrail) = drift.guardrail {
        let years = guardrail.one_false_alarm_in_years;
        lines.push(format!(
            "  guardrail     devices alarm by themselves, falsely once in {years} years at most"
        ));
    }
    let features = drift.sources.iter().zip(drift.reference.features());
    lines.extend(features.map(|(source, feature)| format!("  feature       {}", line(source, feature))));
    lines
}

/// `age: element 0 of input x; 1 to 90 in 5000 rows`
fn line(source: &FeatureSource, feature: &FeatureReference) -> String {
    let side = match source.side {
        Side::Input => "input",
        Side::Output => "output",
    };
    let name = &feature.name;
    format!("{name}: {} of {side} {}; {}", reading(&source.reading), source.tensor, values(source, feature))
}

fn reading(reading: &Reading) -> String {
    match reading {
        Reading::Element { index } => format!("element {index}"),
        Reading::Code { index, .. } => format!("code at {index}"),
        Reading::Image { statistic, .. } => match statistic {
            ImageStatistic::Mean { channel } => format!("mean of channel {channel}"),
            ImageStatistic::Deviation { channel } => format!("deviation of channel {channel}"),
            ImageStatistic::Sharpness => "sharpness".into(),
            ImageStatistic::Gradient => "gradient".into(),
            ImageStatistic::Saturated => "share of saturated pixels".into(),
        },
        Reading::Projection { number, .. } => format!("projection {number}"),
        Reading::Confidence => "confidence".into(),
        Reading::Entropy => "entropy".into(),
        Reading::TopClass => "class".into(),
    }
}

fn values(source: &FeatureSource, feature: &FeatureReference) -> String {
    match &feature.values {
        ReferenceValues::Numeric(numeric) => {
            let counts = numeric.counts();
            let (lowest, highest) = counts.range().unwrap_or_default();
            format!("{lowest} to {highest} in {} rows", counts.finite())
        }
        ReferenceValues::Category(category) => {
            let list = match source.vocabulary() {
                Some(Vocabulary::Closed) => ", no others",
                Some(Vocabulary::Sampled) | None => "",
            };
            let counts = category.counts();
            format!("{} categories{list} in {} rows", category.names().len(), counts.seen())
        }
    }
}
