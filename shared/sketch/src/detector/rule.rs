//! When is it an alarm: how far off is still the same, and how rare a false alarm has to be.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::elementary;

/// Fewer standard errors than this are refused: with half of them one alarm in a million samples became two and a quarter,
/// because the reference is itself a sample.
pub const MIN_STANDARD_ERRORS: f64 = 3.0;

/// More would be blind.
const MAX_STANDARD_ERRORS: f64 = 20.0;

/// Largest tolerance, in standard deviations of a score.
const MAX_TOLERANCE: f64 = 1.0;

/// The chance that any of many baselines is further off than its zone, in [`Zone::for_baselines`].
const ANY_BASELINE_OFF: f64 = 0.05;

/// Largest threshold: far below the cap of evidence.
const MAX_THRESHOLD: f64 = 1e15;

/// Why a rule is none.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum BadRule {
    /// The guarantee would not hold.
    #[error(
        "a zone of {0} standard errors: use 3 to 20, with less the reference's own error raises false alarms"
    )]
    StandardErrors(f64),
    /// Not a number of deviations.
    #[error("a tolerance of {0}: use 0 to 1 standard deviations of a score")]
    Tolerance(f64),
    /// The zone would be too narrow.
    #[error(
        "{directions} directions of {features} features: count those of every feature's scores together, 4 or more for each"
    )]
    Directions {
        /// As given.
        directions: u64,
        /// As given.
        features: u64,
    },
    /// Not a rate.
    #[error(
        "one false alarm in {years} years at {checks_per_year} checks a year over {pairs} pairs: \
             each has to be above 0 and their product from 1 to 1e15"
    )]
    Threshold {
        /// As asked.
        years: f64,
        /// As asked.
        checks_per_year: f64,
        /// As asked.
        pairs: u64,
    },
}

/// How far a mean may be from the baseline's without being a drift.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Zone {
    standard_errors: f64,
    tolerance: f64,
}

impl Default for Zone {
    fn default() -> Self {
        Self { standard_errors: MIN_STANDARD_ERRORS, tolerance: 0.0 }
    }
}

impl Zone {
    /// `standard_errors` of the baseline from 3 to 20, plus a `tolerance` from 0 to 1 in standard deviations of the score:
    /// 0.02 leaves alone what moves a normal feature by about 0.02 of its standard deviation.
    ///
    /// # Errors
    /// When either is out of its range.
    pub fn new(standard_errors: f64, tolerance: f64) -> Result<Self, BadRule> {
        if !(MIN_STANDARD_ERRORS..=MAX_STANDARD_ERRORS).contains(&standard_errors) {
            return Err(BadRule::StandardErrors(standard_errors));
        }
        if !(0.0..=MAX_TOLERANCE).contains(&tolerance) {
            return Err(BadRule::Tolerance(tolerance));
        }
        Ok(Self { standard_errors, tolerance })
    }

    /// The zone for so many `baselines`, each of which is looked at in so many `directions`: those of its feature
    /// ([`Scores::directions`](super::Scores::directions)), or of all features together for the baselines of whole
    /// devices. As many standard errors, from 3 to 20, that the chance of any mean being further off is about 5 %, for normal
    /// errors, by the bound `exp(-c²/2)/2` on each direction of each baseline.
    ///
    /// # Errors
    /// When the tolerance is out of its range.
    pub fn for_baselines(baselines: u64, directions: u64, tolerance: f64) -> Result<Self, BadRule> {
        let tests = baselines.max(1) as f64 * directions.max(1) as f64;
        let errors = (2.0 * elementary::ln(tests / (2.0 * ANY_BASELINE_OFF))).sqrt();
        Self::new(errors.clamp(MIN_STANDARD_ERRORS, MAX_STANDARD_ERRORS), tolerance)
    }

    /// Standard errors of the baseline.
    #[must_use]
    pub fn standard_errors(self) -> f64 {
        self.standard_errors
    }

    /// Standard deviations of the score, beside those errors.
    #[must_use]
    pub fn tolerance(self) -> f64 {
        self.tolerance
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Unchecked {
            standard_errors: f64,
            #[serde(default)]
            tolerance: f64,
        }
        let Unchecked { standard_errors, tolerance } = Unchecked::deserialize(deserializer)?;
        Self::new(standard_errors, tolerance).map_err(serde::de::Error::custom)
    }
}

/// Evidence that makes an alarm, from 1 to 1e15.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Threshold(f64);

impl Threshold {
    /// At most one false alarm in so many `years`, over all `pairs` of a feature and a scope (each device, each group, the
    /// fleet) together, when each pair is checked `checks_per_year` times. Who checks more often gets
    /// proportionally more false alarms. A check that brings no samples is none.
    ///
    /// # Errors
    /// When a number is not above 0 or the product is not from 1 to 1e15.
    pub fn one_false_alarm_in(years: f64, checks_per_year: f64, pairs: u64) -> Result<Self, BadRule> {
        let checks = years * checks_per_year * pairs as f64;
        if years > 0.0 && checks_per_year > 0.0 && (1.0..=MAX_THRESHOLD).contains(&checks) {
            Ok(Self(checks))
        } else {
            Err(BadRule::Threshold { years, checks_per_year, pairs })
        }
    }

    /// At least so many checks between false alarms of one pair, on average.
    ///
    /// # Errors
    /// When it is not from 1 to 1e15.
    pub fn checks_between_false_alarms(checks: f64) -> Result<Self, BadRule> {
        Self::one_false_alarm_in(1.0, checks, 1)
    }

    /// The evidence.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::checks_between_false_alarms(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What makes an alarm, and how long there is none after it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What is still the same.
    pub zone: Zone,
    /// Evidence that makes an alarm.
    pub threshold: Threshold,
    /// Seconds after an alarm in which nothing is counted. Then watching goes on against the same baseline, so a
    /// drift that stays is told again.
    pub suppress_secs: u64,
}
