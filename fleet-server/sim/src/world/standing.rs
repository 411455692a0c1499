//! How rollouts stand, for somebody who follows them: one that is over is kept as it was then, because a newer one may
//! take its devices.

use std::collections::BTreeMap;

use fleet_core::{Counts, Rollout, State};
use shared::RolloutId;

use super::World;

/// How a rollout stands, or stood when it was over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where, as stories write it: `completed`, `rolled_back`, ….
    pub state: String,
    /// What became of its devices.
    pub counts: Counts,
    /// Whether it is over.
    pub over: bool,
}

impl Standing {
    fn of(rollout: &Rollout) -> Self {
        let state = rollout.state();
        Self { state: word(state), counts: rollout.counts(), over: state.is_final() }
    }
}

/// As stories write it.
fn word(state: &State) -> String {
    state.word().replace(' ', "_")
}

impl World {
    /// How every rollout stands at this moment of the story.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<RolloutId, Standing> {
        let now = |rollout: &Rollout| (rollout.id().clone(), Standing::of(rollout));
        let mut standings: BTreeMap<_, _> = self.server.rollouts().map(now).collect();
        standings.extend(self.over.clone());
        standings
    }

    /// A turn of the server is over. A person may order something of a rollout that was over.
    pub(super) fn note_standings(&mut self) {
        for rollout in self.server.rollouts() {
            let (id, state) = (rollout.id(), rollout.state());
            if !state.is_final() {
                self.over.remove(id);
            } else if self.over.get(id).is_none_or(|then| then.state != word(state)) {
                self.over.insert(id.clone(), Standing::of(rollout));
            }
        }
    }
}
