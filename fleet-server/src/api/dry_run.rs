//! Changes that are only tried.

use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::Answer;
use crate::store::{StoreError, Tx};

/// Whether to change anything.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
pub struct DryRun {
    /// True to check everything, answer as if it were done, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

impl DryRun {
    /// True when the request is to be carried out.
    pub(super) fn is_meant(self) -> bool {
        !self.dry_run
    }

    /// Ends the transaction: what was only tried is undone. True when it was done.
    pub(super) async fn end(self, tx: Tx) -> Answer<bool> {
        let ended = if self.dry_run { tx.rollback().await } else { tx.commit().await };
        ended.map_err(StoreError::from)?;
        Ok(!self.dry_run)
    }
}
