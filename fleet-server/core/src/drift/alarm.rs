//! Something that people are told, with everything that speaks for it.

use muster_sketch::{
    detector::{self, Finding, OddBaseline, Oddity, Scope, ScoreName},
    distance::{self, CategoryDistances, NumericDistances},
    quality::{QualityFinding, QualityKind},
    reference::{NumericReference, ReferenceValues},
    window::{CLIP, FeatureCounts, NumericCounts},
};
use serde::{Deserialize, Serialize};
use shared::{ReleaseId, Timestamp};

/// An alarm that is found again is told again after this long, an hour, at the earliest. The devices of a drift are silent by themselves for as
/// long as the settings of their model say; this is for settings that say hardly any.
const RETELL_SECS: u64 = 3_600;

/// Something that was found, before it is known whether it was told already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Of what.
    pub feature: String,
    /// Of whom.
    pub scope: Scope,
    /// Who saw it.
    pub raised_by: RaisedBy,
    /// What it is.
    pub cause: Cause,
    /// What its devices counted, if that is known.
    pub evidence: Option<Evidence>,
    /// What the reference calls the category in question, because alarms are read where the reference is not at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
}

/// Who saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RaisedBy {
    /// A check of the server.
    Server,
    /// The device, which watches itself.
    Device,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// A distribution moved away from its baseline.
    Drift {
        /// With its evidence.
        finding: Finding,
        /// Devices with other versions of the model that were counted at the same check, if they are enough to compare with.
        #[serde(default)]
        others: usize,
        /// Something of another version could not be read, so nobody knows whether its devices moved too.
        #[serde(default)]
        uncounted: bool,
    },
    /// The data are broken: values are missing, not finite, out of range, new, or stuck.
    Quality {
        /// What, in the counts of all devices of the scope that have it.
        finding: QualityFinding,
        /// How many they are.
        devices: usize,
    },
    /// A device is unlike the others since its first day.
    OddBaseline {
        /// In what.
        oddity: Oddity,
        /// Robust standard deviations from the fleet's median, above or below.
        z: f64,
        /// The device's figure.
        figure: f64,
        /// Of the fleet.
        median: f64,
    },
}

impl Cause {
    pub(super) fn odd(odd: &OddBaseline) -> Self {
        let OddBaseline { oddity, z, figure, median, index: _ } = *odd;
        Self::OddBaseline { oddity, z, figure, median }
    }

    /// What was looked at in the bins, if anything was.
    pub(super) fn score(&self) -> Option<ScoreName> {
        match self {
            Self::Drift { finding, .. } => Some(finding.alarm.direction.score),
            Self::OddBaseline { oddity: Oddity::Share(score), .. } => Some(*score),
            Self::OddBaseline { oddity: Oddity::Level | Oddity::Variation, .. } | Self::Quality { .. } => {
                None
            }
        }
    }

    /// In a word, by which alarms are told apart.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Drift { .. } => "drift",
            Self::Quality { finding, .. } => quality_word(finding.kind),
            Self::OddBaseline { .. } => "odd_baseline",
        }
    }

    /// Whether a new baseline is an answer to it.
    #[must_use]
    pub fn is_of_a_baseline(&self) -> bool {
        match self {
            Self::Drift { .. } | Self::OddBaseline { .. } => true,
            Self::Quality { .. } => false,
        }
    }

    /// Whether whoever found it stays silent by itself for a while, so that closing an alarm need not.
    pub(super) fn is_silent_by_itself(&self) -> bool {
        matches!(self, Self::Drift { .. })
    }
}

fn quality_word(kind: QualityKind) -> &'static str {
    match kind {
        QualityKind::Missing => "missing",
        QualityKind::NonFinite => "non_finite",
        QualityKind::OutOfRange => "out_of_range",
        QualityKind::NewCategory => "new_category",
        QualityKind::Stuck => "stuck",
    }
}

/// What the devices of an alarm counted of its feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// How many devices.
    pub devices: usize,
    /// Earliest start of their windows, in milliseconds since 1970 by their clocks.
    pub from_ms: u64,
    /// Latest end.
    pub to_ms: u64,
    /// Their counts together, in the bins of the reference.
    pub counts: FeatureCounts,
    /// How far they are from the reference; nothing without a value.
    pub distances: Option<Distances>,
    /// Of a number: how large it was; nothing without a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
}

/// How large a number was, and how large it is in the reference, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// What was counted.
    pub counted: MeanAndDeviation,
    /// The sample of the reference.
    pub reference: MeanAndDeviation,
    /// Some values were so far off that they were counted as nearer ones ([`CLIP`]): the mean was further off than it is here.
    pub is_cut: bool,
}

/// Of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeanAndDeviation {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
}

impl Level {
    /// `None` without a value, or when either is of categories.
    #[must_use]
    pub fn of(reference: &ReferenceValues, counts: &FeatureCounts) -> Option<Self> {
        match (reference, counts) {
            (ReferenceValues::Numeric(reference), FeatureCounts::Numeric(counts)) => {
                let (centre, scale) = (reference.centre(), reference.scale());
                let reach = CLIP * scale;
                let is_cut = counts
                    .range()
                    .is_some_and(|(lowest, highest)| centre - lowest > reach || highest - centre > reach);
                Some(Self {
                    counted: MeanAndDeviation::of(reference, counts)?,
                    reference: MeanAndDeviation::of(reference, reference.counts())?,
                    is_cut,
                })
            }
            (ReferenceValues::Category(_), _) | (_, FeatureCounts::Category(_)) => None,
        }
    }
}

impl MeanAndDeviation {
    fn of(reference: &NumericReference, counts: &NumericCounts) -> Option<Self> {
        let (centre, scale) = (f64::from(reference.centre()), f64::from(reference.scale()));
        let (moments, rows) = (counts.moments(), counts.finite());
        let mean = centre + scale * moments.mean(rows)?;
        Some(Self { mean, deviation: scale * moments.standard_deviation(rows)? })
    }
}

/// How far counts are from their reference, each figure with its noise floor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distances {
    /// Of a number.
    Numeric(NumericDistances),
    /// Of categories.
    Category(CategoryDistances),
}

impl Distances {
    /// `None` without a value, or when counts and reference are of two features.
    #[must_use]
    pub fn of(reference: &ReferenceValues, counts: &FeatureCounts) -> Option<Self> {
        match (reference, counts) {
            (ReferenceValues::Numeric(reference), FeatureCounts::Numeric(counts)) => {
                distance::of_numbers(reference, counts).map(Self::Numeric)
            }
            (ReferenceValues::Category(reference), FeatureCounts::Category(counts)) => {
                distance::of_categories(reference, counts).map(Self::Category)
            }
            (ReferenceValues::Numeric(_), FeatureCounts::Category(_))
            | (ReferenceValues::Category(_), FeatureCounts::Numeric(_)) => None,
        }
    }
}

/// What tells alarms apart that are about the same release: a second finding of the same is the same alarm once more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlarmKey {
    /// Of what.
    pub feature: String,
    /// [`Cause::word`].
    pub cause: &'static str,
    /// Of whom.
    pub scope: Scope,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetAlarm {
    /// Its number; later alarms have higher ones.
    pub id: u64,
    /// The release whose inputs or outputs were counted.
    pub release: ReleaseId,
    /// What was found, when it was found last.
    pub found: Found,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When the same was found last.
    pub last_at: Timestamp,
    /// How often.
    pub times: u64,
    /// When an event told of it last.
    #[serde(default)]
    pub told_at: Timestamp,
    /// Who does what about it.
    pub state: AlarmState,
}

/// Who does what about an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AlarmState {
    /// Nobody yet.
    Open,
    /// Somebody knows.
    Acknowledged {
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
        /// Its devices learn the feature anew, as the policy of the model says.
        relearns: bool,
    },
    /// It is over.
    Closed {
        /// For whom it is.
        by: String,
        /// Since when.
        at: Timestamp,
        /// Why, in words.
        why: String,
    },
}

impl Found {
    /// What a device says that watches itself.
    #[must_use]
    pub fn by_device(device: &str, feature: &str, alarm: detector::Alarm) -> Self {
        let scope = Scope::Sensor { device: device.to_owned() };
        let (devices, devices_alarmed, moved, contrast) = (1, 1, None, None);
        let feature = feature.to_owned();
        let finding = Finding {
            feature: feature.clone(),
            scope: scope.clone(),
            alarm,
            devices,
            devices_alarmed,
            moved,
            contrast,
        };
        let cause = Cause::Drift { finding, others: 0, uncounted: false };
        Self { feature, scope, raised_by: RaisedBy::Device, cause, evidence: None, category: None }
    }

    /// Whether a device tells the same again, because it does not know whether it was heard.
    #[must_use]
    pub fn is_told_again(&self, known: &Self) -> bool {
        match (&self.cause, &known.cause) {
            (Cause::Drift { finding, .. }, Cause::Drift { finding: before, .. }) => {
                self.raised_by == RaisedBy::Device
                    && known.raised_by == RaisedBy::Device
                    && self.key() == known.key()
                    && finding.alarm.at_secs == before.alarm.at_secs
            }
            (Cause::Drift { .. } | Cause::Quality { .. } | Cause::OddBaseline { .. }, _) => false,
        }
    }

    /// Whether all devices with a release moved, so that whoever rolls it out is to know of it for as long as it is there.
    fn may_be_of_a_release(&self) -> bool {
        let is_drift = matches!(self.cause, Cause::Drift { .. });
        is_drift && matches!(self.scope, Scope::Model | Scope::World)
    }

    /// What tells it apart.
    #[must_use]
    pub fn key(&self) -> AlarmKey {
        AlarmKey { feature: self.feature.clone(), cause: self.cause.word(), scope: self.scope.clone() }
    }
}

impl AlarmState {
    /// In a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Closed { .. } => "closed",
        }
    }

    /// Since when it is over.
    #[must_use]
    pub fn closed_at(&self) -> Option<Timestamp> {
        match self {
            Self::Open | Self::Acknowledged { .. } => None,
            Self::Closed { at, .. } => Some(*at),
        }
    }
}

impl FleetAlarm {
    /// A new one.
    #[must_use]
    pub fn open(id: u64, release: ReleaseId, found: Found, now: Timestamp) -> Self {
        let (opened_at, last_at, told_at) = (now, now, now);
        Self { id, release, found, opened_at, last_at, times: 1, told_at, state: AlarmState::Open }
    }

    /// The same was found once more. What was counted stays, where it is not known this time.
    pub(super) fn repeat(&mut self, mut found: Found, now: Timestamp) {
        found.evidence = found.evidence.or_else(|| self.found.evidence.take());
        self.times = self.times.saturating_add(1);
        self.last_at = now;
        self.found = found;
    }

    /// Whether an event is to say that it is still there, which was found once more at `now`; if so, that is noted.
    pub(super) fn retell(&mut self, now: Timestamp) -> bool {
        let is_due = self.found.may_be_of_a_release() && now.since(self.told_at).as_secs() >= RETELL_SECS;
        if is_due {
            self.told_at = now;
        }
        is_due
    }

    /// Somebody knows. False when it is over or somebody knew already; nothing changed then.
    pub fn acknowledge(&mut self, by: &str, relearns: bool, now: Timestamp) -> bool {
        let is_open = self.state == AlarmState::Open;
        if is_open {
            self.state = AlarmState::Acknowledged { by: by.to_owned(), at: now, relearns };
        }
        is_open
    }

    /// It is over. False when it was already; nothing changed then.
    pub fn close(&mut self, by: &str, why: &str, now: Timestamp) -> bool {
        let was_not = self.state.closed_at().is_none();
        if was_not {
            self.state = AlarmState::Closed { by: by.to_owned(), at: now, why: why.to_owned() };
        }
        was_not
    }
}
