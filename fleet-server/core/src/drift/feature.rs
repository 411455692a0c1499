//! A check of one feature over all devices of one model version.

use std::collections::{BTreeMap, BTreeSet};

use muster_sketch::{
    detector::{
        Finding, Fleet, FleetBatch, FleetError, FleetRule, Group, Scope, ScoreName, Scores, odd_baselines,
    },
    reference::{FeatureReference, ReferenceValues},
    window::FeatureCounts,
};
use serde::{Deserialize, Serialize};
use shared::Timestamp;

use super::{Cause, Distances, Evidence, FeatureStatus, Found, Level, Order, RaisedBy, Whom, quality};

/// Odd baselines that are told at one check: a part of what a person is told at once, so none is left out because the others came first.
const MAX_ODD_AT_ONCE: usize = 10;

/// Odd baselines that are told of a feature, until their devices learn anew or leave: with more it is the fleet that differs, and they
/// would take the room of drifts.
const MAX_ODD: usize = 50;

/// What is known of one feature of one model version, from check to check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureState {
    pub(super) fleet: Fleet,
    /// Devices whose baseline was found odd: it stays so until they learn another, and is told once.
    odd: BTreeSet<String>,
}

/// With what a check looks.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Name and reference of the feature.
    pub feature: &'a FeatureReference,
    /// What is looked at in its bins.
    pub scores: &'a Scores,
    /// What makes an alarm.
    pub rule: &'a FleetRule,
    /// Of every device that is known: the groups that it is in. Others are forgotten.
    pub groups: &'a BTreeMap<String, Vec<Group>>,
    /// When.
    pub now: Timestamp,
}

/// What a device counted of the feature since the last check.
#[derive(Debug, Clone, Copy)]
pub struct Brought<'a> {
    /// Its name.
    pub device: &'a str,
    /// Start of its first window, in milliseconds since 1970 by its clock.
    pub from_ms: u64,
    /// End of its last window.
    pub to_ms: u64,
    /// The counts.
    pub counts: &'a FeatureCounts,
}

/// What a check showed of one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What is to be told, what concerns most devices first.
    pub found: Vec<Found>,
    /// How the detectors stand.
    pub status: FeatureStatus,
}

impl FeatureState {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(look: &Look<'_>) -> Self {
        Self { fleet: Fleet::new(look.scores, &look.feature.name), odd: BTreeSet::new() }
    }

    /// Carries out `orders` and takes what devices brought, one entry each.
    ///
    /// # Errors
    /// When counts, or what is known, are of other scores than these, as after an update that looks at something else. What is
    /// known is of no use then.
    pub fn check(
        &mut self,
        look: &Look<'_>,
        orders: &[Order],
        brought: &[Brought<'_>],
    ) -> Result<Outcome, FleetError> {
        orders.iter().filter(|order| order.is_about(&look.feature.name)).for_each(|o| self.obey(look, o));
        self.forget_unknown(look);
        let known = |batch: &&Brought<'_>| look.groups.contains_key(batch.device);
        let brought: Vec<_> = brought.iter().filter(known).copied().collect();
        let batches = brought.iter().map(|batch| FleetBatch {
            device: batch.device,
            groups: groups_of(look, batch.device),
            counts: batch.counts.bins(),
        });
        let batches: Vec<_> = batches.collect();
        let at_secs = look.now.as_millis() / 1_000;
        let checked = self.fleet.check(look.scores, look.rule, &batches, at_secs)?;
        let drifts = checked.findings.into_iter().map(|finding| drift(look, finding, (0, false), &brought));
        let mut found: Vec<_> = drifts.collect();
        found.extend(self.find_odd(look)?);
        found.extend(quality::find(look, &brought));
        found.sort_by_key(|found| std::cmp::Reverse(breadth(&found.scope)));
        let samples =
            batches.iter().flat_map(|batch| batch.counts).fold(0, |n: u64, &more| n.saturating_add(more));
        let threshold = look.rule.threshold.value();
        let brought = (batches.len(), samples);
        let status =
            FeatureStatus::of(&self.fleet, look.scores, (threshold, look.now), brought, &checked.left_out);
        Ok(Outcome { found, status })
    }

    fn obey(&mut self, look: &Look<'_>, order: &Order) {
        match order {
            Order::Relearn { whom: Whom::Everyone, .. } => *self = Self::new(look),
            Order::Relearn { whom, .. } => {
                let known: Vec<_> = self.fleet.devices().map(|(device, _)| device.to_owned()).collect();
                for device in known.iter().filter(|device| whom.includes(device, groups_of(look, device))) {
                    self.fleet.relearn(look.scores, device);
                    self.odd.remove(device);
                }
            }
            Order::Forget { device } => self.forget(device),
        }
    }

    fn forget_unknown(&mut self, look: &Look<'_>) {
        let known: Vec<_> = self.fleet.devices().map(|(device, _)| device.to_owned()).collect();
        for gone in known.iter().filter(|device| !look.groups.contains_key(*device)) {
            self.forget(gone);
        }
    }

    fn forget(&mut self, device: &str) {
        self.fleet.forget(device);
        self.odd.remove(device);
    }

    /// Devices whose complete baseline is unlike the others', that were not told yet: a few at each check.
    fn find_odd(&mut self, look: &Look<'_>) -> Result<Vec<Found>, FleetError> {
        let baselines = self.fleet.devices().filter_map(|(device, watch)| Some((device, watch.baseline()?)));
        let (devices, baselines): (Vec<_>, Vec<_>) = baselines.unzip();
        let odd = odd_baselines(look.scores, &baselines).map_err(FleetError::Group)?;
        let odd = odd.iter().map(|odd| (devices[odd.index].to_owned(), Cause::odd(odd)));
        let room = MAX_ODD.saturating_sub(self.odd.len()).min(MAX_ODD_AT_ONCE);
        let new: Vec<_> = odd.filter(|(device, _)| !self.odd.contains(device)).take(room).collect();
        self.odd.extend(new.iter().map(|(device, _)| device.clone()));
        let found = new.into_iter().map(|(device, cause)| Found {
            feature: look.feature.name.clone(),
            scope: Scope::Sensor { device },
            raised_by: RaisedBy::Server,
            category: cause.score().and_then(|score| category(&look.feature.values, score)),
            cause,
            evidence: None,
        });
        Ok(found.collect())
    }
}

fn groups_of<'a>(look: &Look<'a>, device: &str) -> &'a [Group] {
    look.groups.get(device).map_or(&[], Vec::as_slice)
}

/// A finding with its evidence; of other versions, how many devices it was compared with and whether some could not be counted.
pub(super) fn drift(
    look: &Look<'_>,
    finding: Finding,
    (others, uncounted): (usize, bool),
    brought: &[Brought<'_>],
) -> Found {
    let scope = finding.scope.clone();
    let whom = Whom::of(&scope);
    let concerned = brought.iter().filter(|batch| whom.includes(batch.device, groups_of(look, batch.device)));
    let evidence = evidence(&look.feature.values, concerned);
    let cause = Cause::Drift { finding, others, uncounted };
    Found {
        feature: look.feature.name.clone(),
        scope,
        raised_by: RaisedBy::Server,
        category: cause.score().and_then(|score| category(&look.feature.values, score)),
        cause,
        evidence,
    }
}

/// What the reference calls the category that a score looks at.
fn category(reference: &ReferenceValues, score: ScoreName) -> Option<String> {
    match (reference, score) {
        (ReferenceValues::Category(reference), ScoreName::Category(bin)) => {
            reference.names().get(usize::try_from(bin).ok()?).cloned()
        }
        (ReferenceValues::Category(_) | ReferenceValues::Numeric(_), _) => None,
    }
}

/// What these devices counted together.
pub(super) fn evidence<'a>(
    reference: &ReferenceValues,
    brought: impl Iterator<Item = &'a Brought<'a>>,
) -> Option<Evidence> {
    let mut sum: Option<Evidence> = None;
    for batch in brought {
        let sum = sum.get_or_insert_with(|| Evidence {
            devices: 0,
            from_ms: batch.from_ms,
            to_ms: batch.to_ms,
            counts: FeatureCounts::empty(reference),
            distances: None,
            level: None,
        });
        // The detector has checked that these are of the reference.
        if sum.counts.merge(batch.counts).is_ok() {
            sum.devices += 1;
            sum.from_ms = sum.from_ms.min(batch.from_ms);
            sum.to_ms = sum.to_ms.max(batch.to_ms);
        }
    }
    let mut sum = sum?;
    sum.distances = Distances::of(reference, &sum.counts);
    sum.level = Level::of(reference, &sum.counts);
    Some(sum)
}

/// How many a scope may be of.
fn breadth(scope: &Scope) -> u8 {
    match scope {
        Scope::Sensor { .. } => 0,
        Scope::Stratum { .. } => 1,
        Scope::Model => 2,
        Scope::World => 3,
    }
}
