//! The same loops compiled for AVX2, chosen when the processor has it. The only unsafe code of this crate.
//!
//! Why: a row of 32 features costs a third to a half less (the benchmarks page has both figures), and nearly every x86
//! processor since 2013 has it, while binaries for all of them must not assume it. There is no other source text here: the
//! compiler is only allowed wider registers for [`Counters::count_portably`]. It may not fuse a multiplication with
//! an addition, because Rust never does, so the results have the same bits.

#![allow(unsafe_code)]

use super::{Block, Counters};

/// Counts a block if the processor has AVX2; false if it has not, and nothing was counted.
pub(super) fn count(counters: &mut Counters, block: &Block) -> bool {
    if !is_x86_feature_detected!("avx2") {
        return false;
    }
    // SAFETY: `count_with_avx2` needs nothing but a processor with AVX2, and this one has it: it was asked above.
    unsafe { count_with_avx2(counters, block) };
    true
}

#[target_feature(enable = "avx2")]
fn count_with_avx2(counters: &mut Counters, block: &Block) {
    counters.count_portably(block);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn wider_registers_give_the_same_bits(
            blocks in prop::collection::vec(prop::array::uniform32(any::<f32>()), 1..6),
            scale in 1e-3_f32..1e3,
        ) {
            let edges = [-1e30, -1.0, -1e-40, 0.0, 1e-40, 0.5, 2.0, f32::INFINITY];
            let mut portable = Counters::new(&edges, 0.25, scale);
            let mut chosen = portable.clone();
            for values in &blocks {
                let block: Block = std::array::from_fn(|place| {
                    let value = values[place % values.len()];
                    if value.is_finite() { value * (place as f32 - 60.0) } else { f32::NAN }
                });
                let block = block.map(super::super::super::column::finite_or_nan);
                portable.count_portably(&block);
                chosen.count(&block);
            }
            prop_assert_eq!(format!("{portable:?}"), format!("{chosen:?}"));
        }
    }
}
