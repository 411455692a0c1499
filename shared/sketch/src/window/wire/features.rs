//! The counts of one feature as bits.

use super::{
    Unreadable,
    bits::{BitError, BitReader, BitWriter, difference_of},
};
use crate::{
    categories::CategoryCounts,
    reference::{CategoryReference, NumericReference, ReferenceValues, SHARE_BITS},
    window::{FeatureCounts, Moments, NumericCounts, total as sum},
};

/// Usual sizes, as for the header.
const GAP_BITS: u32 = 0;
const RUN_BITS: u32 = 1;

/// Spread of a single value's powers in units of a moment, as a power of two: for a normal feature the standard
/// deviations of its powers are 1, 1.4, 3.9 and 9.8 times 256. The square root of the rows comes on top.
const MOMENT_BITS: [u32; 4] = [8, 8, 9, 11];

/// Bins that are read together. A word has fourteen bits for each, twice as many as usual.
const GROUP: usize = 4;

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

/// Reads the counts of a feature, which are `rows` together, to the end of a list: they are large to hand back.
pub(super) fn read(
    bits: &mut BitReader<'_>,
    rows: u64,
    reference: &ReferenceValues,
    into: &mut Vec<FeatureCounts>,
) -> Result<(), Unreadable> {
    into.push(match reference {
        ReferenceValues::Numeric(reference) => FeatureCounts::Numeric(read_numeric(bits, rows, reference)?),
        ReferenceValues::Category(reference) => {
            FeatureCounts::Category(read_category(bits, rows, reference)?)
        }
    });
    Ok(())
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

#[inline(always)]
fn read_numeric(
    bits: &mut BitReader<'_>,
    rows: u64,
    reference: &NumericReference,
) -> Result<NumericCounts, Unreadable> {
    let expected = reference.expected();
    let mut reader = *bits;
    let [non_finite, missing] = reader.numbers([GAP_BITS; 2])?;
    let finite = less(rows, non_finite.saturating_add(missing))?;
    if finite == 0 {
        *bits = reader;
        return Ok(NumericCounts::empty(expected.bins.len()).with_quality(non_finite, missing, 0));
    }
    let longest_run = reader.number(RUN_BITS)? + 1;
    let bins = read_bins(&mut reader, finite, &expected.bins)?;
    let moments = read_moments(&mut reader, finite, &expected.moments)?;
    let range = (read_value(&mut reader)?, read_value(&mut reader)?);
    *bits = reader;
    let counts = NumericCounts::of(bins, moments, Some(range));
    Ok(counts.with_quality(non_finite, missing, longest_run))
}

#[inline(always)]
fn read_moments(bits: &mut BitReader<'_>, finite: u64, expected: &[i128; 4]) -> Result<Moments, Unreadable> {
    let low_bits = |power| moment_bits(power, finite);
    // Two and two of them fit into a word.
    let [first, second] = bits.numbers([low_bits(0), low_bits(1)])?;
    let [third, fourth] = bits.numbers([low_bits(2), low_bits(3)])?;
    let sum =
        |power: usize, number| expected_moment(expected[power], finite) + i128::from(difference_of(number));
    Ok(Moments::of([sum(0, first), sum(1, second), sum(2, third), sum(3, fourth)]))
}

#[inline(always)]
fn read_value(bits: &mut BitReader<'_>) -> Result<f32, Unreadable> {
    Ok(f32::from_bits(bits.take(32)? as u32))
}

#[inline(always)]
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

#[inline(always)]
fn read_bins(bits: &mut BitReader<'_>, total: u64, shares: &[u64]) -> Result<Vec<u64>, Unreadable> {
    let Some((_, shares)) = shares.split_last() else { return Ok(Vec::new()) };
    let mut bins = Vec::with_capacity(shares.len() + 1);
    let (groups, rest) = shares.as_chunks::<GROUP>();
    for shares in groups {
        bins.extend_from_slice(&read_group(bits, total, shares)?);
    }
    // Thirty-two bins, as most numeric features have, leave three.
    if let [first, second, third] = *rest {
        bins.extend_from_slice(&read_group(bits, total, &[first, second, third])?);
    } else {
        for share in rest {
            bins.extend_from_slice(&read_group(bits, total, &[*share])?);
        }
    }
    bins.push(less(total, sum(&bins))?);
    Ok(bins)
}

#[inline(always)]
fn read_group<const COUNT: usize>(
    bits: &mut BitReader<'_>,
    total: u64,
    shares: &[u64; COUNT],
) -> Result<[u64; COUNT], BitError> {
    let (mut counts, mut low_bits) = ([0; COUNT], [0; COUNT]);
    for ((count, low_bits), share) in counts.iter_mut().zip(&mut low_bits).zip(shares) {
        *count = expected_count(share, total);
        *low_bits = bin_bits(*count);
    }
    for (count, number) in counts.iter_mut().zip(bits.numbers(low_bits)?) {
        // One below zero becomes one above every total.
        *count = count.wrapping_add_signed(difference_of(number));
    }
    Ok(counts)
}

fn expected_count(share: &u64, total: u64) -> u64 {
    // A share is at most 1, and a total at most 2^28: both sides refuse a window with more rows before they get here.
    (total * share) >> SHARE_BITS
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
