//! Mergeable summaries of distributions, and the sequential tests on them.
//!
//! Summaries are counters: merging is integer addition, so it is associative and commutative, and two parties that
//! merge the same parts in any order hold identical bits. Tests use only the operations that IEEE 754 rounds
//! exactly (`+ - × ÷ √`), so the same inputs in the same order give the same bits on every processor.
//!
//! A [`reference`] says what the features of a model looked like; a [`window`] counts what a device sees of them
//! ([`categories`] where they are no numbers); a [`distance`] says how far apart they are, [`quality`] what is broken. Where
//! there is no reference, [`FloatHistogram`] counts without one.

pub mod canary;
pub mod categories;
pub mod detector;
pub mod distance;
mod float_histogram;
pub mod quality;
pub mod reference;
pub mod window;

pub use float_histogram::{FloatHistogram, MAX_BUCKETS};
