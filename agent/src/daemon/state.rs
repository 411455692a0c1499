//! What the daemon keeps on disk about itself: the core's ledger and the floors of the signed metadata.

use agent_core::Ledger;
use muster_trust::Floors;
use serde::{Deserialize, Serialize};

use crate::ledger_file::{LedgerFile, LedgerFileError};

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
        let (file, state) = LedgerFile::open::<State>(dir)?;
        Ok(Self { file, state: state.unwrap_or_default(), revision: 0 })
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Makes the core's ledger and the floors durable, if either has moved.
    pub(super) fn save_if_changed(
        &mut self,
        core: &agent_core::Agent,
        floors: &Floors,
    ) -> Result<(), LedgerFileError> {
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
