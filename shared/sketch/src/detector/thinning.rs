//! Every how manieth value may be counted as independent.
//!
//! Consecutive frames show the same scene. A hundred of them are worth as much as a hundred divided by the integrated
//! autocorrelation time, and every test of independent samples fails when they are counted as a hundred: with a
//! correlation of 0.8 from frame to frame, 2,212 false alarms in 288,000 device-hours instead of none.
//!
//! The time is `1 + 2·Σρ(k)`, summed up to the first lag that is five times the sum so far (Sokal 1997, *Monte Carlo Methods in
//! Statistical Mechanics*): beyond, there is only noise.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Fewer values say nothing about their correlation.
const MIN_VALUES: usize = 1_000;

/// More values are not looked at.
const MAX_VALUES: usize = 20_000;

/// Lags per unit of autocorrelation time that are summed (Sokal's window).
const WINDOW: f64 = 5.0;

/// The largest step. Values that are still alike over so many are no longer noise around a level but a level that moves: sample
/// by time then.
pub const MAX_THINNING: u32 = 100;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoThinning {
    /// Too few.
    #[error("{values} values: at least 1,000 in the order in which they came are needed")]
    TooFew {
        /// How many.
        values: usize,
    },
    /// NaN or infinite.
    #[error("value {index} is not finite: leave such values out")]
    NotFinite {
        /// Which.
        index: usize,
    },
    /// All alike, so there is no correlation to measure.
    #[error("all values are equal: a signal that varies is needed, as the confidence of the top class")]
    Constant,
}

/// How strongly the values of a signal depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thinning {
    /// In values: 1 for independent ones, 9 for a correlation of 0.8 from one to the next.
    pub autocorrelation_time: f64,
    /// Count every so manieth value, from 1 to [`MAX_THINNING`].
    pub every: u32,
    /// The values are alike for longer than that: `every` does not suffice.
    pub beyond_limit: bool,
}

impl Thinning {
    /// From the values of a baseline in the order in which they came; the first 20,000 are looked at.
    ///
    /// # Errors
    /// When they are too few, not finite or all equal.
    pub fn of(values: &[f64]) -> Result<Self, NoThinning> {
        let values = &values[..values.len().min(MAX_VALUES)];
        if values.len() < MIN_VALUES {
            return Err(NoThinning::TooFew { values: values.len() });
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(NoThinning::NotFinite { index });
        }
        let centred = centred(values);
        let variance = products(&centred, 0);
        if variance <= 0.0 {
            return Err(NoThinning::Constant);
        }
        Ok(Self::from_time(autocorrelation_time(&centred, variance)))
    }

    fn from_time(autocorrelation_time: f64) -> Self {
        // A time of 1 is estimated a little above it as often as below.
        const NOISE: f64 = 0.1;
        let every = (autocorrelation_time - NOISE).ceil().clamp(1.0, f64::from(MAX_THINNING));
        let beyond_limit = autocorrelation_time - NOISE > f64::from(MAX_THINNING);
        Self { autocorrelation_time, every: every as u32, beyond_limit }
    }
}

fn autocorrelation_time(centred: &[f64], variance: f64) -> f64 {
    // Enough for the limit; beyond a third of the values an estimate has no meaning.
    let lags = ((WINDOW * f64::from(MAX_THINNING)) as usize).min(centred.len() / 3);
    let mut time = 1.0;
    for lag in 1..=lags {
        time += 2.0 * products(centred, lag) / variance;
        if lag as f64 >= WINDOW * time {
            break;
        }
    }
    time.max(1.0)
}

/// Around their mean and scaled to at most 1, so that no square is too large for a float.
fn centred(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let scale = if largest > 0.0 { largest } else { 1.0 };
    let mean = values.iter().map(|value| value / scale).sum::<f64>() / values.len() as f64;
    let centred: Vec<_> = values.iter().map(|value| value / scale - mean).collect();
    // The rounding of a mean is not a variation.
    if centred.iter().all(|value| value.abs() < 1e-12) { vec![0.0; values.len()] } else { centred }
}

fn products(centred: &[f64], lag: usize) -> f64 {
    centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum()
}
