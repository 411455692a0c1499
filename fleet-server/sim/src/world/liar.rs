//! A device that reports whatever it likes. Its key is its own, so it can lie about nobody else.

use shared::{
    BootId, DeviceId, Generation, ReleaseId,
    report::{DeploymentEvent, FailReason, RejectReason, Report, RollbackReason, TrialFigures},
};

use super::{Happening, World};
use crate::{random::Random, transcript::Detail, wire::Up};

impl World {
    pub(super) fn lie(&mut self, id: &DeviceId) {
        if self.story.calm.is_some_and(|calm| self.now >= calm.on_clock()) {
            return;
        }
        self.after_secs(60, 1_800, Happening::Lie(id.clone()));
        let generation = self.server.row(id).map_or(0, |row| row.desired.generation.0);
        let releases: Vec<ReleaseId> = self.story.releases.iter().map(|it| it.release.clone()).collect();
        let Some(inhabitant) = self.fleet.get_mut(id).filter(|it| it.link.up) else { return };
        inhabitant.lies += 1;
        let sequence = inhabitant.lies;
        let Some(release) = self.random.pick(&releases).cloned() else { return };
        let report = Report {
            device: id.clone(),
            boot: BootId::new(if self.random.chance(800_000) { "lies" } else { "boot0" }).expect("a name"),
            sequence,
            at: shared::Timestamp(self.random.below(self.now.as_millis() * 2)),
            generation: Generation(self.random.below(generation + 3)),
            release,
            event: any_event(&mut self.random),
        };
        self.note(Detail::Everything, || {
            format!("{id} lies: generation {}, {}: {}", report.generation, report.release, report.event)
        });
        self.send_up(id, Up::Report(report));
    }
}

fn any_event(random: &mut Random) -> DeploymentEvent {
    match random.below(9) {
        0 => DeploymentEvent::Transferring { size_bytes: 1, resumed_bytes: 0 },
        1 => DeploymentEvent::Staged { fetched_bytes: 1 },
        2 => DeploymentEvent::SelfTested(TrialFigures::default()),
        3 => DeploymentEvent::Probation,
        4 | 5 => DeploymentEvent::Committed { inferences: 1_000_000, failures: 0 },
        6 => DeploymentEvent::Rejected(RejectReason::Incompatible { detail: "a lie".into() }),
        7 => DeploymentEvent::Failed(FailReason::Network { detail: "a lie".into() }),
        _ if random.chance(500_000) => DeploymentEvent::RolledBack(RollbackReason::CrashLoop { starts: 3 }),
        _ => DeploymentEvent::Superseded,
    }
}
