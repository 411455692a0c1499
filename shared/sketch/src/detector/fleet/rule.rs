//! When something is found in a fleet.

use serde::{Deserialize, Serialize};

use super::super::{
    rule::{BadRule, Rule, Threshold, Zone},
    scores::Scores,
};

/// Directions of the feature that has fewest: one category and the unseen, both ways.
const LEAST_DIRECTIONS: u64 = 4;

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
    /// Directions that are looked at, of all features together: 24 for most numbers, up to 132 for categories
    /// ([`Scores::directions`]).
    pub directions: u64,
    /// Devices.
    pub devices: u64,
    /// Groups that devices are in.
    pub groups: u64,
}

impl FleetSize {
    /// Of a fleet with these features.
    #[must_use]
    pub fn of(features: &[&Scores], devices: u64, groups: u64) -> Self {
        let directions = features.iter().map(|scores| scores.directions().len() as u64).sum();
        Self { features: features.len() as u64, directions, devices, groups }
    }
}

impl FleetRule {
    /// At most one false alarm in so many `years`, over all features, devices, groups and the fleet together, with
    /// `checks_per_year` of each, as long as no baseline is further off than its zone. Zones are as wide as so many
    /// baselines need ([`Zone::for_baselines`]): the chance of one further off is about 5 % among all devices, and as much among
    /// the groups and the fleet.
    ///
    /// # Errors
    /// When a number is not above 0, there are fewer than 4 directions for each feature, or the threshold would not be from 1
    /// to 1e15.
    pub fn one_false_alarm_in(
        years: f64,
        checks_per_year: f64,
        size: FleetSize,
        suppress_secs: u64,
    ) -> Result<Self, BadRule> {
        let FleetSize { features, directions, .. } = size;
        if directions < features.saturating_mul(LEAST_DIRECTIONS) {
            return Err(BadRule::Directions { directions, features });
        }
        let scopes = size.groups.saturating_add(1);
        let pairs = features.saturating_mul(scopes.saturating_add(size.devices));
        Ok(Self {
            device_zone: Zone::for_baselines(size.devices, directions, 0.0)?,
            group_zone: Zone::for_baselines(scopes, directions, 0.0)?,
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
