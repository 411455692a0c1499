//! Who moved: one sensor, a group, those with the new model, or the world?
//!
//! Devices that alarm by themselves while no group does are broken sensors. When a group or the fleet alarms, every group
//! is held against the others of its key, over the time since the evidence rose: where the others moved less than half as
//! far, and the difference is more than chance, the group explains the alarm, and of several the one with
//! the clearest difference. If none does, it is the world.

use serde::{Deserialize, Serialize};

use super::{
    super::{evidence::Alarm, payoff::Move, scores::Scores},
    Fleet, Group, Shown,
};

/// Standard errors by which a group has to differ from the others. Several groups are tried, so more than the usual three.
pub(super) const CLEAR: f64 = 4.0;

/// Standard errors by which the others have to have moved for an alarm of a group to be the world's.
pub(super) const MOVED: f64 = 3.0;

/// Who moved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One device: its sensor, lens or mount.
    Sensor {
        /// Its name.
        device: String,
    },
    /// The devices with one label, and not the others.
    Stratum {
        /// As `site`.
        key: String,
        /// As `hall-3`.
        value: String,
    },
    /// Those that run the model version in question, and not the others: of one fleet ([`Group::Treated`]), or of several, one a
    /// version ([`Fleet::against`]).
    Model,
    /// Devices everywhere: what they see has changed.
    World,
}

impl Scope {
    /// Whether every device in these groups is part of it. A sensor is not a matter of groups.
    pub(super) fn is_of_all(&self, groups: &[Group]) -> bool {
        match self {
            Self::Sensor { .. } => false,
            Self::World => true,
            Self::Model => groups.contains(&Group::Treated),
            Self::Stratum { key, value } => groups.iter().any(|group| match group {
                Group::Stratum { key: own_key, value: own } => own_key == key && own == value,
                Group::Treated | Group::Untreated => false,
            }),
        }
    }
}

/// A drift with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Of what.
    pub feature: String,
    /// Of whom.
    pub scope: Scope,
    /// The evidence: of the device, the group that moved, or the fleet, whichever raised the alarm.
    pub alarm: Alarm,
    /// Devices whose samples were counted at this check.
    pub devices: usize,
    /// Those of them that raised an alarm of their own at the same check.
    pub devices_alarmed: usize,
    /// How far the fleet's devices moved together, where it is not a single one.
    pub moved: Option<Shift>,
    /// How far the group and the others moved, where a group was found or tried.
    pub contrast: Option<Contrast>,
}

/// How far devices moved together since the evidence rose, without those that moved most and least: in standard deviations of
/// the score under their reference, positive in the alarm's direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// As far as this.
    pub by: f64,
    /// Standard error of that.
    pub error: f64,
}

/// A group against the others of its key, in standard deviations of the score under the reference, positive
/// in the alarm's direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contrast {
    /// Of the group, without its devices that moved most and least.
    pub inside: f64,
    /// Standard error of that.
    pub inside_error: f64,
    /// Of the others.
    pub outside: f64,
    /// Standard error of that.
    pub outside_error: f64,
}

/// An alarm of the fleet (no group) or of a group.
pub(super) struct Raised {
    pub(super) group: Option<Group>,
    pub(super) alarm: Alarm,
    pub(super) devices: usize,
}

impl Contrast {
    pub(super) fn of(inside: Shift, outside: Shift) -> Self {
        Self {
            inside: inside.by,
            inside_error: inside.error,
            outside: outside.by,
            outside_error: outside.error,
        }
    }

    pub(super) fn clarity(&self) -> f64 {
        let error = (self.inside_error * self.inside_error + self.outside_error * self.outside_error).sqrt();
        (self.inside - self.outside) / error
    }

    pub(super) fn explains(&self) -> bool {
        self.outside < 0.5 * self.inside && self.clarity() >= CLEAR
    }

    fn others_moved(&self) -> bool {
        self.outside >= 0.5 * self.inside && self.outside >= MOVED * self.outside_error
    }
}

impl Fleet {
    pub(super) fn attribute(
        &self,
        scores: &Scores,
        raised: Vec<Raised>,
        shown: &[Shown<'_>],
    ) -> Vec<Finding> {
        let shared = leading(raised).map(|lead| self.of_many(scores, lead, shown));
        let hit = |device: &Shown<'_>| {
            shared.as_ref().is_some_and(|finding| finding.scope.is_of_all(device.batch.groups))
        };
        let alone = shown.iter().filter(|device| !hit(device));
        let sensors = alone.filter_map(|device| self.of_sensor(device));
        let mut findings: Vec<_> = sensors.collect();
        findings.extend(shared);
        findings
    }

    fn of_sensor(&self, device: &Shown<'_>) -> Option<Finding> {
        device.alarm.map(|alarm| Finding {
            feature: self.feature.clone(),
            scope: Scope::Sensor { device: device.batch.device.to_owned() },
            alarm,
            devices: 1,
            devices_alarmed: 1,
            moved: None,
            contrast: None,
        })
    }

    fn of_many(&self, scores: &Scores, lead: Raised, shown: &[Shown<'_>]) -> Finding {
        let contrasts =
            self.groups.iter().filter(|known| known.group != Group::Untreated).filter_map(|known| {
                let contrast = self.contrast(scores, &known.group, &lead.alarm)?;
                Some((known.group.clone(), contrast))
            });
        let contrasts: Vec<_> = contrasts.collect();
        let explaining = contrasts.iter().filter(|(_, contrast)| contrast.explains());
        let clearest = explaining.max_by(|(_, a), (_, b)| a.clarity().total_cmp(&b.clarity()));
        let own = contrasts.iter().find(|(group, _)| lead.group.as_ref() == Some(group));
        let (scope, contrast) = match (clearest, &lead.group) {
            (Some((group, contrast)), _) => (scope_of(group), Some(*contrast)),
            (None, Some(group)) if !own.is_some_and(|(_, contrast)| contrast.others_moved()) => {
                // Without others to compare with, new devices with a new model may see a new world as well.
                let scope = if own.is_some() { scope_of(group) } else { Scope::World };
                (scope, own.map(|&(_, contrast)| contrast))
            }
            (None, _) => (Scope::World, own.map(|&(_, contrast)| contrast)),
        };
        Finding {
            feature: self.feature.clone(),
            scope,
            alarm: lead.alarm,
            devices: lead.devices,
            devices_alarmed: shown.iter().filter(|device| device.alarm.is_some()).count(),
            moved: self.moved(scores, &lead.alarm),
            contrast,
        }
    }

    /// Nothing if the group has no others.
    fn contrast(&self, scores: &Scores, group: &Group, alarm: &Alarm) -> Option<Contrast> {
        let score = scores.scores.iter().position(|score| score.name == alarm.direction.score)?;
        let (mut inside, mut outside) = (Move::default(), Move::default());
        for known in self.groups.iter().filter(|known| same_key(&known.group, group)) {
            let moved = known.many.moved(score, alarm.since_secs);
            if known.group == *group { inside.add_devices(&moved) } else { outside.add_devices(&moved) }
        }
        let deviation = scores.scores[score].deviation;
        let shift = |moved: &Move| Shift::of(&moved.in_units_of(deviation), alarm);
        Some(Contrast::of(shift(&inside)?, shift(&outside)?))
    }

    fn moved(&self, scores: &Scores, alarm: &Alarm) -> Option<Shift> {
        let score = scores.scores.iter().position(|score| score.name == alarm.direction.score)?;
        let moved = self.world.moved(score, alarm.since_secs);
        Shift::of(&moved.in_units_of(scores.scores[score].deviation), alarm)
    }
}

impl Shift {
    /// Nothing without samples.
    pub(super) fn of(moved: &Move, alarm: &Alarm) -> Option<Self> {
        let shift = Self { by: alarm.direction.sign.of(moved.mean()), error: moved.standard_error() };
        shift.error.is_finite().then_some(shift)
    }
}

/// The fleet's alarm, or of the groups' the one with most evidence.
fn leading(raised: Vec<Raised>) -> Option<Raised> {
    raised.into_iter().reduce(|lead, next| {
        let stronger = lead.group.is_some() && next.alarm.evidence > lead.alarm.evidence;
        if stronger { next } else { lead }
    })
}

fn scope_of(group: &Group) -> Scope {
    match group {
        Group::Stratum { key, value } => Scope::Stratum { key: key.clone(), value: value.clone() },
        Group::Treated => Scope::Model,
        Group::Untreated => Scope::World,
    }
}

fn same_key(one: &Group, other: &Group) -> bool {
    match (one, other) {
        (Group::Stratum { key: one, .. }, Group::Stratum { key: other, .. }) => one == other,
        (Group::Treated | Group::Untreated, Group::Treated | Group::Untreated) => true,
        (Group::Stratum { .. }, _) | (_, Group::Stratum { .. }) => false,
    }
}
