//! What must survive a power cut: everything that somebody outside may have seen, and what was saved last.

use std::{collections::BTreeMap, sync::Arc};

use agent_core::Ledger;
use serde::{Deserialize, Serialize};
use shared::{Generation, ModelName, ReleaseId};

/// The content of the ledger file, as the daemon keeps it: the core's ledger, and floors beside it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    pub ledger: Ledger,
    /// Stands for the versions of the signed metadata: it only grows.
    pub floor: u64,
}

/// What is known outside at a moment.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The last save that returned.
    pub saved: Arc<Saved>,
    /// A save that has begun and not returned.
    pub saving: Option<Arc<Saved>>,
    /// Highest generation that the server was told of.
    pub generation: Generation,
    /// Versions whose commit was reported, as long as nothing else was asked for.
    pub committed: BTreeMap<ModelName, ReleaseId>,
    /// Starts and trials of a candidate that were begun, by the generation that asked for it.
    pub starts: BTreeMap<(ReleaseId, Generation), u32>,
    pub trials: BTreeMap<(ReleaseId, Generation), u32>,
}
