//! What is measured, and which difference matters.

use serde::{Deserialize, Serialize};

use super::Window;

/// What one device measured in one look: a sum and of how many.
///
/// Errors and inferences, milliseconds and inferences, right answers and labels; a gauge is its sum over readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The sum, in the unit of the metric.
    pub sum: f64,
    /// Of how many inferences, labels or readings.
    pub count: u64,
}

/// How a metric is compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// What a difference is a difference of.
    pub scale: Scale,
    /// Which direction is bad.
    pub worse: Worse,
    /// How much worse is still fine: a share of the baseline (0.02 is 2 %), or for [`Scale::Absolute`] in the
    /// metric's own unit. More than 0.
    pub margin: f64,
    /// A look of a device with fewer inferences, labels or readings is too thin to count. At least 1.
    pub min_count: u64,
}

/// What a difference is a difference of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// A share of events, 0 to 1, as the error rate: relative, and a device counts by its expected events.
    Rate {
        /// Below this rate the margin is a share of this instead: a quarter more than nothing is nothing.
        floor: f64,
    },
    /// A positive magnitude, as latency: relative to each device's own, and every device counts the same.
    Level,
    /// Anything, as a mean confidence: the difference itself.
    Absolute,
}

/// Which direction is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worse {
    /// More is worse, as with latency.
    Higher,
    /// Less is worse, as with accuracy.
    Lower,
}

/// The usable means of one look, and how many devices had none.
#[derive(Default)]
pub(super) struct Values {
    pub(super) canaries: Vec<Option<f64>>,
    pub(super) controls: Vec<Option<f64>>,
    pub(super) missing: usize,
    pub(super) thin: usize,
    pub(super) invalid: usize,
}

impl Values {
    fn take(&mut self, seen: Seen) -> Option<f64> {
        match seen {
            Seen::Value(value) => return Some(value),
            Seen::Missing => self.missing += 1,
            Seen::Thin => self.thin += 1,
            Seen::Invalid => self.invalid += 1,
        }
        None
    }
}

/// A sample, looked at.
enum Seen {
    /// The mean.
    Value(f64),
    /// The device said nothing.
    Missing,
    /// Too few to count.
    Thin,
    /// Not a number, or one that the scale cannot hold.
    Invalid,
}

impl Measure {
    /// True when the comparison can work with it: a positive finite margin, a floor from above 0 to 1, a count from 1 up.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let floor_fits = match self.scale {
            Scale::Rate { floor } => floor > 0.0 && floor <= 1.0,
            Scale::Level | Scale::Absolute => true,
        };
        self.margin.is_finite() && self.margin > 0.0 && floor_fits && self.min_count > 0
    }

    fn see(&self, sample: Option<&Sample>) -> Seen {
        let Some(sample) = sample else { return Seen::Missing };
        let mean = sample.sum / sample.count as f64;
        let fits = match self.scale {
            Scale::Rate { .. } => (0.0..=1.0).contains(&mean),
            Scale::Level => mean >= 0.0,
            Scale::Absolute => true,
        };
        if sample.count == 0 && sample.sum == 0.0 {
            Seen::Thin
        } else if !fits || !mean.is_finite() || mean.abs() > MAX_MAGNITUDE {
            Seen::Invalid
        } else if sample.count < self.min_count {
            Seen::Thin
        } else {
            Seen::Value(mean)
        }
    }

    /// The usable means of a look.
    pub(super) fn values(&self, window: &Window) -> Values {
        let mut values = Values::default();
        let mut side = |samples: &[Option<Sample>]| -> Vec<Option<f64>> {
            samples.iter().map(|sample| values.take(self.see(sample.as_ref()))).collect()
        };
        let (canaries, controls) = (side(&window.canaries), side(&window.controls));
        Values { canaries, controls, ..values }
    }

    /// The difference in the direction that is bad.
    pub(super) fn badness(&self, difference: f64) -> f64 {
        match self.worse {
            Worse::Higher => difference,
            Worse::Lower => -difference,
        }
    }
}

/// No figure of a device is larger; products and squares of such figures stay finite.
const MAX_MAGNITUDE: f64 = 1e60;
