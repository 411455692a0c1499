//! Inferences that a version on probation answers, so that the agent's own judge has something to judge.

use agent_core::Input;
use shared::{ReleaseId, telemetry::Counts};

use super::{Job, VirtualDevice};
use crate::nature::Nature;

/// A version without requests is looked at in every so manieth window, in case requests come.
const IDLE_WINDOWS: u32 = 15;

impl VirtualDevice {
    /// Only a candidate is judged, so only a candidate is told of.
    pub(super) fn expect_traffic(&mut self, release: ReleaseId) {
        let idle = self.profile.traffic_per_minute == 0;
        let window = self.profile.tells_every * if idle { IDLE_WINDOWS } else { 1 };
        if self.is_candidate(&release) {
            self.jobs.retain(|_, job| !matches!(job, Job::Traffic(of) if of.model == release.model));
            self.after(window, Job::Traffic(release));
        }
    }

    pub(super) fn answer_requests(&mut self, release: &ReleaseId) {
        if self.serving.get(&release.model) != Some(release) || !self.is_candidate(release) {
            return;
        }
        let inferences = self.inferences();
        let input = match self.nature_of(release) {
            Nature::EatsMemory => {
                let (used_kib, budget_kib) = (2_000_000, 1_000_000);
                Input::MemoryExceeded { release: release.clone(), used_kib, budget_kib }
            }
            nature => {
                let counts = self.counts(nature, inferences);
                Input::Observed { release: release.clone(), counts }
            }
        };
        let _ = self.agent.handle(input, self.device_time());
        self.expect_traffic(release.clone());
    }

    /// The share of a window, rounded by chance so that one request in an hour comes once in an hour.
    fn inferences(&mut self) -> u64 {
        let in_sixty_windows =
            u64::from(self.profile.traffic_per_minute) * self.profile.tells_every.as_secs();
        in_sixty_windows / 60 + u64::from(self.random.below(60) < in_sixty_windows % 60)
    }

    fn counts(&mut self, nature: Nature, inferences: u64) -> Counts {
        let share = |random: &mut crate::random::Random, percent: u32| {
            (0..inferences).filter(|_| random.chance(percent * 10_000)).count() as u64
        };
        match nature {
            Nature::FailsInferences(percent) => {
                let failed = share(&mut self.random, percent);
                Counts { ok: inferences - failed, engine_error: failed, ..Counts::default() }
            }
            Nature::Slow => {
                let slow = share(&mut self.random, 90);
                Counts { ok: inferences, slow, ..Counts::default() }
            }
            _ => Counts { ok: inferences, ..Counts::default() },
        }
    }

    fn is_candidate(&self, release: &ReleaseId) -> bool {
        let record = self.agent.ledger().models.get(&release.model);
        record.and_then(|record| record.candidate.as_ref()).is_some_and(|it| it.installed.release == *release)
    }
}
