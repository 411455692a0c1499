//! Mergeable summaries of distributions.
//!
//! Everything here is pure arithmetic on counters: merging is integer addition, so it is associative and
//! commutative, and two parties that merge the same parts in any order hold identical bits.

mod float_histogram;

pub use float_histogram::{FloatHistogram, MAX_BUCKETS};
