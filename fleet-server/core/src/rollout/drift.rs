//! What a drift alarm means to a rollout.
//!
//! The check of the server looks at what goes into a model and what comes out of it, and says who moved. A rollout is
//! concerned where that may be its release's doing:
//!
//! | who moved | held against the rollout |
//! |---|---|
//! | the devices with the release, and not the others (`Model`) | yes |
//! | all devices with the release (`World`), and too few others are there to compare with | yes: nobody can say that it is not |
//! | the same, but others are there that could not be counted | not yet: it is told again, and may count then |
//! | all devices, or nobody knows that the others did not (`World`) | no: what hits everybody is nobody's fault |
//! | a group of devices (`Stratum`) | no: what the group shares explains it |
//! | one device (`Sensor`) | no: it is that device's sensor |
//!
//! An alarm counts in the wave that had the release when it came, once however often it is found again, and only while waves are asked or watched: a rollout
//! that has stopped or is through with its waves has nothing to decide.
//!
//! An alarm of the world that others explained once is never held against the rollout. It is told again while it is there, and by then the
//! rollout may have moved the others to its own release, so that none are left to compare with.

use std::{collections::BTreeSet, fmt};

use muster_sketch::{
    detector::{Direction, MIN_GROUP_DEVICES, Scope},
    reference::MAX_NAME_BYTES,
};
use serde::{Deserialize, Serialize};
use shared::Timestamp;

use super::{Event, Refusal, Rollout, State, Verdict};
use crate::{
    drift::{moved, whose},
    plan::WaveKind,
    strategy::OnAlarm,
};

/// Alarms of either kind that are known to have been told: of each feature of a release two may be open that can concern a rollout. The oldest
/// are forgotten first, and would count once more if they still were told.
const MAX_HEARD: usize = 512;

/// What a drift alarm says of a release. Small, whatever it was found in: it is kept with the rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftAlarm {
    /// Its number; later alarms have higher ones.
    pub number: u64,
    /// Of which feature.
    pub feature: String,
    /// Who moved.
    pub scope: Scope,
    /// What moved, and which way.
    pub direction: Direction,
    /// How far, in standard deviations of the score under the reference.
    pub shift: f64,
    /// The evidence.
    pub evidence: f64,
    /// What it had to reach.
    pub threshold: f64,
    /// Devices with the release that were counted in the check.
    pub devices: usize,
    /// Devices with other releases of the model that were counted at the same check, if they are enough to compare with.
    pub others: usize,
    /// Devices with another release could not be counted.
    #[serde(default)]
    pub uncounted: bool,
    /// When it was raised, by the server's clock.
    pub at: Timestamp,
}

impl DriftAlarm {
    /// As it is kept: what is no number could be written down and not read again, and a name from elsewhere may be long.
    fn bounded(mut self) -> Self {
        for figure in [&mut self.shift, &mut self.evidence, &mut self.threshold] {
            *figure = if figure.is_finite() { *figure } else { 0.0 };
        }
        self.feature = cut(&self.feature);
        self
    }

    /// Why it says nothing about the release; `None` when it may be the release's doing.
    fn excuse(&self) -> Option<&'static str> {
        match &self.scope {
            Scope::World if self.uncounted => Some("devices with another release could not be counted"),
            Scope::Model | Scope::World => None,
            Scope::Stratum { .. } => Some("what its group of devices shares explains it"),
            Scope::Sensor { .. } => Some("it is of one device's sensor"),
        }
    }

    /// Whether the devices with other releases may have moved as well.
    fn is_explained_by_others(&self) -> bool {
        self.scope == Scope::World && self.others >= MIN_GROUP_DEVICES
    }
}

impl Rollout {
    /// The check found that the release drifts.
    pub(super) fn drifted(&mut self, alarm: DriftAlarm) -> Result<(), Refusal> {
        let refuse = |why| Refusal::NotItsDrift { number: alarm.number, rollout: self.spec.id.clone(), why };
        if self.excused_alarms.contains(&alarm.number) {
            return Err(refuse("other releases explained it before"));
        }
        if alarm.is_explained_by_others() {
            remember(&mut self.excused_alarms, alarm.number);
            return Ok(());
        }
        if let Some(excuse) = alarm.excuse() {
            return Err(refuse(excuse));
        }
        let Some(wave) = self.drifting_wave() else {
            return Err(refuse("none of its waves has the release and is still to be decided on"));
        };
        if self.heard_alarms.contains(&alarm.number) {
            return Err(refuse("it was told before"));
        }
        let alarm = alarm.bounded();
        remember(&mut self.heard_alarms, alarm.number);
        self.waves[wave].drift.get_or_insert_with(|| alarm.clone());
        self.announce(Event::WaveDrifted { wave, alarm });
        Ok(())
    }

    /// The wave that an alarm of now is about: the one under way, or the last one that was asked while the next one waits for
    /// approval. Late devices of a continuous rollout say nothing of a release that has passed every wave.
    fn drifting_wave(&self) -> Option<usize> {
        let active = self.active_wave().filter(|&active| self.waves[active].kind != WaveKind::Late)?;
        (0..=active).rev().find(|&wave| self.waves[wave].started_at.is_some())
    }

    /// The alarm that stops the rollout.
    pub(super) fn condemned_by_drift(&self, wave: usize) -> Option<Verdict> {
        let alarm = self.waves[wave].drift.as_ref()?;
        let stops = self.spec.strategy.drift.on_alarm == OnAlarm::Rollback;
        stops.then(|| Verdict::Drifted { wave, alarm: alarm.clone() })
    }

    /// The alarm for which a wave is held, until a person lets it pass.
    pub(super) fn holding_alarm(&self, wave: usize) -> Option<&DriftAlarm> {
        let holds = self.spec.strategy.drift.on_alarm == OnAlarm::Hold;
        let of = self.waves.get(wave).filter(|of| holds && of.promoted_by.is_none())?;
        of.drift.as_ref()
    }

    /// The alarm that whoever approves the next wave should know of.
    pub(super) fn alarm_to_weigh(&self) -> Option<&DriftAlarm> {
        let State::AwaitingApproval { wave, .. } = self.state else { return None };
        self.holding_alarm(wave.checked_sub(1)?)
    }
}

fn remember(numbers: &mut BTreeSet<u64>, number: u64) {
    numbers.insert(number);
    if numbers.len() > MAX_HEARD {
        numbers.pop_first();
    }
}

/// As the name of a feature is in a reference; what comes over a wire may be longer.
fn cut(name: &str) -> String {
    let end =
        name.char_indices().map(|(at, char)| at + char.len_utf8()).take_while(|end| *end <= MAX_NAME_BYTES);
    name[..end.last().unwrap_or(0)].to_owned()
}

impl fmt::Display for DriftAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { feature, scope, devices, others, shift, evidence, threshold, .. } = self;
        write!(f, "{feature} drifts on {}: ", whose(scope))?;
        write!(f, "{} by {shift:.2} standard deviations of its score ", moved(self.direction, None))?;
        write!(f, "({devices} devices counted, and {others} with another release; ")?;
        write!(f, "evidence {evidence:.1e}, alarm at {threshold:.1e})")
    }
}
