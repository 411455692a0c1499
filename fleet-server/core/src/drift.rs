//! What counts of devices say about their inputs: whose have drifted, whose are broken, and what is to be told of it.
//!
//! Devices send windows of counts. They are added up twice: for each device until the next check ([`Sums`]), and for every
//! stratum by minute, hour and day, to look at ([`Keep`]). A check takes what each device brought of one feature to the detectors
//! of its fleet, one for each version of the model ([`check_versions`]), and gives findings; [`reconcile`] makes alarms of them: a new one, or one that is open
//! already once more.
//!
//! Nothing here follows a drift by itself: what a device was like is forgotten only by an [`Order`], which a person
//! gives or a policy that a person chose ([`Relearn`]).

mod alarm;
mod baseline;
mod feature;
mod order;
mod quality;
mod reconcile;
mod rule;
mod settings;
mod span;
mod status;
mod strata;
mod sums;
mod versions;
mod words;

#[cfg(test)]
mod tests;

pub use alarm::{
    AlarmKey, AlarmState, Cause, Distances, Evidence, FleetAlarm, Found, Level, MeanAndDeviation, RaisedBy,
};
pub use baseline::{LATE_SECS, is_of_baseline};
pub use feature::{Brought, FeatureState, Look, Outcome};
pub use order::{Order, Whom};
pub use reconcile::{MAX_FOUND, Reconciled, reconcile};
pub use rule::{Watched, rule};
pub use settings::{DriftSettings, InvalidSettings, Relearn};
pub use span::{Keep, Place, Span};
pub use status::{FeatureStatus, Leader};
pub use strata::{ALL, FIRMWARE, HARDWARE, Stratum, groups, strata};
pub use sums::Sums;
pub use versions::{Checked, Company, Version, check_versions};
pub(crate) use words::moved;
pub use words::whose;
