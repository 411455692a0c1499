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

/// A quarter of a block. The values at one place of the four are taken onto each other first.
const PART: usize = BLOCK / 4;

/// As many numbers as the widest vectors have. What is summed for each of them stays in vectors until it is asked for.
const LANES: usize = 8;

type Lanes<T> = [T; LANES];

/// Adding and subtracting this rounds to a multiple of 1/[`UNITS_PER_ONE`], because that is the distance of floats there.
/// It does so below 2^43; the sums of a block stay below 2^23.
const ROUNDER: f64 = 1.5 * (1_u64 << 44) as f64;

/// What a block adds up to.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    edges: Vec<f32>,
    centre: f32,
    per_scale: f32,
    /// Values that are at least the edge, those in each lane of a vector apart: adding lanes up takes as long as comparing
    /// several vectors, so it is done once for a window.
    at_least: Vec<Lanes<u32>>,
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
            at_least: vec![[0; LANES]; edges.len()],
            finite: 0,
            sums: [0.0; 4],
            lowest: f32::INFINITY,
            highest: f32::NEG_INFINITY,
        }
    }

    /// Counts a block, of which `finite` values are not NaN.
    #[inline(always)]
    pub(super) fn count(&mut self, block: &Block, finite: u32) {
        let without_gaps;
        let deviating = if finite as usize == BLOCK {
            block
        } else {
            without_gaps = self.fill_gaps(block);
            &without_gaps
        };
        let Summary { lowest, highest, powers } = self.summary(block, deviating);
        self.count_edges(block, finite, lowest, highest);
        self.finite += finite;
        (self.lowest, self.highest) = (smaller(lowest, self.lowest), larger(highest, self.highest));
        for (sum, more) in self.sums.iter_mut().zip(powers) {
            *sum += (f64::from(more) + ROUNDER) - ROUNDER;
        }
    }

    /// Only edges within the block's range need a look at each value. Which these are is found before, because a question for
    /// each edge would cost as much as comparing a vector or two.
    #[inline(always)]
    fn count_edges(&mut self, block: &Block, finite: u32, lowest: f32, highest: f32) {
        let not_reached = self.edges.iter().rev().take_while(|edge| **edge > highest).count();
        let reached = self.edges.len() - not_reached;
        let (edges, at_least) = (&self.edges[..reached], &mut self.at_least[..reached]);
        let passed = edges.iter().take_while(|edge| **edge <= lowest).count();
        let (by_all, by_some) = at_least.split_at_mut(passed);
        by_all.iter_mut().for_each(|lanes| lanes[0] += finite);
        for (&edge, lanes) in edges[passed..].iter().zip(by_some) {
            count_from(edge, block, lanes);
        }
    }

    /// The block with the centre, which does not deviate, in place of NaN. So blocks without NaN are spared a question a value.
    #[cold]
    fn fill_gaps(&self, block: &Block) -> Block {
        let mut filled = *block;
        for value in &mut filled {
            *value = if value.is_nan() { self.centre } else { *value };
        }
        filled
    }

    /// Everything of a block that needs each of its values once. Deviations are those of the same block without NaN.
    #[inline(always)]
    fn summary(&self, block: &Block, deviating: &Block) -> Summary {
        let (mut lowest, mut highest) = ([0.0; LANES], [0.0; LANES]);
        let mut powers = [[0.0; LANES]; 4];
        for lane in 0..LANES {
            // One after the other: a closure here can stay out of line, where it has no wide vectors.
            let a = self.place(block, deviating, lane);
            let b = self.place(block, deviating, lane + LANES);
            let c = self.place(block, deviating, lane + 2 * LANES);
            let d = self.place(block, deviating, lane + 3 * LANES);
            let all = a.and(&c).and(&b.and(&d));
            (lowest[lane], highest[lane]) = (all.lowest, all.highest);
            for (of_lanes, power) in powers.iter_mut().zip(all.powers) {
                of_lanes[lane] = power;
            }
        }
        let mut sums = [0.0; 4];
        for (sum, of_lanes) in sums.iter_mut().zip(&powers) {
            *sum = across(of_lanes, |a, b| a + b);
        }
        Summary { lowest: across(&lowest, smaller), highest: across(&highest, larger), powers: sums }
    }

    /// The values at one place of the parts.
    #[inline(always)]
    fn place(&self, block: &Block, deviating: &Block, place: usize) -> Summary {
        let (mut lowest, mut highest) = (f32::INFINITY, f32::NEG_INFINITY);
        for value in at_place(block, place) {
            lowest = smaller(value, lowest);
            highest = larger(value, highest);
        }
        let deviations = at_place(deviating, place).map(|value| self.deviation(value));
        let squares = deviations.map(|deviation| deviation * deviation);
        let mut cubes = squares;
        for (cube, deviation) in cubes.iter_mut().zip(deviations) {
            *cube *= deviation;
        }
        let fourths = squares.map(|square| square * square);
        Summary { lowest, highest, powers: [sum(deviations), sum(squares), sum(cubes), sum(fourths)] }
    }

    /// How far a value is from the centre, in units of the scale, as far as that counts.
    #[inline(always)]
    fn deviation(&self, value: f32) -> f32 {
        let deviation = (value - self.centre) * self.per_scale;
        let not_above = if deviation < CLIP { deviation } else { CLIP };
        if not_above > -CLIP { not_above } else { -CLIP }
    }

    /// Finite values in each bin.
    pub(super) fn bins(&self) -> Vec<u64> {
        let mut left = u64::from(self.finite);
        let mut bins = Vec::with_capacity(self.at_least.len() + 1);
        for lanes in &self.at_least {
            let at_least = lanes.iter().map(|&count| u64::from(count)).sum();
            bins.push(left - at_least);
            left = at_least;
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
        self.at_least.fill([0; LANES]);
        (self.finite, self.sums) = (0, [0.0; 4]);
        (self.lowest, self.highest) = (f32::INFINITY, f32::NEG_INFINITY);
    }
}

/// What one look at each of some values finds.
struct Summary {
    /// Infinite without values.
    lowest: f32,
    /// As `lowest`, the other infinity.
    highest: f32,
    /// Sums of the first four powers of the deviations.
    powers: [f32; 4],
}

impl Summary {
    #[inline(always)]
    fn and(&self, other: &Self) -> Self {
        let mut powers = self.powers;
        for (power, more) in powers.iter_mut().zip(other.powers) {
            *power += more;
        }
        let (lowest, highest) = (smaller(other.lowest, self.lowest), larger(other.highest, self.highest));
        Self { lowest, highest, powers }
    }
}

/// Adds how many values of a block are at least the edge.
#[inline(always)]
fn count_from(edge: f32, block: &Block, at_least: &mut Lanes<u32>) {
    // Lanes outside, or compilers turn the block over for each edge.
    for (lane, count) in at_least.iter_mut().enumerate() {
        // A comparison of vectors gives minus one where it holds, so this is a subtraction for each.
        for step in 0..BLOCK / LANES {
            *count += u32::from(block[step * LANES + lane] >= edge);
        }
    }
}

/// The values at one place of the parts.
#[inline(always)]
fn at_place(block: &Block, place: usize) -> [f32; 4] {
    [block[place], block[place + PART], block[place + 2 * PART], block[place + 3 * PART]]
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

/// Joins the lanes, halves onto each other. Spelled out: as a loop they cost as much as all before them.
#[inline(always)]
fn across(lanes: &Lanes<f32>, join: impl Fn(f32, f32) -> f32) -> f32 {
    let pair = |lane: usize| join(lanes[lane + 4], lanes[lane]);
    join(join(pair(2), pair(0)), join(pair(3), pair(1)))
}
