//! When something is found in a fleet.

use serde::{Deserialize, Serialize};

use super::super::rule::{BadRule, Rule, Threshold, Zone};

/// When something is found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetRule {
    /// Around each device's own baseline.
    pub device_zone: Zone,
    /// Around all baselines of a group together.
    pub group_zone: Zone,
    /// For every device, group and the fleet.
    pub threshold: Threshold,
    /// Seconds for which the devices of a finding count nothing.
    pub suppress_secs: u64,
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetSize {
    /// Features, each of which has a [`Fleet`](super::Fleet).
    pub features: u64,
    /// Devices.
    pub devices: u64,
    /// Groups that devices are in.
    pub groups: u64,
}

impl FleetRule {
    /// At most one false alarm in so many `years`, over all features, devices, groups and the fleet together, with
    /// `checks_per_year` of each. Zones are as wide as so many baselines need ([`Zone::for_baselines`]).
    ///
    /// # Errors
    /// When a number is not above 0, or the threshold would not be from 1 to 1e15.
    pub fn one_false_alarm_in(
        years: f64,
        checks_per_year: f64,
        size: FleetSize,
        suppress_secs: u64,
    ) -> Result<Self, BadRule> {
        let scopes = size.groups.saturating_add(1);
        let pairs = size.features.saturating_mul(scopes.saturating_add(size.devices));
        Ok(Self {
            device_zone: Zone::for_baselines(size.features.saturating_mul(size.devices), 0.0)?,
            group_zone: Zone::for_baselines(size.features.saturating_mul(scopes), 0.0)?,
            threshold: Threshold::one_false_alarm_in(years, checks_per_year, pairs)?,
            suppress_secs,
        })
    }

    pub(super) fn of_devices(&self) -> Rule {
        Rule { zone: self.device_zone, threshold: self.threshold, suppress_secs: self.suppress_secs }
    }

    /// Groups start again at once: it is their devices that are silent.
    pub(super) fn of_groups(&self) -> Rule {
        Rule { zone: self.group_zone, threshold: self.threshold, suppress_secs: 0 }
    }
}
