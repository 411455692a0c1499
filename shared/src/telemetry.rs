//! Figures that a device sends at an interval: how it is, and what its models did.
//!
//! A report covers one window and carries (boot, sequence); the server stores each pair once, so that delivering
//! twice or late changes nothing.

mod custom;

use muster_sketch::{FloatHistogram, detector::Alarm};
use serde::{Deserialize, Serialize};

pub use custom::{CustomKind, CustomMetrics, CustomSums, MAX_CUSTOM_METRICS, MAX_VALUE, Sums};

use crate::{
    challenger::ChallengerWindow,
    id::{BootId, ReleaseId},
    time::Timestamp,
};

/// Model versions in one telemetry report; more than a device can run.
pub const MAX_VERSIONS: usize = 64;

/// The largest population stability index, less its floor, of one feature: with half a value in each bin no sample of
/// a reference's size gives more than a few dozen.
pub const MAX_DRIFT: f64 = 1_000.0;

/// Alarms of drift in one report. More wait for the next one.
pub const MAX_DRIFT_ALARMS: usize = 32;

/// One window of a device's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    /// In which run of the agent.
    pub boot: BootId,
    /// Number of the report within the boot, from 1.
    pub sequence: u64,
    /// Start of the window, by the device's clock.
    pub from: Timestamp,
    /// End of the window.
    pub to: Timestamp,
    /// How the device is.
    pub health: DeviceHealth,
    /// How its telemetry gets here.
    #[serde(default)]
    pub delivery: Delivery,
    /// What each model version did in the window.
    pub versions: Vec<VersionFigures>,
    /// What challengers did in the window.
    #[serde(default, skip_serializing_if = "ChallengerWindow::is_empty")]
    pub challengers: ChallengerWindow,
    /// Drift that the device found by itself since the window before, at most [`MAX_DRIFT_ALARMS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift_alarms: Vec<DriftAlarm>,
}

/// A feature has drifted on the device, by the device's own detector
/// ([`DriftGuardrail`](crate::manifest::DriftGuardrail)).
///
/// It is told at least once: an agent that does not know yet that the server has stored the window with it tells it again in
/// its next run. Release, feature and the alarm's time are the same then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftAlarm {
    /// Of which version.
    pub release: ReleaseId,
    /// Name of the feature in the version's reference.
    pub feature: String,
    /// What was found. Times are by the device's clock.
    pub alarm: Alarm,
}

impl DriftAlarm {
    /// True when a detector can have said this: numbers that JSON holds, and a name as features have.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let Alarm { evidence, threshold, shift, .. } = self.alarm;
        let is_named = (1..=muster_sketch::reference::MAX_NAME_BYTES).contains(&self.feature.len());
        is_named
            && evidence.is_finite()
            && threshold.is_finite()
            && shift.is_finite()
            && evidence >= threshold
    }
}

/// How the telemetry of a device gets to the server: what waits, what was lost, what it may cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Windows, of telemetry and of features, that the device dropped, for want of room or because nobody took them, ever.
    pub windows_lost: u64,
    /// Windows that wait for the server's acknowledgement.
    pub windows_waiting: u64,
    /// Bytes that they take on the device's disk.
    pub waiting_bytes: u64,
    /// Whether the disk refuses them, so that they wait in memory.
    pub in_memory: bool,
    /// Bytes that telemetry cost since midnight UTC.
    pub telemetry_bytes_today: u64,
    /// Bytes of blocks that came since midnight UTC.
    pub transfer_bytes_today: u64,
    /// The newest limits that the device has verified; zero before the first.
    pub limits_revision: u64,
}

/// How a device is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceHealth {
    /// Processor use over all cores, 0 to 100.
    pub cpu_percent: f32,
    /// Memory in use by everything on the device.
    pub memory_used_mib: u64,
    /// Memory of the device.
    pub memory_total_mib: u64,
    /// Free space of the agent's file system.
    pub disk_free_mib: u64,
    /// The hottest sensor, if there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<f32>,
    /// Since the device was started.
    pub uptime_secs: u64,
    /// Resident memory of the agent's daemon.
    pub agent_memory_kib: u64,
    /// Bytes sent over the link to the server since the agent was started.
    pub link_sent_bytes: u64,
    /// Bytes received over it.
    pub link_received_bytes: u64,
}

/// What one model version did in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionFigures {
    /// Which version.
    pub release: ReleaseId,
    /// Requests by how they ended.
    pub counts: Counts,
    /// Labels that came back for earlier inferences.
    #[serde(default)]
    pub labels: LabelCounts,
    /// How sure the model was of its answers: the largest probability of each row that it answered, 0 to 1. Nothing when
    /// its answers are no probabilities, or the agent is older than this field.
    #[serde(default, skip_serializing_if = "Sums::is_empty")]
    pub confidence: Sums,
    /// How far windows of its features lay from their reference: of each feature and closed window the population
    /// stability index less its noise floor, which is about 0 without drift and may be below. Nothing when the release has no
    /// reference, or the agent is older than this field.
    #[serde(default, skip_serializing_if = "Sums::is_empty")]
    pub drift: Sums,
    /// What applications reported while this version answered.
    #[serde(default, skip_serializing_if = "CustomMetrics::is_empty")]
    pub custom: CustomMetrics,
    /// Time in the engine, in milliseconds.
    pub latency_ms: FloatHistogram,
    /// Time between acceptance and the engine, in milliseconds.
    pub queue_ms: FloatHistogram,
}

/// Inferences by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Answered.
    pub ok: u64,
    /// The caller's request did not fit the model; says nothing about the model.
    pub bad_request: u64,
    /// Turned away because the queue was full; says nothing about the model.
    pub busy: u64,
    /// The engine failed.
    pub engine_error: u64,
    /// An output was NaN or infinite.
    pub non_finite: u64,
    /// An output had another type or shape than the manifest says.
    pub wrong_shape: u64,
    /// The deadline passed.
    pub timeout: u64,
    /// Slower than the latency budget, whatever the outcome. Counted beside the others.
    pub slow: u64,
}

impl Counts {
    /// Inferences that say something about the model.
    #[must_use]
    pub fn judged(&self) -> u64 {
        self.ok.saturating_add(self.failures())
    }

    /// Inferences that the model failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        [self.engine_error, self.non_finite, self.wrong_shape, self.timeout]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.ok, other.ok),
            (&mut self.bad_request, other.bad_request),
            (&mut self.busy, other.busy),
            (&mut self.engine_error, other.engine_error),
            (&mut self.non_finite, other.non_finite),
            (&mut self.wrong_shape, other.wrong_shape),
            (&mut self.timeout, other.timeout),
            (&mut self.slow, other.slow),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }
}

/// Labels that came back for earlier inferences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCounts {
    /// The top class was the label.
    pub correct: u64,
    /// It was another.
    pub wrong: u64,
}

impl VersionFigures {
    /// True when its numbers are ones that counting makes; what a device claims otherwise would spoil every sum that it is
    /// added to.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        self.latency_ms.is_plausible()
            && self.queue_ms.is_plausible()
            && self.confidence.is_within(0.0, 1.0)
            && self.drift.is_within(-MAX_DRIFT, MAX_DRIFT)
            && self.custom.is_plausible()
    }

    /// Nothing seen yet.
    #[must_use]
    pub fn new(release: ReleaseId) -> Self {
        Self {
            release,
            counts: Counts::default(),
            labels: LabelCounts::default(),
            confidence: Sums::default(),
            drift: Sums::default(),
            custom: CustomMetrics::default(),
            latency_ms: FloatHistogram::new(),
            queue_ms: FloatHistogram::new(),
        }
    }

    /// Adds the figures of another window of the same version.
    pub fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.labels.correct = self.labels.correct.saturating_add(other.labels.correct);
        self.labels.wrong = self.labels.wrong.saturating_add(other.labels.wrong);
        self.confidence.merge(&other.confidence);
        self.drift.merge(&other.drift);
        self.custom.merge(&other.custom);
        self.latency_ms.merge(&other.latency_ms);
        self.queue_ms.merge(&other.queue_ms);
    }
}

#[cfg(test)]
mod tests {
    use muster_sketch::detector::{Direction, ScoreName, Sign};

    use super::*;

    fn alarm() -> DriftAlarm {
        let direction = Direction { score: ScoreName::Region(3), sign: Sign::Up };
        let (evidence, threshold, shift) = (2.5e6, 1e6, 0.75);
        let alarm = Alarm {
            direction,
            evidence,
            threshold,
            at_secs: 1_800_000_600,
            since_secs: 1_800_000_000,
            checks: 2,
            samples: 400,
            shift,
        };
        DriftAlarm { release: "digits@2".parse().unwrap(), feature: "ink".into(), alarm }
    }

    #[test]
    fn windows_without_alarms_are_written_and_read_as_before_there_were_any() {
        let text = r#"{"boot":"b","sequence":1,"from":0,"to":1,"health":{"cpu_percent":0.0,"memory_used_mib":0,"memory_total_mib":0,"disk_free_mib":0,"uptime_secs":0,"agent_memory_kib":0,"link_sent_bytes":0,"link_received_bytes":0},"delivery":{"windows_lost":0,"windows_waiting":0,"waiting_bytes":0,"in_memory":false,"telemetry_bytes_today":0,"transfer_bytes_today":0,"limits_revision":0},"versions":[]}"#;
        let mut window: Telemetry = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&window).unwrap(), text);
        window.drift_alarms.push(alarm());
        let told = serde_json::to_string(&window).unwrap();
        assert_eq!(serde_json::from_str::<Telemetry>(&told).unwrap(), window);
    }

    #[test]
    fn an_alarm_that_no_detector_raises_is_not_plausible() {
        assert!(alarm().is_plausible());
        let change = |change: &dyn Fn(&mut DriftAlarm)| {
            let mut changed = alarm();
            change(&mut changed);
            changed.is_plausible()
        };
        assert!(!change(&|alarm| alarm.feature.clear()));
        assert!(!change(&|alarm| alarm.feature = "x".repeat(129)));
        assert!(!change(&|alarm| alarm.alarm.evidence = f64::INFINITY));
        assert!(!change(&|alarm| alarm.alarm.evidence = 1.0));
        assert!(!change(&|alarm| alarm.alarm.shift = f64::NAN));
    }
}
