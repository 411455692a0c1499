//! Bounds of chances, as natural logarithms. Each is at most 0, and true for any number of rows; see the parent for sources.

use crate::detector::elementary::exp;
pub(super) use crate::detector::elementary::ln;

/// The `w` of the e-values of new categories: near 1 for references without rare categories, small for those with many.
const SHARPNESS: [f64; 8] = [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999];

/// Halvings of an interval from 0 to 1: as far as a double resolves one.
const HALVINGS: u32 = 53;

/// Of `count` of `rows` or more having something that `then` of `rows_then` had, where the share is the same. 0 where the share
/// is not larger.
///
/// Of all rows of both, so many have it and so many are new. Each of the four parts can be seen as what was drawn; every view bounds
/// the same chance, so the smallest does.
pub(super) fn ln_of_more((count, rows): (f64, f64), (then, rows_then): (f64, f64)) -> f64 {
    let (all, all_rows) = (count + then, rows + rows_then);
    if count * all_rows <= all * rows {
        return 0.0;
    }
    let having = all / all_rows;
    let new = rows / all_rows;
    let views = [
        rows * divergence(count / rows, having),
        rows_then * divergence(then / rows_then, having),
        all * divergence(count / all, new),
        (all_rows - all) * divergence((rows - count) / (all_rows - all).max(1.0), new),
    ];
    -views.into_iter().fold(0.0, f64::max)
}

/// Of the `count` outermost values at one end all being among the `rows` new ones and none among `rows_then` others.
pub(super) fn ln_of_all_new((count, rows): (f64, f64), rows_then: f64) -> f64 {
    if count > 0.0 { -count * ln(1.0 + rows_then / rows) } else { 0.0 }
}

/// The evidence that `count` of `rows` values of unseen categories are more than a reference with these rows of each category lacks
/// by chance. Reaches `ln(1/chance)` at most with that chance.
pub(super) fn ln_evidence_of_new((count, rows): (f64, f64), rows_then: f64, categories: &[u64]) -> f64 {
    if count <= 0.0 {
        return 0.0;
    }
    let ratio = rows_then / rows;
    let evidence = SHARPNESS.map(|sharpness| {
        let lost = categories.iter().filter(|&&rows| rows > 0).map(|&rows| ln_without(sharpness, rows));
        count * ln(1.0 + sharpness * ratio) + lost.sum::<f64>()
    });
    let most = evidence.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = evidence.iter().map(|it| exp((it - most).max(-700.0))).sum();
    most + ln(sum / SHARPNESS.len() as f64)
}

/// The largest share of which `count` of `rows` or fewer are seen with a chance of at least `e^ln_chance`. 1 without rows.
pub(super) fn share_at_most((count, rows): (f64, f64), ln_chance: f64) -> f64 {
    if count >= rows {
        return 1.0;
    }
    let (mut possible, mut impossible) = (count / rows, 1.0);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (possible + impossible);
        let fits = -rows * divergence(count / rows, middle) >= ln_chance;
        *(if fits { &mut possible } else { &mut impossible }) = middle;
    }
    impossible
}

/// Kullback-Leibler divergence of a coin of chance `q` from one of `p`. Infinite where `p` rules out what `q` does.
fn divergence(q: f64, p: f64) -> f64 {
    let part = |q: f64, p: f64| match (q > 0.0, p > 0.0) {
        (false, _) => 0.0,
        (true, true) => q * ln(q / p),
        (true, false) => f64::INFINITY,
    };
    (part(q, p) + part(1.0 - q, 1.0 - p)).max(0.0)
}

/// `ln(1 − w^rows)`, to 1e-17.
fn ln_without(w: f64, rows: u64) -> f64 {
    let power = rows as f64 * ln(w);
    if power < -40.0 { 0.0 } else { ln(1.0 - exp(power)) }
}
