//! Challengers: which devices can run one, and what its answers say.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use shared::{DeviceId, ReleaseId, challenger::MAX_CHALLENGERS};

use crate::{
    device::DeviceFacts,
    plan::{BlockedWhy, PlanError, ReleaseNeeds, hint, unfit},
    selector::Selector,
};

/// Standard deviations of an interval that holds the truth nineteen times of twenty.
const TWO_SIDED_95: f64 = 1.96;

/// Which of the selected devices are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenged {
    /// These, by name.
    pub devices: Vec<DeviceId>,
    /// And these not.
    pub left_out: Vec<LeftOut>,
}

/// A selected device that is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Who.
    pub device: DeviceId,
    /// Why.
    pub why: LeftOutWhy,
}

/// Why a selected device is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutWhy {
    /// It runs no version of the model that could be challenged.
    NoChampion,
    /// The release is what it runs, or shall run.
    IsChampion,
    /// It has as many challengers as a device runs.
    TooManyChallengers,
    /// What would keep it out of a rollout, too.
    Blocked(BlockedWhy),
}

impl fmt::Display for LeftOutWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChampion => f.write_str("runs no version of this model"),
            Self::IsChampion => f.write_str("runs it, or shall run it"),
            Self::TooManyChallengers => write!(f, "has {MAX_CHALLENGERS} challengers already"),
            Self::Blocked(why) => why.fmt(f),
        }
    }
}

/// A share with the interval in which the truth lies nineteen times of twenty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The share, 0 to 1.
    pub share: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Selects the devices for a challenger. `others` says how many challengers of other models a device shall run.
///
/// # Errors
/// When the selector matches nobody.
pub fn challenge(
    release: &ReleaseId,
    needs: &ReleaseNeeds,
    selector: &Selector,
    fleet: &[DeviceFacts],
    others: &BTreeMap<DeviceId, usize>,
) -> Result<Challenged, PlanError> {
    let mut selected = fleet.iter().filter(|d| selector.matches(&d.id, &d.labels, &d.inventory)).peekable();
    if selected.peek().is_none() {
        return Err(PlanError::Nobody { selector: selector.clone(), hint: hint(fleet) });
    }
    let mut challenged = Challenged { devices: vec![], left_out: vec![] };
    for device in selected {
        let crowded = others.get(&device.id).is_some_and(|others| *others >= MAX_CHALLENGERS);
        match obstacle(release, needs, device, crowded) {
            Some(why) => challenged.left_out.push(LeftOut { device: device.id.clone(), why }),
            None => challenged.devices.push(device.id.clone()),
        }
    }
    Ok(challenged)
}

/// A pin does not stand in the way: the device keeps what it runs.
fn obstacle(
    release: &ReleaseId,
    needs: &ReleaseNeeds,
    device: &DeviceFacts,
    crowded: bool,
) -> Option<LeftOutWhy> {
    if device.quarantined {
        return Some(LeftOutWhy::Blocked(BlockedWhy::Quarantined));
    }
    if device.committed.contains(release) || device.desired.contains(release) {
        return Some(LeftOutWhy::IsChampion);
    }
    if device.runs(&release.model).is_none() {
        return Some(LeftOutWhy::NoChampion);
    }
    if crowded {
        return Some(LeftOutWhy::TooManyChallengers);
    }
    unfit(needs, device).map(LeftOutWhy::Blocked)
}

/// The share of decisions in which both agreed, from (agreed, decided) of each device; `None` without decisions.
///
/// The interval is Wilson's (1927), with as many decisions as would be worth what was seen if they were independent:
/// inputs of one camera resemble each other, so decisions are counted down by how much more devices differ than chance
/// would make them (the design effect of a cluster sample, Kish 1965).
#[must_use]
pub fn agreement(devices: &[(u64, u64)]) -> Option<Share> {
    let telling: Vec<(f64, f64)> =
        devices.iter().filter(|(_, n)| *n > 0).map(|(a, n)| (*a as f64, *n as f64)).collect();
    let (agreed, decided) = telling.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    if decided == 0.0 {
        return None;
    }
    let share = agreed / decided;
    let worth = decided / design_effect(&telling, share, decided);
    let z = TWO_SIDED_95;
    let centre = (share + z * z / (2.0 * worth)) / (1.0 + z * z / worth);
    let spread = (share * (1.0 - share) / worth + z * z / (4.0 * worth * worth)).sqrt();
    let half = z * spread / (1.0 + z * z / worth);
    Some(Share { share, low: (centre - half).max(0.0), high: (centre + half).min(1.0) })
}

/// How much larger the variance between devices makes that of the share; at least 1.
fn design_effect(devices: &[(f64, f64)], share: f64, decided: f64) -> f64 {
    let independent = share * (1.0 - share) / decided;
    let count = devices.len() as f64;
    if independent == 0.0 || devices.len() < 2 {
        return 1.0;
    }
    let squares: f64 = devices.iter().map(|(agreed, n)| (agreed - share * n).powi(2)).sum();
    let clustered = count / (count - 1.0) * squares / (decided * decided);
    (clustered / independent).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{device, fleet, id, needs, release};

    fn why(challenged: &Challenged, name: &str) -> String {
        let found = challenged.left_out.iter().find(|left| left.device == id(name));
        found.map_or_else(String::new, |left| left.why.to_string())
    }

    #[test]
    fn everybody_who_runs_another_version_is_asked_and_the_others_hear_why_not() {
        let mut fleet = fleet(3);
        let with = |name: &str, change: fn(&mut DeviceFacts)| {
            let mut device = device(name, "berlin");
            change(&mut device);
            device
        };
        fleet.push(with("empty", |d| (d.desired, d.committed) = (vec![], vec![])));
        fleet.push(with("coming", |d| d.desired = vec![release("digits@2")]));
        fleet.push(with("sick", |d| d.quarantined = true));
        fleet.push(with("small", |d| d.inventory.memory_mib = 16));
        fleet.push(with("full", |_| {}));
        fleet.push(with("pinned", |d| {
            d.pins = [(release("digits@1").model, release("digits@1").version)].into()
        }));
        let others = BTreeMap::from([(id("full"), MAX_CHALLENGERS)]);
        let all = Selector::parse("all").unwrap();
        let challenged = challenge(&release("digits@2"), &needs(), &all, &fleet, &others).unwrap();
        assert_eq!(challenged.devices, ["d0", "d1", "d2", "pinned"].map(id));
        assert!(why(&challenged, "empty").contains("no version"));
        assert!(why(&challenged, "coming").contains("shall run it"));
        assert!(why(&challenged, "sick").contains("quarantined"));
        assert!(why(&challenged, "small").contains("64 MiB"));
        assert!(why(&challenged, "full").contains("4 challengers"));
    }

    #[test]
    fn a_selector_that_matches_nobody_says_what_would() {
        let nobody = Selector::parse("site=rome").unwrap();
        let refused = challenge(&release("digits@2"), &needs(), &nobody, &fleet(2), &BTreeMap::new());
        assert!(refused.unwrap_err().to_string().contains("site=berlin"));
    }

    #[test]
    fn the_interval_of_independent_decisions_is_wilsons() {
        assert_eq!(agreement(&[]), None);
        assert_eq!(agreement(&[(0, 0)]), None);
        // Newcombe (1998), table I: 81 of 263.
        let share = agreement(&[(81, 263)]).unwrap();
        assert!((share.low - 0.2553).abs() < 1e-4 && (share.high - 0.3662).abs() < 1e-4, "{share:?}");
        let all = agreement(&[(20, 20)]).unwrap();
        assert!(all.high == 1.0 && (all.low - 0.8389).abs() < 1e-3, "{all:?}");
    }

    #[test]
    fn devices_that_differ_more_than_chance_widen_the_interval() {
        let alike = agreement(&[(90, 100); 10]).unwrap();
        let mut split = vec![(100, 100); 9];
        split.push((0, 100));
        let split = agreement(&split).unwrap();
        assert_eq!(alike.share, split.share);
        assert!(split.high - split.low > 5.0 * (alike.high - alike.low), "{split:?} and {alike:?}");
        assert!(split.low >= 0.0 && split.high <= 1.0);
    }
}
