//! A histogram that needs no configuration: the bucket of a value is the top bits of its float.
//!
//! The upper bits of an IEEE 754 number are its sign, its exponent and the leading bits of its fraction, so
//! cutting the rest off gives buckets whose width grows with the value. Three fraction bits make eight buckets
//! per power of two: a quantile read from the bucket's middle is off by at most 1/16 of the value. This is the
//! bucket layout of HdrHistogram (Tene, 2012) taken from the number format itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bits of the `f32` that are dropped: 23 fraction bits less the three that are kept.
const DROPPED_BITS: u32 = 20;

/// More buckets than this cannot arise from positive finite values: 256 exponents of 8 buckets each.
pub const MAX_BUCKETS: usize = 2_048;

/// Counts of non-negative finite values in logarithmic buckets, eight to an octave.
///
/// Negative values count as zero; values that are not finite are counted apart and never enter a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloatHistogram {
    /// Bucket index (the float's top bits) to the number of values in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    buckets: BTreeMap<u16, u64>,
    /// Values that were NaN or infinite.
    #[serde(default)]
    non_finite: u64,
}

impl FloatHistogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one value.
    pub fn record(&mut self, value: f32) {
        if value.is_finite() {
            *self.buckets.entry(bucket_of(value)).or_insert(0) += 1;
        } else {
            self.non_finite = self.non_finite.saturating_add(1);
        }
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (&bucket, &count) in &other.buckets {
            let sum = self.buckets.entry(bucket).or_insert(0);
            *sum = sum.saturating_add(count);
        }
        self.non_finite = self.non_finite.saturating_add(other.non_finite);
    }

    /// Number of finite values counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.values().fold(0, |sum, &n| sum.saturating_add(n))
    }

    /// Number of values that were NaN or infinite.
    #[must_use]
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// True when nothing was counted at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.non_finite == 0
    }

    /// The value below which a share `q` of the finite values lies, at most 1/16 of the value off.
    ///
    /// `q` is clamped to `0.0..=1.0`. `None` when no finite value was counted.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        // A share of the total: rounding up makes q = 0 the smallest and q = 1 the largest value.
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).max(1);
        let mut seen = 0_u64;
        for (&bucket, &count) in &self.buckets {
            seen = seen.saturating_add(count);
            if seen >= rank {
                return Some(middle_of(bucket));
            }
        }
        None
    }

    /// The sum of the finite values, at most 1/16 of it off. More values never make it smaller.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.buckets.iter().map(|(&bucket, &count)| middle_of(bucket) * count as f64).sum()
    }

    /// The buckets in ascending order as (upper edge, count), for cumulative expositions such as Prometheus.
    pub fn edges(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.buckets.iter().map(|(&bucket, &count)| (f64::from(lower_edge(u32::from(bucket) + 1)), count))
    }

    /// True when every bucket index is one that [`record`](Self::record) can produce. Ask this of bytes from outside.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        self.buckets.len() <= MAX_BUCKETS
            && self.buckets.keys().all(|&bucket| lower_edge(u32::from(bucket)).is_finite() && bucket < 0x0800)
    }
}

fn bucket_of(value: f32) -> u16 {
    // Negative zero and negatives share the first bucket, so the sign bit is always clear below.
    let clamped = if value > 0.0 { value } else { 0.0 };
    u16::try_from(clamped.to_bits() >> DROPPED_BITS).unwrap_or(u16::MAX)
}

fn lower_edge(bucket: u32) -> f32 {
    f32::from_bits(bucket << DROPPED_BITS)
}

fn middle_of(bucket: u16) -> f64 {
    let low = f64::from(lower_edge(u32::from(bucket)));
    let high = f64::from(lower_edge(u32::from(bucket) + 1));
    if high.is_finite() { f64::midpoint(low, high) } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f32]) -> FloatHistogram {
        let mut histogram = FloatHistogram::new();
        values.iter().for_each(|&v| histogram.record(v));
        histogram
    }

    #[test]
    fn non_finite_values_are_counted_apart() {
        let histogram = of(&[1.0, f32::NAN, f32::INFINITY]);
        assert_eq!((histogram.count(), histogram.non_finite()), (1, 2));
        assert!(histogram.is_plausible());
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(FloatHistogram::new().quantile(0.5), None);
    }

    #[test]
    fn a_forged_bucket_is_implausible() {
        let forged: FloatHistogram =
            serde_json::from_str(r#"{"buckets":{"65535":1},"non_finite":0}"#).unwrap();
        assert!(!forged.is_plausible());
    }

    proptest! {
        #[test]
        fn merging_agrees_in_any_order(a in prop::collection::vec(0.0_f32..1e6, 0..50), b in prop::collection::vec(0.0_f32..1e6, 0..50)) {
            let (mut left, mut right) = (of(&a), of(&b));
            left.merge(&of(&b));
            right.merge(&of(&a));
            prop_assert_eq!(&left, &right);
            prop_assert_eq!(left.count(), (a.len() + b.len()) as u64);
        }

        #[test]
        fn a_quantile_is_within_a_sixteenth_of_the_truth(mut values in prop::collection::vec(1e-3_f32..1e6, 1..200), q in 0.0_f64..=1.0) {
            let estimate = of(&values).quantile(q).unwrap();
            values.sort_by(f32::total_cmp);
            let rank = ((q * values.len() as f64).ceil() as usize).max(1) - 1;
            let truth = f64::from(values[rank]);
            prop_assert!((estimate - truth).abs() <= truth / 15.9, "{} against {}", estimate, truth);
        }

        #[test]
        fn the_sum_is_within_a_sixteenth_of_the_truth(values in prop::collection::vec(1e-3_f32..1e6, 0..200)) {
            let truth: f64 = values.iter().map(|&value| f64::from(value)).sum();
            let estimate = of(&values).sum();
            prop_assert!((estimate - truth).abs() <= truth / 15.9, "{} against {}", estimate, truth);
        }

        #[test]
        fn it_survives_its_wire_form(values in prop::collection::vec(any::<f32>(), 0..50)) {
            let histogram = of(&values);
            let back: FloatHistogram = serde_json::from_str(&serde_json::to_string(&histogram).unwrap()).unwrap();
            prop_assert!(back.is_plausible());
            prop_assert_eq!(back, histogram);
        }
    }
}
