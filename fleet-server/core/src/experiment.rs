//! Two releases of one model, side by side on a fleet: which one is better, or is there no difference that matters?
//!
//! An experiment deals the devices of a selector to two arms ([`plan()`]), brings each arm its release by an ordinary
//! rollout, where it does not run it already, and compares the arms at every look ([`ArmsJudge`]) until something is shown or
//! the time is over. Arm A is usually what runs and B what is tried.
//!
//! | state | input | next | effects |
//! |---|---|---|---|
//! | – | `start` | Preparing | |
//! | Preparing | the rollouts of both arms have begun | Comparing | Compare |
//! | Preparing, Comparing | the rollout of an arm stopped, or lost all of its devices | Ended | |
//! | Comparing | the evidence decides ([`Decision`]) | Ended | |
//! | Preparing, Comparing | the time is over | Ended | |
//! | Preparing, Comparing | Stop | Ended | |
//! | Ended | Adopted, NotAdopted | Ended | |
//!
//! What happens to the devices at the end was said at the beginning ([`AtEnd`]). Besides, an arm that is worse and was brought
//! its release by the experiment is always taken back (the guard): the ordinary rollback of its rollout. A rollout that is
//! still asking devices is halted at the end, so nothing moves for an experiment that is over.
//!
//! Who is in which arm is settled at the start and never changes. Devices that come to match later are not taken in: they
//! have no history from before to be compared with. So the rollouts of an experiment are never continuous.
//!
//! As everywhere, the shell stores what changed, then performs effects; doing one twice is harmless.

mod assign;
mod decide;
mod judge;
mod message;
mod report;
mod spec;
mod state;
mod status;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use shared::{DeviceId, ExperimentId, RolloutId, Timestamp, Version};

use judge::look_at;

use crate::{
    plan::RolloutSummary,
    verdict::{ByVersion, Cohorts, Look, Period},
};

pub use assign::{ArmPlan, Assigned, ExperimentPlan, Ground, LeftOut, LeftOutWhy, PlanError, plan};
pub use decide::{Decision, Finding};
pub use judge::{ArmsJudge, Record, Standing};
pub use message::{Effect, Event, Input, Refusal};
pub use report::{Results, Row, Shown};
pub use spec::{Arm, Arms, AtEnd, ExperimentSpec, InvalidExperiment, MAX_DURATION_SECS, Rules, seed_of};
pub use state::{Adoption, Carrying, End, State};
pub use status::{ArmStatus, ExperimentStatus};

/// Devices of one arm whose metrics are compared, at most; more sharpen the result little, and their figures are kept as
/// evidence.
const MAX_COMPARED: usize = 200;

/// A started experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// What was asked for.
    spec: ExperimentSpec,
    /// When it was started.
    started_at: Timestamp,
    /// Who is in which arm, and how the arm is brought its release.
    arms: Arms<ArmState>,
    /// Selected devices that are in no arm.
    left_out: Vec<LeftOut>,

    /// Where it stands.
    state: State,
    /// What the last look showed.
    standing: Option<Standing>,
    /// What became of the winner.
    adoption: Adoption,

    /// Not yet polled; a few for each change of state.
    effects: VecDeque<Effect>,
}

/// One arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ArmState {
    /// Its devices, spread over sites and hardware.
    devices: Vec<Assigned>,
    /// The rollout that brings the release, and how it stands; none where everybody runs it already.
    rollout: Option<(RolloutId, Carrying)>,
}

impl Experiment {
    /// Starts what was planned. The rollouts of the arms are started by whoever planned them.
    #[must_use]
    pub fn start(spec: ExperimentSpec, plan: &ExperimentPlan, now: Timestamp) -> Self {
        let arm = |arm: &ArmPlan| ArmState {
            devices: arm.devices.clone(),
            rollout: arm.rollout.as_ref().map(|(spec, _)| (spec.id.clone(), Carrying::Waiting)),
        };
        let mut experiment = Self {
            spec,
            started_at: now,
            arms: plan.arms.as_ref().map(arm),
            left_out: plan.left_out.clone(),
            state: State::Preparing,
            standing: None,
            adoption: Adoption::None,
            effects: VecDeque::new(),
        };
        experiment.announce(Event::Started { devices: plan.arms.as_ref().map(|arm| arm.devices.len()) });
        experiment.settle(now);
        experiment
    }

    /// What was asked for.
    #[must_use]
    pub fn spec(&self) -> &ExperimentSpec {
        &self.spec
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &ExperimentId {
        &self.spec.id
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The rollout of an arm.
    #[must_use]
    pub fn rollout(&self, arm: Arm) -> Option<&RolloutId> {
        self.arms.get(arm).rollout.as_ref().map(|(id, _)| id)
    }

    /// How the rollout of an arm stood last.
    #[must_use]
    pub fn carrying(&self, arm: Arm) -> Option<&Carrying> {
        self.arms.get(arm).rollout.as_ref().map(|(_, how)| how)
    }

    /// True while its arms are compared.
    #[must_use]
    pub fn is_comparing(&self) -> bool {
        matches!(self.state, State::Comparing { .. })
    }

    /// True when nothing will happen any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    /// Every device of either arm.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.arms
            .as_ref()
            .into_iter()
            .flat_map(|(_, arm)| arm.devices.iter().map(|assigned| &assigned.device))
    }

    /// Devices that stay with what they run, so that no rollout of the experiment speaks for them.
    pub fn still(&self) -> impl Iterator<Item = &DeviceId> {
        let arms = self.arms.as_ref().into_iter();
        let devices = arms.flat_map(|(_, arm)| &arm.devices);
        devices.filter(|assigned| !assigned.moves).map(|assigned| &assigned.device)
    }

    /// What planning a rollout must know: until it is over it holds the devices of both arms by the rule by which a rollout holds
    /// those that it moves. So an arm that stays with what it runs is held as the other one is, and a rollout of an arm that is
    /// complete does not lose its rank. `None` when it is over.
    #[must_use]
    pub fn summary(&self) -> Option<RolloutSummary> {
        let id = format!("{}{}", spec::NAME_PREFIX, self.spec.id);
        let id = RolloutId::new(id).expect("the name was checked");
        (!self.is_over()).then(|| RolloutSummary {
            id,
            release: self.spec.releases.a.clone(),
            priority: self.spec.strategy.priority,
            created_at: self.spec.created_at,
            devices: self.devices().cloned().collect(),
            restored: Default::default(),
            asked: Default::default(),
        })
    }

    /// Who is compared: B takes the place of the canaries, A that of the controls.
    #[must_use]
    pub fn cohorts(&self) -> Cohorts {
        let devices = |arm| self.compared(arm).map(|assigned| assigned.device.clone()).collect();
        Cohorts { canaries: devices(Arm::B), controls: devices(Arm::A) }
    }

    /// The version of each compared device whose figures count: before, the one that it ran when the experiment was planned;
    /// since, the one of its arm. Devices that ran none before have no history.
    #[must_use]
    pub fn counted(&self, period: Period) -> BTreeMap<DeviceId, Version> {
        let of = |arm: Arm| {
            let own = self.spec.releases.get(arm).version;
            self.compared(arm).filter_map(move |assigned| {
                let version = match period {
                    Period::Before => assigned.from?,
                    Period::Since => own,
                };
                Some((assigned.device.clone(), version))
            })
        };
        of(Arm::A).chain(of(Arm::B)).collect()
    }

    /// Its place among what speaks for devices of its model, as [`Rollout::rank`](crate::Rollout::rank) is that of a rollout.
    #[must_use]
    pub fn rank(&self) -> (u8, Timestamp) {
        (self.spec.strategy.priority, self.spec.created_at)
    }

    /// The look of one interval, with what the rules compare and nothing else.
    #[must_use]
    pub fn look(&self, number: u64, happened: &BTreeMap<DeviceId, ByVersion>, period: Period) -> Look {
        let mut look = look_at(number, happened, &self.counted(period));
        for figures in look.devices.values_mut() {
            figures.retain(|metric, _| self.spec.rules.metrics.contains_key(metric));
        }
        look
    }

    /// When to call again with [`Input::Tick`]: the time is over then.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        (!self.is_over()).then(|| self.deadline())
    }

    /// The next thing to do, oldest first.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Takes an input. The same input twice changes nothing the second time.
    ///
    /// # Errors
    /// When the input has no meaning here; then nothing changed.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Result<(), Refusal> {
        match input {
            Input::Carried { arm, how } => self.carried(arm, how),
            Input::Judged { standing } => self.judged(*standing)?,
            Input::Tick => {}
            Input::Stop { by, reason, restore } => self.stop(End::Stopped { by, reason, restore }, now)?,
            Input::Emergency { by, reason } => self.stop(End::Emergency { by, reason }, now)?,
            Input::Adopted { rollout } => self.adopted(Adoption::Started { rollout })?,
            Input::NotAdopted { why } => self.adopted(Adoption::Refused { why })?,
        }
        self.settle(now);
        Ok(())
    }

    fn compared(&self, arm: Arm) -> impl Iterator<Item = &Assigned> {
        self.arms.get(arm).devices.iter().take(MAX_COMPARED)
    }

    fn deadline(&self) -> Timestamp {
        self.started_at + Duration::from_secs(self.spec.max_duration_secs)
    }

    /// Which arms were brought their release by the experiment.
    fn changed(&self) -> Arms<bool> {
        self.arms.as_ref().map(|arm| arm.rollout.is_some())
    }

    fn carried(&mut self, arm: Arm, how: Carrying) {
        if let Some((_, known)) = &mut self.arms.get_mut(arm).rollout {
            *known = how;
        }
    }

    fn judged(&mut self, standing: Standing) -> Result<(), Refusal> {
        if !self.is_comparing() {
            return Err(self.wrong_state("judge"));
        }
        self.standing = Some(standing);
        Ok(())
    }

    fn stop(&mut self, end: End, now: Timestamp) -> Result<(), Refusal> {
        if self.is_over() {
            return Err(self.wrong_state("stop"));
        }
        self.end(end, now);
        Ok(())
    }

    fn adopted(&mut self, adoption: Adoption) -> Result<(), Refusal> {
        if self.adoption != Adoption::Ordered {
            return Err(self.wrong_state("adopt the winner of"));
        }
        self.announce(match adoption.clone() {
            Adoption::Started { rollout } => Event::AdoptionStarted { rollout },
            other => Event::NotAdopted { why: other.to_string() },
        });
        self.adoption = adoption;
        Ok(())
    }

    /// Draws the consequences.
    fn settle(&mut self, now: Timestamp) {
        if self.is_over() {
            return;
        }
        if let Some(end) = self.reached_end(now) {
            self.end(end, now);
        } else if self.state == State::Preparing && self.has_begun() {
            self.state = State::Comparing { since: now };
            self.announce(Event::Comparing);
            self.effects.push_back(Effect::Compare);
        }
    }

    fn has_begun(&self) -> bool {
        let waits = |arm: &ArmState| matches!(arm.rollout, Some((_, Carrying::Waiting)));
        !waits(&self.arms.a) && !waits(&self.arms.b)
    }

    fn reached_end(&self, now: Timestamp) -> Option<End> {
        let stopped = |arm: Arm| match &self.arms.get(arm).rollout {
            Some((_, Carrying::Stopped { why })) => Some(End::ArmStopped { arm, why: why.clone() }),
            _ => None,
        };
        let decided =
            || self.standing.as_ref()?.decision(self.changed()).map(|decision| End::Decided { decision });
        let overdue = || (self.deadline() <= now).then_some(End::Deadline);
        Arm::BOTH.into_iter().find_map(stopped).or_else(decided).or_else(overdue)
    }

    fn end(&mut self, end: End, now: Timestamp) {
        self.state = State::Ended { at: now, end: end.clone() };
        self.announce(Event::Ended { end: end.clone() });
        for arm in Arm::BOTH {
            match &self.arms.get(arm).rollout {
                Some((_, how)) if !how.is_stopped() && self.goes_back(arm, &end) => {
                    self.effects.push_back(Effect::RollBack { arm });
                }
                Some((_, how)) if how.is_under_way() => self.effects.push_back(Effect::Halt { arm }),
                _ => {}
            }
        }
        // Where the winner has no rollout it is what ran before, and the other arm goes back to it.
        if let (AtEnd::Adopt, Some(arm)) = (self.spec.at_end, end.winner())
            && *self.changed().get(arm)
        {
            self.adoption = Adoption::Ordered;
            self.effects.push_back(Effect::Adopt { arm });
        }
    }

    /// An arm that was found worse always does, and in an emergency none.
    fn goes_back(&self, arm: Arm, end: &End) -> bool {
        if matches!(end, End::Emergency { .. }) {
            return false;
        }
        let ordered = matches!(end, End::Stopped { restore: true, .. });
        ordered || self.spec.at_end == AtEnd::Restore || end.condemns(arm)
    }

    fn announce(&mut self, event: Event) {
        self.effects.push_back(Effect::Announce(event));
    }

    fn wrong_state(&self, order: &'static str) -> Refusal {
        Refusal::WrongState { order, experiment: self.spec.id.clone(), state: self.state.word() }
    }
}

#[cfg(test)]
mod tests;
