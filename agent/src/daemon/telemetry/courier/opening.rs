//! Opening the spool, with patience: a disk that fails for a moment must not cost the figures of a whole run.

use std::{io, path::Path, thread::sleep, time::Duration};

use agent_store::{
    disk::Disk,
    spool::{Bounds, Spool},
};

/// Waits between attempts. The thread has nothing else to do, and windows wait for it in their queue.
const WAITS: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(10)];

/// Opens the spool in `dir`.
pub(super) fn open_spool<D: Disk>(disk: &D, dir: &Path, bounds: Bounds) -> io::Result<Spool<D>> {
    for wait in WAITS {
        match Spool::open(disk.clone(), dir.to_owned(), bounds) {
            Ok(spool) => return Ok(spool),
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "the spool cannot be opened; trying again");
            }
        }
        sleep(wait);
    }
    Spool::open(disk.clone(), dir.to_owned(), bounds)
}

#[cfg(test)]
pub(in crate::daemon) mod tests {
    use std::{
        fs::File,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    use agent_store::disk::{Entry, OpenAs, OsDisk};

    use super::*;

    /// A disk on which no folder can be made the first time.
    #[derive(Debug, Clone, Default)]
    pub(in crate::daemon) struct FailsOnce {
        tries: Arc<AtomicU32>,
    }

    impl Disk for FailsOnce {
        type File = File;

        fn make_dir(&self, path: &Path) -> io::Result<()> {
            match self.tries.fetch_add(1, Ordering::Relaxed) {
                0 => Err(io::Error::other("the disk fails for a moment")),
                _ => OsDisk.make_dir(path),
            }
        }

        fn open(&self, path: &Path, open_as: OpenAs) -> io::Result<File> {
            OsDisk.open(path, open_as)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            OsDisk.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            OsDisk.remove(path)
        }

        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            OsDisk.sync_dir(path)
        }

        fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
            OsDisk.list(dir)
        }

        fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
            OsDisk.free_bytes(dir)
        }
    }

    #[test]
    fn a_spool_that_cannot_be_opened_for_a_moment_is_opened_later() {
        let scratch = tempfile::tempdir().unwrap();
        let (disk, bounds) = (FailsOnce::default(), Bounds { max_bytes: 1 << 20, spare_bytes: 0 });
        assert!(open_spool(&disk, &scratch.path().join("spool"), bounds).is_ok());
        assert_eq!(disk.tries.load(Ordering::Relaxed), 2);
    }
}
