//! What devices say, and what becomes of them.

use std::time::Duration;

use shared::{
    DeviceId, ReleaseId, Timestamp,
    report::{DeploymentEvent, FailReason},
};

use super::{Effect, Event, Progress, Record, Refusal, Restoration, Rollout};
use crate::plan::{PlannedDevice, WaveKind};

impl Rollout {
    pub(super) fn report(
        &mut self,
        device: &DeviceId,
        at: Timestamp,
        release: &ReleaseId,
        event: DeploymentEvent,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if *release != self.spec.release {
            return self.report_of_previous(device, release, &event, now);
        }
        let record = self.record(device)?;
        if record.progress == Progress::Waiting {
            return Err(Refusal::NotAsked { device: device.clone(), release: release.clone() });
        }
        record.heard_at = Some(now);
        // A device that failed to fetch may start again, but a late report of the failed attempt is no start.
        let is_late = record.reported_at.is_some_and(|last| at <= last);
        if !(is_late && matches!(record.progress, Progress::Failed(_) | Progress::Retrying { .. })) {
            let next = self.progress_of(device, event, now);
            self.advance(device, next, Some(at), now);
        }
        Ok(())
    }

    /// A device that runs what it ran before is back.
    fn report_of_previous(
        &mut self,
        device: &DeviceId,
        release: &ReleaseId,
        event: &DeploymentEvent,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let rollout = self.spec.id.clone();
        let record = self.record(device)?;
        let is_previous = record.from.as_ref() == Some(release);
        if !is_previous || record.restoration == Restoration::None {
            let (device, release) = (device.clone(), release.clone());
            return Err(Refusal::OtherRelease { device, release, rollout });
        }
        record.heard_at = Some(now);
        if matches!(event, DeploymentEvent::Committed { .. }) {
            self.confirm_restoration(device, now);
        }
        Ok(())
    }

    /// What an event means here: a network that did not carry the release may do so later.
    fn progress_of(&self, device: &DeviceId, event: DeploymentEvent, now: Timestamp) -> Progress {
        let retries = self.spec.strategy.retries;
        let may_try = |record: &Record| {
            record.restoration == Restoration::None
                && !record.withdrawn
                && record.retries < retries.max
                && !matches!(record.progress, Progress::Retrying { .. })
        };
        match (event, self.devices.get(device)) {
            (DeploymentEvent::Failed(FailReason::Network { detail }), Some(record))
                if self.active_wave().is_some() && may_try(record) =>
            {
                let why = FailReason::Network { detail }.to_string();
                let at = now + Duration::from_secs(retries.wait_secs(record.retries));
                Progress::Retrying { at, attempt: record.retries + 1, why }
            }
            (event, _) => Progress::of(event),
        }
    }

    /// A silent device that is back is waited for again. What it tells of its local time is newer than the plan.
    pub(super) fn connected(
        &mut self,
        device: &DeviceId,
        utc_offset_secs: Option<i32>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let record = self.record(device)?;
        record.utc_offset_secs = utc_offset_secs.unwrap_or(record.utc_offset_secs);
        record.heard_at = Some(now);
        if record.progress == Progress::Silent {
            self.advance(device, Progress::Asked { at: now }, None, now);
        }
        Ok(())
    }

    /// A device that goes back to nothing has no release to report about, so its word is enough.
    pub(super) fn confirmed(&mut self, device: &DeviceId, now: Timestamp) -> Result<(), Refusal> {
        self.record(device)?.heard_at = Some(now);
        self.confirm_restoration(device, now);
        Ok(())
    }

    /// A device that came to match later is asked behind all others.
    pub(super) fn join(&mut self, planned: PlannedDevice, now: Timestamp) -> Result<(), Refusal> {
        let late = self.waves.iter().position(|wave| wave.kind == WaveKind::Late);
        let (Some(wave), true) = (late, self.takes_in(&planned.device)) else {
            return Err(Refusal::TakesNoneIn { device: planned.device, rollout: self.spec.id.clone() });
        };
        let place = self.devices.values().map(|record| record.place + 1).max().unwrap_or(0);
        let (device, record) = Record::of(planned, wave, place, now);
        self.blocked.retain(|blocked| blocked.device != device);
        self.announce(Event::DeviceJoined { device: device.clone() });
        self.devices.insert(device, record);
        Ok(())
    }

    /// Moves a device on, if `next` says something new.
    pub(super) fn advance(
        &mut self,
        device: &DeviceId,
        next: Progress,
        at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let Some(record) = self.devices.get_mut(device) else { return };
        let restoring = record.restoration != Restoration::None;
        let gone = matches!(
            next,
            Progress::RolledBack(_)
                | Progress::Rejected(_)
                | Progress::Failed(_)
                | Progress::Superseded { .. }
        );
        // When we took the release away, "superseded" is the answer to that and not an outcome.
        let is_answer = restoring && matches!(next, Progress::Superseded { by: None });
        if record.progress.yields_to(&next) && !is_answer {
            record.progress = next.clone();
            record.since = now;
            record.reported_at = at.or(record.reported_at);
            let failed = next.failure().is_some();
            self.announce(Event::DeviceProgressed { device: device.clone(), progress: next });
            if failed {
                self.restore(device, now);
            }
        }
        if gone {
            self.confirm_restoration(device, now);
        }
    }

    /// Takes the release out of the desired state of a device.
    pub(super) fn restore(&mut self, device: &DeviceId, now: Timestamp) {
        let Some(record) = self.devices.get_mut(device).filter(|record| record.can_restore()) else { return };
        // A device that refused the release or went back from it runs the previous one already, and so does one that was
        // about to be brought back to this very release.
        let back = record.progress.failure().is_some() || record.from.as_ref() == Some(&self.spec.release);
        record.restoration = Restoration::Ordered { at: now };
        let previous = record.from.clone();
        self.effects.push_back(Effect::Restore { device: device.clone(), previous });
        if back {
            self.confirm_restoration(device, now);
        }
    }

    fn confirm_restoration(&mut self, device: &DeviceId, now: Timestamp) {
        let Some(record) = self.devices.get_mut(device) else { return };
        if matches!(record.restoration, Restoration::Ordered { .. }) {
            record.restoration = Restoration::Confirmed { at: now };
            self.announce(Event::DeviceRestored { device: device.clone() });
        }
    }
}
