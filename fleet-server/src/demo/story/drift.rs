//! What happens to cameras: one freezes, then the light goes out for all. The server says which it was.

use std::{collections::BTreeSet, time::Duration};

use anyhow::ensure;
use fleet_core::drift::{DriftAlarm, FeatureStatus};
use muster_sketch::detector::{MIN_GROUP_DEVICES, Scope};

use super::{Device, Story};
use crate::demo::{
    fleet::Fleet,
    narrate::Tone,
    traffic::{Traffic, View},
};

/// A baseline takes a thousand images, which are eight seconds; an alarm a check or two.
const PATIENCE: Duration = Duration::from_secs(90);

impl Story {
    /// Tells of a frozen camera and of darkness.
    pub(super) async fn drift(
        &mut self,
        fleet: &Fleet,
        traffic: &Traffic,
        devices: &[Device],
    ) -> anyhow::Result<()> {
        if devices.len() < MIN_GROUP_DEVICES {
            let text = format!("left out: fewer than {MIN_GROUP_DEVICES} devices are not told from the world");
            self.say("drift", &text, Tone::Warning);
            return Ok(());
        }
        let features = self.baselines(fleet, devices.len()).await?;
        let text = format!("every device has its baseline of 1,000 images, of {features} features");
        self.say("drift", &text, Tone::Plain);
        self.freeze(fleet, traffic, &devices[0].name).await?;
        self.darken(fleet, traffic, devices.len()).await
    }

    /// Waits until every device is held against its own past; gives the number of features.
    async fn baselines(&mut self, fleet: &Fleet, devices: usize) -> anyhow::Result<usize> {
        let what = "every device has a baseline";
        let look = async || {
            let features = fleet.drift_features().await?;
            let ready = |feature: &FeatureStatus| feature.watching == devices && feature.suppressed == 0;
            Ok((!features.is_empty() && features.iter().all(ready)).then_some(features.len()))
        };
        self.scene.until((what, "server"), PATIENCE, look).await
    }

    async fn freeze(&mut self, fleet: &Fleet, traffic: &Traffic, camera: &str) -> anyhow::Result<()> {
        self.say(camera, "freezes: the same image again and again", Tone::Warning);
        traffic.show(camera, View::Frozen);
        let what = format!("the server finds that the sensor of {camera} broke");
        let is_its_sensor =
            |alarm: &DriftAlarm| matches!(&alarm.found.scope, Scope::Sensor { device } if device == camera);
        let look = async || Ok(fleet.drift_alarms().await?.into_iter().find(is_its_sensor));
        let alarm = self.scene.until((&what, "server"), PATIENCE, look).await?;
        self.say("drift", &alarm_line(&alarm), Tone::Good);
        for alarm in fleet.drift_alarms().await? {
            ensure!(is_its_sensor(&alarm), "one camera froze, and this was told: {}", alarm_line(&alarm));
        }
        traffic.show(camera, View::Clear);
        self.say(camera, "is repaired", Tone::Plain);
        Ok(())
    }

    async fn darken(&mut self, fleet: &Fleet, traffic: &Traffic, devices: usize) -> anyhow::Result<()> {
        // The incident of the frozen camera is over when it counts again.
        self.baselines(fleet, devices).await?;
        let before: BTreeSet<_> = fleet.drift_alarms().await?.into_iter().map(|alarm| alarm.id).collect();
        // Right after a check, so that the next one has images in the dark of every device.
        let checked_at = fleet.drift_features().await?.first().map(|feature| feature.at);
        let look = async || {
            let now = fleet.drift_features().await?.first().map(|feature| feature.at);
            Ok((now != checked_at).then_some(()))
        };
        self.scene.until(("the server checks again", "server"), PATIENCE, look).await?;
        self.say("fleet", "the light goes out: every camera sees half of it", Tone::Warning);
        traffic.show_all(View::Dark);
        let what = "the server finds that the world changed";
        let look = async || {
            let alarms = fleet.drift_alarms().await?;
            Ok(alarms.into_iter().find(|alarm| alarm.found.scope == Scope::World && !before.contains(&alarm.id)))
        };
        let alarm = self.scene.until((what, "server"), PATIENCE, look).await?;
        self.say("drift", &alarm_line(&alarm), Tone::Good);
        traffic.show_all(View::Clear);
        Ok(())
    }
}
