//! Drift alarms, as `fleet-server/src/rollouts/drift.rs` passes them on.

use fleet_core::{DriftAlarm, Input};
use muster_sketch::detector::{Direction, Scope, ScoreName, Sign};
use shared::{ReleaseId, Timestamp};

use super::{Flaw, Server};

impl Server {
    /// The check of the server finds that a release drifts; every rollout of it hears of that.
    pub fn raise_alarm(
        &mut self,
        release: &ReleaseId,
        feature: String,
        scope: Scope,
        others: usize,
        now: Timestamp,
    ) {
        self.alarms += 1;
        let alarm = DriftAlarm {
            number: self.alarms,
            feature,
            scope,
            direction: Direction { score: ScoreName::Location, sign: Sign::Up },
            shift: 0.4,
            evidence: 3e6,
            threshold: 1e6,
            devices: self.rows.len().saturating_sub(others),
            others,
            uncounted: false,
            at: now,
        };
        self.raised.push((release.clone(), alarm.clone()));
        if self.flaw != Some(Flaw::ForgetsDrift) {
            let concerned = self.entries.iter().filter(|(_, entry)| entry.release() == release);
            let ids: Vec<_> = concerned.map(|(id, _)| id.clone()).collect();
            for id in ids {
                self.input(&id, Input::Drifted { alarm: alarm.clone() }, now);
            }
        }
        self.finish();
    }
}
