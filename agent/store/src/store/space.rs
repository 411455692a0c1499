//! Room on the file system: a bound for the store, and a spare that is never touched.

use std::path::Path;

use super::{StoreError, io_error};
use crate::disk::Disk;

/// How much of the file system the store may use.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// The store and its staging files together may take this much.
    pub quota_bytes: u64,
    /// This much of the file system stays free for the ledger and everybody else.
    pub spare_bytes: u64,
}

impl Room {
    /// Checks that `needed_bytes` more fit beside what lies in the folders of the store.
    pub(super) fn check(
        &self,
        disk: &impl Disk,
        folders: [&Path; 2],
        needed_bytes: u64,
    ) -> Result<(), StoreError> {
        let mut used = 0_u64;
        for folder in folders {
            let entries = disk.list(folder).map_err(io_error("list the store"))?;
            used += entries.iter().map(|entry| entry.size_bytes).sum::<u64>();
        }
        let within_quota = self.quota_bytes.saturating_sub(used);
        let on_disk = disk.free_bytes(folders[0]).map_err(io_error("ask for the free space"))?;
        let free_bytes = within_quota.min(on_disk.saturating_sub(self.spare_bytes));
        if needed_bytes > free_bytes {
            return Err(StoreError::NoRoom { needed_bytes, free_bytes });
        }
        Ok(())
    }
}
