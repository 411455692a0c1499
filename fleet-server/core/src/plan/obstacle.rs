//! Who is left out of a rollout, and why.

use std::fmt;

use serde::{Deserialize, Serialize};
use shared::{DeviceId, RolloutId, Version};

use super::{ReleaseNeeds, RolloutSpec, RolloutSummary};
use crate::device::DeviceFacts;

/// A selected device that is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Who.
    pub device: DeviceId,
    /// Why.
    pub why: BlockedWhy,
}

/// Why a selected device is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BlockedWhy {
    /// There is nothing to do.
    AlreadyRuns,
    /// A person took it out of every rollout.
    Quarantined,
    /// The release cannot fit.
    NotEnoughMemory {
        /// What the release needs.
        needed_mib: u64,
        /// What the device has.
        has_mib: u64,
    },
    /// Nothing there runs the release.
    EngineMissing {
        /// What the release needs.
        engine: String,
        /// What the device has.
        has: Vec<String>,
    },
    /// A person wants it to keep what it runs of this model.
    Pinned {
        /// Which version.
        version: Version,
    },
    /// The strategy does not allow to come from what it runs.
    WrongVersion {
        /// What it runs of this model.
        has: Option<Version>,
        /// What it may come from.
        allowed: Vec<Version>,
    },
    /// A rollout of the same model that has a higher priority or was created later holds it.
    InNewerRollout {
        /// Which.
        rollout: RolloutId,
    },
    /// The waves of the strategy are too small to reach it.
    BeyondLastWave,
}

impl fmt::Display for BlockedWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRuns => f.write_str("already runs it"),
            Self::Quarantined => f.write_str("is quarantined"),
            Self::NotEnoughMemory { needed_mib, has_mib } => {
                write!(f, "needs {needed_mib} MiB of memory and has {has_mib} MiB")
            }
            Self::EngineMissing { engine, has } => {
                write!(f, "needs the engine {engine} and has {}", has.join(", "))
            }
            Self::Pinned { version } => write!(f, "is pinned to version {version}"),
            Self::WrongVersion { has, allowed } => {
                let has = has.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
                let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
                write!(f, "runs {has}, and the strategy starts from {}", allowed.join(", "))
            }
            Self::InNewerRollout { rollout } => {
                write!(
                    f,
                    "is in the rollout {rollout} of this model, which is newer or has a higher priority"
                )
            }
            Self::BeyondLastWave => f.write_str("no wave reaches it; end the strategy with a wave of `all`"),
        }
    }
}

pub(super) fn obstacle(
    spec: &RolloutSpec,
    needs: &ReleaseNeeds,
    device: &DeviceFacts,
    others: &[RolloutSummary],
) -> Option<BlockedWhy> {
    if device.quarantined {
        return Some(BlockedWhy::Quarantined);
    }
    let own = (spec.strategy.priority, spec.created_at, &spec.id);
    let stronger = |other: &&RolloutSummary| (other.priority, other.created_at, &other.id) > own;
    if let Some(other) = rivals(spec, others, &device.id).find(stronger) {
        return Some(BlockedWhy::InNewerRollout { rollout: other.id.clone() });
    }
    if device.already_runs(&spec.release) {
        return Some(BlockedWhy::AlreadyRuns);
    }
    restraint(spec, device).or_else(|| unfit(needs, device))
}

/// What people said about the device or about the versions to come from.
fn restraint(spec: &RolloutSpec, device: &DeviceFacts) -> Option<BlockedWhy> {
    if let Some(&version) = device.pins.get(&spec.release.model) {
        return Some(BlockedWhy::Pinned { version });
    }
    let has = device.runs(&spec.release.model).map(|release| release.version);
    let allowed = &spec.strategy.from;
    let fits = allowed.is_empty() || has.is_some_and(|has| allowed.contains(&has));
    (!fits).then(|| BlockedWhy::WrongVersion { has, allowed: allowed.clone() })
}

/// What the device lacks.
pub(crate) fn unfit(needs: &ReleaseNeeds, device: &DeviceFacts) -> Option<BlockedWhy> {
    if !device.may_hold(needs.memory_mib) {
        let has_mib = device.inventory.memory_mib;
        return Some(BlockedWhy::NotEnoughMemory { needed_mib: needs.memory_mib, has_mib });
    }
    let engine = needs.engine.as_ref().filter(|engine| !device.may_have_engine(engine))?;
    Some(BlockedWhy::EngineMissing { engine: engine.clone(), has: device.inventory.engines.clone() })
}

/// Other rollouts of the same model that speak for the device.
fn rivals<'a>(
    spec: &'a RolloutSpec,
    others: &'a [RolloutSummary],
    device: &'a DeviceId,
) -> impl Iterator<Item = &'a RolloutSummary> {
    others.iter().filter(move |other| {
        other.id != spec.id && other.release.model == spec.release.model && other.devices.contains(device)
    })
}
