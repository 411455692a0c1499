//! How far counts are from their reference, each figure beside what it is without any drift.
//!
//! All four figures are computed from bins. Even where nothing drifts none of them is zero, because a window is a
//! sample: that is its **noise floor**, about the value to expect of `n` values against a reference of `m`. With 32 bins and
//! windows of a hundred the customary limits (PSI 0.2, Wasserstein 0.1) lie below it. So a [`Score`] is [`reportable`](Score::reportable)
//! only above twice its floor, and with [`MIN_SCORED_VALUES`] values. These figures are to look at and to compare with other
//! tools; they have no false alarm rate and are no default alarm.
//!
//! # Formulas
//! With shares `p` of the reference and `q` of the window in `B` bins that are not empty in both, and `r = 1/n + 1/m`:
//!
//! | figure | value | noise floor |
//! |---|---|---|
//! | PSI | Σ (q−p) ln(q/p), half a value added to each bin | (B−1) r |
//! | Jensen-Shannon distance, base 2 | √(Σ p log₂(2p/(p+q))/2 + q log₂(2q/(p+q))/2) | √((B−1) r / (8 ln 2)) |
//! | Kolmogorov-Smirnov distance on edges | max │P−Q│ | √(π/2) ln 2 √r |
//! | Wasserstein distance ÷ standard deviation | ∫ │P−Q│ dx / scale | √(2/π) ∫ √(P(1−P)) dx √r / scale |
//!
//! Half a value a bin keeps PSI finite where the reference has none (Krichevsky & Trofimov 1981). Values lie evenly in
//! their bin, so P and Q are straight between edges; the outermost reach
//! to the smallest and the largest value. For a normal
//! feature the last floor is the 1.29 √r of the literature; here it is computed of the reference's own shape. The floor of
//! Kolmogorov-Smirnov is that of a continuous feature (Kolmogorov 1933) and so a little high.
//!
//! Logarithms may differ between processors in their last bit: nothing that must replay is decided on them.

mod wasserstein;

#[cfg(test)]
mod tests;

use std::f64::consts::{FRAC_PI_2, LN_2};

use serde::{Deserialize, Serialize};

use crate::{
    categories::CategoryCounts,
    reference::{CategoryReference, NumericReference},
    window::NumericCounts,
};

/// Fewer values than this are not scored: in windows up to two hundred the usual limits flag noise, whatever the figure.
pub const MIN_SCORED_VALUES: u64 = 200;

/// How many floors a figure must reach to be worth showing.
const REPORTABLE_FLOORS: f64 = 2.0;

/// One figure and what it would be without drift.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The figure: 0 when window and reference are alike, larger with distance.
    pub value: f64,
    /// About its value when nothing drifted.
    pub noise_floor: f64,
    /// Above twice its floor, and of enough values. Anything else is not to be told from noise.
    pub reportable: bool,
}

/// The distances of a numeric feature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumericDistances {
    /// Population stability index.
    pub psi: Score,
    /// Jensen-Shannon distance, base 2: 0 to 1.
    pub jensen_shannon: Score,
    /// Kolmogorov-Smirnov distance at the edges: 0 to 1.
    pub kolmogorov_smirnov: Score,
    /// Wasserstein distance in standard deviations of the reference; in the feature's own unit when it is constant there.
    pub wasserstein: Score,
}

/// The distances of a feature with categories, which have no order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoryDistances {
    /// Population stability index.
    pub psi: Score,
    /// Jensen-Shannon distance, base 2: 0 to 1.
    pub jensen_shannon: Score,
}

/// How far `counts` are from the reference they were counted against. `None` without a finite value.
#[must_use]
pub fn of_numbers(reference: &NumericReference, counts: &NumericCounts) -> Option<NumericDistances> {
    let pair = Pair::of(reference.counts().bins(), counts.bins())?;
    Some(NumericDistances {
        psi: pair.psi(),
        jensen_shannon: pair.jensen_shannon(),
        kolmogorov_smirnov: pair.kolmogorov_smirnov(),
        wasserstein: pair.score(
            wasserstein::distance(reference, counts),
            wasserstein::noise(reference) * pair.sampling_error(),
        ),
    })
}

/// How far `counts` are from the reference they were counted against. `None` without a value.
#[must_use]
pub fn of_categories(reference: &CategoryReference, counts: &CategoryCounts) -> Option<CategoryDistances> {
    let pair = Pair::of(reference.counts().bins(), counts.bins())?;
    Some(CategoryDistances { psi: pair.psi(), jensen_shannon: pair.jensen_shannon() })
}

/// Bins that are not empty in both, and their sums.
struct Pair {
    /// Counts of the reference and of the window.
    bins: Vec<(f64, f64)>,
    reference_total: f64,
    window_total: f64,
}

impl Pair {
    fn of(reference: &[u64], window: &[u64]) -> Option<Self> {
        let both = reference.iter().zip(window).map(|(&ours, &theirs)| (ours as f64, theirs as f64));
        let bins: Vec<(f64, f64)> = both.filter(|&(ours, theirs)| ours + theirs > 0.0).collect();
        let (reference_total, window_total) =
            bins.iter().fold((0.0, 0.0), |(ours, theirs), bin| (ours + bin.0, theirs + bin.1));
        let both_count = reference.len() == window.len() && reference_total > 0.0 && window_total > 0.0;
        both_count.then_some(Self { bins, reference_total, window_total })
    }

    fn score(&self, value: f64, noise_floor: f64) -> Score {
        let enough = self.window_total >= MIN_SCORED_VALUES as f64;
        Score { value, noise_floor, reportable: enough && value > REPORTABLE_FLOORS * noise_floor }
    }

    /// 1/n + 1/m.
    fn inverse_sizes(&self) -> f64 {
        self.window_total.recip() + self.reference_total.recip()
    }

    fn sampling_error(&self) -> f64 {
        self.inverse_sizes().sqrt()
    }

    fn degrees(&self) -> f64 {
        (self.bins.len() - 1) as f64
    }

    fn psi(&self) -> Score {
        let added = 0.5 * self.bins.len() as f64;
        let value = self.bins.iter().map(|&(ours, theirs)| {
            let p = (ours + 0.5) / (self.reference_total + added);
            let q = (theirs + 0.5) / (self.window_total + added);
            (q - p) * (q / p).ln()
        });
        self.score(value.sum(), self.degrees() * self.inverse_sizes())
    }

    fn jensen_shannon(&self) -> Score {
        let divergence = self.bins.iter().map(|&(ours, theirs)| {
            let (p, q) = (ours / self.reference_total, theirs / self.window_total);
            0.5 * (half_divergence(p, q) + half_divergence(q, p))
        });
        // Rounding may leave a little below zero when they are alike.
        let value = divergence.sum::<f64>().max(0.0).sqrt();
        self.score(value, (self.degrees() * self.inverse_sizes() / (8.0 * LN_2)).sqrt())
    }

    fn kolmogorov_smirnov(&self) -> Score {
        let (mut ours, mut theirs, mut largest) = (0.0, 0.0, 0.0_f64);
        for bin in &self.bins {
            ours += bin.0;
            theirs += bin.1;
            largest = largest.max((ours / self.reference_total - theirs / self.window_total).abs());
        }
        self.score(largest, FRAC_PI_2.sqrt() * LN_2 * self.sampling_error())
    }
}

/// One bin's part of the divergence of `p` from the middle of `p` and `q`.
fn half_divergence(p: f64, q: f64) -> f64 {
    if p > 0.0 { p * (2.0 * p / (p + q)).log2() } else { 0.0 }
}
