//! Rules for several rollouts of one model, and for devices that a person wants to be left alone.

use super::{
    Oracle, Violation,
    books::{Account, Dossier, takes_back},
    rollout::broken,
};
use crate::{
    server::{Purpose, Server, Write},
    story::Character,
};

impl Oracle {
    /// Of several rollouts of one model the strongest asks, and nobody goes back to what is taken away.
    pub(super) fn check_rivals(&self, server: &Server, write: &Write) -> Result<(), Violation> {
        let honest = |it: &&Dossier| it.character == Character::Honest;
        let Some(account) = self.rollouts.get(&write.rollout) else { return Ok(()) };
        let Some(dossier) = self.devices.get(&write.device).filter(honest) else { return Ok(()) };
        match write.purpose {
            Purpose::Ask => {
                let stronger = self.rollouts.values().find(|other| wants(other, server, account, write));
                stronger.map_or(Ok(()), |other| {
                    let detail = format!("{} wants it too", other.spec.id);
                    broken("the stronger of two rollouts asks", write, &detail)
                })
            }
            Purpose::Restore => {
                let model = &account.spec.release.model;
                let mut named = write.desired.assignments.iter().map(|named| &named.release);
                let Some(back) = named.find(|release| release.model == *model) else { return Ok(()) };
                let last =
                    dossier.asks.iter().rev().find(|(id, release)| *id != write.rollout && release == back);
                let taken = last.and_then(|(id, _)| server.rollout(id));
                match taken.filter(|rollout| takes_back(rollout.state())) {
                    Some(taken) if !dossier.enrolled_with.contains(back) => {
                        let detail = format!("{} takes {back} away", taken.id());
                        broken("nobody goes back to what is taken away", write, &detail)
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

/// True when a rollout that is stronger than the one that asks is under way and was to ask the device too.
fn wants(other: &Account, server: &Server, asking: &Account, write: &Write) -> bool {
    let (own, theirs) = (&asking.spec, &other.spec);
    let is_stronger = theirs.created_at > own.created_at && theirs.strategy.priority >= own.strategy.priority;
    let is_planned = other.waves.contains_key(&write.device) || other.late.contains(&write.device);
    let is_under_way = |rollout: &fleet_core::Rollout| rollout.has_begun() && rollout.active_wave().is_some();
    theirs.release.model == own.release.model
        && is_stronger
        && is_planned
        && server.rollout(&theirs.id).is_some_and(is_under_way)
}

/// A person can have a device left alone.
pub(super) fn check_is_wanted(server: &Server, account: &Account, write: &Write) -> Result<(), Violation> {
    let Some(row) = server.row(&write.device) else { return Ok(()) };
    if row.quarantined {
        return broken("nobody is asked who is in quarantine", write, "it is");
    }
    match row.pins.get(&account.spec.release.model) {
        Some(version) => broken("nobody is asked who is pinned", write, &format!("to version {version}")),
        None => Ok(()),
    }
}
