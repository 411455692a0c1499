//! Whose data are broken: one device's, those of a group, or everybody's.
//!
//! A device's data are broken by itself or not, so devices are counted: where more than half of a group have the same defect, it
//! is the group's, and one alarm is told in place of hundreds.

use std::collections::{BTreeMap, BTreeSet};

use muster_sketch::{
    detector::{Group, MIN_GROUP_DEVICES, Scope},
    quality::{self, QualityFinding, QualityKind},
};

use super::{Brought, Cause, Found, Look, RaisedBy, feature::evidence};

/// What is broken in what devices brought.
pub(super) fn find(look: &Look<'_>, brought: &[Brought<'_>]) -> Vec<Found> {
    let mut broken = BTreeMap::<QualityKind, BTreeMap<&str, QualityFinding>>::new();
    for batch in brought {
        // Counts of another reference were refused by the detector.
        for finding in quality::findings(&look.feature.values, batch.counts).unwrap_or_default() {
            broken.entry(finding.kind).or_default().insert(batch.device, finding);
        }
    }
    let scopes = broken.values().flat_map(|devices| {
        let scopes = scopes(look, brought, devices.keys().copied().collect());
        scopes.into_iter().map(move |(scope, concerned)| (devices, scope, concerned))
    });
    scopes
        .filter_map(|(devices, scope, concerned)| found(look, brought, devices, scope, &concerned))
        .collect()
}

/// Who has a defect, from the widest scope to single devices.
fn scopes<'a>(
    look: &Look<'_>,
    brought: &[Brought<'a>],
    mut broken: BTreeSet<&'a str>,
) -> Vec<(Scope, BTreeSet<&'a str>)> {
    let is_most = |broken: usize, of: usize| broken >= MIN_GROUP_DEVICES && 2 * broken > of;
    if is_most(broken.len(), brought.len()) {
        return vec![(Scope::World, broken)];
    }
    let mut sizes = BTreeMap::<&Group, usize>::new();
    let groups = |device: &str| look.groups.get(device).map_or(&[][..], Vec::as_slice);
    brought
        .iter()
        .flat_map(|batch| groups(batch.device))
        .for_each(|group| *sizes.entry(group).or_default() += 1);
    let mut scopes = Vec::new();
    loop {
        let mut members = BTreeMap::<&Group, BTreeSet<&str>>::new();
        for device in &broken {
            groups(device).iter().for_each(|group| {
                members.entry(group).or_default().insert(device);
            });
        }
        members.retain(|group, members| is_most(members.len(), sizes[*group]));
        // The largest, and of several the one with fewest who are not.
        let widest = members
            .into_iter()
            .max_by_key(|(group, members)| (members.len(), std::cmp::Reverse(sizes[*group])));
        let Some((Group::Stratum { key, value }, members)) = widest else { break };
        broken.retain(|device| !members.contains(device));
        scopes.push((Scope::Stratum { key: key.clone(), value: value.clone() }, members));
    }
    let alone = broken
        .into_iter()
        .map(|device| (Scope::Sensor { device: device.to_owned() }, BTreeSet::from([device])));
    scopes.extend(alone);
    scopes
}

fn found<'a>(
    look: &Look<'_>,
    brought: &'a [Brought<'a>],
    findings: &BTreeMap<&str, QualityFinding>,
    scope: Scope,
    concerned: &BTreeSet<&str>,
) -> Option<Found> {
    let one = *findings.get(concerned.first()?)?;
    let evidence =
        evidence(&look.feature.values, brought.iter().filter(|batch| concerned.contains(batch.device)));
    let together = evidence.as_ref().and_then(|evidence| {
        let findings = quality::findings(&look.feature.values, &evidence.counts).ok()?;
        findings.into_iter().find(|finding| finding.kind == one.kind)
    });
    let cause = Cause::Quality { finding: together.unwrap_or(one), devices: concerned.len() };
    let feature = look.feature.name.clone();
    Some(Found { feature, scope, raised_by: RaisedBy::Server, cause, evidence, category: None })
}
