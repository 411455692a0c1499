//! Data that is the same in every run.

use datasketches::kll::{KllFloat, KllSketch};
use muster_sketch::reference::{FeatureReference, NumericReference, Reference, ReferenceValues};

/// A small generator (Marsaglia's xorshift): data needs no quality, only repetition.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A standard normal value (Box & Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.uniform()).cos()) as f32
    }
}

/// Normal features, each of 10,000 reference rows.
pub fn reference(features: usize) -> Reference {
    let mut random = Random::new(7);
    let feature = |place: usize| {
        let sample: Vec<f32> = (0..10_000).map(|_| random.normal()).collect();
        let values = NumericReference::from_sample("a", &sample).unwrap();
        FeatureReference { name: format!("feature-{place}"), values: ReferenceValues::Numeric(values) }
    };
    Reference::new((0..features).map(feature).collect()).unwrap()
}

/// Rows of normal features.
pub fn rows_of(random: &mut Random, rows: usize, features: usize) -> Vec<Vec<f32>> {
    (0..rows).map(|_| (0..features).map(|_| random.normal()).collect()).collect()
}

/// A KLL sketch of normal values, at the size that its library takes by default.
pub fn kll_of(random: &mut Random, rows: usize) -> KllSketch<KllFloat<f32>> {
    let mut sketch = KllSketch::new(200).unwrap();
    (0..rows).for_each(|_| sketch.update(KllFloat::<f32>::new(random.normal()).unwrap()));
    sketch
}
