//! The inner loops, in the form that compilers turn into vector instructions: one block of values, one edge after the other,
//! no branch and no search.
//!
//! There is no code for a particular processor. Compiled for AVX2 and chosen at run time, the same loops took about 0.7 of
//! the time; such a choice needs unsafe code, which a gain of half would have justified.
//!
//! Values that are not finite come in as NaN: no comparison with it holds, so it is in no count and no extreme. Sums take
//! halves onto each other, in an order that is part of the code; so they have the same bits on every processor.

use super::{CLIP, UNITS_PER_ONE};

/// Values of a block: half a kilobyte, which stays in the nearest cache while 31 edges pass over it. It bounds both what
/// waits in memory for each feature and what is summed in `f32`.
pub(super) const BLOCK: usize = 128;

/// The values of one feature that are counted together.
pub(super) type Block = [f32; BLOCK];

/// Adding and subtracting this rounds to a multiple of 1/[`UNITS_PER_ONE`], because that is the distance of floats there.
/// It does so below 2^43; the sums of a block stay below 2^23.
const ROUNDER: f64 = 1.5 * (1_u64 << 44) as f64;

/// What a block adds up to.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    edges: Vec<f32>,
    centre: f32,
    per_scale: f32,
    /// Values that are at least the edge.
    at_least: Vec<u32>,
    finite: u32,
    /// Multiples of a unit, so that adding is exact while they are below 2^53 units; a window keeps them below 2^52.
    sums: [f64; 4],
    lowest: f32,
    highest: f32,
}

impl Counters {
    pub(super) fn new(edges: &[f32], centre: f32, scale: f32) -> Self {
        Self {
            edges: edges.to_vec(),
            centre,
            per_scale: scale.recip(),
            at_least: vec![0; edges.len()],
            finite: 0,
            sums: [0.0; 4],
            lowest: f32::INFINITY,
            highest: f32::NEG_INFINITY,
        }
    }

    /// Counts a block.
    pub(super) fn count(&mut self, block: &Block) {
        for (edge, at_least) in self.edges.iter().zip(&mut self.at_least) {
            *at_least += block.iter().map(|value| u32::from(value >= edge)).sum::<u32>();
        }
        self.finite += block.iter().map(|value| u32::from(!value.is_nan())).sum::<u32>();
        self.lowest = extreme(block, self.lowest, |value, best| if value < best { value } else { best });
        self.highest = extreme(block, self.highest, |value, best| if value > best { value } else { best });
        let powers = self.powers(block);
        for (sum, more) in self.sums.iter_mut().zip(powers) {
            *sum += (f64::from(more) + ROUNDER) - ROUNDER;
        }
    }

    /// Sums of the first four powers of the deviations in a block.
    #[inline]
    fn powers(&self, block: &Block) -> [f32; 4] {
        let (centre, per_scale) = (self.centre, self.per_scale);
        let deviations = block.map(|value| {
            let present = if value.is_nan() { centre } else { value };
            let deviation = (present - centre) * per_scale;
            let not_above = if deviation < CLIP { deviation } else { CLIP };
            if not_above > -CLIP { not_above } else { -CLIP }
        });
        let squares = deviations.map(|deviation| deviation * deviation);
        let mut cubes = squares;
        for (cube, deviation) in cubes.iter_mut().zip(&deviations) {
            *cube *= deviation;
        }
        [sum(deviations), sum(squares), sum(cubes), sum(squares.map(|square| square * square))]
    }

    /// Finite values in each bin.
    pub(super) fn bins(&self) -> Vec<u64> {
        let mut left = u64::from(self.finite);
        let mut bins = Vec::with_capacity(self.at_least.len() + 1);
        for &at_least in &self.at_least {
            bins.push(left - u64::from(at_least));
            left = u64::from(at_least);
        }
        bins.push(left);
        bins
    }

    /// Number of finite values.
    pub(super) fn finite(&self) -> u64 {
        u64::from(self.finite)
    }

    /// Sums of powers, in units.
    pub(super) fn sums(&self) -> [i128; 4] {
        self.sums.map(|sum| (sum * UNITS_PER_ONE as f64) as i128)
    }

    /// Smallest and largest finite value.
    pub(super) fn range(&self) -> Option<(f32, f32)> {
        // Adding zero takes the sign off a zero, whichever came first.
        (self.finite > 0).then_some((self.lowest + 0.0, self.highest + 0.0))
    }

    /// Starts over, with the same edges.
    pub(super) fn clear(&mut self) {
        self.at_least.fill(0);
        (self.finite, self.sums) = (0, [0.0; 4]);
        (self.lowest, self.highest) = (f32::INFINITY, f32::NEG_INFINITY);
    }
}

/// The best of `start` and the values. `better` takes a value and the best so far, and keeps that when the value is NaN.
#[inline]
fn extreme(block: &Block, start: f32, better: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    let mut best = [start; BLOCK / 2];
    for half in block.as_chunks::<{ BLOCK / 2 }>().0 {
        for (best, &value) in best.iter_mut().zip(half) {
            *best = better(value, *best);
        }
    }
    folded(best, better)
}

#[inline]
fn sum(values: Block) -> f32 {
    folded(values, |a, b| a + b)
}

/// Takes halves onto each other until one is left. The last eight are spelled out: as a loop they cost as much as all
/// before them.
#[inline]
fn folded<const N: usize>(mut values: [f32; N], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = N / 2;
    while width >= 8 {
        for place in 0..width {
            values[place] = join(values[place + width], values[place]);
        }
        width /= 2;
    }
    let pair = |place: usize| join(values[place + 4], values[place]);
    join(join(pair(2), pair(0)), join(pair(3), pair(1)))
}
