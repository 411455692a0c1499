//! What devices run when the story begins: brought to them by rollouts before it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet_core::{MaxFailed, Selector, Strategy};
use muster_sim::{Class, tell_counts};
use shared::ReleaseId;
use tokio::time::{Instant, sleep_until};

use super::{LOOK_EVERY, Stage, told};

/// Devices come to what they run as fast as the server lets them; when nothing happens for this long beside their
/// probation, nothing will.
const NEXT_EVENT_WITHIN: Duration = Duration::from_secs(120);

impl Stage<'_> {
    /// Brings devices to what they run when the story begins. They are all honest until then.
    pub(in crate::sim) async fn prelude(&mut self) -> anyhow::Result<()> {
        let mut releases: Vec<&ReleaseId> = vec![];
        for runs in self.story.devices.iter().filter_map(|devices| devices.runs.as_ref()) {
            if !releases.contains(&runs) {
                releases.push(runs);
            }
        }
        for release in releases {
            self.bring(release)
                .await
                .with_context(|| format!("before the story, devices must come to run {release}"))?;
        }
        Ok(())
    }

    async fn bring(&mut self, release: &ReleaseId) -> anyhow::Result<()> {
        let runs = |class: &&Class| class.story.runs.as_ref() == Some(release) && !class.members.is_empty();
        let classes: Vec<_> = self.crowd.classes.iter().filter(runs).collect();
        let names: Vec<_> = classes.iter().map(|class| class.story.name.as_str()).collect();
        if names.is_empty() {
            return Ok(());
        }
        let devices: usize = classes.iter().map(|class| class.members.len()).sum();
        let selector = Selector::parse(&format!("class in ({})", names.join(",")))?;
        let max_failed = MaxFailed { percent: 100, ..MaxFailed::default() };
        let strategy = Strategy { max_failed, ..Strategy::default() };
        let id = self.people.start(release, &selector, strategy).await.map_err(told)?;
        let found = self.story.releases.iter().find(|it| it.release == *release);
        let probation = Duration::from_secs(found.map_or(0, |it| it.probation_secs).into());
        let patience = NEXT_EVENT_WITHIN + probation * 2;
        let (mut seen, mut deadline) = (0, Instant::now() + patience);
        loop {
            self.server.check_alive()?;
            if let Some(last) = self.people.events(&id, seen).await.map_err(told)?.last() {
                (seen, deadline) = (last.sequence, Instant::now() + patience);
            }
            let finished = self.people.rollouts().await.map_err(told)?;
            if finished.iter().any(|it| it.id == id && it.finished) {
                break;
            }
            if Instant::now() > deadline {
                let counts = self.people.rollout(&id).await.map_err(told)?.status.counts;
                bail!("nothing has happened for {} s: {}", patience.as_secs(), tell_counts(&counts));
            }
            sleep_until(Instant::now() + LOOK_EVERY).await;
        }
        let counts = self.people.rollout(&id).await.map_err(told)?.status.counts;
        if counts.committed < counts.devices {
            bail!("not all keep it: {}", tell_counts(&counts));
        }
        self.teller.milestone(&format!("{devices} devices run {release}"));
        Ok(())
    }
}
