//! What people ask of a rollout. An order that does not fit the state is refused.

use std::collections::BTreeSet;

use shared::{DeviceId, Timestamp};

use super::{Cause, Event, Hold, Progress, Refusal, Rollout, State, Verdict, WaveState};
use crate::plan::WaveKind;

impl Rollout {
    pub(super) fn pause(&mut self, by: String) -> Result<(), Refusal> {
        let (State::Running { .. } | State::Watching { .. }, Some(wave)) = (&self.state, self.active_wave())
        else {
            return Err(self.wrong_state("pause"));
        };
        self.state = State::Paused { by: by.clone(), wave };
        self.announce(Event::Paused { by });
        Ok(())
    }

    pub(super) fn resume(&mut self, by: String, now: Timestamp) -> Result<(), Refusal> {
        let State::Paused { wave, .. } = self.state else { return Err(self.wrong_state("resume")) };
        self.state = match self.waves[wave].kind {
            WaveKind::Late => State::Watching { since: now },
            WaveKind::Step | WaveKind::Control => State::Running { wave },
        };
        self.announce(Event::Resumed { by });
        Ok(())
    }

    pub(super) fn approve(&mut self, wave: usize, by: String, now: Timestamp) -> Result<(), Refusal> {
        let State::AwaitingApproval { wave: active, .. } = self.state else {
            return Err(self.wrong_state("approve"));
        };
        self.same_wave("approve", wave, active)?;
        if by == self.spec.author {
            return Err(Refusal::AuthorApproves { by, rollout: self.spec.id.clone() });
        }
        self.waves[wave].approved_by = Some(by.clone());
        self.announce(Event::Approved { wave, by });
        self.begin_wave(wave, now);
        Ok(())
    }

    pub(super) fn promote(&mut self, wave: usize, by: String) -> Result<(), Refusal> {
        let State::Running { wave: active } = self.state else { return Err(self.wrong_state("promote")) };
        self.same_wave("promote", wave, active)?;
        self.waves[wave].promoted_by = Some(by.clone());
        self.announce(Event::Promoted { wave, by });
        Ok(())
    }

    fn same_wave(&self, order: &'static str, wave: usize, active: usize) -> Result<(), Refusal> {
        if wave == active {
            return Ok(());
        }
        Err(Refusal::OtherWave { order, wave, active, rollout: self.spec.id.clone() })
    }

    /// Also a complete rollout goes on with those whom it did not reach.
    pub(super) fn retry(&mut self, by: String, now: Timestamp) -> Result<(), Refusal> {
        let last = self.waves.iter().rposition(|wave| wave.kind != WaveKind::Late);
        let mut wave = match self.state {
            State::Running { wave } => wave,
            State::Watching { .. } | State::Completed { .. } | State::Superseded { .. } => last.unwrap_or(0),
            _ => return Err(self.wrong_state("retry")),
        };
        let was_over = !matches!(self.state, State::Running { .. });
        let (mut devices, mut touched) = (0, BTreeSet::new());
        for record in self.devices.values_mut() {
            let why = match &record.progress {
                Progress::Silent => Some("it fell silent".to_owned()),
                other => other.failure(),
            };
            if let Some(why) = why.filter(|_| record.hold == Hold::Ours && !record.withdrawn) {
                // A person's order does not use up the tries that the strategy allows.
                record.progress = Progress::Retrying { at: now, attempt: record.retries, why };
                record.since = now;
                devices += 1;
                // A rollout that was over goes on where the first of them is, or nobody would wait for them.
                wave = if was_over { wave.min(record.wave) } else { wave };
                touched.insert(record.wave);
            }
        }
        if devices == 0 {
            return Err(Refusal::NothingToRetry { rollout: self.spec.id.clone() });
        }
        self.announce(Event::Retried { by, devices });
        self.state = State::Running { wave };
        self.waves[wave].state = WaveState::Updating;
        // A drift that is still there is held against them too.
        self.heard_alarms.clear();
        // What let their waves pass before says nothing of those who are asked now, and those that they were compared with
        // may run the release by now.
        for of in touched {
            let of = &mut self.waves[of];
            of.settled_at = None;
            // A drift alarm that a person let pass has been answered.
            if of.promoted_by.take().is_some() || was_over {
                of.drift = None;
            }
            if was_over {
                (of.compared, of.metrics) = (false, None);
            }
        }
        Ok(())
    }

    pub(super) fn stop_by_order(&mut self, by: String, reason: String) -> Result<(), Refusal> {
        let Some(wave) = self.active_wave() else { return Err(self.wrong_state("halt")) };
        self.halt(wave, Verdict::Ordered { by, reason });
        Ok(())
    }

    pub(super) fn roll_back_by_order(&mut self, by: String, now: Timestamp) -> Result<(), Refusal> {
        if let State::RollingBack { .. } | State::RolledBack { .. } = self.state {
            return Err(self.wrong_state("roll back"));
        }
        if let Some(wave) = self.active_wave() {
            self.waves[wave].state = WaveState::Stopped;
        }
        self.roll_back(Cause::Person { name: by }, now);
        Ok(())
    }

    /// Whoever waits to be asked is not asked any more; what was asked for already stands.
    pub(super) fn withdraw(&mut self, device: &DeviceId, now: Timestamp) -> Result<(), Refusal> {
        let record = self.record(device)?;
        record.withdrawn = true;
        if record.own_progress().is_pending() && record.step_aside(None, now) {
            self.tell_progress(device);
        }
        Ok(())
    }
}
