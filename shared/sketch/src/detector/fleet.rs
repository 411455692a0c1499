//! One feature over all devices: each against its own past, groups of them, and all together.
//!
//! A check takes what every device counted since the last one. Its order is: devices one by one, the groups and the fleet from the
//! payoffs of their devices, then the findings. A device that is part of a finding counts nothing for a while, neither for itself
//! nor for a group, so an incident is told once and does not hide the next one elsewhere.
//!
//! Counts of two versions of a model are never added, as their references differ: each version has a fleet of its own, and what one
//! finds is [held against](Fleet::against) the others.

mod admit;
mod attribute;
mod many;
mod rule;
mod versions;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    device::{DeviceWatch, Watched},
    evidence::Alarm,
    payoff::Payoff,
    scores::{BadCounts, Scores},
};
pub use admit::LeftOut;
use attribute::Raised;
pub use attribute::{Contrast, Finding, Scope, Shift};
use many::Many;
pub use rule::{FleetRule, FleetSize};

/// Devices of a fleet that are watched. What is known of one is 3 kB for an ordered feature and at most 16 kB for a categorical
/// one, and a check holds as much again of each. Others are left out ([`LeftOut`]).
pub const MAX_DEVICES: usize = 20_000;

/// Groups that are watched. Others are left out, those of fewest devices first.
pub const MAX_GROUPS: usize = 1_000;

/// Fewer devices that report are no group: with the strongest held, four would remain.
pub const MIN_GROUP_DEVICES: usize = 5;

/// What a device may have in common with others. Devices are in at most one group of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// A site, a hardware revision, a firmware.
    Stratum {
        /// As `site`.
        key: String,
        /// As `hall-3`.
        value: String,
    },
    /// Runs the model version in question.
    Treated,
    /// Does not; what [`Group::Treated`] is held against.
    Untreated,
}

/// What a device counted since the last check.
#[derive(Debug, Clone, Copy)]
pub struct FleetBatch<'a> {
    /// Its name.
    pub device: &'a str,
    /// Groups that it is in.
    pub groups: &'a [Group],
    /// Samples in each bin.
    pub counts: &'a [u64],
}

/// Why a check was refused. Nothing was counted.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FleetError {
    /// Counts or stored evidence of one device.
    #[error("device {device}: {cause}")]
    Device {
        /// Which.
        device: String,
        /// What is wrong.
        #[source]
        cause: BadCounts,
    },
    /// Stored evidence of a group.
    #[error("evidence of a group: {0}")]
    Group(#[source] BadCounts),
    /// Merge the windows of a device before a check.
    #[error("device {0} is in one check twice: merge its windows first")]
    Twice(String),
}

/// What a check showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    /// Drifts, single devices first.
    pub findings: Vec<Finding>,
    /// What was not looked at.
    pub left_out: LeftOut,
}

/// What is known of one feature in a fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    feature: String,
    devices: BTreeMap<String, Device>,
    world: Many,
    /// In the order of their names.
    groups: Vec<Grouped>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    watch: DeviceWatch,
    /// Those of its groups that are watched.
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grouped {
    group: Group,
    many: Many,
}

/// What a device brought to a check.
struct Shown<'a> {
    batch: &'a FleetBatch<'a>,
    payoff: Payoff,
    alarm: Option<Alarm>,
}

impl Fleet {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(scores: &Scores, feature: &str) -> Self {
        Self {
            feature: feature.to_owned(),
            devices: BTreeMap::new(),
            world: Many::new(scores),
            groups: vec![],
        }
    }

    /// Takes the counts of one check, one batch of each device that counted anything.
    ///
    /// # Errors
    /// When a batch, or what is known, is of another reference, or a device comes twice. Nothing is counted then, except
    /// where stored evidence is of another reference.
    pub fn check(
        &mut self,
        scores: &Scores,
        rule: &FleetRule,
        batches: &[FleetBatch<'_>],
        at_secs: u64,
    ) -> Result<Checked, FleetError> {
        let (batches, left_out) = self.admit(scores, batches)?;
        let mut shown = Vec::with_capacity(batches.len());
        for batch in batches.values().copied() {
            shown.extend(self.watch_device(scores, rule, batch, at_secs)?);
        }
        let raised = self.watch_groups(scores, rule, &shown, at_secs)?;
        let findings = self.attribute(scores, raised, &shown);
        self.suppress_found(rule, &findings, at_secs);
        Ok(Checked { findings, left_out })
    }

    /// The device learns a new baseline. For a person or a policy to say.
    pub fn relearn(&mut self, scores: &Scores, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.watch.relearn(scores);
        }
    }

    /// Forgets a device that is gone. Its groups go with the next check, where no other is in them.
    pub fn forget(&mut self, device: &str) {
        self.devices.remove(device);
    }

    /// What is known of each device, by name.
    pub fn devices(&self) -> impl Iterator<Item = (&str, &DeviceWatch)> {
        self.devices.iter().map(|(name, device)| (name.as_str(), &device.watch))
    }

    /// The evidence that all devices together have drifted.
    #[must_use]
    pub fn evidence(&self) -> f64 {
        self.world.detector.evidence()
    }

    fn watch_device<'a>(
        &mut self,
        scores: &Scores,
        rule: &FleetRule,
        batch: &'a FleetBatch<'a>,
        at_secs: u64,
    ) -> Result<Option<Shown<'a>>, FleetError> {
        let own = rule.of_devices();
        if !self.devices.contains_key(batch.device) {
            let device = Device { watch: DeviceWatch::new(scores), groups: vec![] };
            self.devices.insert(batch.device.to_owned(), device);
        }
        let groups: Vec<_> = batch.groups.iter().filter(|group| self.is_watched(group)).collect();
        let Some(device) = self.devices.get_mut(batch.device) else { return Ok(None) };
        if !device.groups.iter().eq(groups.iter().copied()) {
            device.groups = groups.into_iter().cloned().collect();
        }
        let watched = device.watch.observe(scores, &own, batch.counts, at_secs);
        match watched.map_err(|cause| FleetError::Device { device: batch.device.to_owned(), cause })? {
            Watched::Learning { .. } | Watched::Suppressed => Ok(None),
            Watched::Counted { payoff, .. } if payoff.samples() == 0 => Ok(None),
            Watched::Counted { payoff, alarm } => Ok(Some(Shown { batch, payoff, alarm })),
        }
    }

    fn watch_groups(
        &mut self,
        scores: &Scores,
        rule: &FleetRule,
        shown: &[Shown<'_>],
        at_secs: u64,
    ) -> Result<Vec<Raised>, FleetError> {
        let own = rule.of_groups();
        let all: Vec<_> = shown.iter().map(|device| &device.payoff).collect();
        let mut raised = vec![];
        let alarm = self.world.check(scores, &own, &all, at_secs).map_err(FleetError::Group)?;
        raised.extend(alarm.map(|(alarm, devices)| Raised { group: None, alarm, devices }));
        let mut by_group = BTreeMap::<&Group, Vec<&Payoff>>::new();
        for device in shown {
            for group in device.batch.groups {
                by_group.entry(group).or_default().push(&device.payoff);
            }
        }
        for Grouped { group, many } in &mut self.groups {
            let Some(within) = by_group.get(group) else { continue };
            let alarm = many.check(scores, &own, within, at_secs).map_err(FleetError::Group)?;
            if *group != Group::Untreated {
                let raise = |(alarm, devices)| Raised { group: Some(group.clone()), alarm, devices };
                raised.extend(alarm.map(raise));
            }
        }
        Ok(raised)
    }

    /// What is found is known: its devices are silent for a while, and groups start again without them.
    fn suppress_found(&mut self, rule: &FleetRule, findings: &[Finding], at_secs: u64) {
        for finding in findings {
            if let Scope::Sensor { device } = &finding.scope {
                if let Some(device) = self.devices.get_mut(device) {
                    device.watch.suppress(at_secs, rule.suppress_secs);
                }
                continue;
            }
            for device in self.devices.values_mut().filter(|device| finding.scope.is_of_all(&device.groups)) {
                device.watch.suppress(at_secs, rule.suppress_secs);
            }
            self.world.restart(at_secs);
            self.groups.iter_mut().for_each(|known| known.many.restart(at_secs));
        }
    }
}
