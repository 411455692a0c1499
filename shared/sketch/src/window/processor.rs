//! The one place that asks which processor this is, and the only unsafe code of this crate.
//!
//! Packages are compiled for the oldest processors of their kind. On x86-64 those have vectors of four numbers, and nearly all
//! in use have eight (AVX2). So the loops are compiled once more for these, from the same source, and chosen at run time; the
//! benchmarks page has what it gains. On ARM the oldest has all that they use.
//!
//! Results have the same bits: the source fixes the order of every sum, and without leave to do otherwise, which Rust does not
//! give, a compiler neither reorders nor fuses floating-point operations.

use super::{column::Column, kernel::Block};

/// Counts the first `filled` values of a block, with the widest vectors that there are.
pub(super) fn count(column: &mut Column, block: &mut Block, filled: usize) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the function asks for nothing but AVX2, and this processor has it.
        #[allow(unsafe_code)]
        unsafe {
            count_with_avx2(column, block, filled);
        }
        return;
    }
    column.count_plainly(block, filled);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn count_with_avx2(column: &mut Column, block: &mut Block, filled: usize) {
    column.count_plainly(block, filled);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        reference::NumericReference,
        window::{
            NumericCounts,
            kernel::BLOCK,
            tests::{any_value, numeric},
        },
    };

    /// Values that are the same number, that no number is, or next to where numbers end.
    fn hard_value() -> impl Strategy<Value = f32> {
        let hard = [
            0.0,
            -0.0,
            f32::NAN,
            -f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            crate::window::MISSING,
            f32::from_bits(1),
            -f32::from_bits(1),
            f32::MIN_POSITIVE,
            f32::MAX,
            f32::MIN,
        ];
        prop_oneof![4 => any_value(), 1 => any::<u32>().prop_map(f32::from_bits), 2 => prop::sample::select(hard.to_vec())]
    }

    fn bits(counts: &NumericCounts) -> (String, Option<(u32, u32)>) {
        let range = counts.range().map(|(lowest, highest)| (lowest.to_bits(), highest.to_bits()));
        (format!("{counts:?}"), range)
    }

    proptest! {
        #[test]
        fn the_widest_vectors_count_the_same_bits(
            values in prop::collection::vec(hard_value(), 1..600),
            usual in prop::collection::vec(-1.0_f32..1.0, 0..300),
            step in prop::sample::select(vec![0.0_f32, 1e-38, 0.1, 1e30]),
        ) {
            let reference = if step > 0.0 { numeric(step) } else { NumericReference::from_sample("a", &[-0.0; 1_000]).unwrap() };
            let (mut widest, mut plain) = (Column::new(&reference), Column::new(&reference));
            let all: Vec<f32> = values.iter().copied().chain(usual.iter().map(|value| value * step * 100.0)).collect();
            for part in all.chunks(BLOCK) {
                let mut block = [0.0; BLOCK];
                block[..part.len()].copy_from_slice(part);
                count(&mut widest, &mut block.clone(), part.len());
                plain.count_plainly(&mut block, part.len());
            }
            let rows = all.len() as u64;
            prop_assert_eq!(bits(&widest.take(rows)), bits(&plain.take(rows)));
        }
    }
}
