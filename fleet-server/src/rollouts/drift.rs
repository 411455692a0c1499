//! Passes drift alarms on to the rollouts of the releases that they are about.
//!
//! The check that raises an alarm writes an event in its own transaction, and nothing else: it knows no rollout. Rollouts
//! read such events from where they stopped, and how far they have come is stored together with what the machines made of
//! them. So an alarm reaches a rollout once, whichever server dies when: being told at once is a courtesy
//! ([`Executor::hear_alarms`](super::Executor::hear_alarms)), and what it misses is found at the next look or tick. Before a
//! rollout starts, or goes on because somebody says so, it is made sure that it hears of nothing that was found before.

use std::collections::BTreeSet;

use fleet_core::{DriftAlarm, Input};
use muster_sketch::detector::{Direction, Scope};
use serde::Deserialize;
use shared::{DeviceId, ReleaseId, Timestamp};

use super::{
    RolloutError,
    entry::Entry,
    fleet::{Fleet, Turn},
};
use crate::store::{EventRow, Store};

/// Kind of the events that tell of alarms; their subject is the model.
const KIND: &str = "drift";

/// How far rollouts have come in reading them.
const CURSOR: &str = "rollouts.drift";

/// What the events of a new alarm, and of one that is found again, are called. A rollout that began after an alarm was raised, or that it
/// did not concern then, hears of it when it is found again.
const FOUND: [&str; 2] = ["drift.detected", "drift.repeated"];

/// An event of the drift check, as far as rollouts read it: newer programs may say more.
#[derive(Debug, Deserialize)]
struct Told {
    alarm: Raised,
}

#[derive(Debug, Deserialize)]
struct Raised {
    id: u64,
    release: ReleaseId,
    found: Found,
    /// When it was found, the last time of several.
    last_at: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Found {
    cause: Cause,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Cause {
    /// A distribution moved.
    Drift {
        finding: Finding,
        /// Devices with other releases that could be compared with.
        #[serde(default)]
        others: usize,
        /// Some could not be counted.
        #[serde(default)]
        uncounted: bool,
    },
    /// Data are broken, or a device is odd: what measures is at fault, and not the release.
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Finding {
    feature: String,
    scope: Scope,
    devices: usize,
    alarm: Evidence,
}

#[derive(Debug, Deserialize)]
struct Evidence {
    direction: Direction,
    shift: f64,
    evidence: f64,
    threshold: f64,
}

impl Raised {
    /// The alarm of an event; `None` when it tells of something else.
    fn of(row: &EventRow) -> Option<Self> {
        if !row.document["event"].as_str().is_some_and(|event| FOUND.contains(&event)) {
            return None;
        }
        match Told::deserialize(&row.document) {
            Ok(told) => Some(told.alarm),
            Err(error) => {
                // It may not keep rollouts from what comes after it.
                tracing::error!(event = row.sequence, %error, "rollouts do not understand a drift alarm");
                None
            }
        }
    }
}

impl Fleet {
    /// Tells rollouts of the alarms that they have not heard of; returns whose desired state changed, and nothing when there
    /// was none.
    pub(super) async fn hear_alarms(
        &mut self,
        now: Timestamp,
    ) -> Result<Option<BTreeSet<DeviceId>>, RolloutError> {
        let mut changed = None;
        while self.app.store.newest_event_of_kind(KIND).await? > self.heard_alarm {
            let mut turn = self.turn(now).await?;
            let heard = Store::cursor(&mut turn.tx, CURSOR).await?;
            let events = Store::events_of_kind(&mut turn.tx, KIND, heard).await?;
            let newest = events.last().map_or(heard, |event| event.sequence);
            for raised in events.iter().filter_map(Raised::of) {
                self.pass_on(&mut turn, raised);
            }
            Store::set_cursor(&mut turn.tx, CURSOR, newest).await?;
            let of_turn = self.finish(turn).await?;
            changed.get_or_insert_with(BTreeSet::new).extend(of_turn);
            self.heard_alarm = newest;
        }
        Ok(changed)
    }

    fn pass_on(&self, turn: &mut Turn, raised: Raised) {
        let Raised { id, release, found, last_at } = raised;
        let Cause::Drift { finding, others, uncounted } = found.cause else { return };
        let Evidence { direction, shift, evidence, threshold } = finding.alarm;
        let alarm = DriftAlarm {
            number: id,
            feature: finding.feature,
            scope: finding.scope,
            direction,
            shift,
            evidence,
            threshold,
            devices: finding.devices,
            others,
            uncounted,
            at: last_at,
        };
        let is_concerned = |entry: &&Entry| entry.row.release == release && !entry.machine.state().is_final();
        for entry in self.entries.values().filter(is_concerned) {
            turn.input(entry, Input::Drifted { alarm: alarm.clone() });
        }
    }
}
