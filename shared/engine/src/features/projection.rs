//! Random projections: a few numbers in which a change of a high-dimensional embedding shows.
//!
//! Directions have elements of `+1/√n` and `−1/√n` with equal chance (Achlioptas 2003, *Database-friendly random
//! projections*), made from the seed by SplitMix64 (Steele, Lea & Flood 2014), so everybody who knows the seed has the same.

/// Elements whose signs lie in one word.
const WORD: usize = 64;

/// Sums side by side; see [`lanes`](super::lanes).
const LANES: usize = 8;

/// Directions of one embedding.
#[derive(Debug)]
pub(super) struct Projections {
    seed: u64,
    length: usize,
    /// The signs of each direction, one bit an element; set for minus.
    signs: Vec<Vec<u64>>,
}

impl Projections {
    /// None yet, for embeddings of `length` elements.
    pub(super) fn new(seed: u64, length: usize) -> Self {
        Self { seed, length, signs: vec![] }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Adds direction `number`.
    pub(super) fn add(&mut self, number: u32) {
        let mut state = mixed(self.seed ^ mixed(u64::from(number)));
        let words = self.length.div_ceil(WORD);
        let word = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed(state)
        };
        self.signs.push(std::iter::repeat_with(word).take(words).collect());
    }

    /// The projection on each direction, in the order in which they were added.
    pub(super) fn of(&self, embedding: &[f32]) -> Vec<f32> {
        let scale = 1.0 / (self.length.max(1) as f64).sqrt();
        let project = |signs: &Vec<u64>| {
            let mut lanes = [0.0; LANES];
            embedding.chunks(WORD).zip(signs).for_each(|(word, &signs)| add_signed(&mut lanes, word, signs));
            #[allow(clippy::cast_possible_truncation)] // figures are counted as FP32
            let projection = (lanes.iter().sum::<f64>() * scale) as f32;
            projection
        };
        self.signs.iter().map(project).collect()
    }
}

/// Adds a word of elements, each with the sign of its bit.
fn add_signed(lanes: &mut [f64; LANES], word: &[f32], signs: u64) {
    for (eight, values) in word.chunks(LANES).enumerate() {
        let signs = signs >> (eight * LANES);
        for (lane, (sum, value)) in lanes.iter_mut().zip(values).enumerate() {
            let minus = ((signs >> lane & 1) as u32) << 31;
            *sum += f64::from(f32::from_bits(value.to_bits() ^ minus));
        }
    }
}

fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
