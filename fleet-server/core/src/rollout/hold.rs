//! Who has a device. Of several rollouts of one model the strongest asks it, and whoever asked it last speaks for it.
//!
//! | hold | another rollout | here |
//! |---|---|---|
//! | Ours | has nothing to do with it | it is asked, waited for, brought back |
//! | Wanted | began, and will ask it | it is not asked; what it was given is ours to take back |
//! | Taken | asked it since | it counts no more; only if it is given back to our release it is ours again |
//!
//! A rollout that stops lets go of those that it never asked, and one that gives a device back of that one.

use serde::{Deserialize, Deserializer, Serialize};
use shared::{DeviceId, ReleaseId, RolloutId, Timestamp};

use super::{Event, Progress, Record, Refusal, Restoration, Rollout, State};

/// Who has a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Hold {
    /// This rollout.
    #[default]
    Ours,
    /// A stronger one will ask it, and has not yet.
    Wanted {
        /// Which.
        by: RolloutId,
    },
    /// Another one asked it after this one.
    Taken {
        /// Which.
        by: RolloutId,
    },
}

impl Hold {
    /// The rollout that has it, or wants it.
    pub(super) fn other(&self) -> Option<&RolloutId> {
        match self {
            Self::Ours => None,
            Self::Wanted { by } | Self::Taken { by } => Some(by),
        }
    }

    fn of(wanted: Option<RolloutId>) -> Self {
        wanted.map_or(Self::Ours, |by| Self::Wanted { by })
    }
}

/// Reads also what older programs wrote: nothing, or the name of the rollout that took a device over.
pub(super) fn hold_of_any_age<'de, D: Deserializer<'de>>(from: D) -> Result<Hold, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Name(RolloutId),
        Hold(Hold),
    }
    Ok(match Option::<Written>::deserialize(from)? {
        None => Hold::Ours,
        Some(Written::Name(by)) => Hold::Taken { by },
        Some(Written::Hold(hold)) => hold,
    })
}

/// A device that another rollout has let go of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetGo {
    /// Which.
    pub device: DeviceId,
    /// A third rollout, stronger than this one, that still wants it.
    pub wanted_by: Option<RolloutId>,
}

/// A device that can no longer go back to a release, because that is taken away from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FurtherBack {
    /// Which.
    pub device: DeviceId,
    /// What it goes back to instead.
    pub to: Option<ReleaseId>,
}

impl Record {
    /// How far it was before others had it.
    pub(super) fn own_progress(&self) -> &Progress {
        self.before.as_ref().unwrap_or(&self.progress)
    }

    /// True when its desired state ever named the release because of this rollout.
    pub(super) fn was_asked(&self) -> bool {
        match self.own_progress() {
            Progress::Waiting | Progress::Superseded { by: None } => false,
            Progress::Superseded { by: Some(_) } => matches!(self.hold, Hold::Taken { .. }),
            _ => true,
        }
    }

    /// True when its desired state is ours to take back.
    pub(super) fn can_restore(&self) -> bool {
        self.restoration == Restoration::None
            && !matches!(self.hold, Hold::Taken { .. })
            && !matches!(self.own_progress(), Progress::Waiting | Progress::Superseded { .. })
    }

    /// True when another rollout that gives it back to our release gives it back to us.
    pub(super) fn can_return(&self) -> bool {
        matches!(self.hold, Hold::Taken { .. }) && self.restoration == Restoration::None && self.was_asked()
    }

    /// Whoever waits to be asked waits no more, and is remembered as one who did.
    pub(super) fn step_aside(&mut self, by: Option<RolloutId>, now: Timestamp) -> bool {
        let next = Progress::Superseded { by };
        if self.progress == next {
            return false;
        }
        if self.progress.is_pending() {
            self.before = Some(self.progress.clone());
        }
        self.progress = next;
        self.since = now;
        true
    }
}

impl Rollout {
    /// A stronger rollout begins: who waits to be asked here is not asked meanwhile.
    pub(super) fn claimed(
        &mut self,
        devices: &[DeviceId],
        by: &RolloutId,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.check_all(devices)?;
        for device in devices {
            let record = self.record(device)?;
            if matches!(record.hold, Hold::Taken { .. }) {
                continue;
            }
            record.hold = Hold::Wanted { by: by.clone() };
            let waits = record.own_progress().is_pending() && !record.withdrawn;
            if waits && record.step_aside(Some(by.clone()), now) {
                self.tell_progress(device);
            }
        }
        Ok(())
    }

    /// Another rollout has asked them: it writes their desired states, so there is nothing to restore here.
    pub(super) fn supersede_all(
        &mut self,
        devices: &[DeviceId],
        by: &RolloutId,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.check_all(devices)?;
        for device in devices {
            let record = self.record(device)?;
            if matches!(record.hold, Hold::Taken { .. }) {
                continue;
            }
            record.hold = Hold::Taken { by: by.clone() };
            // What became of one from which the release was taken stands, but it is not ours to ask again.
            let stands = record.restoration != Restoration::None && !record.progress.is_pending();
            if !stands && record.step_aside(Some(by.clone()), now) {
                self.tell_progress(device);
            }
        }
        Ok(())
    }

    /// Another rollout will not ask them, or has given them back: who waited here waits again, if anybody is still asked.
    pub(super) fn let_go(&mut self, devices: Vec<LetGo>, now: Timestamp) -> Result<(), Refusal> {
        let is_active = self.active_wave().is_some();
        for LetGo { device, wanted_by } in devices {
            let record = self.record(&device)?;
            let is_gone = record.before.is_none() && record.restoration == Restoration::None;
            if record.hold == Hold::Ours || (is_gone && matches!(record.hold, Hold::Taken { .. })) {
                continue;
            }
            record.hold = Hold::of(wanted_by.clone());
            if record.withdrawn || !is_active {
                continue;
            }
            match (wanted_by, record.before.take()) {
                (None, Some(before)) => {
                    (record.progress, record.since) = (before, now);
                    self.announce(Event::DeviceReturned { device });
                }
                (Some(by), Some(before)) => {
                    (record.progress, record.before) = (Progress::Superseded { by: Some(by) }, Some(before));
                }
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Another rollout has given them back to our release: they have been asked for it anew, and answer.
    pub(super) fn given_back(&mut self, devices: Vec<LetGo>, now: Timestamp) -> Result<(), Refusal> {
        for LetGo { device, wanted_by } in devices {
            let record = self.record(&device)?;
            if !record.can_return() {
                continue;
            }
            record.hold = Hold::of(wanted_by);
            record.before = None;
            record.progress = Progress::Asked { at: now };
            record.since = now;
            record.heard_at = record.heard_at.map(|_| now);
            self.announce(Event::DeviceReturned { device: device.clone() });
            if let State::RolledBack { .. } = self.state {
                self.restore(&device, now);
            }
        }
        Ok(())
    }

    /// What they were to go back to is taken away from them.
    pub(super) fn go_further_back(
        &mut self,
        release: &ReleaseId,
        devices: Vec<FurtherBack>,
    ) -> Result<(), Refusal> {
        for FurtherBack { device, to } in devices {
            let record = self.record(&device)?;
            if record.from.as_ref() == Some(release) {
                record.from = to;
            }
        }
        Ok(())
    }

    fn check_all(&self, devices: &[DeviceId]) -> Result<(), Refusal> {
        match devices.iter().find(|device| !self.includes(device)) {
            Some(device) => {
                Err(Refusal::NotInRollout { device: device.clone(), rollout: self.spec.id.clone() })
            }
            None => Ok(()),
        }
    }

    pub(super) fn tell_progress(&mut self, device: &DeviceId) {
        let Some(record) = self.devices.get(device) else { return };
        let progress = record.progress.clone();
        self.announce(Event::DeviceProgressed { device: device.clone(), progress });
    }
}
