//! The counts of one feature as bits.

use super::{
    Unreadable,
    bits::{BitReader, BitWriter},
};
use crate::{
    categories::CategoryCounts,
    reference::{CategoryReference, NumericReference, ReferenceValues, SHARE_BITS},
    window::{FeatureCounts, Moments, NumericCounts},
};

/// Usual sizes, as for the header.
const GAP_BITS: u32 = 0;
const RUN_BITS: u32 = 1;

/// Spread of a single value's powers in units of a moment, as a power of two: for a normal feature the standard
/// deviations of its powers are 1, 1.4, 3.9 and 9.8 times 256. The square root of the rows comes on top.
const MOMENT_BITS: [u32; 4] = [8, 8, 9, 11];

pub(super) fn write(bits: &mut BitWriter, counts: &FeatureCounts, reference: &ReferenceValues) {
    match (counts, reference) {
        (FeatureCounts::Numeric(counts), ReferenceValues::Numeric(reference)) => {
            write_numeric(bits, counts, reference);
        }
        (FeatureCounts::Category(counts), ReferenceValues::Category(reference)) => {
            bits.number(counts.missing(), GAP_BITS);
            write_bins(bits, counts.bins(), counts.seen(), reference.expected());
        }
        (FeatureCounts::Numeric(_), ReferenceValues::Category(_))
        | (FeatureCounts::Category(_), ReferenceValues::Numeric(_)) => {
            debug_assert!(false, "a window is checked before it is written");
        }
    }
}

/// Reads the counts of a feature with `rows` rows.
pub(super) fn read(
    bits: &mut BitReader<'_>,
    rows: u64,
    reference: &ReferenceValues,
) -> Result<FeatureCounts, Unreadable> {
    match reference {
        ReferenceValues::Numeric(reference) => {
            read_numeric(bits, rows, reference).map(FeatureCounts::Numeric)
        }
        ReferenceValues::Category(reference) => {
            read_category(bits, rows, reference).map(FeatureCounts::Category)
        }
    }
}

fn write_numeric(bits: &mut BitWriter, counts: &NumericCounts, reference: &NumericReference) {
    let (finite, expected) = (counts.finite(), reference.expected());
    bits.number(counts.non_finite(), GAP_BITS);
    bits.number(counts.missing(), GAP_BITS);
    let Some((lowest, highest)) = counts.range() else { return };
    bits.number(counts.longest_run() - 1, RUN_BITS);
    write_bins(bits, counts.bins(), finite, &expected.bins);
    for (power, sum) in counts.moments().sums().into_iter().enumerate() {
        // Both are below 2^53: a window has at most 2^28 values, each at most 2^24 units.
        let difference = sum - expected_moment(expected.moments[power], finite);
        bits.difference(difference as i64, moment_bits(power, finite));
    }
    bits.put(u64::from(lowest.to_bits()), 32);
    bits.put(u64::from(highest.to_bits()), 32);
}

fn read_numeric(
    bits: &mut BitReader<'_>,
    rows: u64,
    reference: &NumericReference,
) -> Result<NumericCounts, Unreadable> {
    let expected = reference.expected();
    let (non_finite, missing) = (bits.number(GAP_BITS)?, bits.number(GAP_BITS)?);
    let finite = less(rows, non_finite.saturating_add(missing))?;
    if finite == 0 {
        return Ok(NumericCounts::empty(expected.bins.len()).with_quality(non_finite, missing, 0));
    }
    let longest_run = bits.number(RUN_BITS)? + 1;
    let bins = read_bins(bits, finite, &expected.bins)?;
    let mut sums = [0; 4];
    for (power, sum) in sums.iter_mut().enumerate() {
        let difference = bits.difference(moment_bits(power, finite))?;
        *sum = expected_moment(expected.moments[power], finite) + i128::from(difference);
    }
    let mut value = || Ok::<f32, Unreadable>(f32::from_bits(bits.take(32)? as u32));
    let range = Some((value()?, value()?));
    let counts = NumericCounts::of(bins, Moments::of(sums), range);
    Ok(counts.with_quality(non_finite, missing, longest_run))
}

fn read_category(
    bits: &mut BitReader<'_>,
    rows: u64,
    reference: &CategoryReference,
) -> Result<CategoryCounts, Unreadable> {
    let missing = bits.number(GAP_BITS)?;
    let bins = read_bins(bits, less(rows, missing)?, reference.expected())?;
    Ok(CategoryCounts::of(bins, missing))
}

/// The last bin is what is left of `total`.
fn write_bins(bits: &mut BitWriter, bins: &[u64], total: u64, shares: &[u64]) {
    let Some((_, bins)) = bins.split_last() else { return };
    for (&count, share) in bins.iter().zip(shares) {
        let expected = expected_count(share, total);
        // Both are at most 2^28.
        bits.difference(count as i64 - expected as i64, bin_bits(expected));
    }
}

fn read_bins(bits: &mut BitReader<'_>, total: u64, shares: &[u64]) -> Result<Vec<u64>, Unreadable> {
    let mut bins = vec![0; shares.len()];
    let Some((last, others)) = bins.split_last_mut() else { return Ok(bins) };
    let mut left = total;
    let mut reader = *bits;
    for (bin, share) in others.iter_mut().zip(shares) {
        let expected = expected_count(share, total);
        let difference = reader.difference(bin_bits(expected))?;
        *bin = expected.checked_add_signed(difference).ok_or_else(too_many)?;
        left = less(left, *bin)?;
    }
    *last = left;
    *bits = reader;
    Ok(bins)
}

fn expected_count(share: &u64, total: u64) -> u64 {
    // A share is at most 1 and a total at most 2^28, also one that is refused later: it is cut here.
    (total.min(crate::window::MAX_WINDOW_ROWS) * share) >> SHARE_BITS
}

fn expected_moment(share: i128, total: u64) -> i128 {
    (share * i128::from(total)) >> SHARE_BITS
}

/// A count is off by about the square root of what is expected.
fn bin_bits(expected: u64) -> u32 {
    half_the_bits(expected)
}

fn moment_bits(power: usize, total: u64) -> u32 {
    MOMENT_BITS[power] + half_the_bits(total)
}

fn half_the_bits(number: u64) -> u32 {
    // One has none either, and what is never zero needs no care in the instruction that old processors have for this.
    (u64::BITS - (number | 1).leading_zeros()) / 2
}

fn less(whole: u64, part: u64) -> Result<u64, Unreadable> {
    whole.checked_sub(part).ok_or_else(too_many)
}

fn too_many() -> Unreadable {
    Unreadable::Implausible("parts are more than the whole")
}
