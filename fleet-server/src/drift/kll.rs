//! Counts as a KLL sketch, which Apache DataSketches reads in Python, Java and C++.
//!
//! Counts know in which bin of the reference a value was and not where, so values are put evenly into their bins: 16 of them stand
//! for all that a bin has, each for as many as is its part. The number of values is exact, and so are smallest, largest and the shares
//! of bins; quantiles are interpolated between a bin's edges, and a feature of few distinct values gets values between them. A sketch
//! adds its own error: with the usual `k` of 200 a rank is off by 1.3 % at most, with 99 % confidence.
//!
//! However many values there are, putting them in takes a few thousand steps: a sketch that is merged with itself counts each value
//! twice, so the points go in by the binary digits of their counts.

use datasketches::kll::{KllFloat, KllSketch};
use muster_sketch::{reference::NumericReference, window::NumericCounts};

/// The usual `k`: two kilobytes.
const K: u16 = 200;

/// Points that stand for the values of a bin.
const POINTS: u64 = 16;

/// There is nothing to put into a sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoValues;

/// A value and how often it is there.
type Weighted = (f32, u64);

/// The bytes of a sketch of `f32` values.
///
/// # Errors
/// When nothing finite was counted.
pub fn kll_bytes(reference: &NumericReference, counts: &NumericCounts) -> Result<Vec<u8>, NoValues> {
    let points = points(reference, counts).ok_or(NoValues)?;
    let digits = u64::BITS - points.iter().fold(0, |all, (_, count)| all | count).leading_zeros();
    let mut sketch = KllSketch::<KllFloat<f32>>::new(K).map_err(|_| NoValues)?;
    for digit in (0..digits).rev() {
        let same = sketch.clone();
        sketch.merge(&same).map_err(|_| NoValues)?;
        for (value, _) in points.iter().filter(|(_, count)| count >> digit & 1 == 1) {
            // Points lie between finite numbers.
            sketch.update(KllFloat::<f32>::new(*value).map_err(|_| NoValues)?);
        }
    }
    Ok(sketch.serialize())
}

/// Points with their counts, ascending. Nothing without values.
fn points(reference: &NumericReference, counts: &NumericCounts) -> Option<Vec<Weighted>> {
    let (lowest, highest) = counts.range()?;
    let edges = reference.edges().as_slice();
    let mut points = Vec::new();
    for (bin, &count) in counts.bins().iter().enumerate().filter(|(_, count)| **count > 0) {
        let from =
            bin.checked_sub(1).and_then(|before| edges.get(before)).map_or(lowest, |&edge| edge.max(lowest));
        let to = edges.get(bin).map_or(highest, |&edge| edge.min(highest));
        points.extend(spread(f64::from(from), f64::from(to), count));
    }
    // The extremes are known.
    let first = points.first_mut()?;
    if first.1 > 1 {
        first.1 -= 1;
        points.insert(0, (lowest, 1));
    } else {
        first.0 = lowest;
    }
    let is_several = points.len() > 1;
    let last = points.last_mut()?;
    if last.1 > 1 {
        last.1 -= 1;
        points.push((highest, 1));
    } else if is_several {
        last.0 = highest;
    }
    Some(points)
}

fn spread(from: f64, to: f64, count: u64) -> impl Iterator<Item = Weighted> {
    (0..POINTS).filter_map(move |point| {
        // As many of the points as there is a remainder have one more, evenly.
        let until = |point: u64| (u128::from(count) * u128::from(point) / u128::from(POINTS)) as u64;
        let part = until(point + 1) - until(point);
        let value = from + (to - from) * (point as f64 + 0.5) / POINTS as f64;
        (part > 0).then_some((value as f32, part))
    })
}

#[cfg(test)]
mod tests {
    use datasketches::common::SearchCriteria;
    use muster_sketch::window::NumericWindow;

    use super::*;

    fn counted(values: &[f32]) -> (NumericReference, NumericCounts) {
        let sample: Vec<f32> = (0..10_000_u16).map(f32::from).collect();
        let reference = NumericReference::from_sample("level", &sample).unwrap();
        let mut window = NumericWindow::new(&reference);
        window.record_all(values).unwrap();
        let counts = window.seal();
        (reference, counts)
    }

    #[test]
    fn quantiles_of_the_sketch_are_those_of_the_values() {
        // A triangle that reaches beyond the reference.
        let values: Vec<f32> =
            (0..100_000).map(|n| 4_000.0 * (1.0 + (n as f32 / 1e5).sqrt() * 2.0)).collect();
        let (reference, counts) = counted(&values);
        let bytes = kll_bytes(&reference, &counts).unwrap();
        assert!(bytes.len() < 4_096, "{} bytes", bytes.len());
        let sketch = KllSketch::<KllFloat<f32>>::deserialize(&bytes).unwrap();
        assert_eq!(sketch.n(), 100_000, "however many they are, each counts");
        let at = |rank: f64| sketch.quantile(rank, SearchCriteria::Inclusive).unwrap().unwrap().into_inner();
        for rank in [0.05, 0.25, 0.5, 0.75, 0.95] {
            let share = values.partition_point(|value| *value <= at(rank)) as f64 / 1e5;
            assert!((share - rank).abs() < 0.03, "{rank}: {} is at {share}", at(rank));
        }
        let extremes = (sketch.min_item().unwrap().into_inner(), sketch.max_item().unwrap().into_inner());
        assert_eq!(extremes, (values[0], values[99_999]));
    }

    #[test]
    fn a_single_value_is_that_value_and_nothing_makes_no_sketch() {
        let (reference, counts) = counted(&[7.25]);
        let sketch =
            KllSketch::<KllFloat<f32>>::deserialize(&kll_bytes(&reference, &counts).unwrap()).unwrap();
        assert_eq!((sketch.n(), sketch.min_item().unwrap().into_inner()), (1, 7.25));
        let (reference, counts) = counted(&[f32::NAN]);
        assert_eq!(kll_bytes(&reference, &counts), Err(NoValues));
    }

    #[test]
    fn points_are_ascending_and_as_many_as_was_counted() {
        let values: Vec<f32> = (0..999_u16).map(|n| f32::from(n % 77) * 130.0 - 300.0).collect();
        let (reference, counts) = counted(&values);
        let points = points(&reference, &counts).unwrap();
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0));
        assert_eq!(points.iter().map(|(_, count)| count).sum::<u64>(), 999);
    }
}
