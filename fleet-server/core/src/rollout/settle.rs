//! What follows from the state and the time: silence, verdicts, the next wave, the end.

use shared::Timestamp;

use super::{
    Cause, Event, FirstFailure, HoldReason, Progress, RESTORE_PATIENCE, Record, Restoration, Rollout, State,
    Verdict, Wakeup, WaveState, gate::Gate,
};
use crate::{
    plan::WaveKind,
    strategy::StopAction,
    verdict::{Degradation, MetricVerdict},
};

impl Rollout {
    /// When to call again with [`Input::Tick`](super::Input::Tick), and for what. Always later than the last turn.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Timestamp, Wakeup)> {
        let silence = || self.silence_due();
        let ask = self.ask_at.map(|at| (at, Wakeup::Ask));
        match &self.state {
            State::Running { wave } => {
                let hold = self.hold_at.map(|at| (at, Wakeup::Quorum));
                earliest([silence(), self.bake_due(*wave), ask, hold])
            }
            State::Watching { .. } => earliest([silence(), ask]),
            State::Paused { .. } | State::AwaitingApproval { .. } => silence(),
            // Who waits to be brought back is next; only then the patience with the others counts.
            State::RollingBack { .. } => {
                ask.or_else(|| Some((self.restore_overdue()?, Wakeup::RestoreOverdue)))
            }
            State::Halted { .. }
            | State::RolledBack { .. }
            | State::Superseded { .. }
            | State::Completed { .. } => None,
        }
    }

    /// Draws the consequences. Ends, because each step either leaves Running or goes to a later wave.
    pub(super) fn settle(&mut self, now: Timestamp) {
        self.mark_silent(now);
        self.judge(now);
        self.hold_at = None;
        while let State::Running { wave } = self.state {
            self.ask_due(wave, now);
            if !self.wave_passes(wave, now) {
                break;
            }
            self.next_wave(wave, now);
        }
        if let State::Watching { .. } = self.state {
            self.ask_due(self.waves.len() - 1, now);
        }
        self.continue_rollback(now);
    }

    /// What the metrics of a wave say now.
    pub(super) fn judged(&mut self, wave: usize, verdict: MetricVerdict) -> Result<(), super::Refusal> {
        if self.compared_wave() != Some(wave) {
            return Err(super::Refusal::NotCompared { wave, rollout: self.spec.id.clone() });
        }
        let known = &mut self.waves[wave].metrics;
        let changed = known.as_ref().map(std::mem::discriminant) != Some(std::mem::discriminant(&verdict));
        *known = Some(verdict.clone());
        if changed && !matches!(verdict, MetricVerdict::Insufficient { .. }) {
            self.announce(Event::WaveJudged { wave, verdict });
        }
        Ok(())
    }

    /// Stops for good; devices stay as they are.
    pub(super) fn halt(&mut self, wave: usize, verdict: Verdict) {
        self.waves[wave].state = WaveState::Stopped;
        self.state = State::Halted { verdict: verdict.clone() };
        self.announce(Event::Halted { verdict });
    }

    /// Takes the release away from every device that was asked, newest first; `settle` goes on with it.
    pub(super) fn roll_back(&mut self, cause: Cause, now: Timestamp) {
        let devices = self.devices.values().filter(|record| record.can_restore()).count();
        self.state = State::RollingBack { cause: cause.clone(), since: now };
        self.paced_at = Timestamp::default();
        self.announce(Event::RollingBack { cause, devices });
        self.restore_due(now);
    }

    fn mark_silent(&mut self, now: Timestamp) {
        if self.active_wave().is_none() {
            return;
        }
        let patience = self.patience();
        let overdue = |record: &Record| {
            record.is_awaited() && record.heard_at.is_some_and(|heard| heard + patience <= now)
        };
        for device in self.in_order(overdue) {
            self.advance(&device, Progress::Silent, None, now);
        }
    }

    /// Stops when a wave has more failures than it bears, its metrics are worse, or its release drifts, in whatever wave that
    /// is.
    fn judge(&mut self, now: Timestamp) {
        let Some(active) = self.active_wave() else { return };
        let Some((wave, verdict)) = (0..=active).find_map(|wave| Some((wave, self.verdict(wave)?))) else {
            return;
        };
        self.halt(wave, verdict.clone());
        // Late devices that fail say nothing against those that have run the release for long.
        let late = self.waves[wave].kind == WaveKind::Late;
        match self.spec.strategy.on_halt {
            StopAction::Rollback if !late => self.roll_back(Cause::Verdict { verdict }, now),
            StopAction::Rollback | StopAction::Halt => {}
        }
    }

    fn verdict(&self, wave: usize) -> Option<Verdict> {
        self.too_many_failures(wave).or_else(|| self.degraded(wave)).or_else(|| self.condemned_by_drift(wave))
    }

    fn degraded(&self, wave: usize) -> Option<Verdict> {
        let degradation: Degradation = match &self.waves[wave].metrics {
            Some(MetricVerdict::Degraded(degradation)) => degradation.clone(),
            _ => return None,
        };
        Some(Verdict::Degraded { wave, degradation })
    }

    fn too_many_failures(&self, wave: usize) -> Option<Verdict> {
        let of = self.records_of(wave).filter(|record| record.heard_at.is_some()).count();
        let limit = self.spec.strategy.max_failed.limit(of);
        let failed = || {
            let ours = self.devices.iter().filter(|(_, record)| record.wave == wave);
            ours.filter_map(|(device, record)| Some((record.since, device, record.progress.failure()?)))
        };
        let count = failed().count();
        if count <= limit {
            return None;
        }
        let (_, device, reason) = failed().min_by_key(|(since, device, _)| (*since, *device))?;
        let first = FirstFailure { device: device.clone(), reason };
        Some(Verdict::TooManyFailures { wave, failed: count, of, limit, first })
    }

    /// Moves the wave to where its gate puts it; true when it lets it pass.
    fn wave_passes(&mut self, wave: usize, now: Timestamp) -> bool {
        match self.gate(wave, now) {
            Gate::Updating => self.waves[wave].state = WaveState::Updating,
            Gate::Quorum(due) => {
                self.waves[wave].state = WaveState::Updating;
                self.hold_at = Some(due);
            }
            Gate::Baking(until) => self.bake(wave, until),
            Gate::Held(why) => self.hold(wave, why, now),
            Gate::Passed => return true,
        }
        false
    }

    fn bake(&mut self, wave: usize, until: Timestamp) {
        let next = WaveState::Baking { until };
        if self.waves[wave].state != next {
            self.waves[wave].state = next;
            self.announce(Event::WaveBaking { wave, until });
        }
    }

    /// The reason may change its figures; people are told of the first and of another kind of reason.
    fn hold(&mut self, wave: usize, why: HoldReason, now: Timestamp) {
        let kind = std::mem::discriminant(&why);
        let (since, is_news) = match &self.waves[wave].state {
            WaveState::Held { since, why: known } => (*since, std::mem::discriminant(known) != kind),
            _ => (now, true),
        };
        self.waves[wave].state = WaveState::Held { since, why: why.clone() };
        if is_news {
            self.announce(Event::WaveHeld { wave, why });
        }
    }

    fn next_wave(&mut self, wave: usize, now: Timestamp) {
        self.waves[wave].state = WaveState::Passed { at: now };
        self.announce(Event::WavePassed { wave });
        match self.waves.get(wave + 1).map(|next| next.kind) {
            Some(WaveKind::Step | WaveKind::Control) => self.begin_wave(wave + 1, now),
            Some(WaveKind::Late) => {
                self.waves[wave + 1].state = WaveState::Updating;
                self.state = State::Watching { since: now };
                self.announce(Event::Completed { counts: self.counts() });
            }
            None => self.end(now),
        }
    }

    /// A rollout that nobody was left to has completed nothing.
    fn end(&mut self, now: Timestamp) {
        let counts = self.counts();
        if counts.superseded < counts.devices {
            self.state = State::Completed { at: now };
            self.announce(Event::Completed { counts });
            return;
        }
        let others = self.devices.values().filter_map(|record| record.hold.other());
        self.state = State::Superseded { at: now, by: others.cloned().collect() };
        self.announce(Event::Superseded { counts });
    }

    fn continue_rollback(&mut self, now: Timestamp) {
        let State::RollingBack { cause, .. } = &self.state else { return };
        let cause = cause.clone();
        self.restore_due(now);
        let overdue = self.restore_overdue().is_none_or(|due| due <= now);
        let outstanding = self.devices.values().any(Record::owes_restoration);
        if self.ask_at.is_none() && (overdue || !outstanding) {
            self.state = State::RolledBack { cause, at: now };
            self.announce(Event::RolledBack { counts: self.counts() });
        }
    }

    /// When devices that were asked to go back are no longer waited for; `None` when nobody was asked.
    fn restore_overdue(&self) -> Option<Timestamp> {
        let ordered = |record: &Record| match record.restoration {
            Restoration::Ordered { at } => Some(at),
            Restoration::None | Restoration::Confirmed { .. } => None,
        };
        Some(self.devices.values().filter_map(ordered).max()? + RESTORE_PATIENCE)
    }

    fn silence_due(&self) -> Option<(Timestamp, Wakeup)> {
        let awaited = self.devices.values().filter(|record| record.is_awaited());
        let heard = awaited.filter_map(|record| record.heard_at).min()?;
        Some((heard + self.patience(), Wakeup::Silence))
    }

    fn bake_due(&self, wave: usize) -> Option<(Timestamp, Wakeup)> {
        match self.waves[wave].state {
            WaveState::Baking { until } => Some((until, Wakeup::BakeOver)),
            _ => None,
        }
    }
}

fn earliest<const N: usize>(all: [Option<(Timestamp, Wakeup)>; N]) -> Option<(Timestamp, Wakeup)> {
    all.into_iter().flatten().min_by_key(|(at, _)| *at)
}
