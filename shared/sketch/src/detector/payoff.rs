//! What the bets of one check paid: of one device, or of the devices of a group together.

use serde::{Deserialize, Serialize};

use super::{
    baseline::{Baseline, Doubt},
    scores::{BadCounts, Bets, STAKES, Scores, Shape, share, total},
};

/// This part of a group's devices, rounded up, is held at no evidence: those with the strongest.
const TRIMMED_PERCENT: usize = 5;

/// The evidence of one check, before the zone is taken from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Payoff {
    pub(super) samples: u64,
    pub(super) devices: usize,
    /// Log-payoffs, the stakes of each direction side by side.
    pub(super) gains: Vec<f64>,
    /// Of each direction, samples times the doubt about the baseline's mean.
    pub(super) doubts: Vec<Doubt>,
    /// Of each score.
    pub(super) moves: Vec<Move>,
}

/// How far samples are from the baseline, for people and for telling scopes apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    pub(super) samples: f64,
    /// Sum of the distances from the baseline's mean.
    pub(super) sum: f64,
    /// Variance of that sum by the samples' chance.
    pub(super) variance: f64,
    /// Its error by the baseline's.
    pub(super) error: f64,
}

impl Payoff {
    /// What `counts` pay against a baseline. Any number of samples, merged from any number of windows.
    ///
    /// # Errors
    /// When the counts are of another reference.
    pub fn of(scores: &Scores, baseline: &Baseline, counts: &[u64]) -> Result<Self, BadCounts> {
        scores.check_bins(counts)?;
        let samples = total(counts);
        let n = samples as f64;
        let moves = scores.scores.iter().zip(&baseline.scores).map(|(score, own)| Move {
            samples: n,
            sum: score.sums(counts).0 - n * own.mean,
            variance: n * own.variance,
            error: n * own.error,
        });
        let mut gains = Vec::with_capacity(scores.bets.len() * STAKES);
        for bets in &scores.bets {
            let score = &scores.scores[bets.score];
            let expected = bets.direction.sign.of(baseline.scores[bets.score].mean - score.mean);
            let paid = bets.paid(&score.shape, counts, samples);
            gains.extend(paid.iter().zip(bets.stakes).map(|(paid, stake)| paid - stake * expected * n));
        }
        let doubts =
            baseline.errors.iter().map(|doubt| Doubt { error: n * doubt.error, reach: n * doubt.reach });
        Ok(Self { samples, devices: 1, gains, doubts: doubts.collect(), moves: moves.collect() })
    }

    /// Samples behind it.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Devices behind it.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices
    }

    /// The product over devices that err independently, without the gains of the strongest twentieth of them.
    ///
    /// For each bet the devices that gained most are held at no gain; their losses count, so the product is never
    /// larger than that of all. The baselines' errors are independent, so doubts add as squares: what a hundred devices
    /// do together is known ten times as well as what one does. Add devices in one order, as by name, for the same bits.
    pub(super) fn product(devices: &[&Self]) -> Option<Self> {
        let first = *devices.first()?;
        let trimmed = (devices.len() * TRIMMED_PERCENT).div_ceil(100);
        let (mut column, mut scratch) = (Vec::with_capacity(devices.len()), Vec::new());
        let gains = (0..first.gains.len()).map(|bet| {
            column.clear();
            column.extend(devices.iter().map(|device| device.gains[bet]));
            without_strongest(&column, trimmed, &mut scratch)
        });
        let gains = gains.collect();
        let doubts = (0..first.doubts.len()).map(|direction| {
            let squares = devices.iter().fold(Doubt::default(), |sum, device| {
                let Doubt { error, reach } = device.doubts[direction];
                Doubt { error: sum.error + error * error, reach: sum.reach + reach * reach }
            });
            Doubt { error: squares.error.sqrt(), reach: squares.reach.sqrt() }
        });
        let samples = devices.iter().fold(0_u64, |sum, device| sum.saturating_add(device.samples));
        let moves = (0..first.moves.len()).map(|score| Move::trimmed(devices, score, trimmed));
        Some(Self {
            samples,
            devices: devices.len(),
            gains,
            doubts: doubts.collect(),
            moves: moves.collect(),
        })
    }
}

/// Adds the gains in their order; the `trimmed` largest count only if they are losses.
fn without_strongest(gains: &[f64], trimmed: usize, scratch: &mut Vec<f64>) -> f64 {
    scratch.clear();
    scratch.extend_from_slice(gains);
    let (_, &mut least, _) = scratch.select_nth_unstable_by(trimmed - 1, |a, b| b.total_cmp(a));
    let mut equal = trimmed - gains.iter().filter(|&&gain| gain > least).count();
    let mut sum = 0.0;
    for &gain in gains {
        let held = gain > least || (gain == least && equal > 0);
        if gain == least && equal > 0 {
            equal -= 1;
        }
        sum += if held { gain.min(0.0) } else { gain };
    }
    sum
}

impl Move {
    /// The sum over devices without the twentieth that moved most and the one that moved least, so that broken sensors do not
    /// speak for the others. Nothing if none is left.
    fn trimmed(devices: &[&Payoff], score: usize, trimmed: usize) -> Self {
        let mut moves: Vec<_> = devices.iter().map(|device| device.moves[score]).collect();
        moves.sort_by(|a, b| a.mean().total_cmp(&b.mean()));
        let kept = moves.get(trimmed..moves.len().saturating_sub(trimmed)).unwrap_or_default();
        let (mut all, mut errors) = (Self::default(), 0.0);
        for device in kept {
            all.samples += device.samples;
            all.sum += device.sum;
            all.variance += device.variance;
            errors += device.error * device.error;
        }
        all.error = errors.sqrt();
        all
    }

    /// Mean distance from the baseline, in the score's unit. 0 without samples.
    pub(super) fn mean(&self) -> f64 {
        if self.samples > 0.0 { self.sum / self.samples } else { 0.0 }
    }

    /// Standard error of [`Self::mean`]; infinite without samples.
    pub(super) fn standard_error(&self) -> f64 {
        if self.samples > 0.0 {
            (self.variance + self.error * self.error).sqrt() / self.samples
        } else {
            f64::INFINITY
        }
    }

    /// With `unit` as 1, such as a score's standard deviation.
    pub(super) fn in_units_of(&self, unit: f64) -> Self {
        let Self { samples, sum, variance, error } = *self;
        Self { samples, sum: sum / unit, variance: variance / (unit * unit), error: error / unit }
    }

    /// Moves of the same devices at another check: their baselines err alike at both.
    pub(super) fn add_check(&mut self, other: &Self) {
        self.samples += other.samples;
        self.sum += other.sum;
        self.variance += other.variance;
        self.error += other.error;
    }

    /// Moves of other devices: their baselines err independently.
    pub(super) fn add_devices(&mut self, other: &Self) {
        let error = (self.error * self.error + other.error * other.error).sqrt();
        self.add_check(other);
        self.error = error;
    }
}

impl Bets {
    fn paid(&self, shape: &Shape, counts: &[u64], samples: u64) -> [f64; STAKES] {
        let mut paid = [0.0; STAKES];
        match shape {
            Shape::Graded(values) => {
                for (paid, table) in paid.iter_mut().zip(self.tables.chunks_exact(values.len())) {
                    *paid = table.iter().zip(counts).map(|(log, &count)| log * count as f64).sum();
                }
            }
            Shape::Share(bins) => {
                let inside = share(bins, counts);
                let outside = samples.saturating_sub(inside) as f64;
                for (paid, logs) in paid.iter_mut().zip(self.tables.chunks_exact(2)) {
                    *paid = logs[0] * inside as f64 + logs[1] * outside;
                }
            }
        }
        paid
    }
}
