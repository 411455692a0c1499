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
mod tests {
    use super::*;
    use agent_store::disk::OsDisk;
    use std::fs;

    #[test]
    fn a_spool_that_cannot_be_opened_for_a_moment_is_opened_later() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("spool");
        // A file in its place: no folder can be made, for root as well.
        fs::write(&dir, b"").unwrap();
        let bounds = Bounds { max_bytes: 1 << 20, spare_bytes: 0 };
        let opening = std::thread::spawn({
            let dir = dir.clone();
            move || open_spool(&OsDisk, &dir, bounds).is_ok()
        });
        fs::remove_file(&dir).unwrap();
        assert!(opening.join().unwrap());
    }
}
