//! The plan of a rollout: who is asked in which wave, who is left out and why, before anything moves.
//!
//! A plan is immutable and complete: every selected device stands either in a wave or among the blocked. What
//! the server does not know of a device never blocks it, because the device checks everything itself before it
//! activates a release. Offline devices are planned and marked, since a desired state waits for them.
//!
//! Two rollouts of one model never pull at one device: the newer one wins, and the plan lists what it takes from
//! older ones.

mod duration;
mod obstacle;
pub(crate) mod order;
mod previous;
mod waves;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use shared::{DeviceId, ReleaseId, RolloutId, Timestamp, manifest::Manifest};
use thiserror::Error;

use crate::{
    device::DeviceFacts,
    rollout::Freeze,
    selector::Selector,
    strategy::{InvalidStrategy, Strategy},
};

pub use duration::{Expected, ExpectedWave, LINK_BYTES_PER_SEC};
use obstacle::obstacle;
pub(crate) use obstacle::unfit;
pub use obstacle::{Blocked, BlockedWhy};
pub use previous::Stay;
use previous::previous;
use waves::cut;

/// What an operator asks for. It never changes once the rollout is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// When; of two rollouts of one model and one priority the later one wins.
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
    /// How long a device watches it before it keeps it, in seconds; 0 when unknown.
    #[serde(default)]
    pub probation_secs: u64,
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
            probation_secs: u64::from(manifest.probation.duration_secs),
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
    /// Its priority among the rollouts of its model.
    #[serde(default)]
    pub priority: u8,
    /// When it was created.
    pub created_at: Timestamp,
    /// The devices whose desired state it speaks for, now or when it asks them.
    pub devices: BTreeSet<DeviceId>,
    /// The devices that it has given back; it must be told when another rollout takes one over, or it could ask it again.
    #[serde(default)]
    pub restored: BTreeSet<DeviceId>,
    /// The devices that it ever asked, and whether they may keep the release.
    #[serde(default)]
    pub asked: BTreeMap<DeviceId, Stay>,
}

/// What a rollout will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Ordered waves, none of them empty. A plan of nobody has none, and is there to be read ([`Plan::of_nobody`]).
    pub waves: Vec<WavePlan>,
    /// Selected devices that are left out.
    pub blocked: Vec<Blocked>,
    /// Devices that other rollouts of the same model have or want. Those stop asking them, and lose them when this one asks.
    pub supersedes: Vec<Superseding>,
    /// Times in which nobody is asked.
    #[serde(default)]
    pub freezes: Vec<Freeze>,
    /// How long it takes if all goes well.
    #[serde(default)]
    pub expected: Expected,
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
    /// Somebody other than the author has to agree before it is asked.
    #[serde(default)]
    pub approve: bool,
    /// What it is for.
    #[serde(default)]
    pub kind: WaveKind,
}

/// What a wave is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveKind {
    /// A step of the strategy.
    #[default]
    Step,
    /// The devices held back for comparison; asked when every step has passed.
    Control,
    /// Devices that came to match the selector after the start of a continuous rollout.
    Late,
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
    /// How far its local time is ahead of UTC, in seconds; 0 when it never told.
    #[serde(default)]
    pub utc_offset_secs: i32,
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

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Error)]
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
    /// Every selected device is left out; [`Plan::of_nobody`] shows them all.
    #[error("none of the {} selected devices can take it; {} {}", .0.len(), .0[0].device, .0[0].why)]
    AllBlocked(Vec<Blocked>),
}

impl Plan {
    /// Shows whom [`PlanError::AllBlocked`] leaves out, for people who want to read why. No rollout is started with it.
    #[must_use]
    pub fn of_nobody(blocked: Vec<Blocked>, now: Timestamp) -> Self {
        let (waves, supersedes, freezes) = (vec![], vec![], vec![]);
        Self { waves, blocked, supersedes, freezes, expected: Expected::default(), planned_at: now }
    }
}

/// Plans a rollout, without regard to freezes and guarded devices: whoever knows of them adds them, and then says
/// [`Plan::expect`]. `others` are all rollouts that still speak for devices: running, stopped and completed ones (see
/// [`Rollout::summary`](crate::Rollout::summary)).
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
    spec.strategy.check_patience(&spec.release, needs.probation_secs)?;
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
    let (waves, beyond) = cut(&ordered, &spec.strategy, |device| planned(spec, needs, device, others));
    blocked.extend(beyond.iter().map(|d| Blocked { device: d.id.clone(), why: BlockedWhy::BeyondLastWave }));
    blocked.sort_by(|a, b| a.device.cmp(&b.device));
    if waves.is_empty() {
        return Err(PlanError::AllBlocked(blocked));
    }
    let supersedes = taken_over(spec, &waves, others);
    let (freezes, expected) = (vec![], Expected::default());
    let mut plan = Plan { waves, blocked, supersedes, freezes, expected, planned_at: now };
    plan.expect(&spec.strategy, needs);
    Ok(plan)
}

/// Plans for one device that came to match a continuous rollout after its start; `None` when it does not.
///
/// # Errors
/// Says why the device cannot take part.
pub fn plan_late(
    spec: &RolloutSpec,
    needs: &ReleaseNeeds,
    device: &DeviceFacts,
    others: &[RolloutSummary],
) -> Option<Result<PlannedDevice, BlockedWhy>> {
    let matches = spec.selector.matches(&device.id, &device.labels, &device.inventory);
    matches.then(|| {
        obstacle(spec, needs, device, others).map_or_else(|| Ok(planned(spec, needs, device, others)), Err)
    })
}

fn planned(
    spec: &RolloutSpec,
    needs: &ReleaseNeeds,
    device: &DeviceFacts,
    others: &[RolloutSummary],
) -> PlannedDevice {
    PlannedDevice {
        device: device.id.clone(),
        from: previous(spec, device, others),
        bytes: needs.size_bytes,
        reach: if device.connected { Reach::Connected } else { Reach::Offline },
        utc_offset_secs: device.inventory.utc_offset_secs.unwrap_or(0),
    }
}

fn taken_over(spec: &RolloutSpec, waves: &[WavePlan], others: &[RolloutSummary]) -> Vec<Superseding> {
    let devices = waves.iter().flat_map(|wave| &wave.devices).map(|planned| &planned.device);
    let ours = |other: &&RolloutSummary| other.id != spec.id && other.release.model == spec.release.model;
    let knows = |other: &&RolloutSummary, d| other.devices.contains(d) || other.restored.contains(d);
    let from = |device| {
        others.iter().filter(ours).filter(move |other| knows(other, device)).map(move |other| (device, other))
    };
    devices
        .flat_map(from)
        .map(|(device, other)| Superseding { rollout: other.id.clone(), device: device.clone() })
        .collect()
}

/// Most labels named in a hint: a line that a person still reads.
const MAX_HINT_LABELS: usize = 12;

/// What there is to select by.
pub(crate) fn hint(fleet: &[DeviceFacts]) -> String {
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
