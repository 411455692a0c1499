//! What people said about devices beforehand: which may not be asked without a second person.

use std::collections::BTreeSet;

use fleet_core::{DeviceFacts, Plan, Selector};
use shared::DeviceId;

/// Has somebody else agree before the first wave, when a device of the plan is one of those that `guarded` selects.
pub(super) fn approval(plan: &mut Plan, fleet: &[DeviceFacts], guarded: &[Selector]) {
    let is_guarded = |device: &&DeviceFacts| {
        guarded.iter().any(|selector| selector.matches(&device.id, &device.labels, &device.inventory))
    };
    let guarded: BTreeSet<&DeviceId> = fleet.iter().filter(is_guarded).map(|device| &device.id).collect();
    let mut planned = plan.waves.iter().flat_map(|wave| &wave.devices);
    if planned.any(|planned| guarded.contains(&planned.device))
        && let Some(first) = plan.waves.first_mut()
    {
        first.approve = true;
    }
}
