//! All features of a reference together.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    CLIP, CountsError, MAX_WINDOW_ROWS, MIN_WINDOW_ROWS, Moments, NumericCounts, RecordError, RowWindow,
    UNITS_PER_ONE,
};
use crate::{
    categories::{CategoryCounts, CategoryWindow},
    reference::{NumericReference, Reference, ReferenceValues},
};

/// What was counted of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureCounts {
    /// Of numbers.
    Numeric(NumericCounts),
    /// Of categories.
    Category(CategoryCounts),
}

impl FeatureCounts {
    /// Nothing counted yet of a feature like `reference`.
    #[must_use]
    pub fn empty(reference: &ReferenceValues) -> Self {
        match reference {
            ReferenceValues::Numeric(numeric) => Self::Numeric(NumericCounts::empty(numeric.edges().bins())),
            ReferenceValues::Category(category) => {
                Self::Category(CategoryCounts::empty(category.names().len() + 1))
            }
        }
    }

    /// Values in each bin: what detectors take.
    #[must_use]
    pub fn bins(&self) -> &[u64] {
        match self {
            Self::Numeric(numeric) => numeric.bins(),
            Self::Category(category) => category.bins(),
        }
    }

    /// Number of rows, with and without a value.
    #[must_use]
    pub fn rows(&self) -> u64 {
        match self {
            Self::Numeric(numeric) => numeric.rows(),
            Self::Category(category) => category.rows(),
        }
    }

    /// Adds what `other` counted of the same feature: integer addition, so the same bits in any order. Counts do not carry
    /// their reference; two with as many bins of the same kind are told apart only by the id that is kept beside them.
    ///
    /// # Errors
    /// When they are of another kind or have another number of bins. Nothing was added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), CountsError> {
        let same_bins = self.bins().len() == other.bins().len();
        match (self, other) {
            (Self::Numeric(sum), Self::Numeric(more)) if same_bins => sum.merge(more),
            (Self::Category(sum), Self::Category(more)) if same_bins => sum.merge(more),
            (Self::Numeric(_) | Self::Category(_), Self::Numeric(_) | Self::Category(_)) => {
                return Err(CountsError::OtherReference);
            }
        }
        Ok(())
    }

    /// Whether windows of a feature like `reference` can have counted this, however many: for counts that were stored and read
    /// again.
    ///
    /// # Errors
    /// When it has another kind or other bins, or numbers that do not fit each other.
    pub fn check(&self, reference: &ReferenceValues) -> Result<(), CountsError> {
        if !self.has_bins_of(reference) {
            return Err(CountsError::OtherReference);
        }
        let checked = match (self, reference) {
            (Self::Numeric(counts), ReferenceValues::Numeric(numeric)) => counts.check_sum(numeric.edges()),
            (Self::Category(counts), ReferenceValues::Category(category)) => {
                counts.check_sum(category.names().len() + 1)
            }
            (Self::Numeric(_), ReferenceValues::Category(_))
            | (Self::Category(_), ReferenceValues::Numeric(_)) => Ok(()), // was ruled out above
        };
        checked.map_err(|what| CountsError::Implausible { what })
    }

    /// Hides the values of a window that has rows enough and few values of this feature: moments, smallest and largest of fewer
    /// than [`MIN_WINDOW_ROWS`] values are those values, and a run as long as they are many says that they are one. What is told
    /// instead follows from the bins alone; how many values are missing or not finite is told as counted.
    pub fn hide_few(&mut self, reference: &ReferenceValues) {
        if !self.has_bins_of(reference) {
            return;
        }
        if let (Self::Numeric(counts), ReferenceValues::Numeric(numeric)) = (self, reference)
            && (1..MIN_WINDOW_ROWS).contains(&counts.finite())
        {
            *counts = told_by_bins(counts, numeric);
        }
    }

    /// Whether this has the bins of a feature like `reference`.
    pub(super) fn has_bins_of(&self, reference: &ReferenceValues) -> bool {
        let same_kind = match (self, reference) {
            (Self::Numeric(_), ReferenceValues::Numeric(_))
            | (Self::Category(_), ReferenceValues::Category(_)) => true,
            (Self::Numeric(_), ReferenceValues::Category(_))
            | (Self::Category(_), ReferenceValues::Numeric(_)) => false,
        };
        same_kind && self.bins().len() == reference.bins().len()
    }

    /// Whether a window with `rows` rows, as many as these are, can have counted this of a feature like `reference`, whose
    /// bins it has. What cannot be, in words.
    pub(super) fn check_of(&self, rows: u64, reference: &ReferenceValues) -> Result<(), &'static str> {
        match (self, reference) {
            (Self::Numeric(counts), ReferenceValues::Numeric(numeric)) => {
                counts.check_of(rows, numeric.edges())
            }
            (Self::Category(_), ReferenceValues::Category(_)) => Ok(()),
            (Self::Numeric(_), ReferenceValues::Category(_))
            | (Self::Category(_), ReferenceValues::Numeric(_)) => Err("it is of another kind"),
        }
    }

    /// Rows of the window that counted this of a feature like `reference`. What cannot be, in words.
    pub(super) fn check_window(&self, reference: &ReferenceValues) -> Result<u64, &'static str> {
        match (self, reference) {
            (Self::Numeric(counts), ReferenceValues::Numeric(numeric)) => counts.check(numeric.edges()),
            (Self::Category(counts), ReferenceValues::Category(category)) => {
                counts.check(category.names().len() + 1)
            }
            (Self::Numeric(_), ReferenceValues::Category(_))
            | (Self::Category(_), ReferenceValues::Numeric(_)) => Err("it is of another kind"),
        }
    }
}

/// The same counts with the moments of values in the middle of their bins, between the ends of the outermost bins, and the
/// longest run that these bins allow.
fn told_by_bins(counts: &NumericCounts, reference: &NumericReference) -> NumericCounts {
    let bins = counts.bins().iter().enumerate().filter(|(_, count)| **count > 0);
    let (mut sums, mut range) = ([0; 4], None);
    for (bin, &count) in bins {
        let (low, high) = ends_of(reference.edges().as_slice(), bin);
        range = Some((range.map_or(low, |(lowest, _)| lowest), high));
        let middle = f64::midpoint(low.into(), high.into());
        let apart = (middle - f64::from(reference.centre())) / f64::from(reference.scale());
        let apart = apart.clamp(-f64::from(CLIP), CLIP.into());
        for (power, sum) in (1..).zip(&mut sums) {
            *sum += (count as f64 * UNITS_PER_ONE as f64 * apart.powi(power)).round() as i128;
        }
    }
    let told = NumericCounts::of(counts.bins().to_vec(), Moments::of(sums), range);
    let longest_run = counts.bins().iter().copied().max().unwrap_or_default();
    told.with_quality(counts.non_finite(), counts.missing(), longest_run)
}

/// The smallest and the largest value of a bin; of one without an end, the value at its only end, twice.
fn ends_of(edges: &[f32], bin: usize) -> (f32, f32) {
    let low = bin.checked_sub(1).and_then(|before| edges.get(before)).copied();
    let high = edges.get(bin).map(|next| next.next_down());
    (low.or(high).unwrap_or_default(), high.or(low).unwrap_or_default())
}

/// Counts the rows of a model against its reference, one an inference.
#[derive(Debug, Clone)]
pub struct FeatureWindow {
    reference: Arc<Reference>,
    numbers: RowWindow,
    /// In the order of the reference's features with categories.
    categories: Vec<CategoryWindow>,
    rows: u64,
}

impl FeatureWindow {
    /// An empty window.
    #[must_use]
    pub fn new(reference: Arc<Reference>) -> Self {
        let numbers = RowWindow::new(reference.numeric());
        let categories = reference.categories().map(CategoryWindow::new).collect();
        Self { reference, numbers, categories, rows: 0 }
    }

    /// What the rows are counted against.
    #[must_use]
    pub fn reference(&self) -> &Arc<Reference> {
        &self.reference
    }

    /// Counts one row: `numbers` has a value for each numeric feature ([`MISSING`](super::MISSING) where there is none),
    /// `categories` one for each of the others, both in the order of the reference.
    ///
    /// # Errors
    /// When either has another number of values, or when the window is full. Nothing is counted then.
    pub fn record(&mut self, numbers: &[f32], categories: &[Option<&str>]) -> Result<(), RecordError> {
        self.check_room(categories.len())?;
        self.numbers.record(numbers)?;
        let windows = self.categories.iter_mut().zip(self.reference.categories());
        for ((window, reference), name) in windows.zip(categories) {
            window.record(reference, *name)?;
        }
        self.rows += 1;
        Ok(())
    }

    /// As [`record`](Self::record), with the place of each category in its reference instead of its name: `None` is a missing
    /// value, and a place beyond the last category is unseen.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub fn record_places(&mut self, numbers: &[f32], places: &[Option<usize>]) -> Result<(), RecordError> {
        self.check_room(places.len())?;
        self.numbers.record(numbers)?;
        let windows = self.categories.iter_mut().zip(self.reference.categories());
        for ((window, reference), place) in windows.zip(places) {
            match place {
                Some(place) => window.record_class(*place)?,
                None => window.record(reference, None)?,
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn check_room(&self, given: usize) -> Result<(), RecordError> {
        let features = self.categories.len();
        if given != features {
            return Err(RecordError::WrongLength { given, features });
        }
        if self.rows >= MAX_WINDOW_ROWS { Err(RecordError::Full) } else { Ok(()) }
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What was counted of each feature, in the order of the reference; the window starts over. `None`, and the window goes
    /// on, with fewer than [`MIN_WINDOW_ROWS`] rows.
    pub fn seal(&mut self) -> Option<Vec<FeatureCounts>> {
        if self.rows < MIN_WINDOW_ROWS {
            return None;
        }
        self.rows = 0;
        let mut numbers = self.numbers.seal().into_iter();
        let mut categories = self.categories.iter_mut().map(CategoryWindow::seal);
        let of_feature = |values: &ReferenceValues| {
            let counts = match values {
                ReferenceValues::Numeric(_) => numbers.next().map(FeatureCounts::Numeric),
                ReferenceValues::Category(_) => categories.next().map(FeatureCounts::Category),
            };
            counts.unwrap_or_else(|| FeatureCounts::empty(values))
        };
        Some(self.reference.features().iter().map(|feature| &feature.values).map(of_feature).collect())
    }
}
