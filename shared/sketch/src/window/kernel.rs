//! The inner loops, in the form that compilers turn into vector instructions: one block of values, one edge after the other,
//! no search, and a branch only where it leaves out a whole pass.
//!
//! The code is that of every processor; [`processor`](super::processor) compiles it a second time. So that this reaches all of
//! it, each function here is a part of its caller (`inline(always)`).
//!
//! Values that are not finite come in as NaN: no comparison with it holds, so it is in no count and no extreme. Sums take
//! halves onto each other, in an order that is part of the code; so they have the same bits on every processor.

use super::{CLIP, UNITS_PER_ONE};

/// Values of a block: half a kilobyte, which stays in the nearest cache while 31 edges pass over it. It bounds both what
/// waits in memory for each feature and what is summed in `f32`.
pub(super) const BLOCK: usize = 128;

/// The values of one feature that are counted together.
pub(super) type Block = [f32; BLOCK];

/// A quarter of a block. The four are taken onto each other in one pass, before anything is stored.
const PART: usize = BLOCK / 4;

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

    /// Counts a block, of which `finite` values are not NaN.
    #[inline(always)]
    pub(super) fn count(&mut self, block: &Block, finite: u32) {
        let Summary { lowest, highest, powers } = self.summary(block);
        for (edge, at_least) in self.edges.iter().zip(&mut self.at_least) {
            if *edge > highest {
                break; // and so are all after it
            }
            *at_least += if *edge <= lowest {
                finite
            } else {
                // A comparison of vectors gives minus one where it holds, so this is an addition for each.
                block.iter().map(|value| -i32::from(value >= edge)).sum::<i32>().unsigned_abs()
            };
        }
        self.finite += finite;
        (self.lowest, self.highest) = (smaller(lowest, self.lowest), larger(highest, self.highest));
        for (sum, more) in self.sums.iter_mut().zip(powers) {
            *sum += (f64::from(more) + ROUNDER) - ROUNDER;
        }
    }

    /// Everything of a block that needs each of its values once.
    #[inline(always)]
    fn summary(&self, block: &Block) -> Summary {
        let (mut lowest, mut highest) = ([f32::INFINITY; PART], [f32::NEG_INFINITY; PART]);
        let mut powers = [[0.0; PART]; 4];
        let parts = block.as_chunks::<PART>().0;
        let (first, second, third, fourth) = (&parts[0], &parts[1], &parts[2], &parts[3]);
        for place in 0..PART {
            let values = [first[place], second[place], third[place], fourth[place]];
            for value in values {
                lowest[place] = smaller(value, lowest[place]);
                highest[place] = larger(value, highest[place]);
            }
            let deviations = values.map(|value| self.deviation(value));
            let squares = deviations.map(|deviation| deviation * deviation);
            let mut cubes = squares;
            for (cube, deviation) in cubes.iter_mut().zip(deviations) {
                *cube *= deviation;
            }
            powers[0][place] = sum(deviations);
            powers[1][place] = sum(squares);
            powers[2][place] = sum(cubes);
            powers[3][place] = sum(squares.map(|square| square * square));
        }
        for half in [PART / 2, PART / 4] {
            for place in 0..half {
                lowest[place] = smaller(lowest[place + half], lowest[place]);
                highest[place] = larger(highest[place + half], highest[place]);
            }
            for of_places in &mut powers {
                for place in 0..half {
                    of_places[place] += of_places[place + half];
                }
            }
        }
        let mut sums = [0.0; 4];
        for (sum, of_places) in sums.iter_mut().zip(&powers) {
            *sum = last_eight(of_places, |a, b| a + b);
        }
        Summary { lowest: last_eight(&lowest, smaller), highest: last_eight(&highest, larger), powers: sums }
    }

    /// How far a value is from the centre, in units of the scale, as far as that counts. NaN is as if it were the centre.
    #[inline(always)]
    fn deviation(&self, value: f32) -> f32 {
        let deviation = (value - self.centre) * self.per_scale;
        let deviation = if value.is_nan() { 0.0 } else { deviation };
        let not_above = if deviation < CLIP { deviation } else { CLIP };
        if not_above > -CLIP { not_above } else { -CLIP }
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

/// What one pass over a block finds.
struct Summary {
    /// Infinite without values.
    lowest: f32,
    /// As `lowest`, the other infinity.
    highest: f32,
    /// Sums of the first four powers of the deviations.
    powers: [f32; 4],
}

/// The smaller one; `best` when the value is NaN.
#[inline(always)]
fn smaller(value: f32, best: f32) -> f32 {
    if value < best { value } else { best }
}

/// The larger one; `best` when the value is NaN.
#[inline(always)]
fn larger(value: f32, best: f32) -> f32 {
    if value > best { value } else { best }
}

/// The sum of the four values at one place of the parts, halves onto each other.
#[inline(always)]
fn sum(values: [f32; 4]) -> f32 {
    (values[3] + values[1]) + (values[2] + values[0])
}

/// Joins the first eight, halves onto each other. Spelled out: as a loop they cost as much as all before them.
#[inline(always)]
fn last_eight(values: &[f32; PART], join: impl Fn(f32, f32) -> f32) -> f32 {
    let pair = |place: usize| join(values[place + 4], values[place]);
    join(join(pair(2), pair(0)), join(pair(3), pair(1)))
}
