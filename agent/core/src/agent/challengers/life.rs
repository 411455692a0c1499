//! The life of a challenger after every turn: hold it, or let it go on.

use std::time::Duration;

use shared::{ModelName, Timestamp};

use super::super::{Agent, Model};
use crate::{
    challenger::{Activity, ChallengePhase, Room},
    deployment::{Announcement, Deployment, Transferring},
    port::{Effect, Wakeup},
    serving::Runner,
};

/// A process that lived this long is not in a loop of crashes: its starts are forgiven.
const STABLE: Duration = Duration::from_secs(600);

impl Agent {
    /// Holds every challenger that is in the way of something, and lets the others go on.
    pub(in crate::agent) fn advance_challengers(&mut self) {
        self.hold_challengers();
        let names: Vec<ModelName> = self.ledger.challengers.by_model.keys().cloned().collect();
        for name in names {
            if self.right_of_way(&name).is_none() {
                self.forgive(&name);
                self.go_on(&name);
            }
        }
    }

    /// Holds every challenger that is in the way of something; before anything is loaded, since what they hold is
    /// free only after they have ended.
    pub(in crate::agent) fn hold_challengers(&mut self) {
        let names: Vec<ModelName> = self.ledger.challengers.by_model.keys().cloned().collect();
        for name in names {
            self.end_if_due(&name);
            if self.right_of_way(&name).is_some() {
                self.hold(&name);
            }
        }
    }

    /// What a challenger of `name` has to let pass, in words. Everything that installs or brings back a model does, of
    /// whatever model: a device has one link, one disk and one memory.
    pub(in crate::agent) fn right_of_way(&self, name: &ModelName) -> Option<&'static str> {
        if self.ledger.orders.quarantine.is_some() {
            return Some("the device is in quarantine and takes nothing new");
        }
        if self.models.values().any(is_under_way) {
            return Some("a deployment or a repair has the right of way");
        }
        let champion = self.models.get(name).and_then(|model| model.committed.as_ref());
        let answers = champion.is_some_and(|champion| {
            matches!(self.serving.runner, Runner::Ready { .. })
                && self.serving.is_loaded(&champion.release)
                && self.serving.active.get(name) == Some(&champion.release)
        });
        if answers { None } else { Some("its champion does not answer") }
    }

    /// Stops what it does, as if that had never begun: what was counted for it is given back.
    pub(super) fn hold(&mut self, name: &ModelName) {
        let now = self.now;
        let Some(live) = self.challengers.get_mut(name) else { return };
        if matches!(live.activity, Activity::Resting { .. }) {
            return;
        }
        let stopped = std::mem::replace(&mut live.activity, Activity::resting(now));
        let Some(challenge) = self.ledger.challengers.by_model.get(name) else { return };
        let release = challenge.installed.release.clone();
        match stopped {
            Activity::Resting { .. } | Activity::Transferring(_) => return,
            Activity::SelfTesting => self.effects.push_back(Effect::CancelTrial { release }),
            Activity::Starting | Activity::Running { .. } => {
                self.effects.push_back(Effect::StopChallenger { release });
            }
        }
        self.give_back_challenger(name);
    }

    /// The agent ends in order: what is alive has taken nothing down.
    pub(in crate::agent) fn stop_challengers(&mut self) {
        let busy = self.challengers.iter().filter(|(_, live)| {
            matches!(live.activity, Activity::SelfTesting | Activity::Starting | Activity::Running { .. })
        });
        for name in busy.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.give_back_challenger(&name);
        }
    }

    pub(super) fn give_back_challenger(&mut self, name: &ModelName) {
        let Some(challenge) = self.ledger.change().challengers.by_model.get_mut(name) else { return };
        match &mut challenge.phase {
            ChallengePhase::SelfTesting { trials: count } | ChallengePhase::Tested { starts: count } => {
                *count = count.saturating_sub(1);
            }
            ChallengePhase::Transferring | ChallengePhase::Over { .. } => {}
        }
    }

    pub(super) fn set_challenge_phase(&mut self, name: &ModelName, phase: ChallengePhase) {
        if let Some(challenge) = self.ledger.change().challengers.by_model.get_mut(name) {
            challenge.phase = phase;
        }
    }

    /// When a challenger wants to be looked at again.
    pub(in crate::agent) fn challenger_timers(&self) -> impl Iterator<Item = (Timestamp, Wakeup)> {
        self.ledger.challengers.by_model.iter().filter(|(_, challenge)| !challenge.is_over()).flat_map(
            |(name, challenge)| {
                let activity = self.challengers.get(name).and_then(|live| match &live.activity {
                    Activity::Resting { until, .. } => {
                        let waits =
                            *until > self.now && live.manifest.is_some() && self.right_of_way(name).is_none();
                        waits.then_some(*until)
                    }
                    Activity::Transferring(transferring) => transferring.transfer.timer(),
                    Activity::Running { since } if self.starts_of(name) > 0 => Some(*since + STABLE),
                    Activity::SelfTesting | Activity::Starting | Activity::Running { .. } => None,
                });
                let wake = |at| (at, Wakeup::Challenger(name.clone()));
                challenge.terms.until.into_iter().chain(activity).map(wake)
            },
        )
    }

    fn end_if_due(&mut self, name: &ModelName) {
        let Some(challenge) = self.ledger.challengers.by_model.get(name) else { return };
        if challenge.is_over() {
            return;
        }
        let release = &challenge.installed.release;
        let record = self.ledger.models.get(name);
        let committed = record.and_then(|record| record.committed.as_ref());
        let candidate = record.and_then(|record| record.candidate.as_ref()).map(|c| &c.installed);
        if committed.into_iter().chain(candidate).any(|installed| installed.release == *release) {
            return self.give_up_challenger(name, "it is what the device shall run".into());
        }
        if challenge.terms.until.is_some_and(|until| until <= self.now) {
            self.give_up_challenger(name, "its time is over".into());
        }
    }

    fn forgive(&mut self, name: &ModelName) {
        let now = self.now;
        let Some(live) = self.challengers.get_mut(name) else { return };
        if matches!(live.activity, Activity::Running { since } if now.since(since) >= STABLE) {
            live.failures = 0;
            if self.starts_of(name) > 0 {
                self.set_challenge_phase(name, ChallengePhase::Tested { starts: 0 });
            }
        }
    }

    fn starts_of(&self, name: &ModelName) -> u32 {
        match self.ledger.challengers.by_model.get(name).map(|challenge| &challenge.phase) {
            Some(ChallengePhase::Tested { starts }) => *starts,
            Some(
                ChallengePhase::Transferring
                | ChallengePhase::SelfTesting { .. }
                | ChallengePhase::Over { .. },
            )
            | None => 0,
        }
    }

    fn go_on(&mut self, name: &ModelName) {
        let (now, busy) = (self.now, self.tests_a_challenger());
        let Some(live) = self.challengers.get_mut(name) else { return };
        let Activity::Resting { until, .. } = &live.activity else { return };
        let Some(manifest) = live.manifest.clone().filter(|_| *until <= now) else { return };
        let Some(challenge) = self.ledger.challengers.by_model.get(name) else { return };
        let max = manifest.probation.max_starts;
        let release = challenge.installed.release.clone();
        match challenge.phase {
            ChallengePhase::Over { .. } => {}
            ChallengePhase::Transferring => {
                live.room = Room::Kept;
                live.activity = Activity::Transferring(Box::new(Transferring::of(
                    manifest,
                    Announcement::Made,
                    live.failures,
                )));
            }
            ChallengePhase::SelfTesting { trials } if trials >= max => {
                self.give_up_challenger(name, format!("{trials} trials were begun and none came to an end"));
            }
            ChallengePhase::SelfTesting { .. } if busy => {}
            ChallengePhase::SelfTesting { trials } => {
                live.activity = Activity::SelfTesting;
                self.set_challenge_phase(name, ChallengePhase::SelfTesting { trials: trials + 1 });
                self.effects.push_back(Effect::RunTrial { release, manifest });
            }
            ChallengePhase::Tested { starts } if starts >= max => {
                self.give_up_challenger(
                    name,
                    format!("its process was started {starts} times and ended each time"),
                );
            }
            ChallengePhase::Tested { starts } => {
                live.activity = Activity::Starting;
                let terms = challenge.terms;
                self.set_challenge_phase(name, ChallengePhase::Tested { starts: starts + 1 });
                self.effects.push_back(Effect::StartChallenger { release, manifest, terms });
            }
        }
    }

    /// There is one place for a trial.
    fn tests_a_challenger(&self) -> bool {
        self.challengers.values().any(|live| matches!(live.activity, Activity::SelfTesting))
    }
}

/// A candidate that waits for its maintenance window takes nothing meanwhile, and may wait for days.
fn is_under_way(model: &Model) -> bool {
    model.repair.is_some() || !matches!(model.deployment, Deployment::Idle | Deployment::Waiting { .. })
}
