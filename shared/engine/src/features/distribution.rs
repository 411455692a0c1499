//! What a classifier's answer says of itself.

/// Of one row of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Distribution {
    /// The largest probability, 0 to 1.
    pub(super) confidence: f32,
    /// Of the probabilities, in nats.
    pub(super) entropy: f32,
    /// The place of the largest, the first of several.
    pub(super) top_class: usize,
}

/// Probabilities add up to 1 but for this: what FP16 and eight bit quantisation lose over many classes.
const TOLERANCE: f64 = 0.01;

impl Distribution {
    /// Of a row of probabilities, or of scores whose softmax is taken. `None` without numbers, or where one is NaN or
    /// infinite.
    pub(super) fn of(row: &[f32]) -> Option<Self> {
        if row.is_empty() || !row.iter().all(|value| value.is_finite()) {
            return None;
        }
        let top_class =
            (1..row.len()).fold(0, |best, place| if row[place] > row[best] { place } else { best });
        let shares =
            if are_shares(row) { normed(row.iter().map(|&share| f64::from(share))) } else { softmax(row) };
        let entropy: f64 = shares.iter().filter(|&&share| share > 0.0).map(|share| -share * share.ln()).sum();
        #[allow(clippy::cast_possible_truncation)] // figures are counted as FP32
        let (confidence, entropy) = (shares[top_class].min(1.0) as f32, entropy as f32);
        Some(Self { confidence, entropy, top_class })
    }
}

fn are_shares(row: &[f32]) -> bool {
    let sum: f64 = row.iter().map(|&share| f64::from(share)).sum();
    row.iter().all(|share| *share >= 0.0) && (sum - 1.0).abs() <= TOLERANCE
}

fn softmax(row: &[f32]) -> Vec<f64> {
    let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    normed(row.iter().map(|&score| (f64::from(score) - largest).exp()))
}

fn normed(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}
