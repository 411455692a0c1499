//! How inputs and outputs of models are watched for drift.

use fleet_core::drift::{DriftSettings, InvalidSettings, Relearn};
use serde::{Deserialize, Serialize};
use shared::device::parse_label;

use super::ConfigError;

/// Labels that are strata, at most: each window is added to a sum for each.
const MAX_STRATA: usize = 8;

/// Longest time between two checks, a week: what comes back every week is in a batch then.
const MAX_CHECK_SECS: u32 = 7 * 86_400;

/// How inputs and outputs of models are watched for drift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drift {
    /// Time between two checks of everything that devices counted.
    pub check_secs: u32,
    /// Labels whose values are strata: what devices with one value have in common.
    pub strata: Vec<String>,
    /// False alarms of a model that has no settings of its own.
    pub one_false_alarm_in_years: f64,
    /// The devices of a finding count nothing for so long.
    pub suppress_secs: u32,
    /// Sums of each minute are kept this long.
    pub keep_minutes_for_hours: u32,
    /// Sums of each hour are kept this long.
    pub keep_hours_for_days: u32,
    /// Sums of each day are kept this long, and so are alarms that are over.
    pub keep_days_for_days: u32,
}

impl Default for Drift {
    /// An hour holds six windows of each device. Minutes are for who looks at an incident, hours for a day's cycle and last week,
    /// days for last year.
    fn default() -> Self {
        Self {
            check_secs: 3_600,
            strata: vec!["site".into()],
            one_false_alarm_in_years: 10.0,
            suppress_secs: 86_400,
            keep_minutes_for_hours: 6,
            keep_hours_for_days: 14,
            keep_days_for_days: 400,
        }
    }
}

impl Drift {
    /// What a model is watched by that has no settings of its own.
    #[must_use]
    pub fn settings(&self) -> DriftSettings {
        DriftSettings {
            one_false_alarm_in_years: self.one_false_alarm_in_years,
            suppress_secs: self.suppress_secs.into(),
            relearn: Relearn::Never,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, found: &str, expected| Err(ConfigError::value(key, found, expected));
        let found = self.check_secs.to_string();
        if self.check_secs > MAX_CHECK_SECS {
            return wrong("drift.check_secs", &found, "a number from 1 to 604800, which is a week");
        }
        let is_name = |key: &String| parse_label(&format!("{key}=x")).is_ok();
        if self.strata.len() > MAX_STRATA || !self.strata.iter().all(is_name) {
            let expected = "up to 8 names of labels, for example [\"site\", \"line\"]";
            return wrong("drift.strata", &format!("{:?}", self.strata), expected);
        }
        match self.settings().check() {
            Err(InvalidSettings::Years(years)) => {
                let key = "drift.one_false_alarm_in_years";
                return wrong(key, &years.to_string(), "a number from 0.1 to 1000");
            }
            Err(InvalidSettings::Suppress(secs)) => {
                let expected = "a number up to 2678400, which is a month";
                return wrong("drift.suppress_secs", &secs.to_string(), expected);
            }
            Ok(()) => {}
        }
        let (minutes, hours) = (self.keep_minutes_for_hours, self.keep_hours_for_days);
        if minutes > hours.saturating_mul(24) {
            let expected = "no longer than drift.keep_hours_for_days";
            return wrong("drift.keep_minutes_for_hours", &minutes.to_string(), expected);
        }
        if hours > self.keep_days_for_days {
            let expected = "no longer than drift.keep_days_for_days";
            return wrong("drift.keep_hours_for_days", &hours.to_string(), expected);
        }
        Ok(())
    }
}
