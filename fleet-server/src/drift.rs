//! Checks what devices counted for drift, and tells what was found.
//!
//! Windows are added up as they come (see [`crate::gateway`]). A check closes the period that they were added to and then takes one
//! feature after the other: it reads what is known of the feature under each version of its model, lets the core decide, and stores what is known then together
//! with the alarms and events that follow, in one transaction for each feature. What a period holds does not change after it is closed, and
//! what is known of a feature says up to which period that is, so a check that dies anywhere is taken up where it was, by
//! this server or another, and nothing counts twice. A release of which something cannot be read is left aside and keeps no other one
//! waiting. Only the server that holds the lease over time checks.
//!
//! A transaction for the whole check would be simpler, and would keep every other writer waiting while thousands of devices are
//! judged: deciding happens outside of transactions, which only store.

mod aside;
mod check;
mod event;
mod feature;
mod guardrail;
mod kll;
mod relearn;
mod renewed;
mod specs;
mod task;

use fleet_core::drift::{DriftSettings, Keep};

use crate::config::Drift;

pub use event::DriftEvent;
pub use guardrail::told_by_device;
pub use kll::{NoValues, kll_bytes};
pub use relearn::{Relearn as RelearnOrder, TooManyOrders, relearn};
pub use specs::Specs;
pub use task::run;

#[cfg(test)]
mod tests;

/// How drift is watched, where nothing else is said of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct DriftConfig {
    /// Seconds between two checks.
    pub check_secs: u64,
    /// Labels whose values are strata.
    pub strata: Vec<String>,
    /// How long sums are kept.
    pub keep: Keep,
    /// Settings of a model without its own.
    pub settings: DriftSettings,
}

impl From<&Drift> for DriftConfig {
    fn from(config: &Drift) -> Self {
        let (hour, day) = (3_600, 86_400);
        Self {
            check_secs: config.check_secs.into(),
            strata: config.strata.clone(),
            keep: Keep {
                minutes_secs: u64::from(config.keep_minutes_for_hours) * hour,
                hours_secs: u64::from(config.keep_hours_for_days) * day,
                days_secs: u64::from(config.keep_days_for_days) * day,
            },
            settings: config.settings(),
        }
    }
}
