//! Windows of figures: filled by the runner, closed by time, kept until the server has stored them.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

use shared::{
    BootId, ReleaseId, Timestamp,
    telemetry::{MAX_VERSIONS, Telemetry, VersionFigures},
};

use super::outgoing::Outgoing;
use crate::health::Monitor;

/// Windows kept while the server does not answer: two hours of the default interval. Older ones go first.
const MAX_WAITING: usize = 240;

/// The open window and those that wait for their acknowledgement.
pub(super) struct Windows {
    boot: BootId,
    data_dir: PathBuf,
    monitor: Monitor,
    next_sequence: u64,
    opened_at: Timestamp,
    versions: BTreeMap<ReleaseId, VersionFigures>,
    waiting: VecDeque<Telemetry>,
    /// Windows that were dropped unsent.
    lost: u64,
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
            waiting: VecDeque::new(),
            lost: 0,
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

    /// Closes the window and sends it.
    pub(super) fn close(&mut self, now: Timestamp, link_bytes: (u64, u64), outgoing: &Outgoing) {
        let window = Telemetry {
            boot: self.boot.clone(),
            sequence: self.next_sequence,
            from: self.opened_at,
            to: now,
            health: self.monitor.read(&self.data_dir, link_bytes),
            versions: std::mem::take(&mut self.versions).into_values().collect(),
        };
        self.next_sequence += 1;
        self.opened_at = now;
        outgoing.telemetry(&window);
        self.keep(window);
    }

    fn keep(&mut self, window: Telemetry) {
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
            self.lost += 1;
            tracing::warn!(
                lost = self.lost,
                "the server has been away for long; the oldest telemetry is dropped"
            );
        }
        self.waiting.push_back(window);
    }

    /// Sends everything again that the server has not acknowledged.
    pub(super) fn resend(&self, outgoing: &Outgoing) {
        self.waiting.iter().for_each(|window| outgoing.telemetry(window));
    }

    /// Windows that wait, and windows that were dropped.
    pub(super) fn waiting(&self) -> (u64, u64) {
        (self.waiting.len() as u64, self.lost)
    }

    /// The server has stored a window.
    pub(super) fn acknowledge(&mut self, boot: &BootId, sequence: u64) {
        if *boot == self.boot {
            self.waiting.retain(|window| window.sequence != sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::DeviceId;

    fn windows() -> (Windows, Outgoing, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let boot = BootId::new("boot").unwrap();
        let windows = Windows::new(boot, dir.path().to_path_buf(), Timestamp(0));
        (windows, Outgoing::new(DeviceId::new("d").unwrap()).0, dir)
    }

    #[test]
    fn only_an_acknowledged_window_is_forgotten() {
        let (mut windows, outgoing, _dir) = windows();
        windows.close(Timestamp(1), (0, 0), &outgoing);
        windows.close(Timestamp(2), (0, 0), &outgoing);
        windows.acknowledge(&BootId::new("other").unwrap(), 1);
        assert_eq!(windows.waiting.len(), 2);
        windows.acknowledge(&BootId::new("boot").unwrap(), 1);
        assert_eq!(windows.waiting.iter().map(|w| w.sequence).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn the_oldest_window_goes_first_and_the_loss_is_counted() {
        let (mut windows, outgoing, _dir) = windows();
        for i in 0..=MAX_WAITING as u64 {
            windows.close(Timestamp(i), (0, 0), &outgoing);
        }
        assert_eq!((windows.waiting.len(), windows.waiting[0].sequence, windows.lost), (MAX_WAITING, 2, 1));
    }

    #[test]
    fn figures_of_one_version_add_up_within_a_window() {
        let (mut windows, outgoing, _dir) = windows();
        let mut figures = VersionFigures::new("digits@1".parse().unwrap());
        figures.counts.ok = 3;
        windows.add(&figures);
        windows.add(&figures);
        windows.close(Timestamp(1), (0, 0), &outgoing);
        assert_eq!(windows.waiting[0].versions[0].counts.ok, 6);
        windows.close(Timestamp(2), (0, 0), &outgoing);
        assert!(windows.waiting[1].versions.is_empty());
    }
}
