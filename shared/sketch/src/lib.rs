//! Mergeable summaries of distributions, and the sequential tests on them.
//!
//! Summaries are counters: merging is integer addition, so it is associative and commutative, and two parties that
//! merge the same parts in any order hold identical bits. Tests use only the operations that IEEE 754 rounds
//! exactly (`+ - × ÷ √`), so the same inputs in the same order give the same bits on every processor.

pub mod canary;
pub mod detector;
mod float_histogram;

pub use float_histogram::{FloatHistogram, MAX_BUCKETS};
