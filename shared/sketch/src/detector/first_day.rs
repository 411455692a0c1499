//! Which devices were unlike their siblings from the first day?
//!
//! A device that is held against its own beginning never shows what was wrong there. So the beginnings are compared: for
//! each figure of the baselines the distance from the fleet's median in robust standard deviations (1.4826 times the median
//! absolute deviation; Rousseeuw & Croux 1993), to which the figure's own error is added. This is a comparison and not a test:
//! devices that see other things than their siblings are odd too.

use serde::{Deserialize, Serialize};

use super::{
    elementary,
    scores::{BadCounts, ScoreName, Scores, Shape, enough_rows},
};

/// A median of fewer baselines says little about a fleet.
const MIN_BASELINES: usize = 10;

/// Robust standard deviations that are odd. With fewer than 100 normal baselines the deviation itself is known to 12 %, so about
/// one device in 100,000 is this far off by chance.
const ODD: f64 = 5.0;

/// From the median absolute deviation to a normal one's standard deviation.
const TO_DEVIATION: f64 = 1.4826;

/// What is odd about a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// Its values are larger or smaller: mean log-odds of their rank in the reference.
    Level,
    /// They vary more or less; a frozen sensor does not vary. Standard deviation of the same.
    Variation,
    /// The share of a category, as its square root, which errs by the same amount for all shares.
    Share(ScoreName),
}

/// A baseline that is unlike the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OddBaseline {
    /// Which, by its place in what was given.
    pub index: usize,
    /// Where the distance is largest.
    pub oddity: Oddity,
    /// Robust standard deviations from the fleet's median, above or below.
    pub z: f64,
    /// The device's figure and the median.
    pub figure: f64,
    /// Of the fleet.
    pub median: f64,
}

struct Figure {
    value: f64,
    error: f64,
}

/// The baselines that are more than five robust standard deviations from the others, in the order given. None with fewer than
/// ten baselines.
///
/// # Errors
/// When counts are of another reference or of too few rows.
pub fn odd_baselines(scores: &Scores, baselines: &[&[u64]]) -> Result<Vec<OddBaseline>, BadCounts> {
    let figures = baselines.iter().map(|counts| figures(scores, counts)).collect::<Result<Vec<_>, _>>()?;
    if baselines.len() < MIN_BASELINES {
        return Ok(vec![]);
    }
    let mut odd: Vec<Option<OddBaseline>> = vec![None; baselines.len()];
    for (column, oddity) in oddities(scores).into_iter().enumerate() {
        let values: Vec<_> = figures.iter().map(|device| device[column].value).collect();
        let median = median(values.clone());
        let deviation =
            TO_DEVIATION * self::median(values.iter().map(|value| (value - median).abs()).collect());
        for (index, device) in figures.iter().enumerate() {
            let Figure { value, error } = device[column];
            let z = (value - median) / (deviation * deviation + error * error).sqrt();
            let found = &mut odd[index];
            if z.abs() > found.as_ref().map_or(ODD, |found| found.z.abs()) {
                *found = Some(OddBaseline { index, oddity, z, figure: value, median });
            }
        }
    }
    Ok(odd.into_iter().flatten().collect())
}

fn oddities(scores: &Scores) -> Vec<Oddity> {
    match scores.vocabulary {
        None => vec![Oddity::Level, Oddity::Variation],
        Some(_) => scores.scores.iter().map(|score| Oddity::Share(score.name)).collect(),
    }
}

fn figures(scores: &Scores, counts: &[u64]) -> Result<Vec<Figure>, BadCounts> {
    scores.check_bins(counts)?;
    let rows = enough_rows(counts)? as f64;
    if scores.vocabulary.is_none() {
        return Ok(level_and_variation(scores, counts, rows));
    }
    let share = |score: &super::scores::Score| match &score.shape {
        Shape::Share(_) => Figure { value: (score.sums(counts).0 / rows).sqrt(), error: 0.5 / rows.sqrt() },
        Shape::Graded(_) => Figure { value: score.sums(counts).0 / rows, error: 1.0 / rows.sqrt() },
    };
    Ok(scores.scores.iter().map(share).collect())
}

fn level_and_variation(scores: &Scores, counts: &[u64], rows: f64) -> Vec<Figure> {
    // What is outside of the range is as far out as one row in twice this many.
    const OUTERMOST: f64 = 0.000_05;
    let log_odds = |midrank: f64| {
        let u = midrank.clamp(OUTERMOST, 1.0 - OUTERMOST);
        elementary::ln(u / (1.0 - u))
    };
    let (mut sum, mut squares) = (0.0, 0.0);
    for (&midrank, &count) in scores.midranks.iter().zip(counts) {
        let value = log_odds(midrank);
        sum += value * count as f64;
        squares += value * value * count as f64;
    }
    let level = sum / rows;
    let variation = (squares / rows - level * level).max(0.0).sqrt();
    // Of log-odds, whose variance is π²/3 and whose kurtosis is 4.2 under the reference.
    let (level_error, variation_error) = (1.814 / rows.sqrt(), 1.62 / rows.sqrt());
    vec![Figure { value: level, error: level_error }, Figure { value: variation, error: variation_error }]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        even if even % 2 == 0 => 0.5 * (values[middle - 1] + values[middle]),
        _ => values[middle],
    }
}
