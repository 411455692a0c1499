//! What happens to cameras: one freezes, then the light goes out for all. The server says which it was.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, ensure};
use fleet_core::drift::FeatureStatus;
use muster_sketch::detector::{MIN_GROUP_DEVICES, Scope};
use tokio::process::Command;

use super::{Device, Story};
use crate::{
    api::AlarmView,
    demo::{
        assets::MODEL,
        fleet::Fleet,
        narrate::Tone,
        scene::own_program,
        traffic::{Traffic, View},
    },
};

/// A baseline takes a thousand images, which are eight seconds; an alarm a check or two.
const PATIENCE: Duration = Duration::from_secs(90);

/// What an alarm of the detectors is called; others say that data are broken.
const DRIFT: &str = "drift";

impl Story {
    /// Tells of a frozen camera and of darkness, as the server sees them through `release`.
    pub(super) async fn drift(
        &mut self,
        fleet: &Fleet,
        traffic: &Traffic,
        devices: &[Device],
        release: &str,
    ) -> anyhow::Result<()> {
        if devices.len() < MIN_GROUP_DEVICES {
            let text =
                format!("left out: fewer than {MIN_GROUP_DEVICES} devices are not told from the world");
            self.say("drift", &text, Tone::Warning);
            return Ok(());
        }
        let features = self.baselines(fleet, release, devices.len()).await?;
        let text =
            format!("every device has a baseline of its own: 1,000 images, {} features", features.len());
        self.say("drift", &text, Tone::Plain);
        self.freeze(fleet, traffic, &devices[0].name).await?;
        // The incident of the frozen camera is over when all count again.
        self.baselines(fleet, release, devices.len()).await?;
        self.darken(fleet, traffic, release).await
    }

    /// Waits until every device is held against its own past.
    async fn baselines(
        &mut self,
        fleet: &Fleet,
        release: &str,
        devices: usize,
    ) -> anyhow::Result<Vec<FeatureStatus>> {
        let ready =
            |of: &FeatureStatus| of.watching == devices && of.suppressed == 0 && of.devices == devices;
        let look = async || {
            let features = fleet.drift_of(release).await?;
            Ok((!features.is_empty() && features.iter().all(ready)).then_some(features))
        };
        self.scene.until(("every device counts and has a baseline", "server"), PATIENCE, look).await
    }

    async fn freeze(&mut self, fleet: &Fleet, traffic: &Traffic, camera: &str) -> anyhow::Result<()> {
        self.say(camera, "its camera freezes: the same image again and again", Tone::Warning);
        traffic.show(camera, View::Frozen);
        let what = format!("the server finds that the sensor of {camera} broke");
        let is_its_sensor =
            |alarm: &AlarmView| matches!(&alarm.scope, Scope::Sensor { device } if device == camera);
        let moved = |alarm: &AlarmView| is_its_sensor(alarm) && alarm.cause == DRIFT;
        let look = async || Ok(fleet.drift_alarms().await?.into_iter().find(moved));
        let alarm = self.scene.until((&what, "server"), PATIENCE, look).await?;
        self.say("drift", &format!("sensor: {}", alarm.text), Tone::Good);
        self.report_says(&format!("(sensor {camera})")).await?;
        for alarm in fleet.drift_alarms().await? {
            ensure!(is_its_sensor(&alarm), "one camera froze, and this was told: {}", alarm.text);
        }
        traffic.show(camera, View::Clear);
        self.say(camera, "its camera is repaired", Tone::Plain);
        Ok(())
    }

    async fn darken(&mut self, fleet: &Fleet, traffic: &Traffic, release: &str) -> anyhow::Result<()> {
        let before: BTreeSet<_> = fleet.drift_alarms().await?.into_iter().map(|alarm| alarm.id).collect();
        // Right after a check, so that the next one has images in the dark of every device.
        let last = checked_at(fleet, release).await?;
        let look = async || Ok((checked_at(fleet, release).await? > last).then_some(()));
        self.scene.until(("the server checks again", "server"), PATIENCE, look).await?;
        self.say("fleet", "the light goes out: every camera sees half of it", Tone::Warning);
        traffic.show_all(View::Dark);
        let is_the_world = |alarm: &AlarmView| {
            alarm.scope == Scope::World && alarm.cause == DRIFT && !before.contains(&alarm.id)
        };
        let look = async || Ok(fleet.drift_alarms().await?.into_iter().find(is_the_world));
        let alarm =
            self.scene.until(("the server finds that the world changed", "server"), PATIENCE, look).await?;
        self.say("drift", &format!("world: {}", alarm.text), Tone::Good);
        self.report_says("(world)").await?;
        traffic.show_all(View::Clear);
        Ok(())
    }
}

impl Story {
    /// Asks as an operator would, and tells the line with these words.
    async fn report_says(&self, words: &str) -> anyhow::Result<()> {
        let asked = Command::new(own_program()?)
            .args(["drift", "report", MODEL, "--since", "10m"])
            .env("MUSTER_CONTEXT", self.scene.context_file())
            .output()
            .await
            .context("`muster drift report` cannot be run")?;
        let text = String::from_utf8_lossy(&asked.stdout);
        let line = text.lines().find(|line| line.contains(words));
        let line = line.with_context(|| format!("`muster drift report` does not say '{words}': {text}"))?;
        self.say("report", line.trim(), Tone::Plain);
        Ok(())
    }
}

/// When the features of a release were checked last.
async fn checked_at(fleet: &Fleet, release: &str) -> anyhow::Result<Option<shared::Timestamp>> {
    Ok(fleet.drift_of(release).await?.iter().map(|feature| feature.at).max())
}
