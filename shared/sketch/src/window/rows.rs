//! One value of each numeric feature, an inference at a time.

use super::{
    MAX_WINDOW_ROWS, NumericCounts, RecordError,
    column::{Column, EMPTY},
    kernel::{BLOCK, Block},
};
use crate::reference::NumericReference;

/// Counts rows of numeric features, each against its own reference.
///
/// A row is only put down; every 128th row counts them all, which takes some microseconds. So an edge is loaded once for 128
/// values and not for each row. The benchmarks page has the cost of a row of 32 features.
/// Memory: under two kilobytes a feature, its reference's edges included.
#[derive(Debug, Clone)]
pub struct RowWindow {
    columns: Vec<Column>,
    /// The rows of a block, each as long as `width`.
    values: Vec<f32>,
    /// A value for each column, and what fills up the last [`TURNED`].
    width: usize,
    /// Rows that wait to be counted.
    waiting: usize,
    rows: u64,
}

/// Columns that are taken out of the rows together: as many numbers as the narrowest vectors have, so that a load takes a
/// value of each, and a store four of one.
const TURNED: usize = 4;

impl RowWindow {
    /// An empty window over features in the order of the rows.
    #[must_use]
    pub fn new<'a>(features: impl IntoIterator<Item = &'a NumericReference>) -> Self {
        let columns: Vec<Column> = features.into_iter().map(Column::new).collect();
        let width = columns.len().next_multiple_of(TURNED);
        Self { columns, values: vec![0.0; width * BLOCK], width, waiting: 0, rows: 0 }
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
        let place = self.waiting * self.width;
        self.values[place..place + row.len()].copy_from_slice(row);
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

    fn count_block(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut blocks = [EMPTY; TURNED];
        for (place, columns) in self.columns.chunks_mut(TURNED).enumerate() {
            turn(&self.values, self.width, place * TURNED, &mut blocks);
            columns.iter_mut().zip(&mut blocks).for_each(|(column, block)| column.count(block, waiting));
        }
    }
}

/// Takes the columns from `first` on out of rows of `width` values.
fn turn(values: &[f32], width: usize, first: usize, blocks: &mut [Block; TURNED]) {
    for (place, rows) in values.chunks_exact(width * TURNED).enumerate() {
        let tile = [0, 1, 2, 3].map(|row| rows[row * width + first..].first_chunk::<TURNED>());
        let [Some(a), Some(b), Some(c), Some(d)] = tile else { return }; // never: `width` is a multiple
        for (column, block) in blocks.iter_mut().enumerate() {
            block.as_chunks_mut::<TURNED>().0[place] = [a[column], b[column], c[column], d[column]];
        }
    }
}
