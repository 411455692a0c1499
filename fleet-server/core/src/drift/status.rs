//! How the detectors of a feature stand, for people.

use muster_sketch::detector::{DeviceWatch, Direction, Fleet, LeftOut, Scores};
use serde::{Deserialize, Serialize};
use shared::Timestamp;

/// Devices that are named because their evidence is largest.
const LEADERS: usize = 5;

/// How the detectors of one feature of one model version stood after a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureStatus {
    /// When the check was.
    pub at: Timestamp,
    /// Evidence that all devices together have drifted.
    pub evidence: f64,
    /// Evidence at which an alarm is raised, of a device, a group or all.
    pub threshold: f64,
    /// Devices whose baseline is not complete.
    pub learning: usize,
    /// Devices that are held against their baseline,
    pub watching: usize,
    /// and of them, those that count nothing because they are part of a recent finding.
    pub suppressed: usize,
    /// Devices that brought samples to the check.
    pub devices: usize,
    /// Samples that they brought.
    pub samples: u64,
    /// Devices with the largest evidence of their own.
    pub leaders: Vec<Leader>,
    /// Devices beyond the bound, which are not watched.
    pub devices_left_out: usize,
    /// Groups beyond the bound.
    pub groups_left_out: usize,
    /// Findings that were not told because there were too many at one time.
    #[serde(default)]
    pub findings_left_out: usize,
}

/// A device with evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leader {
    /// Its name.
    pub device: String,
    /// How much.
    pub evidence: f64,
    /// Which way the feature moved most.
    pub direction: Direction,
}

impl FeatureStatus {
    /// Of a fleet after a check.
    pub(super) fn of(
        fleet: &Fleet,
        scores: &Scores,
        (threshold, now): (f64, Timestamp),
        (devices, samples): (usize, u64),
        left_out: &LeftOut,
    ) -> Self {
        let (mut learning, mut watching, mut suppressed) = (0, 0, 0);
        let mut leaders = Vec::new();
        for (device, watch) in fleet.devices() {
            match watch {
                DeviceWatch::Learning { .. } => learning += 1,
                DeviceWatch::Watching { detector, .. } => {
                    watching += 1;
                    suppressed += usize::from(detector.is_suppressed(now.as_millis() / 1_000));
                    leaders.push((device, detector, detector.evidence()));
                }
            }
        }
        leaders.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| a.0.cmp(b.0)));
        leaders.truncate(LEADERS);
        let leaders = leaders.into_iter().filter(|(.., evidence)| *evidence > 0.0);
        let leaders = leaders.filter_map(|(device, detector, evidence)| {
            let (direction, _) = detector.strongest(scores)?;
            Some(Leader { device: device.to_owned(), evidence, direction })
        });
        Self {
            at: now,
            evidence: fleet.evidence(),
            threshold,
            learning,
            watching,
            suppressed,
            devices,
            samples,
            leaders: leaders.collect(),
            devices_left_out: left_out.devices.len(),
            groups_left_out: left_out.groups.len(),
            findings_left_out: 0,
        }
    }
}
