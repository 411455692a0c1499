//! One value of each numeric feature, an inference at a time.

use super::{
    MAX_WINDOW_ROWS, NumericCounts, RecordError,
    column::{Column, EMPTY},
    kernel::{BLOCK, Block},
};
use crate::reference::NumericReference;

/// Counts rows of numeric features, each against its own reference.
///
/// A row is only put down, in a block for each feature; every 128th row counts them all, which takes some microseconds. So an
/// edge is loaded once for 128 values and not for each row. The benchmarks page has the cost of a row of 32 features.
/// Memory: under a kilobyte a feature, its reference's edges included.
#[derive(Debug, Clone)]
pub struct RowWindow {
    columns: Vec<Column>,
    /// One for each column.
    blocks: Vec<Block>,
    /// Rows that wait in the blocks.
    waiting: usize,
    rows: u64,
}

impl RowWindow {
    /// An empty window over features in the order of the rows.
    #[must_use]
    pub fn new<'a>(features: impl IntoIterator<Item = &'a NumericReference>) -> Self {
        let columns: Vec<Column> = features.into_iter().map(Column::new).collect();
        Self { blocks: vec![EMPTY; columns.len()], columns, waiting: 0, rows: 0 }
    }

    /// Counts one row: a value for each feature, [`MISSING`](super::MISSING) where there is none.
    ///
    /// # Errors
    /// When it has another number of values, or when the window is full.
    pub fn record(&mut self, row: &[f32]) -> Result<(), RecordError> {
        if row.len() != self.columns.len() {
            return Err(RecordError::WrongLength { given: row.len(), features: self.columns.len() });
        }
        if self.rows >= MAX_WINDOW_ROWS {
            return Err(RecordError::Full);
        }
        // Without short-circuit, so that it is a few vector instructions.
        if row.iter().fold(true, |all, value| all & value.is_finite()) {
            let place = self.waiting;
            self.blocks.iter_mut().zip(row).for_each(|(block, &value)| block[place] = value);
        } else {
            self.put_with_gaps(row);
        }
        self.rows += 1;
        self.waiting += 1;
        if self.waiting == BLOCK {
            self.count_block();
        }
        Ok(())
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What was counted of each feature; the window starts over.
    pub fn seal(&mut self) -> Vec<NumericCounts> {
        self.count_block();
        let rows = std::mem::take(&mut self.rows);
        self.columns.iter_mut().map(|column| column.take(rows)).collect()
    }

    fn put_with_gaps(&mut self, row: &[f32]) {
        let cells = self.columns.iter_mut().zip(&mut self.blocks).zip(row);
        cells.for_each(|((column, block), &value)| column.put(&mut block[self.waiting], value));
    }

    fn count_block(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let pairs = self.columns.iter_mut().zip(&mut self.blocks);
        pairs.for_each(|(column, block)| column.count(block, waiting));
    }
}
