//! Telemetry of devices: what of it is believed, and how it is stored.

use std::{sync::Arc, time::Duration};

use shared::{
    Timestamp,
    challenger::{ChallengerFigures, MAX_CHALLENGERS, MAX_MATCHES},
    manifest::DriftSpec,
    telemetry::{DriftAlarm, MAX_DRIFT_ALARMS, MAX_VERSIONS, Telemetry, VersionFigures},
};

use super::batch::BatchStore;
use crate::{
    app::App,
    drift::Specs,
    store::{StoreError, TelemetryRow},
};

/// Stores reports.
pub struct TelemetryStore {
    /// Whose reports.
    pub app: Arc<App>,
    /// How long figures by minute are kept.
    pub keep: Duration,
}

impl BatchStore for TelemetryStore {
    type Row = TelemetryRow;

    const NAME: &'static str = "telemetry";

    /// So many that the commit is a small part of it even where a disk is slow, so few that it takes some hundredths of a
    /// second.
    const BATCH: usize = 512;

    /// Devices send every few seconds; none notices.
    const LINGER: Duration = Duration::from_millis(50);

    async fn store(&self, rows: &[TelemetryRow]) -> bool {
        let now = self.app.clock.now();
        let stored = self.app.store.insert_telemetry(rows, now, oldest(now, self.keep)).await;
        if let Err(error) = &stored {
            tracing::error!(error = error as &dyn std::error::Error, "telemetry was not stored");
        }
        stored.is_ok()
    }
}

/// Figures from before this moment are counted into it: a device whose clock is wrong makes no rows of the past.
pub(super) fn oldest(now: Timestamp, keep: Duration) -> Timestamp {
    Timestamp(now.as_millis().saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX)))
}

/// What a device may not say.
pub(super) fn check(report: &Telemetry) -> Result<(), &'static str> {
    if report.versions.len() > MAX_VERSIONS {
        return Err("more versions than a device can run");
    }
    if report.versions.iter().all(VersionFigures::is_plausible) {
        Ok(())
    } else {
        Err("a histogram or a sum that no recording makes, or more counters and gauges than a model may have")
    }
}

/// Drops what a device may not say of its challengers, and says what that was. A challenger answers nobody and its process
/// may lie, so nothing that it says costs the figures of its champion.
pub(super) fn drop_implausible_challengers(report: &mut Telemetry) -> Option<&'static str> {
    let window = &mut report.challengers;
    let told = (window.matches.len(), window.states.len());
    window.matches.retain(ChallengerFigures::is_plausible);
    window.matches.truncate(MAX_MATCHES);
    window.states.truncate(MAX_CHALLENGERS);
    let dropped = told != (window.matches.len(), window.states.len());
    dropped.then_some("more challengers than a device can run, or figures of them that no counting makes")
}

/// Takes what a device says of drift that it found by itself, and drops what no detector of a release that is watched says. How
/// many were dropped.
pub(super) async fn take_alarms(
    specs: &Specs,
    report: &mut Telemetry,
) -> Result<(Vec<DriftAlarm>, usize), StoreError> {
    let told = std::mem::take(&mut report.drift_alarms);
    let (count, mut believed) = (told.len(), Vec::new());
    for alarm in told.into_iter().take(MAX_DRIFT_ALARMS) {
        let spec = if alarm.is_plausible() { specs.of(&alarm.release).await? } else { None };
        let knows = |spec: Arc<DriftSpec>| spec.reference.features().iter().any(|f| f.name == alarm.feature);
        if spec.is_some_and(knows) {
            believed.push(alarm);
        }
    }
    let dropped = count - believed.len();
    Ok((believed, dropped))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use shared::{
        challenger::ChallengerWindow,
        telemetry::{Delivery, DeviceHealth},
    };

    use super::*;

    /// A report whose one version says `value` of `member`.
    fn report(member: &str, value: serde_json::Value) -> Telemetry {
        let version = VersionFigures::new("digits@1".parse().unwrap());
        let mut version = serde_json::to_value(version).unwrap();
        version[member] = value;
        Telemetry {
            boot: shared::BootId::new("boot").unwrap(),
            sequence: 1,
            from: Timestamp(0),
            to: Timestamp(1),
            health: DeviceHealth::default(),
            delivery: Delivery::default(),
            versions: vec![serde_json::from_value(version).unwrap()],
            challengers: ChallengerWindow::default(),
            drift_alarms: Vec::new(),
        }
    }

    #[test]
    fn sums_that_would_spoil_what_they_are_added_to_are_refused() {
        let gauge = |sum: f64| report("custom", json!({"queue": {"kind": "gauge", "sum": sum, "count": 3}}));
        assert_eq!(check(&gauge(7.5)), Ok(()));
        assert!(check(&gauge(1e308)).is_err());
        assert!(check(&report("confidence", json!({"sum": 5.0, "count": 2}))).is_err());
        let counter = json!({"kind": "counter", "sum": 1.0, "count": 1});
        let many: BTreeMap<_, _> = (0..17).map(|n| (format!("n{n}"), counter.clone())).collect();
        assert!(check(&report("custom", json!(many))).is_err());
    }

    #[test]
    fn what_is_wrong_of_a_challenger_is_dropped_and_its_champion_keeps_its_figures() {
        let mut told = report("custom", json!({}));
        let between = |champion: &str, challenger: &str| {
            ChallengerFigures::new(champion.parse().unwrap(), challenger.parse().unwrap())
        };
        told.challengers.matches = vec![between("digits@1", "faces@2"), between("digits@1", "digits@2")];
        let honest = told.challengers.matches[1].clone();
        assert!(drop_implausible_challengers(&mut told).is_some());
        assert_eq!(told.challengers.matches, std::slice::from_ref(&honest));
        assert_eq!((check(&told), told.versions.len()), (Ok(()), 1));
        assert_eq!(drop_implausible_challengers(&mut told), None, "nothing is wrong any more");
        told.challengers.matches = vec![honest; MAX_MATCHES + 1];
        assert!(drop_implausible_challengers(&mut told).is_some());
        assert_eq!(told.challengers.matches.len(), MAX_MATCHES);
    }
}
