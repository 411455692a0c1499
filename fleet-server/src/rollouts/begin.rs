//! Begins a planned rollout.

use fleet_core::{Addressed, Plan, Rollout, RolloutSpec};
use shared::{RolloutId, Timestamp};
use uuid::Uuid;

use super::{
    RolloutError,
    entry::Entry,
    fleet::{Fleet, Turn},
};
use crate::store::{NewRollout, RolloutRow, Store};

impl Fleet {
    /// Starts a planned rollout in a turn; `why` is added to its entry in the audit log.
    pub(super) async fn begin(
        &self,
        turn: &mut Turn,
        spec: RolloutSpec,
        plan: Plan,
        why: &str,
    ) -> Result<RolloutId, RolloutError> {
        let now = turn.now;
        let id = spec.id.clone();
        let detail = format!("{} to {}{why}", spec.release, spec.selector);
        let (release, created_by) = (spec.release.clone(), spec.author.clone());
        let machine = Rollout::start(spec, plan, now);
        let new = NewRollout {
            id: id.clone(),
            release,
            // The turn that inserts the row also saves the machine.
            state: String::new(),
            phase: machine.state().word().to_owned(),
            created_by,
        };
        let entry = entry_of(&new, machine, now);
        Store::insert_rollout(&mut turn.tx, &new, now).await?;
        Store::audit(&mut turn.tx, now, &new.created_by, "rollout.start", id.as_str(), &detail).await?;
        turn.drafts.insert(id.clone(), entry);
        self.take_over(turn, &id);
        Ok(id)
    }
}

fn entry_of(new: &NewRollout, machine: Rollout, now: Timestamp) -> Entry {
    let row = RolloutRow {
        id: new.id.clone(),
        release: new.release.clone(),
        state: String::new(),
        phase: new.phase.clone(),
        finished: false,
        revision: 1,
        change: 0,
        created_by: new.created_by.clone(),
        created_at: now,
        changed_at: now,
    };
    Entry { row, machine, addressed: Addressed::default() }
}

/// Sorts by time, and a person can say it on the telephone: `20260131-084500-1f3a`.
pub(super) fn new_id(now: Timestamp) -> RolloutId {
    let seconds = i64::try_from(now.as_millis() / 1_000).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let random = Uuid::new_v4().simple().to_string();
    let text = format!("{}-{}", moment.strftime("%Y%m%d-%H%M%S"), &random[..4]);
    RolloutId::new(text).expect("digits, letters and dashes are allowed in names")
}
