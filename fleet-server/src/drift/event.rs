//! What is told of alarms, to people and programs that follow events.

use fleet_core::drift::{FleetAlarm, Reconciled};
use serde::Serialize;
use shared::{ReleaseId, Timestamp};

use crate::{
    app::App,
    store::{Store, StoreError, Tx},
};

/// Kind of the events; their subject is the model.
const KIND: &str = "drift";

/// An event about an alarm.
#[derive(Debug, Clone, Serialize)]
pub struct DriftEvent<'a> {
    event: &'static str,
    text: String,
    alarm: &'a FleetAlarm,
}

impl<'a> DriftEvent<'a> {
    /// It was raised.
    #[must_use]
    pub fn detected(alarm: &'a FleetAlarm) -> Self {
        Self { event: "drift.detected", text: alarm.found.to_string(), alarm }
    }

    /// The drift of a release, which was told before, is still there.
    #[must_use]
    pub fn repeated(alarm: &'a FleetAlarm) -> Self {
        Self { event: "drift.repeated", text: alarm.found.to_string(), alarm }
    }

    /// It is over.
    #[must_use]
    pub fn closed(alarm: &'a FleetAlarm) -> Self {
        Self { event: "drift.closed", text: alarm.found.to_string(), alarm }
    }

    /// Adds it to the events as part of `tx`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert(&self, tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
        Store::insert_event(tx, now, KIND, self.alarm.release.model.as_str(), self).await
    }
}

/// What was stored and is to be told to everybody who waits.
#[derive(Default)]
pub(super) struct Told {
    new: Vec<FleetAlarm>,
    /// How many alarms are still there.
    retold: usize,
}

/// Stores what follows from findings of a release, with the events of what is told, which is added to `told`.
pub(super) async fn save(
    tx: &mut Tx,
    release: &ReleaseId,
    reconciled: Reconciled,
    now: Timestamp,
    told: &mut Told,
) -> Result<(), StoreError> {
    for alarm in &reconciled.repeated {
        Store::save_alarm(tx, alarm).await?;
    }
    for alarm in &reconciled.retold {
        DriftEvent::repeated(alarm).insert(tx, now).await?;
    }
    told.retold += reconciled.retold.len();
    for found in reconciled.new {
        let alarm = FleetAlarm::open(Store::next_alarm(tx).await?, release.clone(), found, now);
        Store::save_alarm(tx, &alarm).await?;
        DriftEvent::detected(&alarm).insert(tx, now).await?;
        told.new.push(alarm);
    }
    Ok(())
}

/// Tells everybody who waits of alarms that were stored.
pub(super) fn tell(app: &App, told: &Told) {
    let Told { new, retold } = told;
    if new.is_empty() && *retold == 0 {
        return;
    }
    for alarm in new {
        tracing::warn!(release = %alarm.release, alarm = alarm.id, feature = alarm.found.feature, "{}", alarm.found);
    }
    app.metrics.drift_alarms.inc_by(new.len() as u64);
    app.changes.send_modify(|count| *count += 1);
    app.rollouts.hear_alarms();
}
