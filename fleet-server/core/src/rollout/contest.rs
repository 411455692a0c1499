//! Two rollouts of one model never ask one device at a time: the one with the higher rank has it.

use std::collections::BTreeMap;

use shared::{DeviceId, RolloutId};

use super::Rollout;

/// What becomes of the devices that a rollout and others want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contest {
    /// Devices that others have, and keep.
    pub lost: BTreeMap<RolloutId, Vec<DeviceId>>,
    /// Devices that it wants, and that others have or want: those are told to ask nobody of them.
    pub taken: BTreeMap<RolloutId, Vec<DeviceId>>,
}

impl Rollout {
    /// Who has the devices of this rollout, now that it begins or takes a device in. Rollouts that have not begun have none.
    #[must_use]
    pub fn contest<'a>(&self, others: impl Iterator<Item = &'a Self>) -> Contest {
        let mut contest = Contest::default();
        let model = &self.spec.release.model;
        for other in others.filter(|other| other.id() != self.id() && other.spec.release.model == *model) {
            let summary = other.summary();
            let wanted = |device: &&DeviceId| self.claims(device);
            for device in summary.devices.union(&summary.restored).filter(wanted) {
                let stays = other.rank() > self.rank() && summary.devices.contains(device);
                let side = if stays { &mut contest.lost } else { &mut contest.taken };
                side.entry(other.id().clone()).or_default().push(device.clone());
            }
        }
        contest
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        Timestamp,
        report::{DeploymentEvent, FailReason},
    };

    use super::*;
    use crate::{
        fixtures::{fleet, id, planned, release, spec},
        rollout::Input,
        strategy::Strategy,
    };

    fn rollout(name: &str, priority: u8, approve: bool) -> Rollout {
        let mut strategy = Strategy { priority, ..Strategy::default() };
        strategy.waves[0].approve = approve;
        let mut spec = spec("all", strategy.clone());
        spec.id = RolloutId::new(name).unwrap();
        Rollout::start(spec, planned(strategy, &fleet(2)), Timestamp(1_000))
    }

    #[test]
    fn the_higher_rank_has_the_devices() {
        let (weak, strong) = (rollout("r1", 0, false), rollout("r0", 3, false));
        let contest = strong.contest([&weak].into_iter());
        assert_eq!((contest.taken[weak.id()].len(), contest.lost.len()), (2, 0));
        let contest = weak.contest([&strong, &weak].into_iter());
        assert_eq!(contest.lost, [(strong.id().clone(), vec![id("d0"), id("d1")])].into());
    }

    #[test]
    fn a_rollout_that_waits_for_its_first_approval_has_no_devices() {
        let (waiting, other) = (rollout("r2", 9, true), rollout("r1", 0, false));
        assert_eq!(other.contest([&waiting].into_iter()), Contest::default());
        assert!(waiting.summary().devices.is_empty());
        let mut begun = waiting;
        begun.handle(Input::Approve { wave: 0, by: "eve".into() }, Timestamp(2_000)).unwrap();
        assert_eq!(begun.contest([&other].into_iter()).taken[other.id()].len(), 2);
    }

    #[test]
    fn a_device_on_which_a_rollout_in_force_failed_is_not_free_for_a_weaker_one() {
        let (mut strong, weak) = (rollout("r2", 3, false), rollout("r1", 0, true));
        let event = DeploymentEvent::Failed(FailReason::DiskFull { needed_bytes: 10, free_bytes: 5 });
        let (device, release) = (id("d0"), release("digits@2"));
        strong.spec.strategy.max_failed.absolute = 1;
        let report = Input::Report { device, at: Timestamp(1), release, event };
        strong.handle(report, Timestamp(2_000)).unwrap();
        assert_eq!(weak.contest([&strong].into_iter()).lost[strong.id()].len(), 2);
        strong.handle(Input::Halt { by: "ada".into(), reason: "smoke".into() }, Timestamp(3_000)).unwrap();
        assert_eq!(weak.contest([&strong].into_iter()).taken[strong.id()], [id("d0")], "it has stopped");
    }
}
