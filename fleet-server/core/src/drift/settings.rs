//! What an operator says about the drift of a model.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// More often than ten times a year is no alarm but a habit; a thousand years are beyond what the largest fleet can be held to.
const YEARS: RangeInclusive<f64> = 0.1..=1_000.0;

/// A month: whoever wants to hear less of a drift than that acknowledges a new baseline.
const MAX_SUPPRESS_SECS: u64 = 31 * 86_400;

/// How drift of a model is watched.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftSettings {
    /// At most one false alarm in so many years, over all features, devices, groups and versions of the model together.
    pub one_false_alarm_in_years: f64,
    /// Seconds for which the devices of a finding count nothing.
    pub suppress_secs: u64,
    /// Who makes what is seen now the new normal.
    #[serde(default)]
    pub relearn: Relearn,
}

/// Who makes what is seen now the new normal. Never time alone: a baseline that followed by itself would take a slow drift
/// for normal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relearn {
    /// Only somebody who asks for it.
    #[default]
    Never,
    /// Also somebody who acknowledges a drift: its devices learn its feature anew.
    WhenAcknowledged,
}

/// What is wrong with settings.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum InvalidSettings {
    /// Not a rate that can be kept.
    #[error("one false alarm in {0} years; allowed are 0.1 to 1000")]
    Years(f64),
    /// Too long.
    #[error("an incident is known for {0} seconds; allowed is up to a month (2678400)")]
    Suppress(u64),
}

impl DriftSettings {
    /// Checks ranges.
    ///
    /// # Errors
    /// Says what is out of its range.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        if !YEARS.contains(&self.one_false_alarm_in_years) {
            return Err(InvalidSettings::Years(self.one_false_alarm_in_years));
        }
        if self.suppress_secs > MAX_SUPPRESS_SECS {
            return Err(InvalidSettings::Suppress(self.suppress_secs));
        }
        Ok(())
    }
}
