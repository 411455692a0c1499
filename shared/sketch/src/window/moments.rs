//! Power sums that add up to the same bits in any order.

use serde::{Deserialize, Serialize};

/// Deviations beyond this many standard deviations of the reference count as that many. One broken value then moves a
/// mean by what an outlier weighs, not by its exponent, and sums have a bound.
pub const CLIP: f32 = 16.0;

/// Sums are integers of this many to the unit. Rounding happens once for each block of values, so it is a ten-thousandth of
/// a standard deviation at most.
pub const UNITS_PER_ONE: i128 = 256;

/// Sums of the first four powers of `(value - centre) / scale`, with centre and scale of the reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moments {
    sums: [i128; 4],
}

impl Moments {
    pub(super) fn of(sums: [i128; 4]) -> Self {
        Self { sums }
    }

    /// Sums of the powers 1 to 4, [`UNITS_PER_ONE`] to the unit.
    #[must_use]
    pub fn sums(&self) -> [i128; 4] {
        self.sums
    }

    /// Adds the sums of `other`. Never overflows: 2^63 windows would be needed.
    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            *sum = sum.saturating_add(more);
        }
    }

    /// The mean of `count` values, as standard deviations of the reference away from its mean. `None` without values.
    #[must_use]
    pub fn mean(&self, count: u64) -> Option<f64> {
        self.raw(count).map(|[mean, ..]| mean)
    }

    /// Their standard deviation, as a multiple of the reference's. `None` without values.
    #[must_use]
    pub fn standard_deviation(&self, count: u64) -> Option<f64> {
        self.raw(count).map(|[mean, square, ..]| (square - mean * mean).max(0.0).sqrt())
    }

    /// Their skewness: 0 when symmetric. `None` without values or spread.
    #[must_use]
    pub fn skewness(&self, count: u64) -> Option<f64> {
        let [mean, square, cube, _] = self.raw(count)?;
        let variance = spread(mean, square)?;
        Some((cube - 3.0 * mean * square + 2.0 * mean * mean * mean) / (variance * variance.sqrt()))
    }

    /// Their kurtosis: 3 when normal. `None` without values or spread.
    #[must_use]
    pub fn kurtosis(&self, count: u64) -> Option<f64> {
        let [mean, square, cube, fourth] = self.raw(count)?;
        let variance = spread(mean, square)?;
        let mean_square = mean * mean;
        let central =
            fourth - 4.0 * mean * cube + 6.0 * mean_square * square - 3.0 * mean_square * mean_square;
        Some(central / (variance * variance))
    }

    /// Whether `count` values can have these sums.
    pub(super) fn are_possible(&self, count: u64) -> bool {
        let mut most = i128::from(count) * UNITS_PER_ONE;
        self.sums.iter().enumerate().all(|(power, &sum)| {
            most *= CLIP as i128;
            let least = if power % 2 == 0 { -most } else { 0 };
            (least..=most).contains(&sum)
        })
    }

    fn raw(&self, count: u64) -> Option<[f64; 4]> {
        let total = count as f64 * UNITS_PER_ONE as f64;
        (count > 0).then(|| self.sums.map(|sum| sum as f64 / total))
    }
}

/// The variance, where there is any beyond rounding.
fn spread(mean: f64, square: f64) -> Option<f64> {
    let variance = square - mean * mean;
    (variance > 1e-9).then_some(variance)
}
