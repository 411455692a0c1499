//! What devices counted, against what the model was made with.

use fleet_core::drift::Distances;
use muster_sketch::{detector::Scope, distance::Score, quality::QualityKind};

use super::bars::{bar, line, shares};
use crate::{
    api::{DriftReport, FeatureBins, FeatureReport, StratumReport},
    cli::{
        Client, Failure,
        args::DriftReportArgs,
        output::{Output, moment, say, table},
    },
};

/// Categories that a picture has, the most frequent ones.
const DRAWN_CATEGORIES: usize = 12;

pub(super) async fn run(client: &Client, args: DriftReportArgs, output: &Output) -> Result<(), Failure> {
    let is_one_feature = args.feature.is_some();
    let mut query = vec![("since", args.since.as_secs().to_string())];
    query.extend(args.by.map(|by| ("by", by)));
    query.extend(args.version.map(|version| ("version", version.to_string())));
    query.extend(args.feature.map(|feature| ("feature", feature)));
    let report: DriftReport = client.get(&format!("/models/{}/drift/report", args.model), &query).await?;
    if !report.complete {
        say("there is more than one answer may read; the oldest is missing. Ask for a shorter time");
    }
    output.one(&report, &report.release, || lines(&report, is_one_feature));
    Ok(())
}

fn lines(report: &DriftReport, bin_by_bin: bool) -> Vec<String> {
    let mut lines = vec![format!("{} since {}", report.release, moment(Some(report.since)))];
    let told = report.alarms.iter();
    lines.extend(told.map(|alarm| format!("  alarm {} ({}): {}", alarm.id, scope(&alarm.scope), alarm.text)));
    if report.strata.is_empty() {
        lines.push("  no device has counted anything in this time".into());
        return lines;
    }
    let rows: Vec<_> = report
        .strata
        .iter()
        .flat_map(|stratum| stratum.features.iter().map(move |feature| row(stratum, feature)))
        .collect();
    let header = ["stratum", "feature", "rows", "missing", "psi", "distance", "broken"];
    lines.extend(table(header, &rows).trim_fmt().lines().map(str::to_owned));
    for (place, bins) in report.features.iter().enumerate() {
        let counted = report.strata.iter().filter_map(|of| Some((name(of), of.features.get(place)?)));
        lines.push(String::new());
        match (&bins.edges, bin_by_bin) {
            (Some(_), false) => lines.extend(sketched(bins, counted)),
            (Some(_), true) | (None, _) => counted.for_each(|of| lines.extend(drawn(bins, of))),
        }
    }
    lines
}

fn row(stratum: &StratumReport, feature: &FeatureReport) -> [String; 7] {
    let (psi, other) = match feature.distances {
        Some(Distances::Numeric(of)) => (score(of.psi), format!("{} W", score(of.wasserstein))),
        Some(Distances::Category(of)) => (score(of.psi), format!("{} JS", score(of.jensen_shannon))),
        None => (String::new(), String::new()),
    };
    let defects: Vec<_> = feature
        .quality
        .iter()
        .map(|finding| match finding.kind {
            // A share of everything that was counted says nothing about one device that stands still.
            QualityKind::Stuck => format!("stuck, {} in a row", finding.count),
            kind => format!("{} {:.2} %", broken(kind), 100.0 * finding.share),
        })
        .collect();
    [
        name(stratum),
        feature.feature.clone(),
        feature.rows.to_string(),
        feature.missing.to_string(),
        psi,
        other,
        defects.join(", "),
    ]
}

fn broken(kind: QualityKind) -> &'static str {
    match kind {
        QualityKind::Missing => "missing",
        QualityKind::NonFinite => "not finite",
        QualityKind::OutOfRange => "out of range",
        QualityKind::NewCategory => "new category",
        QualityKind::Stuck => "stuck",
    }
}

/// Who moved, in a word or two: `sensor cam-1`, `stratum site=berlin`, `model`, `world`.
fn scope(scope: &Scope) -> String {
    match scope {
        Scope::Sensor { device } => format!("sensor {device}"),
        Scope::Stratum { key, value } => format!("stratum {key}={value}"),
        Scope::Model => "model".into(),
        Scope::World => "world".into(),
    }
}

/// A figure and what it is without drift; one that is noise says so.
fn score(score: Score) -> String {
    let noise = if score.reportable { "" } else { " ~" };
    format!("{:.3} ({:.3}){noise}", score.value, score.noise_floor)
}

fn name(stratum: &StratumReport) -> String {
    if stratum.stratum.is_empty() { "all".into() } else { stratum.stratum.clone() }
}

/// A line for the reference and one for each stratum, a character for each bin.
fn sketched<'a>(
    bins: &FeatureBins,
    counted: impl Iterator<Item = (String, &'a FeatureReport)>,
) -> Vec<String> {
    let reference = shares(&bins.reference);
    let counted: Vec<_> = counted.map(|(name, of)| (name, shares(&of.counts))).collect();
    let highest =
        counted.iter().flat_map(|(_, shares)| shares).chain(&reference).copied().fold(0.0, f64::max);
    let widest = counted.iter().map(|(name, _)| name.chars().count()).fold(9, usize::max);
    let mut lines = vec![bins.feature.clone()];
    let full = highest.max(f64::MIN_POSITIVE);
    lines.push(format!("  {:<widest$}  |{}|", "reference", line(&reference, full)));
    lines.extend(counted.iter().map(|(name, shares)| format!("  {name:<widest$}  |{}|", line(shares, full))));
    lines
}

/// Two bars for each bin.
fn drawn(bins: &FeatureBins, (name, counted): (String, &FeatureReport)) -> Vec<String> {
    let (then, now) = (shares(&bins.reference), shares(&counted.counts));
    let full = then.iter().chain(&now).copied().fold(0.0, f64::max);
    let labels = labels(bins);
    let mut places: Vec<_> = (0..labels.len()).collect();
    let mut lines = vec![format!("{}, {name}: reference and now", bins.feature)];
    if bins.edges.is_none() {
        let most = |place: &usize| then[*place].max(now.get(*place).copied().unwrap_or(0.0));
        places.sort_by(|a, b| most(b).total_cmp(&most(a)));
    }
    let drawn = if bins.edges.is_some() { places.len() } else { DRAWN_CATEGORIES.min(places.len()) };
    let widest = places[..drawn].iter().map(|&place| labels[place].chars().count()).fold(0, usize::max);
    for &place in &places[..drawn] {
        let (then, now) = (then[place], now.get(place).copied().unwrap_or(0.0));
        lines.push(format!(
            "  {:<widest$}  {} {:>6.2} %  {} {:>6.2} %",
            labels[place],
            bar(then, full),
            100.0 * then,
            bar(now, full),
            100.0 * now
        ));
    }
    let hidden = places.len() - drawn;
    lines.extend((hidden > 0).then(|| format!("  … and {hidden} more categories")));
    lines
}

/// What each bin is called.
fn labels(bins: &FeatureBins) -> Vec<String> {
    let none = |names: &[String]| names.iter().cloned().chain(["(none of them)".to_owned()]).collect();
    match (&bins.edges, &bins.categories) {
        (Some(edges), _) => {
            // Edges were floats of single precision, and are shortest as those.
            let below = edges.first().map(|&edge| format!("below {}", edge as f32)).unwrap_or_default();
            let from = edges.iter().map(|&edge| format!("from {}", edge as f32));
            std::iter::once(below).chain(from).collect()
        }
        (None, Some(names)) => none(names),
        (None, None) => vec![],
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::drift::Distances;
    use muster_sketch::{
        reference::{CategoryReference, FeatureReference, NumericReference, ReferenceValues},
        window::{FeatureCounts, FeatureWindow},
    };

    use super::*;

    fn report() -> DriftReport {
        let sample: Vec<f32> = (0..2_000_u16).map(|n| f32::from(n % 100)).collect();
        let classes = vec![("cat".to_owned(), 900), ("dog".to_owned(), 300)];
        let features = vec![
            FeatureReference {
                name: "level".into(),
                values: ReferenceValues::Numeric(NumericReference::from_sample("level", &sample).unwrap()),
            },
            FeatureReference {
                name: "class".into(),
                values: ReferenceValues::Category(
                    CategoryReference::from_counts("class", classes, 0).unwrap(),
                ),
            },
        ];
        let reference = muster_sketch::reference::Reference::new(features).unwrap();
        let mut window = FeatureWindow::new(std::sync::Arc::new(reference.clone()));
        (0..300_u16).for_each(|n| window.record(&[f32::from(n % 50) + 60.0], &[Some("dog")]).unwrap());
        let counts = window.seal().unwrap();
        let of = |feature: &FeatureReference, counts: &FeatureCounts| FeatureReport {
            feature: feature.name.clone(),
            rows: counts.rows(),
            missing: 0,
            non_finite: 0,
            lowest: None,
            highest: None,
            distances: Distances::of(&feature.values, counts),
            quality: vec![],
            counts: counts.bins().to_vec(),
        };
        let bins = |feature: &FeatureReference| FeatureBins {
            feature: feature.name.clone(),
            edges: match &feature.values {
                ReferenceValues::Numeric(of) => {
                    Some(of.edges().as_slice().iter().copied().map(f64::from).collect())
                }
                ReferenceValues::Category(_) => None,
            },
            categories: match &feature.values {
                ReferenceValues::Numeric(_) => None,
                ReferenceValues::Category(of) => Some(of.names().to_vec()),
            },
            reference: feature.values.bins().to_vec(),
        };
        DriftReport {
            release: "digits@2".into(),
            by: Some("site".into()),
            since: 1_800_000_000_000,
            alarms: vec![],
            features: reference.features().iter().map(bins).collect(),
            strata: vec![StratumReport {
                stratum: "site=a".into(),
                windows: 3,
                from: 0,
                to: 1,
                features: reference.features().iter().zip(&counts).map(|(f, c)| of(f, c)).collect(),
            }],
            complete: true,
        }
    }

    #[test]
    fn a_report_names_strata_and_figures_with_what_they_are_without_drift_and_draws_bins() {
        let text = lines(&report(), false).join("\n");
        for part in ["site=a", "level", "300", "(", "reference  |", "dog", "(none of them)", "100.00 %"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let bins = lines(&report(), true).join("\n");
        assert!(bins.contains("below 0 ") && bins.contains("from 2 "), "{bins}");
        let nothing = DriftReport { strata: vec![], ..report() };
        assert!(lines(&nothing, false)[1].contains("no device"));
    }
}
