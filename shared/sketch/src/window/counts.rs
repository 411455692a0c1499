//! What was counted of a numeric feature.

use serde::{Deserialize, Serialize};

use super::{MAX_WINDOW_ROWS, Moments};
use crate::reference::Edges;

/// What was counted of a numeric feature: in one window, in many, or in the reference sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumericCounts {
    /// Finite values in each bin of the reference's edges.
    bins: Vec<u64>,
    /// Powers of their deviations from the reference's mean.
    moments: Moments,
    /// Smallest and largest finite value.
    #[serde(with = "range_as_base64")]
    range: Option<(f32, f32)>,
    /// Values that were NaN or infinite.
    non_finite: u64,
    /// Rows without a value.
    missing: u64,
    /// Most identical finite values in a row.
    longest_run: u64,
}

impl NumericCounts {
    /// Nothing counted yet, in `bins` bins.
    #[must_use]
    pub fn empty(bins: usize) -> Self {
        Self {
            bins: vec![0; bins],
            moments: Moments::default(),
            range: None,
            non_finite: 0,
            missing: 0,
            longest_run: 0,
        }
    }

    pub(super) fn of(bins: Vec<u64>, moments: Moments, range: Option<(f32, f32)>) -> Self {
        Self { bins, moments, range, non_finite: 0, missing: 0, longest_run: 0 }
    }

    pub(super) fn with_quality(self, non_finite: u64, missing: u64, longest_run: u64) -> Self {
        Self { non_finite, missing, longest_run, ..self }
    }

    /// Finite values in each bin, from below the range of the reference to above it. This is what detectors take.
    #[must_use]
    pub fn bins(&self) -> &[u64] {
        &self.bins
    }

    /// Powers of the finite values' deviations from the reference's mean.
    #[must_use]
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Smallest and largest finite value.
    #[must_use]
    pub fn range(&self) -> Option<(f32, f32)> {
        self.range
    }

    /// Number of finite values: those in bins.
    #[must_use]
    pub fn finite(&self) -> u64 {
        total(&self.bins)
    }

    /// Number of values that were NaN or infinite.
    #[must_use]
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// Number of rows without a value.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Number of rows, with and without a value.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.finite().saturating_add(self.non_finite).saturating_add(self.missing)
    }

    /// Finite values below or above everything in the reference.
    #[must_use]
    pub fn outside(&self) -> u64 {
        let below = self.bins.first().copied().unwrap_or(0);
        let above = if self.bins.len() > 1 { self.bins.last().copied().unwrap_or(0) } else { 0 };
        below.saturating_add(above)
    }

    /// Most identical finite values in a row, within one window. A missing or non-finite value ends a run.
    #[must_use]
    pub fn longest_run(&self) -> u64 {
        self.longest_run
    }

    /// Adds what `other` counted against the same edges. Associative and commutative to the bit.
    ///
    /// # Panics
    /// Never on counts of one reference; in debug builds on counts of different numbers of bins.
    pub(super) fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.bins.len(), other.bins.len(), "counts of two references are never added");
        add_each(&mut self.bins, &other.bins);
        self.moments.merge(&other.moments);
        self.range = match (self.range, other.range) {
            (Some((lowest, highest)), Some((low, high))) => Some((lowest.min(low), highest.max(high))),
            (ours, theirs) => ours.or(theirs),
        };
        self.non_finite = self.non_finite.saturating_add(other.non_finite);
        self.missing = self.missing.saturating_add(other.missing);
        self.longest_run = self.longest_run.max(other.longest_run);
    }

    /// Rows of the window that counted this against `edges`. What cannot be, in words.
    pub(crate) fn check(&self, edges: &Edges) -> Result<u64, &'static str> {
        let finite = self.finite();
        self.check_with(finite, edges)?;
        check_window_rows(finite.saturating_add(self.non_finite).saturating_add(self.missing))
    }

    /// Whether windows together can have.
    pub(crate) fn check_sum(&self, edges: &Edges) -> Result<(), &'static str> {
        self.check_with(self.finite(), edges)
    }

    /// Whether a window with as many rows as these can have. What cannot be, in words.
    pub(super) fn check_of(&self, rows: u64, edges: &Edges) -> Result<(), &'static str> {
        self.check_with(rows - self.non_finite - self.missing, edges)
    }

    fn check_with(&self, finite: u64, edges: &Edges) -> Result<(), &'static str> {
        if self.bins.len() != edges.bins() {
            return Err("it has not one count for each bin");
        }
        if !self.moments.are_possible(finite) {
            return Err("its moments are larger than its values can be");
        }
        let shortest_run = u64::from(finite > 0);
        if !(shortest_run..=finite).contains(&self.longest_run) {
            return Err("its longest run is not a part of its values");
        }
        self.check_range(edges)
    }

    fn check_range(&self, edges: &Edges) -> Result<(), &'static str> {
        let is_filled = |count: &u64| *count > 0;
        let filled = self.bins.iter().position(is_filled).zip(self.bins.iter().rposition(is_filled));
        let fits = match (filled, self.range) {
            (None, None) => true,
            (Some((lowest_bin, highest_bin)), Some((lowest, highest))) => {
                lowest <= highest && edges.has_in(lowest_bin, lowest) && edges.has_in(highest_bin, highest)
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        if fits { Ok(()) } else { Err("its smallest and largest value do not lie in its bins") }
    }
}

pub(crate) fn check_window_rows(rows: u64) -> Result<u64, &'static str> {
    if rows > MAX_WINDOW_ROWS { Err("it counts more rows than a window holds") } else { Ok(rows) }
}

/// The sum of counts, which can be any where they come from outside.
pub(crate) fn total(bins: &[u64]) -> u64 {
    // Whether the sum can overflow is asked once for all, because adding with care is no vector instruction.
    let bits = bins.iter().fold(0, |bits, count| bits | count);
    if bits <= u64::from(u32::MAX) && bins.len() <= u32::MAX as usize {
        return bins.iter().sum();
    }
    bins.iter().fold(0, |sum, &count| sum.saturating_add(count))
}

/// Adds counts to others, which can be any where they come from outside.
fn add_each(sums: &mut [u64], more: &[u64]) {
    // As above.
    let bits = sums.iter().zip(more).fold(0, |bits, (sum, more)| bits | sum | more);
    if bits <= u64::MAX / 2 {
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    } else {
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
    }
}

/// A range as the base64 of its two numbers, or of none.
mod range_as_base64 {
    use serde::{Deserializer, Serializer, de::Error as _};

    use crate::reference::f32s_as_base64;

    pub(super) fn serialize<S: Serializer>(
        range: &Option<(f32, f32)>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let numbers = range.map_or_else(Vec::new, |(lowest, highest)| vec![lowest, highest]);
        f32s_as_base64::serialize(&numbers, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<(f32, f32)>, D::Error> {
        match *f32s_as_base64::deserialize(deserializer)? {
            [] => Ok(None),
            [lowest, highest] => Ok(Some((lowest, highest))),
            _ => Err(D::Error::custom("expected the smallest and the largest value, or nothing")),
        }
    }
}
