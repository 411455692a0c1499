//! What must have come to pass when faults have ceased for long enough.

use fleet_core::{Progress, Restoration, Rollout, RolloutStatus, State, WaveState};
use shared::{ReleaseId, report::DeploymentEvent};

use super::{
    Oracle, Violation,
    books::{candidates, committed},
};
use crate::{
    device::VirtualDevice,
    server::{Row, Server},
    story::Character,
};

impl Oracle {
    /// The story is over. Of each device the world tells whether it can be reached.
    ///
    /// # Errors
    /// When something did not come to pass.
    pub fn check_end<'a>(
        &self,
        server: &Server,
        fleet: impl Iterator<Item = (&'a VirtualDevice, bool)>,
    ) -> Result<(), Violation> {
        let honest = |id| self.devices.get(id).is_some_and(|it| it.character == Character::Honest);
        let fleet: Vec<_> =
            fleet.filter(|(device, reachable)| *reachable && honest(device.id())).map(|it| it.0).collect();
        for rollout in server.rollouts() {
            check_has_ended(rollout)?;
        }
        for device in &fleet {
            let Some(row) = server.row(device.id()) else { continue };
            check_follows(device, row)?;
            check_serves(device)?;
            for rollout in server.rollouts() {
                self.check_truth(rollout, device)?;
            }
            self.check_nobody_left(server, device)?;
        }
        Ok(())
    }

    /// The books of a rollout say what the device has.
    fn check_truth(&self, rollout: &Rollout, device: &VirtualDevice) -> Result<(), Violation> {
        let status = rollout.status();
        let Some(told) = status.devices.iter().find(|told| told.device == *device.id()) else {
            return Ok(());
        };
        let speaks = told.restoration == Restoration::None
            && !matches!(told.progress, Progress::Superseded { .. } | Progress::Waiting);
        if !speaks {
            return Ok(());
        }
        let has = committed(device).contains(&status.release);
        let says = matches!(told.progress, Progress::Committed { .. });
        if has == says {
            return Ok(());
        }
        let detail = format!(
            "{}: {} stands as {:?} and keeps {:?}",
            status.id,
            told.device,
            told.progress,
            committed(device)
        );
        Err(Violation::new("the books agree with the devices", detail))
    }

    /// Nobody has a release that was rolled back, unless somebody asked for it again.
    fn check_nobody_left(&self, server: &Server, device: &VirtualDevice) -> Result<(), Violation> {
        let Some(dossier) = self.devices.get(device.id()) else { return Ok(()) };
        let rolled_back = |rollout: &&Rollout| matches!(rollout.state(), State::RolledBack { .. });
        for rollout in server.rollouts().filter(rolled_back) {
            let release = &rollout.spec().release;
            let asked = self.rollouts.get(rollout.id()).is_some_and(|it| it.asked.contains_key(device.id()));
            let has = committed(device).contains(release) || candidates(device).contains(release);
            let shall = dossier.in_force(server, &release.model);
            let could_not = shall.is_some_and(|shall| has_said_why_not(device, shall));
            if asked && has && shall != Some(release) && !could_not {
                let detail = format!("{} has {release}, which {} rolled back", device.id(), rollout.id());
                return Err(Violation::new("a rolled back release is left nowhere", detail));
            }
        }
        Ok(())
    }
}

fn check_has_ended(rollout: &Rollout) -> Result<(), Violation> {
    let status = rollout.status();
    match &status.state {
        State::Completed { .. }
        | State::Superseded { .. }
        | State::Watching { .. }
        | State::RolledBack { .. }
        | State::Halted { .. }
        | State::Paused { .. }
        | State::AwaitingApproval { .. } => Ok(()),
        State::RollingBack { .. } => not_ended(&status, "it rolls back for ever"),
        State::Running { wave } => match &status.waves[*wave].state {
            WaveState::Held { .. } => Ok(()),
            _ if waits_for_its_time(rollout, &status) => Ok(()),
            other => not_ended(&status, &format!("its wave is {other:?}")),
        },
    }
}

/// Somebody is asked when a window opens or a freeze ends.
fn waits_for_its_time(rollout: &Rollout, status: &RolloutStatus) -> bool {
    let pending = status.devices.iter().any(|device| device.progress.is_pending());
    let timed = rollout.spec().strategy.windows.is_some() || !rollout.freezes().is_empty();
    pending && timed && rollout.poll_timeout().is_some()
}

fn not_ended(status: &RolloutStatus, why: &str) -> Result<(), Violation> {
    let detail = format!("{} is {}: {why}; {:?}", status.id, status.state.word(), status.counts);
    Err(Violation::new("a rollout ends, or says what it waits for", detail))
}

/// It knows its newest desired state and has done what that says, or has said why not.
fn check_follows(device: &VirtualDevice, row: &Row) -> Result<(), Violation> {
    let ledger = device.agent().ledger();
    let of = |detail: String| Err(Violation::new("a device follows its desired state", detail));
    let id = device.id();
    if ledger.generation != row.desired.generation && row.desired.generation.0 > 0 {
        return of(format!("{id} knows generation {} of {}", ledger.generation, row.desired.generation));
    }
    if row.seen != row.desired.generation {
        return of(format!("the server thinks that {id} knows {} of {}", row.seen, row.desired.generation));
    }
    if ledger.outbox.waiting().next().is_some() {
        return of(format!("{id} still has reports to send"));
    }
    for named in &row.desired.assignments {
        let keeps = committed(device).contains(&named.release);
        let tries = candidates(device).contains(&named.release);
        if !keeps && !tries && !has_said_why_not(device, &named.release) {
            return of(format!("{id} neither keeps {} nor says why not", named.release));
        }
    }
    Ok(())
}

/// Its last word on a model is that it could not take this release.
fn has_said_why_not(device: &VirtualDevice, release: &ReleaseId) -> bool {
    let record = device.agent().ledger().models.get(&release.model);
    record.and_then(|record| record.last.as_ref()).is_some_and(|last| {
        last.release == *release && !matches!(last.event, DeploymentEvent::Committed { .. })
    })
}

/// Requests reach what it keeps, or what it tries.
fn check_serves(device: &VirtualDevice) -> Result<(), Violation> {
    for release in committed(device) {
        let serves = device.serves(&release.model);
        let tries = candidates(device);
        if serves != Some(&release) && !serves.is_some_and(|serves| tries.contains(serves)) {
            let detail = format!("{} keeps {release} and serves {serves:?}", device.id());
            return Err(Violation::new("a committed version answers", detail));
        }
    }
    Ok(())
}
