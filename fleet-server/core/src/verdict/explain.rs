//! The way to a verdict, told once more from what was stored.

use std::fmt::Write as _;

use super::{LookRecord, MetricVerdict};

/// Characters of a bar that reaches its threshold.
const BAR: usize = 24;

/// The curve of the evidence as text, at most `rows` looks, spread evenly and with the last one.
///
/// A bar is full at its threshold, and its length is the logarithm of the evidence: 1 is an empty bar.
#[must_use]
pub fn curve(records: &[LookRecord], rows: usize) -> String {
    let Some(last) = records.last() else { return "no look yet\n".into() };
    let width = BAR + 9;
    let (rollback_at, promote_at) = (last.rollback_at, last.promote_at);
    let (worse, not_worse) =
        (format!("worse, {rollback_at:.0} condemn"), format!("not worse, {promote_at:.0} pass"));
    let mut text = format!("{:>6}  {worse:<width$} {not_worse}\n", "look");
    for record in thinned(records, rows) {
        let worse = evidence(record.e_worse, rollback_at);
        let not_worse = evidence(record.e_not_worse(), promote_at);
        let _ = writeln!(text, "{:>6}  {worse} {}", record.look, not_worse.trim_end());
    }
    let _ = writeln!(text, "{}", last.verdict);
    text
}

/// What each metric showed in a look, one line each: the difference of the canaries with its margin, in shares of their
/// own past or in the metric's unit, and the evidence on both sides. Metrics without evidence say what they lack.
#[must_use]
pub fn by_metric(record: &LookRecord) -> Vec<String> {
    let header =
        format!("{:<24} {:>11} {:>11} {:>10} {:>10}", "metric", "difference", "margin", "worse", "not worse");
    let compared = record.metrics.iter().map(|(metric, of)| {
        let (difference, margin) = (short(of.difference), short(of.margin_worse));
        let (worse, not_worse) = (number(of.e_worse), number(of.e_not_worse));
        format!("{:<24} {difference:>11} {margin:>11} {worse:>10} {not_worse:>10}", metric.to_string())
    });
    let gaps = match &record.verdict {
        MetricVerdict::Insufficient { gaps } => gaps.as_slice(),
        MetricVerdict::Healthy { .. } | MetricVerdict::Degraded(_) => &[],
    };
    let missing = gaps.iter().filter(|gap| !record.metrics.contains_key(&gap.metric));
    let missing = missing.map(|gap| format!("{:<24} {}", gap.metric.to_string(), gap.why));
    std::iter::once(header).chain(compared).chain(missing).collect()
}

/// Figures of a metric's own unit may be of any size.
fn short(value: f64) -> String {
    if value.abs() < 100_000.0 { format!("{value:+.4}") } else { format!("{value:+.2e}") }
}

fn thinned(records: &[LookRecord], rows: usize) -> impl Iterator<Item = &LookRecord> {
    let step = records.len().div_ceil(rows.max(1)).max(1);
    let skipped = (records.len() - 1) % step;
    records.iter().skip(skipped).step_by(step)
}

fn evidence(value: Option<f64>, threshold: f64) -> String {
    let Some(value) = value else { return format!("{:>8} {:<BAR$}", "-", "") };
    let share = (value.log10() / threshold.log10()).clamp(0.0, 1.0);
    let bar = "█".repeat((share * BAR as f64).floor() as usize);
    format!("{:>8} {bar:<BAR$}", number(value))
}

fn number(value: f64) -> String {
    if value < 100_000.0 { format!("{value:.2}") } else { format!("{value:.1e}") }
}
