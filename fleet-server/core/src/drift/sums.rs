//! Windows added up, without a memory of which: whoever adds has seen to it that each comes once.

use muster_sketch::{
    categories::CategoryCounts,
    window::{CountsError, FeatureCounts, NumericCounts, Window},
};
use serde::{Deserialize, Serialize};

/// The sum of windows that were counted against one reference. Adding is of integers, largest and smallest, so any order and any
/// number of partial sums give the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// How many.
    pub windows: u64,
    /// Earliest start, in milliseconds since 1970 by the devices' clocks.
    pub from_ms: u64,
    /// Latest end.
    pub to_ms: u64,
    /// Counts of each feature, in the order of the reference.
    pub features: Vec<FeatureCounts>,
}

impl Sums {
    /// Of one window.
    #[must_use]
    pub fn of(window: &Window) -> Self {
        let Window { from_ms, to_ms, features, .. } = window;
        Self { windows: 1, from_ms: *from_ms, to_ms: *to_ms, features: features.clone() }
    }

    /// Adds another sum.
    ///
    /// # Errors
    /// When it was counted against something else. Nothing changed.
    pub fn add(&mut self, other: &Self) -> Result<(), CountsError> {
        let mut pairs = self.features.iter().zip(&other.features);
        if self.features.len() != other.features.len() || !pairs.all(|(sum, more)| can_add(sum, more)) {
            return Err(CountsError::OtherReference);
        }
        for (sum, more) in self.features.iter_mut().zip(&other.features) {
            sum.merge(more)?;
        }
        self.windows = self.windows.saturating_add(other.windows);
        self.from_ms = self.from_ms.min(other.from_ms);
        self.to_ms = self.to_ms.max(other.to_ms);
        Ok(())
    }

    /// Takes out what was counted of the feature at `place`.
    pub fn strike(&mut self, place: usize) {
        let Some(counts) = self.features.get_mut(place) else { return };
        let bins = counts.bins().len();
        *counts = match counts {
            FeatureCounts::Numeric(_) => FeatureCounts::Numeric(NumericCounts::empty(bins)),
            FeatureCounts::Category(_) => FeatureCounts::Category(CategoryCounts::empty(bins)),
        };
    }

    /// Rows in them, with and without a value.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.features.iter().map(FeatureCounts::rows).max().unwrap_or(0)
    }
}

/// Asked of all before anything is added, so that a sum is never half of one.
fn can_add(one: &FeatureCounts, other: &FeatureCounts) -> bool {
    one.bins().len() == other.bins().len() && std::mem::discriminant(one) == std::mem::discriminant(other)
}
