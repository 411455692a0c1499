//! Many values of one feature.

use super::{
    MAX_WINDOW_ROWS, NumericCounts, RecordError,
    column::{Column, EMPTY},
    kernel::{BLOCK, Block},
};
use crate::reference::{Edges, NumericReference};

/// Counts the values of one feature against its reference, 128 at a time.
///
/// The benchmarks page says what a value costs. Recording one by one, in slices or in any mixture gives the same bits.
#[derive(Debug, Clone)]
pub struct NumericWindow {
    column: Column,
    block: Box<Block>,
    /// Values that wait in the block.
    waiting: usize,
    rows: u64,
}

impl NumericWindow {
    /// An empty window.
    #[must_use]
    pub fn new(reference: &NumericReference) -> Self {
        Self::with(reference.edges(), reference.centre(), reference.scale())
    }

    pub(crate) fn with(edges: &Edges, centre: f32, scale: f32) -> Self {
        let column = Column::with(edges, centre, scale);
        Self { column, block: Box::new(EMPTY), waiting: 0, rows: 0 }
    }

    /// Counts one value; [`MISSING`](super::MISSING) counts as missing.
    ///
    /// # Errors
    /// When the window is full.
    pub fn record(&mut self, value: f32) -> Result<(), RecordError> {
        if self.rows >= MAX_WINDOW_ROWS {
            return Err(RecordError::Full);
        }
        self.block[self.waiting] = value;
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
            self.block[self.waiting..self.waiting + now.len()].copy_from_slice(now);
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
        self.column.count(&mut self.block, self.waiting);
        let counts = self.column.take(self.rows);
        (self.waiting, self.rows) = (0, 0);
        counts
    }

    fn advance(&mut self, values: usize) {
        self.rows += values as u64;
        self.waiting += values;
        if self.waiting == BLOCK {
            self.column.count(&mut self.block, BLOCK);
            self.waiting = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_takes_no_more_until_it_is_sealed() {
        let reference = NumericReference::from_sample("a", &[1.0; 1_000]).unwrap();
        let mut window = NumericWindow::new(&reference);
        window.rows = MAX_WINDOW_ROWS - 2;
        assert_eq!(window.record_all(&[1.0; 3]), Err(RecordError::Full));
        window.record_all(&[1.0; 2]).unwrap();
        assert_eq!(window.record(1.0), Err(RecordError::Full));
        window.seal();
        assert_eq!(window.record(1.0), Ok(()));
    }
}
