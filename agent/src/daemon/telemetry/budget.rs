//! What telemetry and transfers may cost in a day, and what they have cost, over restarts.
//!
//! The day is that of UTC. The count on the disk runs ahead of what was spent, a step at a time, so that it is written
//! a few dozen times a day and a restart can only make the budget smaller. A day never goes back: a device whose clock
//! starts in the past after a restart does not get a second budget for it.

use std::path::PathBuf;

use agent_store::disk::Disk;
use serde::{Deserialize, Serialize};
use shared::{Timestamp, message::Limits};

const DAY_MS: u64 = 86_400_000;

/// A day that lies this much in the future was told by a wrong clock, and is forgotten.
const MAX_DAYS_AHEAD: u64 = 31;

/// The largest step of the count on the disk.
const MAX_STEP_BYTES: u64 = 64 * 1_024;

/// The smallest, so that a tiny budget is not written with every message.
const MIN_STEP_BYTES: u64 = 2 * 1_024;

/// Steps of a day.
const STEPS: u64 = 64;

/// Larger files are not ours.
const MAX_FILE_BYTES: u64 = 4_096;

/// What a budget is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) enum Purpose {
    Telemetry,
    Transfers,
}

/// What the file holds. The counts run ahead of the truth.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Page {
    day: u64,
    telemetry_bytes: u64,
    transfer_bytes: u64,
    limits: Limits,
}

/// The counts of today and their bounds.
#[derive(Debug)]
pub(in crate::daemon) struct Budget<D> {
    disk: D,
    path: PathBuf,
    page: Page,
    telemetry_bytes: u64,
    transfer_bytes: u64,
}

impl<D: Disk> Budget<D> {
    /// Goes on with what `path` says; a file that cannot be read counts as none.
    pub(in crate::daemon) fn open(disk: D, path: PathBuf) -> Self {
        let bytes = disk.read_bounded(&path, MAX_FILE_BYTES).ok().flatten();
        let page: Page = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let (telemetry_bytes, transfer_bytes) = (page.telemetry_bytes, page.transfer_bytes);
        Self { disk, path, page, telemetry_bytes, transfer_bytes }
    }

    pub(in crate::daemon) fn limits(&self) -> &Limits {
        &self.page.limits
    }

    /// Bytes spent today.
    pub(in crate::daemon) fn spent(&self, purpose: Purpose) -> u64 {
        match purpose {
            Purpose::Telemetry => self.telemetry_bytes,
            Purpose::Transfers => self.transfer_bytes,
        }
    }

    /// Bytes that may still be spent today; `None` without a bound.
    pub(in crate::daemon) fn left(&self, purpose: Purpose) -> Option<u64> {
        Some(self.limit(purpose)?.saturating_sub(self.spent(purpose)))
    }

    /// Takes newer limits and keeps them; false for those that are not newer.
    pub(in crate::daemon) fn adopt(&mut self, limits: Limits) -> bool {
        if limits.revision <= self.page.limits.revision {
            return false;
        }
        self.page.limits = limits;
        self.save();
        true
    }

    /// Begins another day when `now` lies in one.
    pub(in crate::daemon) fn begin_day(&mut self, now: Timestamp) {
        let day = now.as_millis() / DAY_MS;
        if day > self.page.day || self.page.day > day + MAX_DAYS_AHEAD {
            self.page = Page { day, limits: self.page.limits.clone(), ..Page::default() };
            (self.telemetry_bytes, self.transfer_bytes) = (0, 0);
        }
    }

    /// Spends `bytes` if the budget has them and so many more, which are kept for others.
    pub(in crate::daemon) fn spend(&mut self, purpose: Purpose, bytes: u64, kept: u64) -> bool {
        let enough = self.left(purpose).is_none_or(|left| bytes.saturating_add(kept) <= left);
        if enough {
            self.add(purpose, bytes);
        }
        enough
    }

    /// Notes `bytes` that were spent.
    pub(in crate::daemon) fn add(&mut self, purpose: Purpose, bytes: u64) {
        let spent = self.spent(purpose).saturating_add(bytes);
        let step = self.step(purpose);
        let (count, durable) = match purpose {
            Purpose::Telemetry => (&mut self.telemetry_bytes, &mut self.page.telemetry_bytes),
            Purpose::Transfers => (&mut self.transfer_bytes, &mut self.page.transfer_bytes),
        };
        *count = spent;
        if spent > *durable {
            *durable = spent.saturating_add(step);
            self.save();
        }
    }

    fn limit(&self, purpose: Purpose) -> Option<u64> {
        match purpose {
            Purpose::Telemetry => self.page.limits.telemetry_bytes_per_day,
            Purpose::Transfers => self.page.limits.transfer_bytes_per_day,
        }
    }

    fn step(&self, purpose: Purpose) -> u64 {
        let part = self.limit(purpose).map_or(MAX_STEP_BYTES, |limit| limit / STEPS);
        part.clamp(MIN_STEP_BYTES, MAX_STEP_BYTES)
    }

    /// A count that cannot be written is still kept until the agent ends; a full disk silences nobody.
    fn save(&self) {
        let bytes = serde_json::to_vec(&self.page).unwrap_or_default();
        if let Err(error) = self.disk.replace(&self.path, &bytes) {
            tracing::warn!(%error, "the count of the day's bytes was not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_store::disk::OsDisk;

    use super::*;

    const NOON: Timestamp = Timestamp(20_000 * DAY_MS + DAY_MS / 2);

    fn limits(revision: u64, bytes: u64) -> Limits {
        Limits { revision, telemetry_bytes_per_day: Some(bytes), transfer_bytes_per_day: None }
    }

    fn open(dir: &tempfile::TempDir) -> Budget<OsDisk> {
        let mut budget = Budget::open(OsDisk, dir.path().join("budget.json"));
        budget.begin_day(NOON);
        budget
    }

    #[test]
    fn a_budget_is_spent_to_its_end_and_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let mut budget = open(&dir);
        assert!(budget.adopt(limits(1, 10_000)));
        let spent = (0..100).filter(|_| budget.spend(Purpose::Telemetry, 300, 0)).count();
        assert_eq!((spent, budget.left(Purpose::Telemetry)), (33, Some(100)));
        assert!(budget.spend(Purpose::Transfers, 1 << 40, 0), "the other one has no bound");
        budget.begin_day(Timestamp(NOON.as_millis() + DAY_MS / 2));
        assert!(budget.spend(Purpose::Telemetry, 300, 0), "a new day");
    }

    #[test]
    fn a_restart_never_makes_the_budget_larger() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = 0;
        assert!(open(&dir).adopt(limits(1, 50_000)));
        for _ in 0..100 {
            let mut budget = open(&dir);
            all += (0..7).filter(|_| budget.spend(Purpose::Telemetry, 300, 0)).count() * 300;
        }
        assert!(all <= 50_000 && all > 25_000, "{all}");
    }

    #[test]
    fn a_clock_that_starts_in_the_past_brings_no_second_budget() {
        let dir = tempfile::tempdir().unwrap();
        let mut budget = open(&dir);
        assert!(budget.adopt(limits(1, 1_000)) && budget.spend(Purpose::Telemetry, 1_000, 0));
        budget.begin_day(Timestamp(NOON.as_millis() - 3 * DAY_MS));
        assert!(!budget.spend(Purpose::Telemetry, 1, 0));
        budget.begin_day(NOON);
        assert!(!budget.spend(Purpose::Telemetry, 1, 0));
    }

    #[test]
    fn a_wild_clock_does_not_silence_a_device_for_years() {
        let dir = tempfile::tempdir().unwrap();
        let mut budget = open(&dir);
        assert!(budget.adopt(limits(1, 1_000)));
        budget.begin_day(Timestamp(NOON.as_millis() + 4_000 * DAY_MS));
        assert!(budget.spend(Purpose::Telemetry, 1_000, 0));
        budget.begin_day(NOON);
        assert!(budget.spend(Purpose::Telemetry, 1_000, 0));
    }

    #[test]
    fn older_limits_do_not_come_back() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(&dir).adopt(limits(7, 1_000)));
        let mut budget = open(&dir);
        assert!(!budget.adopt(limits(6, u64::MAX)) && !budget.adopt(limits(7, u64::MAX)));
        assert_eq!(*budget.limits(), limits(7, 1_000));
    }
}
