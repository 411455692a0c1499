//! Many values of one feature.

use super::{MAX_WINDOW_ROWS, NumericCounts, RecordError, column::Column, kernel::BLOCK};
use crate::reference::{Edges, NumericReference};

/// Counts the values of one feature against its reference, 128 at a time.
///
/// The benchmarks page says what a value costs. Recording one by one, in slices or in any mixture gives the same bits.
#[derive(Debug, Clone)]
pub struct NumericWindow {
    column: Column,
    /// Values that wait in the column.
    waiting: usize,
    rows: u64,
}

impl NumericWindow {
    /// An empty window.
    #[must_use]
    pub fn new(reference: &NumericReference) -> Self {
        Self { column: Column::new(reference), waiting: 0, rows: 0 }
    }

    pub(crate) fn with(edges: &Edges, centre: f32, scale: f32) -> Self {
        Self { column: Column::with(edges, centre, scale), waiting: 0, rows: 0 }
    }

    /// Counts one value; [`MISSING`](super::MISSING) counts as missing.
    ///
    /// # Errors
    /// When the window is full.
    pub fn record(&mut self, value: f32) -> Result<(), RecordError> {
        if self.rows >= MAX_WINDOW_ROWS {
            return Err(RecordError::Full);
        }
        self.column.put(self.waiting, value);
        self.advance(1);
        Ok(())
    }

    /// Counts values in the order in which they were seen.
    ///
    /// # Errors
    /// When the window has no room for all of them; then it counts none.
    pub fn record_all(&mut self, values: &[f32]) -> Result<(), RecordError> {
        if self.rows.saturating_add(values.len() as u64) > MAX_WINDOW_ROWS {
            return Err(RecordError::Full);
        }
        let mut rest = values;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.waiting));
            self.column.put_all(self.waiting, now);
            self.advance(now.len());
            rest = later;
        }
        Ok(())
    }

    /// Rows so far, with and without a value.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What was counted; the window starts over.
    pub fn seal(&mut self) -> NumericCounts {
        self.column.count(self.waiting);
        let counts = self.column.take(self.rows);
        (self.waiting, self.rows) = (0, 0);
        counts
    }

    fn advance(&mut self, values: usize) {
        self.rows += values as u64;
        self.waiting += values;
        if self.waiting == BLOCK {
            self.column.count(BLOCK);
            self.waiting = 0;
        }
    }
}
