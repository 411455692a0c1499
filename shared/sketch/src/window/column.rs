//! What is counted of one feature, a block at a time.

use super::{
    Moments, NumericCounts, is_missing,
    kernel::{BLOCK, Block, Counters},
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

    /// Puts down any value: what is not finite becomes NaN, and what is missing is counted.
    pub(super) fn put(&mut self, room: &mut f32, value: f32) {
        self.missing += u64::from(is_missing(value));
        *room = finite_or_nan(value);
    }

    /// Puts down as many values as there is room.
    pub(super) fn put_all(&mut self, room: &mut [f32], values: &[f32]) {
        for (place, &value) in room.iter_mut().zip(values) {
            *place = finite_or_nan(value);
        }
        // Something is missing only where something is not finite, which is rare.
        if room.iter().fold(false, |any, value| any | value.is_nan()) {
            self.missing += values.iter().filter(|&&value| is_missing(value)).count() as u64;
        }
    }

    /// Counts the first `filled` values of a block.
    pub(super) fn count(&mut self, block: &mut Block, filled: usize) {
        block[filled..].fill(f32::NAN);
        self.run.follow(&block[..filled]);
        self.counters.count(block);
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

/// What a value counts as: itself, or NaN when it is infinite.
pub(super) fn finite_or_nan(value: f32) -> f32 {
    if value.is_finite() { value } else { f32::NAN }
}
