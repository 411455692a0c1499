//! What is counted of one feature, a block at a time.

use super::{
    Moments, NumericCounts, is_missing,
    kernel::{BLOCK, Block, Counters},
    processor,
    run::Run,
};
use crate::reference::{Edges, NumericReference};

/// Counts one feature. Whoever owns it also owns the block in which values wait: rows keep those of all features together,
/// so that putting one down is a store for each feature and nothing else.
#[derive(Debug, Clone)]
pub(super) struct Column {
    counters: Counters,
    run: Run,
    missing: u64,
}

/// A block with nothing in it.
pub(super) const EMPTY: Block = [f32::NAN; BLOCK];

impl Column {
    pub(super) fn new(reference: &NumericReference) -> Self {
        Self::with(reference.edges(), reference.centre(), reference.scale())
    }

    pub(super) fn with(edges: &Edges, centre: f32, scale: f32) -> Self {
        Self { counters: Counters::new(edges.as_slice(), centre, scale), run: Run::new(), missing: 0 }
    }

    /// Counts the first `filled` values of a block, which may be any.
    pub(super) fn count(&mut self, block: &mut Block, filled: usize) {
        processor::count(self, block, filled);
    }

    /// The same, for whatever processor the caller is compiled for.
    #[inline(always)]
    pub(super) fn count_plainly(&mut self, block: &mut Block, filled: usize) {
        block[filled..].fill(f32::NAN);
        // Without short-circuit and in whole words, so that it is a vector instruction or two for several values.
        let odd = block.iter().fold(0, |any, value| any | u32::from(!value.is_finite()));
        let gaps = if odd == 0 { 0 } else { self.set_gaps_aside(&mut block[..filled]) };
        self.run.follow(block);
        // Both are at most a block.
        self.counters.count(block, filled as u32 - gaps);
    }

    /// Counts what is missing, and makes NaN of all that is not finite. How many that is.
    #[cold]
    fn set_gaps_aside(&mut self, values: &mut [f32]) -> u32 {
        let mut gaps = 0;
        for value in values.iter_mut().filter(|value| !value.is_finite()) {
            self.missing += u64::from(is_missing(*value));
            *value = f32::NAN;
            gaps += 1;
        }
        gaps
    }

    /// What was counted in `rows` rows; the column starts over.
    pub(super) fn take(&mut self, rows: u64) -> NumericCounts {
        let finite = self.counters.finite();
        let longest_run = if finite > 0 { self.run.longest() } else { 0 };
        let moments = Moments::of(self.counters.sums());
        let counts = NumericCounts::of(self.counters.bins(), moments, self.counters.range());
        let counts = counts.with_quality(rows - finite - self.missing, self.missing, longest_run);
        self.counters.clear();
        (self.run, self.missing) = (Run::new(), 0);
        counts
    }
}
