//! Challengers: from a document that came to releases that run beside their champions.
//!
//! The document is checked and taken in like a desired state, under a number of its own. What then happens is decided
//! anew after every turn: a challenger goes on while [nothing has the right of way](Agent::right_of_way), and is held
//! otherwise. So a new desired state, a runner that died or a quarantine need no paths of their own.

mod life;
mod outcome;

use std::{collections::BTreeMap, time::Duration};

use shared::{
    Digest, ModelName, ReleaseId, Timestamp,
    challenger::{Challenger, ChallengerState, ChallengersDocument, MAX_CHALLENGERS},
    manifest::Manifest,
};

use super::{Agent, Store};
use crate::{
    backoff,
    challenger::{Activity, Challenge, ChallengePhase, Live},
    event::Event,
    ledger::{Installed, Intake},
    port::{Effect, Refusal, Wakeup},
};

/// Nobody waits for a challenger: the first check that failed for want of metadata is repeated after a while only.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// The check of the newest document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Idle,
    Running { revision: u64, attempt: u32 },
    Waiting { revision: u64, attempt: u32, until: Timestamp },
}

impl Check {
    fn attempt(self) -> u32 {
        match self {
            Self::Idle => 0,
            Self::Running { attempt, .. } | Self::Waiting { attempt, .. } => attempt,
        }
    }

    fn revision(self) -> Option<u64> {
        match self {
            Self::Idle => None,
            Self::Running { revision, .. } | Self::Waiting { revision, .. } => Some(revision),
        }
    }
}

impl Agent {
    pub(super) fn challengers_arrived(&mut self, revision: u64) -> Result<(), Refusal> {
        self.refuse_stale_challengers(revision)?;
        match self.check {
            _ if self.knows_challengers(revision) => {}
            Check::Running { revision: running, .. } if running >= revision => {}
            Check::Idle | Check::Running { .. } | Check::Waiting { .. } => {
                self.check_challengers(revision, 0)
            }
        }
        Ok(())
    }

    pub(super) fn challengers_refused(&mut self, revision: u64, detail: &str, retry: bool) {
        let event = Event::warn("the challengers were refused");
        self.note(event.with("revision", revision).with("detail", detail).with("retry", retry));
        let Check::Running { attempt, .. } = self.check else { return };
        if retry {
            self.check_again(revision, attempt);
        } else {
            self.check = Check::Idle;
        }
    }

    pub(super) fn challengers_verified(
        &mut self,
        document: &ChallengersDocument,
        manifests: Vec<(Challenger, Digest, Manifest)>,
        refused: Vec<(Challenger, String)>,
    ) -> Result<(), Refusal> {
        let attempt = self.check.attempt();
        // A check of a newer document goes on: its answer is still to come.
        if self.check.revision().is_none_or(|asked| asked <= document.revision) {
            self.check = Check::Idle;
        }
        if document.device != self.device {
            return Err(Refusal::OtherDevice(document.device.to_string()));
        }
        if document.challengers.len() > MAX_CHALLENGERS {
            return Err(Refusal::TooManyChallengers(document.challengers.len()));
        }
        self.refuse_stale_challengers(document.revision)?;
        if self.knows_challengers(document.revision) {
            return Ok(());
        }
        let mut open: BTreeMap<&ModelName, &Challenger> =
            document.challengers.iter().rev().map(|named| (&named.release.model, named)).collect();
        self.end_unnamed(|name, release| open.get(name).is_some_and(|named| named.release == *release));
        let challengers = &mut self.ledger.change().challengers;
        (challengers.revision, challengers.intake) = (document.revision, Intake::Whole);
        self.store = Store::Littered;
        for (named, digest, manifest) in manifests {
            if open.get(&named.release.model).is_some_and(|wanted| **wanted == named) {
                open.remove(&named.release.model);
                self.challenge(&named, digest, manifest);
            }
        }
        for (named, why) in refused {
            if open.get(&named.release.model).is_some_and(|wanted| **wanted == named) {
                open.remove(&named.release.model);
                self.refuse_challenger(&named, why);
            }
        }
        if !open.is_empty() {
            self.ledger.change().challengers.intake = Intake::Lacking;
            if self.check == Check::Idle {
                self.check_again(document.revision, attempt);
            }
        }
        Ok(())
    }

    pub(super) fn advance_check(&mut self) {
        if let Check::Waiting { revision, attempt, until } = self.check
            && until <= self.now
        {
            self.check_challengers(revision, attempt);
        }
    }

    pub(super) fn checks_challengers(&self) -> bool {
        matches!(self.check, Check::Running { .. })
    }

    pub(super) fn check_timer(&self) -> Option<(Timestamp, Wakeup)> {
        match self.check {
            Check::Waiting { revision, until, .. } => Some((until, Wakeup::VerifyChallengers(revision))),
            Check::Idle | Check::Running { .. } => None,
        }
    }

    /// How far each challenger is, for the server and for people.
    #[must_use]
    pub fn challenger_states(&self) -> Vec<ChallengerState> {
        let challenges = self.ledger.challengers.by_model.iter();
        let state = |(name, challenge): (&ModelName, &Challenge)| {
            let (step, detail) = match (&challenge.phase, self.challengers.get(name)) {
                (ChallengePhase::Over { detail }, _) => ("over", detail.clone()),
                (_, Some(live)) => (live.activity.step(), self.challenger_detail(name, live)),
                (_, None) => ("waiting", String::new()),
            };
            let release = challenge.installed.release.clone();
            ChallengerState { release, order: challenge.order, step: step.into(), detail }
        };
        challenges.map(state).collect()
    }

    fn challenger_detail(&self, name: &ModelName, live: &Live) -> String {
        match (&live.activity, self.right_of_way(name)) {
            (Activity::Transferring(transferring), None) => transferring.detail(),
            (Activity::Resting { .. }, _) if live.manifest.is_none() => {
                "its manifest is fetched again with the next session".into()
            }
            (Activity::Resting { .. }, Some(first)) => first.into(),
            (Activity::Resting { why, .. }, None) => why.clone(),
            (
                Activity::Transferring(_)
                | Activity::SelfTesting
                | Activity::Starting
                | Activity::Running { .. },
                _,
            ) => String::new(),
        }
    }

    /// Something was not to be had; `attempt` counts the checks before.
    fn check_again(&mut self, revision: u64, attempt: u32) {
        let seed = self.settings.jitter_seed ^ revision.rotate_left(16) ^ u64::from(attempt);
        let until = self.now + backoff::spread(backoff::doubled(RETRY.0, attempt, RETRY.1), seed);
        self.check = Check::Waiting { revision, attempt: attempt.saturating_add(1).min(32), until };
    }

    fn check_challengers(&mut self, revision: u64, attempt: u32) {
        self.check = Check::Running { revision, attempt };
        self.effects.push_back(Effect::VerifyChallengers { revision });
    }

    fn refuse_stale_challengers(&self, found: u64) -> Result<(), Refusal> {
        let known = self.ledger.challengers.revision;
        if found < known { Err(Refusal::StaleChallengers { found, known }) } else { Ok(()) }
    }

    fn knows_challengers(&self, revision: u64) -> bool {
        let challengers = &self.ledger.challengers;
        revision == challengers.revision && challengers.intake == Intake::Whole
    }

    /// The document names this release, and its manifest is here.
    fn challenge(&mut self, named: &Challenger, digest: Digest, manifest: Manifest) {
        let name = named.release.model.clone();
        let installed = Installed::new(digest, &manifest);
        let before = self.ledger.challengers.by_model.get(&name).cloned();
        let before = before.filter(|before| before.installed == installed);
        if let Some(before) = &before
            && before.order == named.order
        {
            let live = self.challengers.entry(name).or_insert_with(|| Live::new(None, self.now));
            live.manifest = Some(Box::new(manifest));
            return;
        }
        self.hold(&name);
        if let Some(why) = self.unfit(named, digest, &manifest) {
            return self.refuse_challenger(named, why);
        }
        // Whoever asks once more gets every count anew. What was given up is not on the disk any more.
        let phase = match before.map(|before| before.phase) {
            Some(ChallengePhase::SelfTesting { .. }) => ChallengePhase::SelfTesting { trials: 0 },
            Some(ChallengePhase::Tested { .. }) => ChallengePhase::Tested { starts: 0 },
            Some(ChallengePhase::Transferring | ChallengePhase::Over { .. }) | None => {
                ChallengePhase::Transferring
            }
        };
        let challenge = Challenge { installed, order: named.order, terms: named.terms, phase };
        self.ledger.change().challengers.by_model.insert(name.clone(), challenge);
        self.challengers.insert(name, Live::new(Some(Box::new(manifest)), self.now));
    }

    fn unfit(&self, named: &Challenger, digest: Digest, manifest: &Manifest) -> Option<String> {
        if manifest.release != named.release || digest != named.manifest_digest {
            return Some("its manifest is not that of the release".into());
        }
        if self.ledger.remembers(&manifest.model.digest) {
            return Some("this model was refused or rolled back here before".into());
        }
        named.terms.check().err()
    }

    fn refuse_challenger(&mut self, named: &Challenger, why: String) {
        let name = named.release.model.clone();
        let known = self.ledger.challengers.by_model.get(&name);
        if known.is_some_and(|known| known.order == named.order && known.is_over()) {
            return;
        }
        self.hold(&name);
        // Nothing of it is here; the digests stand for nothing and keep nothing.
        let digest = named.manifest_digest;
        let installed =
            Installed { release: named.release.clone(), manifest: digest, model: digest, golden: digest };
        let phase = ChallengePhase::Transferring;
        let challenge = Challenge { installed, order: named.order, terms: named.terms, phase };
        self.ledger.change().challengers.by_model.insert(name.clone(), challenge);
        self.challengers.insert(name.clone(), Live::new(None, self.now));
        self.give_up_challenger(&name, why);
    }

    /// The director's word is enough to end one: what is named in its place may not be to be had.
    fn end_unnamed(&mut self, named: impl Fn(&ModelName, &ReleaseId) -> bool) {
        let known = self.ledger.challengers.by_model.iter();
        let unnamed = known.filter(|(name, challenge)| !named(name, &challenge.installed.release));
        for name in unnamed.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.hold(&name);
            self.challengers.remove(&name);
            if let Some(ended) = self.ledger.change().challengers.by_model.remove(&name) {
                let event = Event::info("the challenger is no longer wanted");
                self.note(event.with("release", &ended.installed.release));
            }
        }
    }
}
