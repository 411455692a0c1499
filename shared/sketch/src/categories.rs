//! Counting categories and classes against a reference.
//!
//! Bins are the categories of the reference in its order, and one more for values that it does not have: the
//! "unseen" bucket. What such values are called is not kept, so no text of an input leaves the device.

use serde::{Deserialize, Serialize};

use crate::{
    reference::CategoryReference,
    window::{MAX_WINDOW_ROWS, RecordError, check_window_rows, total},
};

/// What was counted of a feature with categories: in one window, in many, or in the reference sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoryCounts {
    /// Values of each category, and at the end of none of them.
    bins: Vec<u64>,
    /// Rows without a value.
    missing: u64,
}

impl CategoryCounts {
    /// Nothing counted yet, in `bins` bins.
    #[must_use]
    pub fn empty(bins: usize) -> Self {
        Self { bins: vec![0; bins], missing: 0 }
    }

    pub(crate) fn of(bins: Vec<u64>, missing: u64) -> Self {
        Self { bins, missing }
    }

    /// Values of each category, the unseen ones last. This is what detectors take.
    #[must_use]
    pub fn bins(&self) -> &[u64] {
        &self.bins
    }

    /// Number of values, whatever their category.
    #[must_use]
    pub fn seen(&self) -> u64 {
        total(&self.bins)
    }

    /// Number of values of a category that the reference does not have.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        self.bins.last().copied().unwrap_or(0)
    }

    /// Number of rows without a value.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Number of rows, with and without a value.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.seen().saturating_add(self.missing)
    }

    /// Adds what `other` counted against the same categories.
    pub(crate) fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.bins.len(), other.bins.len(), "counts of two references are never added");
        for (sum, more) in self.bins.iter_mut().zip(&other.bins) {
            *sum = sum.saturating_add(*more);
        }
        self.missing = self.missing.saturating_add(other.missing);
    }

    /// Rows of the window that counted this in `bins` bins. What cannot be, in words.
    pub(crate) fn check(&self, bins: usize) -> Result<u64, &'static str> {
        self.check_sum(bins)?;
        check_window_rows(self.rows())
    }

    /// Whether windows together can have.
    pub(crate) fn check_sum(&self, bins: usize) -> Result<(), &'static str> {
        if self.bins.len() != bins {
            return Err("it has not one count for each category and one for the others");
        }
        Ok(())
    }
}

/// Counts the values of one feature with categories.
#[derive(Debug, Clone)]
pub struct CategoryWindow {
    counts: CategoryCounts,
    rows: u64,
}

impl CategoryWindow {
    /// An empty window.
    #[must_use]
    pub fn new(reference: &CategoryReference) -> Self {
        Self { counts: CategoryCounts::empty(reference.names().len() + 1), rows: 0 }
    }

    /// Counts a value by its name in `reference`, the one that the window was made with; `None` is a missing value.
    ///
    /// # Errors
    /// When the window is full.
    pub fn record(&mut self, reference: &CategoryReference, name: Option<&str>) -> Result<(), RecordError> {
        match name {
            Some(name) => self.record_class(reference.bin_of(name)),
            None => {
                self.take_row()?;
                self.counts.missing += 1;
                Ok(())
            }
        }
    }

    /// Counts a value by its place in the reference, such as the class of a model. Places beyond the last are unseen.
    ///
    /// # Errors
    /// When the window is full.
    pub fn record_class(&mut self, class: usize) -> Result<(), RecordError> {
        self.take_row()?;
        let last = self.counts.bins.len() - 1;
        self.counts.bins[class.min(last)] += 1;
        Ok(())
    }

    /// Rows so far, with and without a value.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What was counted; the window starts over.
    pub fn seal(&mut self) -> CategoryCounts {
        self.rows = 0;
        let empty = CategoryCounts::empty(self.counts.bins.len());
        std::mem::replace(&mut self.counts, empty)
    }

    fn take_row(&mut self) -> Result<(), RecordError> {
        if self.rows >= MAX_WINDOW_ROWS {
            return Err(RecordError::Full);
        }
        self.rows += 1;
        Ok(())
    }
}
