//! The values of one feature, gathered into blocks.

use super::{
    Moments, NumericCounts, is_missing,
    kernel::{BLOCK, Block, Counters},
    run::Run,
};
use crate::reference::{Edges, NumericReference};

/// Counts one feature. Whoever owns it says where in the block a value goes and when the block is full, so that a row
/// keeps one place for all of its features.
#[derive(Debug, Clone)]
pub(super) struct Column {
    counters: Counters,
    run: Run,
    missing: u64,
    /// Values that wait for a full block; those that are not finite are NaN.
    block: Box<Block>,
}

impl Column {
    pub(super) fn new(reference: &NumericReference) -> Self {
        Self::with(reference.edges(), reference.centre(), reference.scale())
    }

    pub(super) fn with(edges: &Edges, centre: f32, scale: f32) -> Self {
        Self {
            counters: Counters::new(edges.as_slice(), centre, scale),
            run: Run::new(),
            missing: 0,
            block: Box::new([f32::NAN; BLOCK]),
        }
    }

    /// Puts a finite value where it waits.
    #[inline]
    pub(super) fn put_finite(&mut self, place: usize, value: f32) {
        self.block[place] = value;
    }

    /// Puts any value where it waits.
    pub(super) fn put(&mut self, place: usize, value: f32) {
        self.missing += u64::from(is_missing(value));
        self.block[place] = finite_or_nan(value);
    }

    /// Puts many values where they wait.
    pub(super) fn put_all(&mut self, place: usize, values: &[f32]) {
        let room = &mut self.block[place..place + values.len()];
        for (place, &value) in room.iter_mut().zip(values) {
            *place = finite_or_nan(value);
        }
        // Something is missing only where something is not finite, which is rare.
        if room.iter().fold(false, |any, value| any | value.is_nan()) {
            self.missing += values.iter().filter(|&&value| is_missing(value)).count() as u64;
        }
    }

    /// Counts the first `filled` values of the block.
    pub(super) fn count(&mut self, filled: usize) {
        self.block[filled..].fill(f32::NAN);
        self.run.follow(&self.block[..filled]);
        self.counters.count(&self.block);
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
