//! What comes back from transfer, trial and process of a challenger. Nothing of it reaches its champion, and nothing is
//! remembered as bad: what fails here may be asked for as a deployment, which has its own trial.

use std::time::Duration;

use shared::{
    ModelName, ReleaseId,
    report::{FailReason, RejectReason},
};

use super::super::{Agent, Store};
use crate::{
    backoff,
    challenger::{Activity, ChallengePhase, Room},
    event::Event,
    port::{ChallengerEnd, Refusal},
};

/// Rests after failures: nobody waits for a challenger.
const REST: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3_600));

/// The rest after its room was needed: what needed it has settled by then, or needs it for good.
const AFTER_SHORTAGE: Duration = Duration::from_secs(3_600);

/// Characters of a reason that are kept.
const MAX_DETAIL: usize = 200;

impl Agent {
    /// Its process runs it.
    pub(in crate::agent) fn challenger_runs(&mut self, release: &ReleaseId) -> Result<(), Refusal> {
        let now = self.now;
        let name = self.challenger_of(release, "a challenger that runs")?;
        match self.challengers.get_mut(&name).map(|live| &mut live.activity) {
            Some(activity @ Activity::Starting) => {
                *activity = Activity::Running { since: now };
                self.note(Event::info("the challenger runs").with("release", release));
                Ok(())
            }
            _ => Err(unexpected(release, "a challenger that runs")),
        }
    }

    /// Its process ended, or could not be begun.
    pub(in crate::agent) fn challenger_ended(
        &mut self,
        release: &ReleaseId,
        end: ChallengerEnd,
    ) -> Result<(), Refusal> {
        let name = self.challenger_of(release, "the end of a challenger")?;
        let activity = self.challengers.get(&name).map(|live| &live.activity);
        if !matches!(activity, Some(Activity::Starting | Activity::Running { .. })) {
            return Err(unexpected(release, "the end of a challenger"));
        }
        let event = Event::warn("the challenger has ended; its champion goes on");
        self.note(event.with("release", release).with("detail", &end));
        let why = end.to_string();
        self.rest_for(&name, Duration::ZERO, String::new());
        match end {
            ChallengerEnd::Crashed { .. } => self.rest(&name, why),
            ChallengerEnd::Refused { .. } => self.give_up_challenger(&name, why),
            ChallengerEnd::Damaged { .. } => {
                self.set_challenge_phase(&name, ChallengePhase::Transferring);
                self.rest(&name, why);
            }
            ChallengerEnd::Shortage { .. } => {
                self.give_back_challenger(&name);
                self.rest_for(&name, AFTER_SHORTAGE, why);
            }
        }
        Ok(())
    }

    /// True when the trial that ended was that of a challenger.
    pub(in crate::agent) fn challenger_tried(
        &mut self,
        release: &ReleaseId,
        answer: Result<(), &RejectReason>,
    ) -> bool {
        let Ok(name) = self.challenger_of(release, "the end of a trial") else { return false };
        let activity = self.challengers.get(&name).map(|live| &live.activity);
        if !matches!(activity, Some(Activity::SelfTesting)) {
            return false;
        }
        self.rest_for(&name, Duration::ZERO, String::new());
        match answer {
            Ok(()) => self.set_challenge_phase(&name, ChallengePhase::Tested { starts: 0 }),
            // The disk changed what was whole.
            Err(reason @ RejectReason::BadArtifact { .. }) => {
                self.set_challenge_phase(&name, ChallengePhase::Transferring);
                self.rest(&name, reason.to_string());
            }
            Err(reason) => self.give_up_challenger(&name, reason.to_string()),
        }
        true
    }

    /// Every artifact is here.
    pub(in crate::agent) fn challenger_is_here(&mut self, name: &ModelName) {
        self.set_challenge_phase(name, ChallengePhase::SelfTesting { trials: 0 });
        self.rest_for(name, Duration::ZERO, String::new());
    }

    /// Its transfer did not get through.
    pub(in crate::agent) fn challenger_did_not_arrive(&mut self, name: &ModelName, reason: &FailReason) {
        match reason {
            FailReason::ArtifactGone { .. } => self.give_up_challenger(name, reason.to_string()),
            FailReason::DiskFull { .. } => self.give_up_room(name, reason.to_string()),
            FailReason::Network { .. } | FailReason::Storage { .. } => self.rest(name, reason.to_string()),
        }
    }

    /// Somebody with the right of way finds the disk full: what challengers hold of it is free after this turn.
    pub(in crate::agent) fn clear_room(&mut self) {
        let holding = self.ledger.challengers.by_model.iter().filter(|(_, challenge)| !challenge.is_over());
        for name in holding.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.hold(&name);
            self.give_up_room(&name, "its room on the disk was needed".into());
        }
    }

    /// Nothing follows.
    pub(in crate::agent) fn give_up_challenger(&mut self, name: &ModelName, why: String) {
        self.hold(name);
        self.rest_for(name, Duration::ZERO, String::new());
        self.store = Store::Littered;
        let detail = shortened(&why);
        if let Some(challenge) = self.ledger.challengers.by_model.get(name) {
            let event = Event::warn("the challenger is given up; its champion goes on");
            self.note(event.with("release", &challenge.installed.release).with("reason", &detail));
        }
        self.set_challenge_phase(name, ChallengePhase::Over { detail });
    }

    fn give_up_room(&mut self, name: &ModelName, why: String) {
        self.set_challenge_phase(name, ChallengePhase::Transferring);
        self.rest_for(name, AFTER_SHORTAGE, why);
        if let Some(live) = self.challengers.get_mut(name) {
            live.room = Room::GivenUp;
        }
        self.store = Store::Littered;
    }

    fn rest(&mut self, name: &ModelName, why: String) {
        let seed = self.settings.jitter_seed;
        let Some(live) = self.challengers.get_mut(name) else { return };
        let wait = backoff::doubled(REST.0, live.failures, REST.1);
        live.failures = live.failures.saturating_add(1);
        let wait = backoff::spread(wait, seed ^ u64::from(live.failures));
        self.rest_for(name, wait, why);
    }

    fn rest_for(&mut self, name: &ModelName, wait: Duration, why: String) {
        let until = self.now + wait;
        if let Some(live) = self.challengers.get_mut(name) {
            live.activity = Activity::Resting { until, why: shortened(&why) };
        }
    }

    fn challenger_of(&self, release: &ReleaseId, what: &'static str) -> Result<ModelName, Refusal> {
        let challenge = self.ledger.challengers.by_model.get(&release.model);
        match challenge {
            Some(challenge) if challenge.installed.release == *release => Ok(release.model.clone()),
            _ => Err(unexpected(release, what)),
        }
    }
}

/// What a process said of its own end may be of any length, and the server is told.
fn shortened(why: &str) -> String {
    why.chars().take(MAX_DETAIL).collect()
}

fn unexpected(release: &ReleaseId, what: &'static str) -> Refusal {
    Refusal::UnexpectedRelease { what, release: release.clone() }
}
