//! Windows of figures: filled by the runner, closed by time, then the courier's until the server has stored them.

pub(super) mod budget;
pub(super) mod courier;

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

use shared::{
    BootId, ReleaseId, Timestamp,
    challenger::{ChallengerFigures, ChallengerState, ChallengerWindow, MAX_MATCHES},
    telemetry::{DriftAlarm, MAX_DRIFT_ALARMS, MAX_VERSIONS, Telemetry, VersionFigures},
};

use crate::health::Monitor;
use courier::Courier;

/// Alarms of drift that wait for a window: every feature of four releases at once. More are kept beside them and told when
/// the server has these.
const MAX_WAITING_ALARMS: usize = 4 * muster_sketch::reference::MAX_FEATURES;

/// The open window.
pub(super) struct Windows {
    boot: BootId,
    data_dir: PathBuf,
    monitor: Monitor,
    next_sequence: u64,
    opened_at: Timestamp,
    versions: BTreeMap<ReleaseId, VersionFigures>,
    /// By champion and challenger.
    matches: BTreeMap<(ReleaseId, ReleaseId), ChallengerFigures>,
    challengers: Vec<ChallengerState>,
    /// Oldest first.
    drift_alarms: VecDeque<DriftAlarm>,
}

impl Windows {
    pub(super) fn new(boot: BootId, data_dir: PathBuf, now: Timestamp) -> Self {
        Self {
            boot,
            data_dir,
            monitor: Monitor::new(),
            next_sequence: 1,
            opened_at: now,
            versions: BTreeMap::new(),
            matches: BTreeMap::new(),
            challengers: Vec::new(),
            drift_alarms: VecDeque::new(),
        }
    }

    /// Adds what a version did.
    pub(super) fn add(&mut self, figures: &VersionFigures) {
        let known = self.versions.contains_key(&figures.release);
        if known || self.versions.len() < MAX_VERSIONS {
            let sum = self.versions.entry(figures.release.clone());
            sum.or_insert_with(|| VersionFigures::new(figures.release.clone())).merge(figures);
        }
    }

    /// Adds what a challenger did beside a champion.
    pub(super) fn add_match(&mut self, figures: &ChallengerFigures) {
        let key = (figures.champion.clone(), figures.challenger.clone());
        if self.matches.contains_key(&key) || self.matches.len() < MAX_MATCHES {
            let new = || ChallengerFigures::new(figures.champion.clone(), figures.challenger.clone());
            self.matches.entry(key).or_insert_with(new).merge(figures);
        }
    }

    /// Adds alarms of drift, which are told as windows have room for them.
    pub(super) fn add_alarms(&mut self, alarms: Vec<DriftAlarm>) {
        let room = MAX_WAITING_ALARMS.saturating_sub(self.drift_alarms.len());
        self.drift_alarms.extend(alarms.into_iter().take(room));
    }

    /// Adds alarms again that the server does not have, although no window waits that tells them: theirs was lost. While some
    /// wait here, those may be the same.
    pub(super) fn add_untold(&mut self, untold: impl FnOnce() -> Vec<DriftAlarm>) {
        if self.drift_alarms.is_empty() {
            self.add_alarms(untold());
        }
    }

    /// How far each challenger is, which is told with the window.
    pub(super) fn note_challengers(&mut self, states: Vec<ChallengerState>) {
        self.challengers = states;
    }

    /// Closes the window if it is long enough for what telemetry may cost; otherwise it goes on.
    pub(super) fn close_if_due(&mut self, now: Timestamp, link_bytes: (u64, u64), courier: &Courier) {
        if now.since(self.opened_at) >= courier.window() {
            self.close(now, link_bytes, courier);
        }
    }

    /// Closes the window and gives it away. When the courier is far behind the window stays open: what it holds is
    /// told later, in sum.
    pub(super) fn close(&mut self, now: Timestamp, link_bytes: (u64, u64), courier: &Courier) {
        let window = Telemetry {
            boot: self.boot.clone(),
            sequence: self.next_sequence,
            from: self.opened_at,
            to: now,
            health: self.monitor.read(&self.data_dir, link_bytes),
            delivery: courier.delivery(),
            versions: self.versions.values().cloned().collect(),
            challengers: ChallengerWindow {
                matches: self.matches.values().cloned().collect(),
                states: self.challengers.clone(),
            },
            drift_alarms: self.drift_alarms.iter().take(MAX_DRIFT_ALARMS).cloned().collect(),
        };
        if !courier.take(window) {
            return;
        }
        self.next_sequence += 1;
        self.opened_at = now;
        self.versions.clear();
        self.matches.clear();
        let told = self.drift_alarms.len().min(MAX_DRIFT_ALARMS);
        self.drift_alarms.drain(..told);
    }
}

#[cfg(test)]
mod tests {
    use shared::{MetricName, telemetry::CustomKind};

    use super::*;

    fn windows() -> (Windows, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let boot = BootId::new("boot").unwrap();
        (Windows::new(boot, dir.path().to_path_buf(), Timestamp(0)), dir)
    }

    fn figures() -> VersionFigures {
        let mut figures = VersionFigures::new("digits@1".parse().unwrap());
        figures.counts.ok = 3;
        figures
    }

    #[test]
    fn figures_of_one_version_add_up_within_a_window() {
        let (mut windows, _dir) = windows();
        let (courier, letters) = Courier::detached(4);
        windows.add(&figures());
        windows.add(&figures());
        windows.close(Timestamp(1), (0, 0), &courier);
        windows.close(Timestamp(2), (0, 0), &courier);
        let told: Vec<_> = courier::windows_in(&letters).collect();
        assert_eq!(told[0].versions[0].counts.ok, 6);
        assert!(told[1].versions.is_empty() && told[1].sequence == 2);
    }

    #[test]
    fn what_applications_reported_arrives_in_the_window_with_the_version_that_answered() {
        let (mut windows, _dir) = windows();
        let (courier, letters) = Courier::detached(1);
        let scrap = MetricName::new("scrap").unwrap();
        for (release, value) in [("digits@1", 2.0), ("digits@2", 5.0), ("digits@2", 1.0)] {
            let mut figures = VersionFigures::new(release.parse().unwrap());
            figures.custom.record(&scrap, CustomKind::Counter, value);
            windows.add(&figures);
        }
        windows.close(Timestamp(1), (0, 0), &courier);
        let told = courier::windows_in(&letters).next().unwrap();
        let sums =
            told.versions.iter().map(|of| (of.release.to_string(), of.custom.get(&scrap).unwrap().sum));
        assert_eq!(sums.collect::<Vec<_>>(), [("digits@1".into(), 2.0), ("digits@2".into(), 6.0)]);
    }

    #[test]
    fn what_challengers_did_adds_up_by_champion_and_the_pairs_are_bounded() {
        let (mut windows, _dir) = windows();
        let (courier, letters) = Courier::detached(4);
        for champion in [1, 1, 2, 3, 4, 5, 6, 7, 8, 9] {
            let champion = format!("digits@{champion}").parse().unwrap();
            let mut figures = ChallengerFigures::new(champion, "digits@10".parse().unwrap());
            figures.decided(Some(3), Some(8));
            windows.add_match(&figures);
        }
        windows.close(Timestamp(1), (0, 0), &courier);
        windows.close(Timestamp(2), (0, 0), &courier);
        let told: Vec<_> = courier::windows_in(&letters).collect();
        let matches = &told[0].challengers.matches;
        assert_eq!(matches.len(), MAX_MATCHES);
        assert_eq!((matches[0].disagreed, matches[1].disagreed), (2, 1));
        assert!(told[1].challengers.is_empty());
    }

    fn alarm(feature: usize) -> DriftAlarm {
        let text = r#"{"direction":{"score":"location","sign":"up"},"evidence":2.0,"threshold":1.0,"at_secs":9,"since_secs":0,"checks":1,"samples":9,"shift":1.0}"#;
        let alarm = serde_json::from_str(text).unwrap();
        DriftAlarm { release: "digits@1".parse().unwrap(), feature: format!("f{feature}"), alarm }
    }

    #[test]
    fn alarms_of_drift_are_told_once_in_order_and_as_many_as_a_window_holds() {
        let (mut windows, _dir) = windows();
        let (courier, letters) = Courier::detached(1);
        let alarms: Vec<_> = (0..MAX_DRIFT_ALARMS + 3).map(alarm).collect();
        windows.add_alarms(alarms.clone());
        windows.close(Timestamp(1), (0, 0), &courier);
        windows.close(Timestamp(2), (0, 0), &courier);
        assert_eq!(windows.drift_alarms.len(), 3, "the courier did not take the second");
        let first = courier::windows_in(&letters).next().unwrap();
        assert_eq!(first.drift_alarms, alarms[..MAX_DRIFT_ALARMS]);
        windows.close(Timestamp(3), (0, 0), &courier);
        let second = courier::windows_in(&letters).next().unwrap();
        assert_eq!(second.drift_alarms, alarms[MAX_DRIFT_ALARMS..]);
        windows.add_alarms((0..2 * MAX_WAITING_ALARMS).map(alarm).collect());
        assert_eq!(windows.drift_alarms.len(), MAX_WAITING_ALARMS);
    }

    #[test]
    fn alarms_are_told_again_only_where_none_wait_that_may_be_the_same() {
        let (mut windows, _dir) = windows();
        let (courier, letters) = Courier::detached(1);
        windows.add_alarms(vec![alarm(1)]);
        windows.add_untold(|| vec![alarm(1), alarm(2)]);
        windows.close(Timestamp(1), (0, 0), &courier);
        assert_eq!(courier::windows_in(&letters).next().unwrap().drift_alarms, [alarm(1)]);
        windows.add_untold(|| vec![alarm(1), alarm(2)]);
        windows.close(Timestamp(2), (0, 0), &courier);
        assert_eq!(courier::windows_in(&letters).next().unwrap().drift_alarms, [alarm(1), alarm(2)]);
    }

    #[test]
    fn a_window_that_the_courier_cannot_take_goes_on_and_loses_nothing() {
        let (mut windows, _dir) = windows();
        let (courier, letters) = Courier::detached(1);
        windows.close(Timestamp(1), (0, 0), &courier);
        windows.add(&figures());
        windows.close(Timestamp(2), (0, 0), &courier);
        assert_eq!(courier::windows_in(&letters).count(), 1);
        windows.add(&figures());
        windows.close(Timestamp(3), (0, 0), &courier);
        let told: Vec<_> = courier::windows_in(&letters).collect();
        assert_eq!((told[0].versions[0].counts.ok, told[0].sequence, told[0].from), (6, 2, Timestamp(1)));
    }
}
