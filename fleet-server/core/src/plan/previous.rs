//! What a device goes back to.

use serde::{Deserialize, Serialize};
use shared::ReleaseId;

use super::{RolloutSpec, RolloutSummary};
use crate::device::DeviceFacts;

/// Whether a device may keep what a rollout brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Stay {
    /// It may.
    Keeps,
    /// The release is taken away from it, whether it knows already or not.
    GoesBack {
        /// What it goes back to.
        to: Option<ReleaseId>,
    },
}

/// What a device goes back to when this rollout takes its release away again: what it runs or shall run, unless the rollout
/// that brought that takes it away too. Then it is what came before, and so on.
pub(super) fn previous(
    spec: &RolloutSpec,
    device: &DeviceFacts,
    others: &[RolloutSummary],
) -> Option<ReleaseId> {
    let age = |other: &&RolloutSummary| (other.created_at, other.id.clone());
    let mut release = device.fallback(&spec.release).cloned();
    let mut before = None;
    loop {
        let brought = |other: &&RolloutSummary| {
            Some(&other.release) == release.as_ref()
                && other.asked.contains_key(&device.id)
                && before.as_ref().is_none_or(|before| age(other) < *before)
        };
        let Some(newest) = others.iter().filter(brought).max_by_key(age) else { return release };
        let Some(Stay::GoesBack { to }) = newest.asked.get(&device.id) else { return release };
        release.clone_from(to);
        before = Some(age(&newest));
    }
}
