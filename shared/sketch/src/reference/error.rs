//! Why something is not a reference.

use thiserror::Error;

use super::{MAX_BINS, MAX_CATEGORIES, MAX_FEATURES, MAX_NAME_BYTES, MIN_REFERENCE_ROWS};
use crate::window::MAX_WINDOW_ROWS;

/// Why something is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// Too few values that say anything.
    #[error(
        "feature '{feature}' has {usable} usable values in the reference sample ({unusable} more are missing, NaN or \
         infinite), and {MIN_REFERENCE_ROWS} are needed for its own error to be small: bring a larger sample, or leave \
         the feature without a reference"
    )]
    TooFewRows {
        /// The feature.
        feature: String,
        /// Finite values, or values with a category.
        usable: u64,
        /// The others.
        unusable: u64,
    },
    /// More rows than can be counted exactly.
    #[error(
        "feature '{feature}' has {rows} rows in the reference sample; more than {MAX_WINDOW_ROWS} add nothing: draw a \
         random part of them"
    )]
    TooManyRows {
        /// The feature.
        feature: String,
        /// How many.
        rows: u64,
    },
    /// More categories than are counted.
    #[error(
        "feature '{feature}' has {categories} categories, and {MAX_CATEGORIES} can be counted: group rare ones, or hash \
         them into buckets"
    )]
    TooManyCategories {
        /// The feature.
        feature: String,
        /// How many.
        categories: usize,
    },
    /// None, or too many features.
    #[error(
        "a reference has 1 to {MAX_FEATURES} features, not {features}: choose those that the model depends on"
    )]
    FeatureCount {
        /// How many.
        features: usize,
    },
    /// Too many bins in all.
    #[error(
        "the features have {bins} bins together, and {MAX_BINS} can be counted: leave out features with many categories"
    )]
    TooManyBins {
        /// How many.
        bins: usize,
    },
    /// A name that cannot be shown.
    #[error(
        "'{name}' names no feature or category: use 1 to {MAX_NAME_BYTES} bytes without control characters"
    )]
    BadName {
        /// The name, cut.
        name: String,
    },
    /// Two features or two categories of one name.
    #[error("the name '{name}' is used twice: every feature, and every category of a feature, needs its own")]
    NameUsedTwice {
        /// The name.
        name: String,
    },
    /// Not an id.
    #[error("'{text}' is no reference id: expected 32 lower-case hexadecimal digits")]
    BadId {
        /// The text, cut.
        text: String,
    },
    /// Stored numbers that no sample gives.
    #[error("the stored reference is damaged, {what}: cut it again from its sample")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
}
