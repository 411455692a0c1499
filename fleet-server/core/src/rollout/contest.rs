//! Two rollouts of one model never ask one device at a time: the one with the higher rank has it.

use shared::{DeviceId, RolloutId};

use super::Rollout;
use crate::plan::Superseding;

/// What becomes of the devices that a rollout and others want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contest {
    /// Devices that others have, and keep.
    pub lost: Vec<(DeviceId, RolloutId)>,
    /// Devices that it takes from others, which must be told.
    pub taken: Vec<Superseding>,
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
            for device in summary.devices.iter().chain(&summary.restored).filter(wanted) {
                if other.rank() > self.rank() && summary.devices.contains(device) {
                    contest.lost.push((device.clone(), other.id().clone()));
                } else {
                    contest.taken.push(Superseding { rollout: other.id().clone(), device: device.clone() });
                }
            }
        }
        contest
    }
}

#[cfg(test)]
mod tests {
    use shared::Timestamp;

    use super::*;
    use crate::{
        fixtures::{fleet, id, planned, spec},
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
        assert_eq!((contest.taken.len(), contest.lost.len()), (2, 0));
        let contest = weak.contest([&strong, &weak].into_iter());
        assert_eq!(contest.lost, [(id("d0"), strong.id().clone()), (id("d1"), strong.id().clone())]);
    }

    #[test]
    fn a_rollout_that_waits_for_its_first_approval_has_no_devices() {
        let (waiting, other) = (rollout("r2", 9, true), rollout("r1", 0, false));
        assert_eq!(other.contest([&waiting].into_iter()), Contest::default());
        assert!(waiting.summary().devices.is_empty());
        let mut begun = waiting;
        begun.handle(Input::Approve { wave: 0, by: "eve".into() }, Timestamp(2_000)).unwrap();
        assert_eq!(begun.contest([&other].into_iter()).taken.len(), 2);
    }
}
