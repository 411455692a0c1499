//! Who lives in the world when it begins.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use shared::{DeviceId, Timestamp, device::Inventory};

use super::{Inhabitant, Link};
use crate::{
    catalog::Catalog,
    device::{Profile, VirtualDevice},
    random::Random,
    server::Server,
    story::{BEGIN, DeviceStory, Story},
};

/// The devices of a story, enrolled at the server.
pub(super) fn population(
    story: &Story,
    catalog: &Arc<Catalog>,
    server: &mut Server,
    random: &mut Random,
) -> BTreeMap<DeviceId, Inhabitant> {
    let everybody =
        story.devices.iter().flat_map(|device| ids(device).into_iter().map(move |id| (id, device)));
    let mut fleet = BTreeMap::new();
    for (id, device) in everybody {
        // Who is switched on later is enrolled then.
        if device.on.secs == 0 {
            server.enrol(id.clone(), device.labels.clone(), device.runs.as_ref());
        }
        let tells_every = Duration::from_secs(story.tells_secs.max(1).into());
        fleet.insert(id.clone(), inhabitant(id, device, tells_every, catalog, random));
    }
    fleet
}

/// When each device is switched on.
pub(super) fn switching_on(story: &Story) -> Vec<(DeviceId, Timestamp)> {
    let on = |device: &DeviceStory| device.on.on_clock();
    story.devices.iter().flat_map(|device| ids(device).into_iter().map(move |id| (id, on(device)))).collect()
}

/// The story of the device with this name.
pub(super) fn story_of<'a>(story: &'a Story, id: &DeviceId) -> Option<&'a DeviceStory> {
    story.devices.iter().find(|device| ids(device).contains(id))
}

fn ids(device: &DeviceStory) -> Vec<DeviceId> {
    let name = |text: String| DeviceId::new(text).ok();
    match device.count {
        None => name(device.name.clone()).into_iter().collect(),
        Some(count) => (1..=count).filter_map(|n| name(format!("{}-{n}", device.name))).collect(),
    }
}

fn inhabitant(
    id: DeviceId,
    story: &DeviceStory,
    tells_every: Duration,
    catalog: &Arc<Catalog>,
    random: &mut Random,
) -> Inhabitant {
    let profile = Profile {
        id,
        inventory: Inventory {
            arch: "aarch64".into(),
            memory_mib: story.memory_mib,
            engines: vec!["tract-onnx 0.23.9".into()],
            utc_offset_secs: Some(story.utc_offset_secs),
            ..Inventory::default()
        },
        runs: story.runs.clone(),
        traffic_per_minute: story.traffic,
        tells_every,
        clock_ahead_ms: story.clock_secs * 1_000,
        maintenance: story.maintenance.clone(),
        utc_offset_secs: story.utc_offset_secs,
        seed: random.draw(),
    };
    let mut device = VirtualDevice::new(profile, catalog.clone(), BEGIN);
    // It is a box in a drawer until it is switched on.
    device.end(crate::device::Ending::PowerCut, BEGIN);
    let link = Link { bytes_per_sec: (story.link_kib * 1_024).max(1), ..Link::default() };
    Inhabitant { device, character: story.character, link, due: None, dead: false, lies: 0 }
}
