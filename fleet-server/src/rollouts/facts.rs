//! What planning knows of the fleet.

use std::collections::BTreeSet;

use fleet_core::DeviceFacts;
use shared::{DeviceId, ReleaseId};

use crate::store::{Store, StoreError};

/// The fleet at this moment. What a device says it runs is its own word, so a release that was never published here
/// is left out: no plan may promise to go back to it.
pub(super) async fn facts(store: &Store) -> Result<Vec<DeviceFacts>, StoreError> {
    let mut fleet = store.every_device_facts().await?;
    believe(&mut fleet, &store.release_ids().await?);
    Ok(fleet)
}

/// One device at this moment; `None` when there is none of this name.
pub(super) async fn facts_of_device(store: &Store, id: &DeviceId) -> Result<Option<DeviceFacts>, StoreError> {
    let mut device = store.device_facts(id).await?;
    believe(device.as_mut_slice(), &store.release_ids().await?);
    Ok(device)
}

fn believe(fleet: &mut [DeviceFacts], published: &BTreeSet<ReleaseId>) {
    for device in fleet {
        device.committed.retain(|release| published.contains(release));
    }
}
