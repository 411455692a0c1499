//! The Wasserstein distance of binned counts: the area between two distribution functions that are straight within bins.

use std::f64::consts::FRAC_2_PI;

use crate::{reference::NumericReference, window::NumericCounts};

/// Points of the trapezoid rule in a bin: the integrand is a square root and smooth within bins.
const STEPS: u32 = 8;

/// The area between the distribution functions, in standard deviations of the reference.
pub(super) fn distance(reference: &NumericReference, counts: &NumericCounts) -> f64 {
    let (ours, theirs) = (reference.counts(), counts);
    let (ours_total, theirs_total) = (ours.finite() as f64, theirs.finite() as f64);
    let (mut below_ours, mut below_theirs, mut area) = (0.0, 0.0, 0.0);
    for (bin, (&our, &their)) in ours.bins().iter().zip(theirs.bins()).enumerate() {
        let gap_before = below_ours / ours_total - below_theirs / theirs_total;
        below_ours += our as f64;
        below_theirs += their as f64;
        let gap_after = below_ours / ours_total - below_theirs / theirs_total;
        area += width(reference, counts, bin) * mean_size(gap_before, gap_after);
    }
    area / f64::from(reference.scale())
}

/// √(2/π) ∫ √(P(1−P)) dx of the reference, in its standard deviations: times √(1/n + 1/m) it is the expected distance of
/// two samples (del Barrio, Giné & Matrán 1999).
pub(super) fn noise(reference: &NumericReference) -> f64 {
    let counts = reference.counts();
    let total = counts.finite() as f64;
    let (mut below, mut area) = (0.0, 0.0);
    for (bin, &count) in counts.bins().iter().enumerate() {
        let share = count as f64 / total;
        area += width(reference, counts, bin) * mean_root(below, below + share);
        below += share;
    }
    FRAC_2_PI.sqrt() * area / f64::from(reference.scale())
}

/// The width of a bin; those outside the reference reach as far as the counted values do.
fn width(reference: &NumericReference, counts: &NumericCounts, bin: usize) -> f64 {
    let edges = reference.edges().as_slice();
    let (lowest, highest) = counts.range().unwrap_or_default();
    let (_, reference_highest) = reference.counts().range().unwrap_or_default();
    let begin = if bin == 0 { lowest } else { edges[bin - 1].min(f32::MAX) };
    let end = edges.get(bin).copied().unwrap_or(highest);
    // The last edge is just above the largest value of the reference, and infinite when that is the largest of all.
    let end = if end.is_finite() { end } else { reference_highest };
    (f64::from(end) - f64::from(begin)).max(0.0)
}

/// The mean of │x│ while x goes straight from `from` to `to`.
fn mean_size(from: f64, to: f64) -> f64 {
    if from * to >= 0.0 {
        return f64::midpoint(from.abs(), to.abs());
    }
    // Two triangles, of which each takes its share of the width.
    0.5 * (from * from + to * to) / (from.abs() + to.abs())
}

/// The mean of √(x(1−x)) while x goes straight from `from` to `to`.
fn mean_root(from: f64, to: f64) -> f64 {
    let at = |step: u32| {
        let x = from + (to - from) * f64::from(step) / f64::from(STEPS);
        (x * (1.0 - x)).max(0.0).sqrt()
    };
    let inner: f64 = (1..STEPS).map(at).sum();
    (inner + f64::midpoint(at(0), at(STEPS))) / f64::from(STEPS)
}
