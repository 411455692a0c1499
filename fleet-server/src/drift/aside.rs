//! Releases that a check leaves aside, because something of them cannot be read or judged.
//!
//! Others go on. What devices counted of a release that was left aside, and what was ordered, waits for the next check, which tries again:
//! so it is tried once in each interval, and somebody has a day of hourly checks to see to it.

use std::collections::BTreeSet;

use shared::ReleaseId;

use crate::store::{KEPT_PERIODS, StoreError};

/// What a check leaves aside.
#[derive(Debug, Default)]
pub(super) struct Aside(BTreeSet<ReleaseId>);

impl Aside {
    /// Leaves a release aside, and says why the first time.
    pub(super) fn put(&mut self, release: &ReleaseId, error: &(dyn std::error::Error + 'static)) {
        if self.0.insert(release.clone()) {
            tracing::error!(
                %release, error,
                "a release is not checked for drift; what was counted and ordered of it waits for the next check, and is given up after {KEPT_PERIODS}. \
                 Until then, restore what the error names from a backup, or delete that row, but not one of devices: set its labels again; \
                 settings are changed by 'muster drift settings'"
            );
        }
    }

    /// What was read of a release. A row that cannot be understood leaves the release aside; any other failure is the database's and ends
    /// the check.
    pub(super) fn of<T>(
        &mut self,
        release: &ReleaseId,
        read: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error @ StoreError::Corrupt { .. }) => {
                self.put(release, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn releases(&self) -> &BTreeSet<ReleaseId> {
        &self.0
    }
}
