//! Challengers: what the runner hands out of its champion's inputs, and what the process of a challenger makes of it.
//!
//! Champion and challenger live in processes of their own, joined by one socket pair that the daemon makes. The runner
//! decides which inferences are sampled and puts a reference to their tensors into a bounded [queue](feed); that is all
//! that happens on the way of an answer. Another task hands the samples out, one at a time and only while no request is
//! under way, and rests after each so long that the challenger takes its share of a core and no more. The challenger's
//! process [compares](compare) and keeps the [books](books); what leaves it are counts and sketches.

pub(crate) mod books;
pub(crate) mod compare;
pub(crate) mod feed;
pub(crate) mod flights;
pub(crate) mod sample;
pub(crate) mod trials;
