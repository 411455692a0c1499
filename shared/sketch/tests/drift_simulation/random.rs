//! Seeded numbers.

use std::f64::consts::TAU;

/// SplitMix64 (Steele, Lea & Flood 2014).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD134_2543_DE82_EF95))
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, below 1.
    pub fn uniform(&mut self) -> f64 {
        ((self.number() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n - 1)
    }

    /// Box & Muller 1958.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }

    /// Events of a Poisson process in `mean` units of time.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        let (mut events, mut time) = (0, -self.uniform().ln());
        while time < mean {
            events += 1;
            time -= self.uniform().ln();
        }
        events
    }
}
