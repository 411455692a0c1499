//! Whether a wave passes: who has settled, how many were seen, fell silent and keep the release, how long it was watched,
//! and what its metrics say.
//!
//! Devices that were never seen hold nothing up once a quorum was seen; those that belong to another rollout by now do not
//! count at all. Silence, too few commits and metrics that say nothing hold a wave, and drift does if the strategy wants that;
//! only failures, degraded metrics and drift stop the rollout (`settle.rs`).

use std::time::Duration;

use shared::Timestamp;

use super::{Counts, HoldReason, Progress, Record, Rollout, ask::STEP};
use crate::{plan::WaveKind, verdict::MetricVerdict};

/// What the gate says of a wave.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Gate {
    /// Devices are asked or have not settled.
    Updating,
    /// Too few have been seen, but they have time until then.
    Quorum(Timestamp),
    /// All have settled; it is watched until then.
    Baking(Timestamp),
    /// Something is missing.
    Held(HoldReason),
    /// It is done.
    Passed,
}

impl Rollout {
    pub(super) fn gate(&mut self, wave: usize, now: Timestamp) -> Gate {
        // Before it is asked who is under way: who is not asked because of it must not be waited for without a word.
        if let Some(alarm) = self.holding_alarm(wave) {
            return Gate::Held(HoldReason::Drifted { alarm: alarm.clone() });
        }
        let under_way = |record: &Record| record.progress.is_pending() || record.is_awaited();
        let is_under_way = self.records_of(wave).any(under_way);
        // Behind the last wave nobody would be asked or waited for, so not even a person's word lets it pass before.
        let is_last = self.waves.get(wave + 1).is_none_or(|next| next.kind == WaveKind::Late);
        let is_left = |record: &Record| record.wave <= wave && under_way(record);
        if is_last && self.devices.values().any(is_left) {
            return Gate::Updating;
        }
        // Nor does a rollout end in the moment in which it asks somebody, even one that was never seen.
        let just_asked = |record: &Record| record.progress == Progress::Asked { at: now };
        let asks_now = is_last && self.devices.values().any(just_asked);
        match self.gate_of_outcomes(wave, is_under_way, now) {
            Gate::Passed if asks_now => Gate::Quorum(now + STEP),
            gate => gate,
        }
    }

    fn gate_of_outcomes(&mut self, wave: usize, is_under_way: bool, now: Timestamp) -> Gate {
        if self.waves[wave].promoted_by.is_some() {
            return Gate::Passed;
        }
        if is_under_way {
            return Gate::Updating;
        }
        match self.shortfall(wave) {
            Some(why @ HoldReason::TooFewSeen { .. }) => {
                let due = self.waves[wave].started_at.unwrap_or(self.started_at) + self.patience();
                if now < due { Gate::Quorum(due) } else { Gate::Held(why) }
            }
            Some(why) => Gate::Held(why),
            None => self.watched(wave, now),
        }
    }

    /// How long a reachable device may say nothing.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.spec.strategy.silent_after_secs)
    }

    /// What the outcomes of the devices lack.
    fn shortfall(&self, wave: usize) -> Option<HoldReason> {
        let strategy = &self.spec.strategy;
        let counts = Counts::of(self.records_of(wave));
        let of = counts.devices - counts.superseded;
        if of == 0 {
            return None;
        }
        let members = self.records_of(wave).filter(|record| !record.progress.is_superseded());
        let seen = members.filter(|record| record.heard_at.is_some()).count();
        let needed = of.saturating_mul(strategy.quorum_percent as usize).div_ceil(100).max(1);
        if seen < needed {
            return Some(HoldReason::TooFewSeen { seen, of, needed });
        }
        let limit = seen.saturating_mul(strategy.max_silent_percent as usize) / 100;
        if counts.silent > limit {
            return Some(HoldReason::TooManySilent { silent: counts.silent, of: seen, limit });
        }
        let reachable = seen - counts.silent;
        let needed = reachable.saturating_sub(strategy.max_failed.limit(seen)).max(1);
        let committed = counts.committed;
        (committed < needed).then_some(HoldReason::TooFewCommitted { committed, of: reachable, needed })
    }

    /// The bake time, and the metrics.
    fn watched(&mut self, wave: usize, now: Timestamp) -> Gate {
        let of = &mut self.waves[wave];
        let since = *of.settled_at.get_or_insert(now);
        let until = since + Duration::from_secs(of.bake_time_secs);
        let Some(gate) = self.spec.strategy.metrics.as_ref().filter(|_| of.compared) else {
            return if until <= now { Gate::Passed } else { Gate::Baking(until) };
        };
        let healthy = matches!(of.metrics, Some(MetricVerdict::Healthy { .. }));
        if healthy && (gate.promote_early || until <= now) {
            return Gate::Passed;
        }
        let last = until.max(since + Duration::from_secs(gate.max_bake_secs));
        match &of.metrics {
            _ if now < until => Gate::Baking(until),
            _ if now < last => Gate::Baking(last),
            Some(MetricVerdict::Insufficient { gaps }) => {
                Gate::Held(HoldReason::Insufficient { gaps: gaps.clone() })
            }
            // Degraded metrics have stopped the rollout before anybody asks the gate.
            Some(_) | None => Gate::Held(HoldReason::Insufficient { gaps: vec![] }),
        }
    }
}
