//! Room on the file system: a bound for the store, and a spare that is never touched.

use std::{fs, path::Path};

use super::{StoreError, io_error};

/// How much of the file system the store may use.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// The store and its staging files together may take this much.
    pub quota_bytes: u64,
    /// This much of the file system stays free for the ledger and everybody else.
    pub spare_bytes: u64,
}

impl Room {
    /// Checks that `needed_bytes` more fit beside what lies in `artifacts` and its sibling folders.
    pub(super) fn check(&self, artifacts: &Path, needed_bytes: u64) -> Result<(), StoreError> {
        let used =
            used_bytes(artifacts) + artifacts.parent().map_or(0, |root| used_bytes(&root.join("staging")));
        let within_quota = self.quota_bytes.saturating_sub(used);
        let on_disk = rustix::fs::statvfs(artifacts)
            .map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize))
            .map_err(|error| io_error("ask for the free space")(error.into()))?;
        let free_bytes = within_quota.min(on_disk.saturating_sub(self.spare_bytes));
        if needed_bytes > free_bytes {
            return Err(StoreError::NoRoom { needed_bytes, free_bytes });
        }
        Ok(())
    }
}

fn used_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
