//! The reference of a numeric feature.

use serde::{Deserialize, Serialize};

use super::{Edges, MIN_REFERENCE_ROWS, ReferenceError, edges::without_sign_of_zero, id::Fnv1a};
use crate::window::{MAX_WINDOW_ROWS, NumericCounts, NumericWindow};

/// Fraction bits of the shares in [`Expected`].
pub(crate) const SHARE_BITS: u32 = 32;

/// What a numeric feature looked like in the reference sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NumericForm", into = "NumericForm")]
pub struct NumericReference {
    edges: Edges,
    centre: f32,
    scale: f32,
    counts: NumericCounts,
    expected: Expected,
}

/// What a window without drift would count for each of its values, with [`SHARE_BITS`] fraction bits. Windows are sent
/// as differences from it, which are small.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expected {
    pub(crate) bins: Vec<u64>,
    pub(crate) moments: [i128; 4],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NumericForm {
    edges: Edges,
    centre: f32,
    scale: f32,
    counts: NumericCounts,
}

impl NumericReference {
    /// Cuts the reference of `feature` from a sample in any order. Values that are [`MISSING`](crate::window::MISSING),
    /// NaN or infinite are counted apart and shape no edge.
    ///
    /// # Errors
    /// With fewer than [`MIN_REFERENCE_ROWS`] finite values, or more than
    /// [`MAX_WINDOW_ROWS`] rows.
    pub fn from_sample(feature: &str, sample: &[f32]) -> Result<Self, ReferenceError> {
        let rows = sample.len() as u64;
        if rows > MAX_WINDOW_ROWS {
            return Err(ReferenceError::TooManyRows { feature: feature.to_owned(), rows });
        }
        let mut sorted: Vec<f32> = sample.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let usable = sorted.len() as u64;
        let too_few =
            || ReferenceError::TooFewRows { feature: feature.to_owned(), usable, unusable: rows - usable };
        if usable < MIN_REFERENCE_ROWS {
            return Err(too_few());
        }
        let edges = Edges::cut(&sorted).ok_or_else(too_few)?;
        let (centre, scale) = centre_and_scale(&sorted);
        // Counted as any window will be, so that the two agree on every convention.
        let mut window = NumericWindow::with(&edges, centre, scale);
        for &value in sample {
            // Room for every row was checked above.
            let _ = window.record(value);
        }
        let counts = window.seal();
        Ok(Self { expected: Expected::of(&counts), edges, centre, scale, counts })
    }

    /// Where the bins begin.
    #[must_use]
    pub fn edges(&self) -> &Edges {
        &self.edges
    }

    /// The mean of the sample as an `f32`: what moments are taken around, here and in every window.
    #[must_use]
    pub fn centre(&self) -> f32 {
        self.centre
    }

    /// The standard deviation of the sample as an `f32`: the unit of moments and of the Wasserstein distance. Where it
    /// is zero, or too small to divide by, the unit is 1.
    #[must_use]
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The counts of the sample itself.
    #[must_use]
    pub fn counts(&self) -> &NumericCounts {
        &self.counts
    }

    pub(crate) fn expected(&self) -> &Expected {
        &self.expected
    }

    pub(super) fn hash_into(&self, hash: &mut Fnv1a) {
        hash.text("numeric");
        let edges: Vec<u64> = self.edges.as_slice().iter().map(|edge| u64::from(edge.to_bits())).collect();
        hash.numbers(&edges);
        hash.numbers(&[u64::from(self.centre.to_bits()), u64::from(self.scale.to_bits())]);
        hash.numbers(self.counts.bins());
        for sum in self.counts.moments().sums() {
            hash.bytes(&sum.to_le_bytes());
        }
        let (lowest, highest) = self.counts.range().unwrap_or_default();
        hash.numbers(&[u64::from(lowest.to_bits()), u64::from(highest.to_bits())]);
        hash.numbers(&[self.counts.non_finite(), self.counts.missing(), self.counts.longest_run()]);
    }
}

/// Mean and standard deviation, computed in two passes because the first alone loses small deviations of large numbers.
fn centre_and_scale(finite: &[f32]) -> (f32, f32) {
    let count = finite.len() as f64;
    let mean = finite.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let centre = without_sign_of_zero(mean as f32);
    let variance = finite.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    let scale = variance.sqrt() as f32;
    (centre, if can_divide(scale) { scale } else { 1.0 })
}

fn can_divide(scale: f32) -> bool {
    scale.is_finite() && scale > 0.0 && scale.recip().is_normal()
}

impl Expected {
    fn of(counts: &NumericCounts) -> Self {
        let rows = u128::from(counts.finite().max(1));
        let share =
            |&count: &u64| u64::try_from((u128::from(count) << SHARE_BITS) / rows).unwrap_or(u64::MAX);
        let rows = i128::from(counts.finite().max(1));
        Self {
            bins: counts.bins().iter().map(share).collect(),
            moments: counts.moments().sums().map(|sum| (sum << SHARE_BITS) / rows),
        }
    }
}

impl TryFrom<NumericForm> for NumericReference {
    type Error = ReferenceError;
    fn try_from(form: NumericForm) -> Result<Self, ReferenceError> {
        let NumericForm { edges, centre, scale, counts } = form;
        let damaged = |what| ReferenceError::Damaged { what };
        if !centre.is_finite() || without_sign_of_zero(centre).to_bits() != centre.to_bits() {
            return Err(damaged("its centre is not a number"));
        }
        if !can_divide(scale) {
            return Err(damaged("its scale is not a positive number"));
        }
        counts.check(&edges).map_err(damaged)?;
        if counts.finite() < MIN_REFERENCE_ROWS {
            return Err(damaged("it counts fewer than 1000 values"));
        }
        let outside = counts.bins().first() != Some(&0) || counts.bins().last() != Some(&0);
        if outside {
            return Err(damaged("it counts values outside its own range"));
        }
        Ok(Self { expected: Expected::of(&counts), edges, centre, scale, counts })
    }
}

impl From<NumericReference> for NumericForm {
    fn from(reference: NumericReference) -> Self {
        let NumericReference { edges, centre, scale, counts, expected: _ } = reference;
        Self { edges, centre, scale, counts }
    }
}
