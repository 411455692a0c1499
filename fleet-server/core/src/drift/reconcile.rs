//! Makes alarms of findings: new ones, or ones that are open already once more.

use std::collections::BTreeMap;

use shared::Timestamp;

use super::{AlarmKey, FleetAlarm, Found};

/// Findings of one feature of one release that are told at one time. A fleet in which more devices broke by themselves at once has a
/// cause in common that no group has, and a thousand alarms would hide it; how many there were is said.
pub const MAX_FOUND: usize = 50;

/// What follows from findings.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// To be told for the first time.
    pub new: Vec<Found>,
    /// Alarms that were found once more, as they are now.
    pub repeated: Vec<FleetAlarm>,
    /// Of those, the ones that are told once more.
    pub retold: Vec<FleetAlarm>,
    /// Findings beyond the bound, which are not told.
    pub left_out: usize,
}

/// What follows from `found`. `known` are alarms of the same release: those that are not over, and those that were closed within
/// `silent_secs`, in which the same is not told again unless it is silent by itself for a while. Of new alarms there are at most
/// `room`.
#[must_use]
pub fn reconcile(
    known: Vec<FleetAlarm>,
    found: Vec<Found>,
    now: Timestamp,
    silent_secs: u64,
    room: usize,
) -> Reconciled {
    let mut open = BTreeMap::<AlarmKey, FleetAlarm>::new();
    let mut silent = Vec::new();
    for alarm in known {
        match alarm.state.closed_at() {
            None => drop(open.insert(alarm.found.key(), alarm)),
            Some(at) if now.since(at).as_secs() < silent_secs => silent.push(alarm.found.key()),
            Some(_) => {}
        }
    }
    let mut reconciled = Reconciled::default();
    for found in found {
        let key = found.key();
        if let Some(mut alarm) = open.remove(&key) {
            alarm.repeat(found, now);
            if alarm.retell(now) {
                reconciled.retold.push(alarm.clone());
            }
            reconciled.repeated.push(alarm);
        } else if !found.cause.is_silent_by_itself() && silent.contains(&key) {
            // Somebody closed it a moment ago, knowing what it is.
        } else if reconciled.new.len() < room.min(MAX_FOUND) {
            reconciled.new.push(found);
        } else {
            reconciled.left_out += 1;
        }
    }
    reconciled
}
