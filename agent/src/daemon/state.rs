//! What the daemon keeps on disk about itself: the core's ledger and the floors of the signed metadata.

use std::time::Duration;

use agent_core::{Agent, Ledger};
use agent_store::{LedgerFile, LedgerFileError, disk::OsDisk};
use muster_link::Backoff;
use muster_trust::Floors;
use serde::{Deserialize, Serialize};

/// A disk that is full or fails for a moment is hardly noticed, one that is gone is asked twice a minute.
const RETRY: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(30) };

/// The content of the ledger file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) floors: Floors,
}

/// The state and its file. It is written only when it has changed.
pub(super) struct Saved {
    file: LedgerFile,
    state: State,
    revision: u64,
}

impl Saved {
    pub(super) fn open(dir: std::path::PathBuf) -> Result<Self, LedgerFileError> {
        let (file, state) = LedgerFile::open::<State>(OsDisk, dir)?;
        Ok(Self { file, state: state.unwrap_or_default(), revision: 0 })
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Makes the core's ledger and the floors durable, if either has moved, however often it has to be tried.
    pub(super) async fn save_in_the_end(&mut self, core: &Agent, floors: &Floors) {
        let mut failures = 0_u32;
        while let Err(error) = self.save_if_changed(core, floors) {
            if failures == 0 {
                let why = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(why, "the ledger cannot be written; nothing new is begun until it can");
            }
            tokio::time::sleep(RETRY.delay(failures, u32::MAX)).await;
            failures = failures.saturating_add(1);
        }
        if failures > 0 {
            tracing::info!(failures, "the ledger is written again, and the agent goes on");
        }
    }

    /// Makes them durable, if either has moved and the disk lets it.
    pub(super) fn save_if_changed(&mut self, core: &Agent, floors: &Floors) -> Result<(), LedgerFileError> {
        if core.ledger_revision() == self.revision && *floors == self.state.floors {
            return Ok(());
        }
        let next = State { ledger: core.ledger().clone(), floors: floors.clone() };
        self.file.save(&next)?;
        self.state = next;
        self.revision = core.ledger_revision();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::Settings;
    use shared::{BootId, DeviceId, Timestamp};
    use std::fs;

    fn core() -> Agent {
        let (device, boot) = (DeviceId::new("cam-1").unwrap(), BootId::new("boot").unwrap());
        Agent::new(device, boot, Ledger::default(), Vec::new(), Settings::default(), Timestamp(1))
    }

    /// A directory in the place of both copies: no write succeeds, for root as well.
    fn broken(dir: &tempfile::TempDir) -> (Saved, [std::path::PathBuf; 2]) {
        let saved = Saved::open(dir.path().to_owned()).unwrap();
        let copies = ["ledger.a", "ledger.b"].map(|name| dir.path().join(name));
        for copy in &copies {
            fs::create_dir(copy).unwrap();
        }
        (saved, copies)
    }

    #[tokio::test]
    async fn a_ledger_that_cannot_be_written_is_written_when_the_disk_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let (mut saved, copies) = broken(&dir);
        let (core, floors) = (core(), Floors::default());
        let repair = async { copies.iter().for_each(|copy| fs::remove_dir(copy).unwrap()) };
        // The first attempt has failed by the time the second future is polled.
        tokio::join!(biased; saved.save_in_the_end(&core, &floors), repair);
        let found = Saved::open(dir.path().to_owned()).unwrap();
        assert_eq!(found.state().ledger, *core.ledger());
    }

    #[tokio::test]
    async fn a_daemon_that_waits_for_its_disk_can_still_be_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let (mut saved, _copies) = broken(&dir);
        let cancel = tokio_util::sync::CancellationToken::new();
        let (core, floors) = (core(), Floors::default());
        let saving = cancel.run_until_cancelled(saved.save_in_the_end(&core, &floors));
        let (ended, ()) = tokio::join!(biased; saving, async { cancel.cancel() });
        assert!(ended.is_none());
    }
}
