//! Who is in which arm.
//!
//! A device takes part when it could take *either* release: one that could take only A would always be in A, and the arms
//! would differ by more than their releases. Those who can are dealt within strata of site, hardware and version that they run
//! now, in an order shuffled by the seed, so that each stratum gives each arm its share, up to one device. Devices that come
//! from different versions therefore do so alike in both arms, and what the step from each version is worth cancels out.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use shared::{DeviceId, ExperimentId, ReleaseId, RolloutId, Timestamp, Version};
use thiserror::Error;

use super::{Arm, Arms, ExperimentSpec, InvalidExperiment};
use crate::{
    device::DeviceFacts,
    plan::{
        self, BlockedWhy, Plan, ReleaseNeeds, RolloutSpec, RolloutSummary, hint,
        order::{SplitMix64, shuffle, spread},
        plan_late,
    },
    selector::Selector,
    strategy::Strategy,
};

/// What an experiment is planned on.
#[derive(Debug, Clone)]
pub struct Ground<'a> {
    /// What the releases ask of a device.
    pub needs: Arms<ReleaseNeeds>,
    /// Names of the rollouts, where there are any.
    pub rollouts: Arms<RolloutId>,
    /// The fleet.
    pub fleet: &'a [DeviceFacts],
    /// All rollouts that speak for devices.
    pub others: &'a [RolloutSummary],
    /// Devices that take part in an experiment with this model already.
    pub taken: &'a BTreeMap<DeviceId, ExperimentId>,
}

/// What an experiment will do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentPlan {
    /// The arms.
    pub arms: Arms<ArmPlan>,
    /// Selected devices that are in no arm.
    pub left_out: Vec<LeftOut>,
}

/// One arm as it is planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmPlan {
    /// Who, spread over sites and hardware.
    pub devices: Vec<Assigned>,
    /// The rollout that brings the release to those that do not run it, and what it will do; none when all do.
    pub rollout: Option<(RolloutSpec, Plan)>,
}

/// A device of an arm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Who.
    pub device: DeviceId,
    /// The version of the model that it ran when the experiment was planned; its figures are what it is compared with.
    pub from: Option<Version>,
    /// Whether it has to change for its arm.
    pub moves: bool,
}

/// A selected device that is in no arm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Who.
    pub device: DeviceId,
    /// Why.
    pub why: LeftOutWhy,
}

/// Why a selected device is in no arm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LeftOutWhy {
    /// It could not take one of the releases, so it could be in one arm only.
    CannotTake {
        /// Which.
        release: ReleaseId,
        /// Why.
        why: BlockedWhy,
    },
    /// It takes part in another experiment with this model.
    InExperiment {
        /// Which.
        experiment: ExperimentId,
    },
    /// The shares of the arms leave it over.
    BeyondShares,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PlanError {
    /// What is asked for cannot be carried out.
    #[error(transparent)]
    Invalid(#[from] InvalidExperiment),
    /// The selector matches no device.
    #[error("no device matches '{selector}': {hint}")]
    Nobody {
        /// The selector.
        selector: Selector,
        /// What would match.
        hint: String,
    },
    /// An arm gets nobody.
    #[error("arm {arm} gets no device: {able} of {selected} selected devices could take either release{}", example(.first))]
    EmptyArm {
        /// Which arm.
        arm: Arm,
        /// Devices that could take either release.
        able: usize,
        /// Devices that are selected.
        selected: usize,
        /// One that could not, and why.
        first: Option<LeftOut>,
    },
    /// The rollout of an arm cannot be planned.
    #[error("the rollout of arm {arm} cannot be planned: {why}")]
    Rollout {
        /// Which arm.
        arm: Arm,
        /// Why.
        why: plan::PlanError,
    },
}

/// Plans an experiment.
///
/// # Errors
/// When it cannot be carried out, or an arm would get nobody.
pub fn plan(spec: &ExperimentSpec, ground: &Ground<'_>, now: Timestamp) -> Result<ExperimentPlan, PlanError> {
    spec.check()?;
    let selected =
        |device: &&DeviceFacts| spec.selector.matches(&device.id, &device.labels, &device.inventory);
    let selected: Vec<_> = ground.fleet.iter().filter(selected).collect();
    if selected.is_empty() {
        return Err(PlanError::Nobody { selector: spec.selector.clone(), hint: hint(ground.fleet) });
    }
    let (mut able, mut left_out) = (Vec::new(), Vec::new());
    for device in &selected {
        match obstacle(spec, ground, device) {
            Some(why) => left_out.push(LeftOut { device: device.id.clone(), why }),
            None => able.push(*device),
        }
    }
    let count = able.len();
    let (arms, beyond) = deal(spec, able);
    for (arm, devices) in arms.as_ref() {
        if devices.is_empty() {
            let first = left_out.first().cloned();
            return Err(PlanError::EmptyArm { arm, able: count, selected: selected.len(), first });
        }
    }
    left_out.extend(
        beyond.iter().map(|device| LeftOut { device: device.id.clone(), why: LeftOutWhy::BeyondShares }),
    );
    left_out.sort_by(|a, b| a.device.cmp(&b.device));
    let arms = Arms {
        a: arm_plan(spec, ground, Arm::A, arms.a, now)?,
        b: arm_plan(spec, ground, Arm::B, arms.b, now)?,
    };
    Ok(ExperimentPlan { arms, left_out })
}

/// The rollout that would bring an arm its release.
fn rollout_spec(spec: &ExperimentSpec, ground: &Ground<'_>, arm: Arm) -> RolloutSpec {
    RolloutSpec {
        id: ground.rollouts.get(arm).clone(),
        release: spec.releases.get(arm).clone(),
        selector: spec.selector.clone(),
        strategy: Strategy { seed: spec.seed, ..spec.strategy.clone() },
        author: spec.author.clone(),
        created_at: spec.created_at,
    }
}

fn obstacle(spec: &ExperimentSpec, ground: &Ground<'_>, device: &DeviceFacts) -> Option<LeftOutWhy> {
    if let Some(experiment) = ground.taken.get(&device.id) {
        return Some(LeftOutWhy::InExperiment { experiment: experiment.clone() });
    }
    Arm::BOTH.into_iter().find_map(|arm| {
        let rollout = rollout_spec(spec, ground, arm);
        match plan_late(&rollout, ground.needs.get(arm), device, ground.others)? {
            Err(why) if why != BlockedWhy::AlreadyRuns => {
                Some(LeftOutWhy::CannotTake { release: rollout.release, why })
            }
            _ => None,
        }
    })
}

/// Deals devices to the arms; returns also those that the shares leave over.
fn deal<'a>(
    spec: &ExperimentSpec,
    mut able: Vec<&'a DeviceFacts>,
) -> (Arms<Vec<&'a DeviceFacts>>, Vec<&'a DeviceFacts>) {
    able.sort_by(|a, b| a.id.cmp(&b.id));
    let mut strata = BTreeMap::<_, Vec<_>>::new();
    for device in able {
        let runs = device.runs(spec.model()).map(|release| release.version);
        strata.entry((device.stratum(), runs)).or_default().push(device);
    }
    let mut random = SplitMix64(spec.seed);
    let mut strata: Vec<_> = strata.into_values().collect();
    // Also strata of one device, or their order would decide.
    shuffle(&mut strata, &mut random);
    let shares = [spec.shares.a, spec.shares.b, 100 - spec.shares.a - spec.shares.b].map(i64::from);
    // Each device goes where most is owed; a start by chance, or the first device of all would always be in A.
    let mut owed = shares.map(|share| if share == 0 { 0 } else { (random.next() % 100) as i64 });
    let mut hands = [Vec::new(), Vec::new(), Vec::new()];
    for mut stratum in strata {
        shuffle(&mut stratum, &mut random);
        for device in stratum {
            owed.iter_mut().zip(shares).for_each(|(owed, share)| *owed += share);
            let hand = (0..3).filter(|&hand| shares[hand] > 0).max_by_key(|&hand| owed[hand]).unwrap_or(0);
            owed[hand] -= 100;
            hands[hand].push(device);
        }
    }
    let [a, b, beyond] = hands;
    (Arms { a, b }, beyond)
}

fn arm_plan(
    spec: &ExperimentSpec,
    ground: &Ground<'_>,
    arm: Arm,
    devices: Vec<&DeviceFacts>,
    now: Timestamp,
) -> Result<ArmPlan, PlanError> {
    let release = spec.releases.get(arm);
    let assigned = |device: &&DeviceFacts| Assigned {
        device: device.id.clone(),
        from: device.runs(&release.model).map(|release| release.version),
        moves: !device.already_runs(release),
    };
    let own: Vec<_> = devices.iter().map(|device| (*device).clone()).collect();
    let devices: Vec<_> = spread(devices, spec.seed).iter().map(assigned).collect();
    if devices.iter().all(|assigned| !assigned.moves) {
        return Ok(ArmPlan { devices, rollout: None });
    }
    let rollout = rollout_spec(spec, ground, arm);
    match plan::plan(&rollout, ground.needs.get(arm), &own, ground.others, now) {
        Ok(plan) => Ok(ArmPlan { devices, rollout: Some((rollout, plan)) }),
        // What is wrong with the strategy says nothing of the devices of the arm.
        Err(plan::PlanError::Strategy(why)) => Err(PlanError::Invalid(why.into())),
        Err(why) => Err(PlanError::Rollout { arm, why }),
    }
}

fn example(left_out: &Option<LeftOut>) -> String {
    left_out.as_ref().map_or_else(String::new, |first| format!("; {} {}", first.device, first.why))
}

impl fmt::Display for LeftOutWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotTake { release, why } => write!(f, "{why} ({release})"),
            Self::InExperiment { experiment } => write!(f, "is in the experiment {experiment} of this model"),
            Self::BeyondShares => f.write_str("is beyond the shares of the arms"),
        }
    }
}
