//! The Wasserstein distance of binned counts: the area between two distribution functions that are straight within bins.

use std::f64::consts::FRAC_2_PI;

use crate::{
    reference::{Edges, NumericReference},
    window::NumericCounts,
};

/// Points of the trapezoid rule in a bin: the integrand is a square root and smooth within bins.
const STEPS: u32 = 8;

/// The area between the distribution functions, in standard deviations of the reference.
pub(super) fn distance(reference: &NumericReference, counts: &NumericCounts) -> f64 {
    let ours = Distribution::of(reference.edges(), reference.counts());
    let theirs = Distribution::of(reference.edges(), counts);
    let mut places: Vec<f64> = ours.0.iter().chain(&theirs.0).map(|&(place, _)| place).collect();
    places.sort_unstable_by(f64::total_cmp);
    let area = places.windows(2).map(|pair| {
        let (from, to) = (pair[0], pair[1]);
        let ((our_from, our_to), (their_from, their_to)) = (ours.within(from, to), theirs.within(from, to));
        (to - from) * mean_size(our_from - their_from, our_to - their_to)
    });
    area.sum::<f64>() / f64::from(reference.scale())
}

/// √(2/π) ∫ √(P(1−P)) dx of the reference, in its standard deviations: times √(1/n + 1/m) it is the expected distance of
/// two samples (del Barrio, Giné & Matrán 1999).
pub(super) fn noise(reference: &NumericReference) -> f64 {
    let Distribution(points) = Distribution::of(reference.edges(), reference.counts());
    let area = points.windows(2).map(|pair| {
        let ((from, below), (to, up_to)) = (pair[0], pair[1]);
        (to - from) * mean_root(below, up_to)
    });
    FRAC_2_PI.sqrt() * area.sum::<f64>() / f64::from(reference.scale())
}

/// A distribution function as the points between which it is straight: the extremes, and the edges between them.
struct Distribution(Vec<(f64, f64)>);

impl Distribution {
    fn of(edges: &Edges, counts: &NumericCounts) -> Self {
        let total = counts.finite() as f64;
        let (lowest, highest) = counts.range().unwrap_or_default();
        let mut below = 0;
        let up_to_edges = edges.as_slice().iter().zip(counts.bins()).map(|(&edge, &count)| {
            below += count;
            (edge, below as f64 / total)
        });
        let between = up_to_edges.filter(|&(edge, _)| lowest < edge && edge < highest);
        let points = std::iter::once((lowest, 0.0)).chain(between).chain([(highest, 1.0)]);
        Self(points.map(|(place, share)| (f64::from(place), share)).collect())
    }

    /// Its values just inside two places between which it is straight.
    fn within(&self, from: f64, to: f64) -> (f64, f64) {
        let middle = f64::midpoint(from, to);
        let after = self.0.partition_point(|&(place, _)| place <= middle);
        let Some(&(end, end_share)) = self.0.get(after) else { return (1.0, 1.0) };
        let Some(&(begin, begin_share)) = after.checked_sub(1).and_then(|before| self.0.get(before)) else {
            return (0.0, 0.0);
        };
        let at = |place: f64| begin_share + (end_share - begin_share) * (place - begin) / (end - begin);
        (at(from), at(to))
    }
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
