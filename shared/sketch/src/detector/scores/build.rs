//! Scores from the counts of a reference.

use std::cmp::Reverse;

use super::{MAX_CATEGORY_SCORES, Score, ScoreName, Shape};

/// Largest part of the reference in a tail, and in a far one. The edges that references are cut at lie at 2 and
/// 0.5 %; a little more, as ties make bins uneven.
const TAIL: f64 = 0.025;
const FAR_TAIL: f64 = 0.006;

/// Regions of equal rank.
const REGIONS: u8 = 8;

/// The rank of the middle of each bin, from 0 to 1.
pub(super) fn midranks(reference: &[u64], rows: u64) -> Vec<f64> {
    let mut below = 0.0;
    let midrank = |&count: &u64| {
        let middle = below + 0.5 * count as f64;
        below += count as f64;
        middle / rows as f64
    };
    reference.iter().map(midrank).collect()
}

pub(super) fn numeric(reference: &[u64], rows: u64, midranks: &[f64]) -> Vec<Score> {
    let last = reference.len() - 1;
    let polynomial = |of: fn(f64) -> f64| Shape::Graded(midranks.iter().map(|u| of(2.0 * u - 1.0)).collect());
    let lower = |most: f64| Shape::Share((0..=tail(reference.iter(), rows, most)).collect());
    let upper = |most: f64| Shape::Share((last - tail(reference.iter().rev(), rows, most)..=last).collect());
    let mut shapes = vec![
        (ScoreName::Location, polynomial(|x| x)),
        (ScoreName::Spread, polynomial(|x| 0.5 * (3.0 * x * x - 1.0))),
        (ScoreName::Skew, polynomial(|x| 0.5 * (5.0 * x * x * x - 3.0 * x))),
        (ScoreName::LowerTail, lower(TAIL)),
        (ScoreName::UpperTail, upper(TAIL)),
        (ScoreName::FarLowerTail, lower(FAR_TAIL)),
        (ScoreName::FarUpperTail, upper(FAR_TAIL)),
        (ScoreName::OutsideRange, Shape::Share(vec![0, last])),
    ];
    for region in 0..REGIONS {
        let bins = 1..last;
        let within = |&bin: &usize| region_of(midranks[bin]) == region;
        let bins: Vec<_> = bins.filter(within).collect();
        if !bins.is_empty() {
            shapes.push((ScoreName::Region(region), Shape::Share(bins)));
        }
    }
    shapes.into_iter().map(|(name, shape)| Score::of(name, shape, reference, rows)).collect()
}

pub(super) fn categorical(reference: &[u64], rows: u64) -> Vec<Score> {
    let unseen = reference.len() - 1;
    let mut by_count: Vec<_> = (0..unseen).collect();
    by_count.sort_by_key(|&bin| (Reverse(reference[bin]), bin));
    let (own, other) = by_count.split_at(by_count.len().min(MAX_CATEGORY_SCORES));
    let mut own = own.to_vec();
    own.sort_unstable();
    let mut shapes: Vec<_> =
        own.into_iter().map(|bin| (ScoreName::Category(bin as u32), Shape::Share(vec![bin]))).collect();
    if !other.is_empty() {
        shapes.push((ScoreName::OtherCategories, Shape::Share(other.to_vec())));
    }
    shapes.push((ScoreName::UnseenCategory, Shape::Share(vec![unseen])));
    shapes.into_iter().map(|(name, shape)| Score::of(name, shape, reference, rows)).collect()
}

/// The last of the outermost bins that together hold at most so much; the outermost one in any case.
fn tail<'a>(outwards: impl Iterator<Item = &'a u64>, rows: u64, most: f64) -> usize {
    let mut held = 0.0;
    let fits = |&count: &&u64| {
        held += *count as f64;
        held <= most * rows as f64
    };
    outwards.take_while(fits).count().saturating_sub(1)
}

fn region_of(midrank: f64) -> u8 {
    ((midrank * f64::from(REGIONS)) as u8).min(REGIONS - 1)
}

impl Score {
    fn of(name: ScoreName, shape: Shape, reference: &[u64], rows: u64) -> Self {
        let (lowest, highest) = match &shape {
            Shape::Graded(values) => {
                values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| {
                    (low.min(value), high.max(value))
                })
            }
            Shape::Share(_) => (0.0, 1.0),
        };
        let mut score = Self { name, shape, mean: 0.0, deviation: 0.0, lowest, highest };
        let (sum, squares) = score.sums(reference);
        let rows = rows as f64;
        score.mean = sum / rows;
        let variance = (squares / rows - score.mean * score.mean).max(0.0);
        let furthest = (highest - score.mean).max(score.mean - lowest);
        score.deviation = (variance + furthest * furthest / rows).sqrt();
        score
    }
}
