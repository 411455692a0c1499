//! The device's own watch over one release: an alarm that needs no network.
//!
//! Every feature is held against its own first thousand samples on this device, as the server does it for the scope of one
//! device, with the same detector: so the rate of false alarms is the one that the manifest states, at any look. The
//! threshold is for as many windows in a year as can be, and for all features together.
//!
//! The rate is stated on the condition that no baseline is further off than its zone. The zone is so wide that the chance of
//! that is about 5 % for all features of a device together; such a device may alarm more often, until it learns anew.

use muster_sketch::{
    detector::{Alarm, DeviceWatch, Rule, Scores, Threshold, Watched, Zone},
    window::FeatureCounts,
};
use shared::manifest::{DriftGuardrail, DriftSpec};

/// After an alarm nothing is counted for a day: an incident is told once a day while it lasts.
const SUPPRESS_SECS: u64 = 86_400;

/// A mean year.
const YEAR_SECS: f64 = 365.25 * 86_400.0;

/// What the features of a release are watched with.
#[derive(Debug)]
pub(super) struct Guard {
    scores: Vec<Scores>,
    rule: Rule,
}

impl Guard {
    /// `None` without a guardrail.
    ///
    /// # Errors
    /// When its numbers make no rule, in words.
    pub(super) fn of(spec: &DriftSpec) -> Result<Option<Self>, String> {
        let Some(DriftGuardrail { one_false_alarm_in_years: years }) = spec.guardrail else {
            return Ok(None);
        };
        let scores = spec.scores().map_err(|error| error.to_string())?;
        let windows_a_year = YEAR_SECS / f64::from(spec.capture.window_secs);
        let threshold = Threshold::one_false_alarm_in(years, windows_a_year, scores.len() as u64);
        let threshold = threshold.map_err(|error| error.to_string())?;
        let directions = scores.iter().map(|scores| scores.directions().len() as u64).sum();
        let zone = Zone::for_baselines(1, directions, 0.0).map_err(|error| error.to_string())?;
        Ok(Some(Self { scores, rule: Rule { zone, threshold, suppress_secs: SUPPRESS_SECS } }))
    }

    /// Looks at a window: gives the features that alarm, by their place. What is known of another reference begins anew.
    pub(super) fn look(
        &self,
        watches: &mut Vec<DeviceWatch>,
        features: &[FeatureCounts],
        at_secs: u64,
    ) -> Vec<(usize, Alarm)> {
        if watches.len() != self.scores.len() {
            *watches = self.scores.iter().map(DeviceWatch::new).collect();
        }
        let mut alarms = Vec::new();
        for (place, ((scores, watch), counts)) in self.scores.iter().zip(watches).zip(features).enumerate() {
            match watch.observe(scores, &self.rule, counts.bins(), at_secs) {
                Ok(Watched::Counted { alarm: Some(alarm), .. }) => alarms.push((place, alarm)),
                Ok(Watched::Counted { alarm: None, .. } | Watched::Learning { .. } | Watched::Suppressed) => {
                }
                Err(error) => {
                    tracing::warn!(%error, place, "what was known of a feature does not fit; it is learnt anew");
                    watch.relearn(scores);
                }
            }
        }
        alarms
    }
}
