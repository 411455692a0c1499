//! Rules for devices, checked after every event that touches one.

use shared::{
    DeviceId, ReleaseId, Timestamp, report::DeploymentEvent, report::RejectReason, report::RollbackReason,
};

use super::{
    Oracle, Violation,
    books::{Dossier, candidates, committed},
};
use crate::device::VirtualDevice;

/// Wakes at one moment after which a device is said to spin.
const MAX_WAKES: u32 = 200;

impl Oracle {
    /// Something happened at a device.
    ///
    /// # Errors
    /// When a rule was broken.
    pub fn look_at_device(&mut self, device: &VirtualDevice) -> Result<(), Violation> {
        let Some(dossier) = self.devices.get_mut(device.id()) else { return Ok(()) };
        let generation = device.agent().ledger().generation;
        if generation < dossier.generation {
            return broken(
                "a lower generation never changes a device",
                device,
                format!("{generation} after {}", dossier.generation),
            );
        }
        check_candidates(dossier, device)?;
        check_committed(dossier, device)?;
        check_condemned(device)?;
        dossier.generation = generation;
        dossier.committed = committed(device);
        dossier.candidates = candidates(device);
        Ok(())
    }

    pub(crate) fn count_wake(&mut self, id: &DeviceId, now: Timestamp) {
        if let Some(dossier) = self.devices.get_mut(id) {
            let (at, wakes) = dossier.wakes;
            dossier.wakes = if at == now { (now, wakes + 1) } else { (now, 1) };
        }
    }

    pub(crate) fn spins(&self, id: &DeviceId) -> Option<Violation> {
        let dossier = self.devices.get(id).filter(|dossier| dossier.wakes.1 > MAX_WAKES)?;
        Some(Violation::new("time goes on", format!("{id} wakes again and again at {}", dossier.wakes.0)))
    }
}

/// A candidate is what its desired state named.
fn check_candidates(dossier: &Dossier, device: &VirtualDevice) -> Result<(), Violation> {
    for record in device.agent().ledger().models.values() {
        let Some(candidate) = &record.candidate else { continue };
        let named = dossier.desired.get(&candidate.generation);
        if !named.is_some_and(|named| named.contains(&candidate.installed.release)) {
            let detail = format!("{} by generation {}", candidate.installed.release, candidate.generation);
            return broken("a device takes only what was asked of it", device, detail);
        }
    }
    Ok(())
}

/// A committed version gives way only to a candidate that is good, or to a desired state without its model.
fn check_committed(dossier: &Dossier, device: &VirtualDevice) -> Result<(), Violation> {
    let now = committed(device);
    for release in now.iter().filter(|release| !dossier.committed.contains(release)) {
        if !dossier.candidates.contains(release) {
            return broken("only a candidate is kept", device, release.to_string());
        }
        if device.nature_of(release).is_bad() {
            let detail = format!("{release}, {:?}", device.nature_of(release));
            return broken("nothing bad is kept", device, detail);
        }
    }
    let kept = |old: &ReleaseId| now.iter().any(|new| new.model == old.model);
    let wanted = dossier.desired.get(&device.agent().ledger().generation);
    for old in dossier.committed.iter().filter(|old| !kept(old)) {
        if wanted.is_none_or(|wanted| wanted.iter().any(|release| release.model == old.model)) {
            return broken("a committed version is always there", device, format!("{old} is gone"));
        }
    }
    Ok(())
}

/// A good version goes back only when the device itself went down with it, or somebody asked for that.
fn check_condemned(device: &VirtualDevice) -> Result<(), Violation> {
    for record in device.agent().ledger().models.values() {
        let Some(bad) = record.last_bad.as_ref().filter(|bad| !device.nature_of(&bad.release).is_bad())
        else {
            continue;
        };
        match &bad.event {
            DeploymentEvent::Rejected(RejectReason::TrialCrashed { .. })
            | DeploymentEvent::RolledBack(RollbackReason::CrashLoop { .. }) => {}
            event => return broken("nothing good is condemned", device, format!("{}: {event}", bad.release)),
        }
    }
    Ok(())
}

fn broken(rule: &'static str, device: &VirtualDevice, detail: String) -> Result<(), Violation> {
    Err(Violation::new(rule, format!("{}: {detail}", device.id())))
}
