//! What a device saw of each feature in a stretch of time, in a few hundred bytes of memory and about forty on the wire.
//!
//! # Recording
//! A [`FeatureWindow`] takes the rows of a model, one an inference; a [`NumericWindow`] many values of one feature. Both
//! keep **cumulative** counters, "how many values are at least this edge", and pass over a block of 128 values edge by
//! edge. Comparing and adding neighbours is something every compiler turns into vector instructions, while a search for
//! the right bin is not. Bins are the differences, taken when a window is sealed.
//!
//! How values are cut into calls changes no bit of the result, and neither does the processor: sums are taken in a fixed
//! order with operations that IEEE 754 rounds exactly. The loops are compiled twice, for every processor of a kind and for
//! those with wide vectors, and chosen at run time.
//!
//! # What is counted beside the bins
//! Four moments around the reference's mean ([`Moments`]), the smallest and largest value, values that are NaN or
//! infinite, missing ones, and the longest run of identical values, which tells a stuck sensor from a quiet one.
//!
//! # Merging
//! Counts are integers, and merging adds them; so any order of arrival and any number of partial merges give the same
//! bits. [`MergedWindows`] remembers what it has counted: delivery may repeat and reorder. It refuses windows of another
//! reference.
//!
//! # Privacy
//! The counts of one or two values are those values. [`MIN_WINDOW_ROWS`] must be in a window before it can be sealed
//! for sending, and of a feature with fewer values than that [`FeatureCounts::hide_few`] leaves the bins alone.

mod column;
mod counts;
mod feature;
mod kernel;
mod merged;
mod moments;
mod numeric;
mod processor;
mod rows;
mod run;
mod seen;
mod wire;

#[cfg(test)]
mod tests;

use thiserror::Error;

pub use counts::NumericCounts;
pub(crate) use counts::{check_window_rows, total};
pub use feature::{FeatureCounts, FeatureWindow};
pub use merged::{Added, MAX_BOOTS, MergeError, MergedWindows};
pub use moments::{CLIP, Moments, UNITS_PER_ONE};
pub use numeric::NumericWindow;
pub use rows::RowWindow;
pub use wire::{DecodeError, EncodeError, MAX_NAME, MAX_WINDOW_BYTES, Origin, Window};

/// Rows of one window. Within it, sums of moments stay exact in an `f64` and counters far from the end of a `u32`; it is
/// ten thousand inferences a second for seven hours.
pub const MAX_WINDOW_ROWS: u64 = 1 << 28;

/// Rows without which a window is not sealed for sending: with fewer, counts tell single values. Twenty is also where a
/// window begins to say more than its own header.
pub const MIN_WINDOW_ROWS: u64 = 20;

/// What stands for a missing value in a row of numbers: a NaN that no arithmetic produces (its payload is "MUS").
/// Any other NaN is a value that was computed and is not finite.
pub const MISSING: f32 = f32::from_bits(0x7fcd_5553);

/// Whether a value is [`MISSING`].
#[must_use]
pub fn is_missing(value: f32) -> bool {
    value.to_bits() == MISSING.to_bits()
}

/// Why counts are not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CountsError {
    /// They are of another feature or of another reference.
    #[error(
        "counts of another kind or in other bins: the same bin means another range there; keep the reference's id beside \
         counts and add only those of one"
    )]
    OtherReference,
    /// No windows give them.
    #[error(
        "counts that no windows against this reference give, {what}: they were damaged, or belong to another"
    )]
    Implausible {
        /// What cannot be.
        what: &'static str,
    },
}

/// Why a row was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// It has not one value for each feature.
    #[error(
        "a row has {given} values where the reference has {features} such features: pass one value each, in its order"
    )]
    WrongLength {
        /// Values in the row.
        given: usize,
        /// Features of that kind.
        features: usize,
    },
    /// The window has as many rows as it can count exactly.
    #[error("the window has {MAX_WINDOW_ROWS} rows and takes no more: seal it and go on in the next")]
    Full,
}
