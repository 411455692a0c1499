//! The plan of a rollout: who is asked in which wave, who is left out and why, before anything moves.
//!
//! A plan is immutable and complete: every selected device stands either in a wave or among the blocked. What
//! the server does not know of a device never blocks it, because the device checks everything itself before it
//! activates a release. Offline devices are planned and marked, since a desired state waits for them.
//!
//! Two rollouts of one model never pull at one device: the newer one wins, and the plan lists what it takes from
//! older ones.

mod order;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use shared::{DeviceId, ReleaseId, RolloutId, Timestamp, manifest::Manifest};
use thiserror::Error;

use crate::{
    device::DeviceFacts,
    selector::Selector,
    strategy::{InvalidStrategy, Strategy, WaveSpec},
};

/// What an operator asks for. It never changes once the rollout is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSpec {
    /// Name of the rollout.
    pub id: RolloutId,
    /// What the devices shall run.
    pub release: ReleaseId,
    /// Which devices.
    pub selector: Selector,
    /// How to proceed.
    pub strategy: Strategy,
    /// Who asked for it.
    pub author: String,
    /// When; of two rollouts of one model the later one wins.
    pub created_at: Timestamp,
}

/// What a release asks of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseNeeds {
    /// Bytes to transfer to a device that holds nothing of it.
    pub size_bytes: u64,
    /// Memory that it cannot do without; 0 when unknown.
    pub memory_mib: u64,
    /// Engine that must be there, such as `onnx`; `None` when any will do.
    pub engine: Option<String>,
}

impl ReleaseNeeds {
    /// What a manifest asks for. The memory is the size of the model itself, the only lower bound known without
    /// running it; its memory budget is an upper bound and blocks nobody.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            size_bytes: manifest.artifacts().map(|(_, artifact)| artifact.packed.size_bytes).sum(),
            memory_mib: manifest.model.size_bytes.div_ceil(1_024 * 1_024),
            engine: Some(manifest.runtime.format.clone()),
        }
    }
}

/// Another rollout, as far as it matters for planning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSummary {
    /// Which.
    pub id: RolloutId,
    /// What it installs.
    pub release: ReleaseId,
    /// When it was created.
    pub created_at: Timestamp,
    /// The devices whose desired state it speaks for.
    pub devices: BTreeSet<DeviceId>,
}

/// What a rollout will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Ordered waves, none of them empty.
    pub waves: Vec<WavePlan>,
    /// Selected devices that are left out.
    pub blocked: Vec<Blocked>,
    /// Devices taken over from older rollouts of the same model, which must be told.
    pub supersedes: Vec<Superseding>,
    /// When it was made; what it says of connections and versions held then.
    pub planned_at: Timestamp,
}

/// One wave of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WavePlan {
    /// Who, in the order of asking.
    pub devices: Vec<PlannedDevice>,
    /// How long the wave is watched after its last device has settled.
    pub bake_time_secs: u64,
}

/// One device of a wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDevice {
    /// Who.
    pub device: DeviceId,
    /// What it goes back to.
    pub from: Option<ReleaseId>,
    /// Most bytes that it will fetch.
    pub bytes: u64,
    /// Whether it can be reached now.
    pub reach: Reach,
}

/// Whether a device can be reached at the moment of planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// It holds a connection.
    Connected,
    /// It does not; it is asked as soon as it connects.
    Offline,
}

/// A device that a newer rollout takes from an older one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseding {
    /// The older rollout.
    pub rollout: RolloutId,
    /// The device.
    pub device: DeviceId,
}

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
    /// A rollout of the same model that was created later holds it.
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
            Self::InNewerRollout { rollout } => write!(f, "is in the newer rollout {rollout} of this model"),
            Self::BeyondLastWave => f.write_str("no wave reaches it; end the strategy with a wave of `all`"),
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The strategy cannot be followed.
    #[error("the strategy cannot be followed")]
    Strategy(#[from] InvalidStrategy),
    /// The selector matches no device.
    #[error("no device matches '{selector}': {hint}")]
    Nobody {
        /// The selector.
        selector: Selector,
        /// What would match.
        hint: String,
    },
    /// Every selected device is left out.
    #[error("none of the {} selected devices can take it; {} {}", .0.len(), .0[0].device, .0[0].why)]
    AllBlocked(Vec<Blocked>),
}

/// Plans a rollout. `others` are all rollouts that still speak for devices: running, stopped and completed ones
/// (see [`Rollout::summary`](crate::Rollout::summary)).
///
/// # Errors
/// When nobody would be asked, or the strategy cannot be followed.
pub fn plan(
    spec: &RolloutSpec,
    needs: &ReleaseNeeds,
    fleet: &[DeviceFacts],
    others: &[RolloutSummary],
    now: Timestamp,
) -> Result<Plan, PlanError> {
    spec.strategy.check()?;
    let selected: Vec<_> =
        fleet.iter().filter(|d| spec.selector.matches(&d.id, &d.labels, &d.inventory)).collect();
    if selected.is_empty() {
        return Err(PlanError::Nobody { selector: spec.selector.clone(), hint: hint(fleet) });
    }
    let (mut able, mut blocked) = (Vec::new(), Vec::new());
    for device in selected {
        match obstacle(spec, needs, device, others) {
            Some(why) => blocked.push(Blocked { device: device.id.clone(), why }),
            None => able.push(device),
        }
    }
    let ordered = order::spread(able, spec.strategy.seed);
    let (waves, beyond) = cut(&ordered, &spec.strategy.waves, |device| planned(spec, needs, device));
    blocked.extend(beyond.iter().map(|d| Blocked { device: d.id.clone(), why: BlockedWhy::BeyondLastWave }));
    blocked.sort_by(|a, b| a.device.cmp(&b.device));
    if waves.is_empty() {
        return Err(PlanError::AllBlocked(blocked));
    }
    let supersedes = taken_over(spec, &waves, others);
    Ok(Plan { waves, blocked, supersedes, planned_at: now })
}

fn obstacle(
    spec: &RolloutSpec,
    needs: &ReleaseNeeds,
    device: &DeviceFacts,
    others: &[RolloutSummary],
) -> Option<BlockedWhy> {
    if device.quarantined {
        return Some(BlockedWhy::Quarantined);
    }
    let newer = |other: &&RolloutSummary| (other.created_at, &other.id) > (spec.created_at, &spec.id);
    if let Some(other) = rivals(spec, others, &device.id).find(newer) {
        return Some(BlockedWhy::InNewerRollout { rollout: other.id.clone() });
    }
    if device.already_runs(&spec.release) {
        return Some(BlockedWhy::AlreadyRuns);
    }
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

fn planned(spec: &RolloutSpec, needs: &ReleaseNeeds, device: &DeviceFacts) -> PlannedDevice {
    PlannedDevice {
        device: device.id.clone(),
        from: device.fallback(&spec.release).cloned(),
        bytes: needs.size_bytes,
        reach: if device.connected { Reach::Connected } else { Reach::Offline },
    }
}

/// Deals the devices to the waves in order; returns also those that no wave reaches.
fn cut<'a>(
    ordered: &'a [&'a DeviceFacts],
    specs: &[WaveSpec],
    planned: impl Fn(&DeviceFacts) -> PlannedDevice,
) -> (Vec<WavePlan>, &'a [&'a DeviceFacts]) {
    let mut rest = ordered;
    let mut waves = Vec::new();
    for wave in specs {
        let size = wave.share.size(ordered.len()).min(rest.len());
        let (now, later) = rest.split_at(size);
        rest = later;
        if !now.is_empty() {
            let devices = now.iter().map(|device| planned(device)).collect();
            waves.push(WavePlan { devices, bake_time_secs: wave.bake_time_secs });
        }
    }
    (waves, rest)
}

fn taken_over(spec: &RolloutSpec, waves: &[WavePlan], others: &[RolloutSummary]) -> Vec<Superseding> {
    let devices = waves.iter().flat_map(|wave| &wave.devices).map(|planned| &planned.device);
    let from = |device| rivals(spec, others, device).map(move |other| (device, other));
    devices
        .flat_map(from)
        .map(|(device, other)| Superseding { rollout: other.id.clone(), device: device.clone() })
        .collect()
}

/// Most labels named in a hint: a line that a person still reads.
const MAX_HINT_LABELS: usize = 12;

/// What there is to select by.
fn hint(fleet: &[DeviceFacts]) -> String {
    if fleet.is_empty() {
        return "no device is enrolled yet".into();
    }
    let mut labels = BTreeMap::<String, usize>::new();
    for (name, value) in fleet.iter().flat_map(|device| &device.labels) {
        *labels.entry(format!("{name}={value}")).or_default() += 1;
    }
    if labels.is_empty() {
        return format!("none of the {} devices has labels; write `all` or id=DEVICE", fleet.len());
    }
    let named: Vec<_> =
        labels.iter().take(MAX_HINT_LABELS).map(|(label, n)| format!("{label} ({n})")).collect();
    let more = if labels.len() > MAX_HINT_LABELS { ", …" } else { "" };
    format!("there are {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests;
