//! Bins of a feature, and counts drawn into them.
//!
//! A detector sees nothing of a value but its bin. So where samples are independent their counts are drawn from the bins'
//! probabilities, which has exactly the distribution of drawing values and sorting them into bins.

use crate::random::Random;

/// The shares below the edges of a reference, in thousandths; around them its range.
const THOUSANDTHS: [usize; 29] = [
    1, 5, 20, 60, 100, 140, 180, 220, 260, 300, 340, 380, 420, 460, 500, 540, 580, 620, 660, 700, 740, 780,
    820, 860, 900, 940, 980, 995, 999,
];

/// Rows of a sample cut into 32 bins, of which the first and the last are outside its range.
#[derive(Clone)]
pub struct Reference {
    edges: Vec<f64>,
    pub counts: Vec<u64>,
}

impl Reference {
    pub fn of(mut rows: Vec<f64>) -> Self {
        rows.sort_by(f64::total_cmp);
        let quantiles = THOUSANDTHS.iter().map(|share| rows[rows.len() * share / 1_000]);
        let mut edges: Vec<_> = std::iter::once(rows[0]).chain(quantiles).collect();
        edges.push(rows[rows.len() - 1].next_up());
        let mut reference = Self { counts: vec![0; edges.len() + 1], edges };
        for &row in &rows {
            let bin = reference.bin_of(row);
            reference.counts[bin] += 1;
        }
        reference
    }

    /// Standard normal rows.
    pub fn normal(random: &mut Random, rows: usize) -> Self {
        Self::of((0..rows).map(|_| random.normal()).collect())
    }

    pub fn bin_of(&self, value: f64) -> usize {
        self.edges.partition_point(|&edge| value >= edge)
    }

    /// What a distribution function makes of the edges.
    pub fn bins(&self, distribution: impl Fn(f64) -> f64) -> Bins {
        let mut below = 0.0;
        let upto = self.edges.iter().map(|&edge| distribution(edge)).chain([1.0]);
        Bins::of(upto.map(|upto| upto - std::mem::replace(&mut below, upto)).collect())
    }

    pub fn normal_bins(&self, mean: f64, deviation: f64) -> Bins {
        self.bins(|edge| normal_below((edge - mean) / deviation))
    }
}

/// Probabilities of bins, ready to draw from (alias method, Vose 1991).
#[derive(Clone)]
pub struct Bins {
    keep: Vec<f64>,
    alias: Vec<usize>,
}

impl Bins {
    pub fn of(probabilities: Vec<f64>) -> Self {
        let n = probabilities.len();
        let sum: f64 = probabilities.iter().sum();
        let mut keep: Vec<_> = probabilities.iter().map(|p| p.max(0.0) / sum * n as f64).collect();
        let mut alias: Vec<_> = (0..n).collect();
        let (mut small, mut large): (Vec<_>, Vec<_>) = (0..n).partition(|&bin| keep[bin] < 1.0);
        while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
            alias[poor] = rich;
            keep[rich] -= 1.0 - keep[poor];
            if keep[rich] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        Self { keep, alias }
    }

    pub fn draw(&self, random: &mut Random) -> usize {
        let place = random.uniform() * self.keep.len() as f64;
        let bin = (place as usize).min(self.keep.len() - 1);
        if place - bin as f64 <= self.keep[bin] || self.alias[bin] == bin { bin } else { self.alias[bin] }
    }

    pub fn counts(&self, random: &mut Random, samples: u64) -> Vec<u64> {
        let mut counts = vec![0; self.keep.len()];
        for _ in 0..samples {
            counts[self.draw(random)] += 1;
        }
        counts
    }
}

/// Distribution function of the standard normal, to 1e-15: the series of Marsaglia 2004, and beyond its reach a continued fraction.
pub fn normal_below(z: f64) -> f64 {
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    if z.abs() > 5.0 {
        let fraction = (1..=60).rev().fold(0.0, |rest, n| f64::from(n) / (z.abs() + rest));
        let tail = density / (z.abs() + fraction);
        return if z > 0.0 { 1.0 - tail } else { tail };
    }
    let (mut term, mut sum, mut odd) = (z, z, 3.0);
    while term.abs() > 1e-17 * sum.abs() {
        term *= z * z / odd;
        sum += term;
        odd += 2.0;
    }
    0.5 + density * sum
}
