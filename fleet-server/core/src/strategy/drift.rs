//! What a drift alarm about the release does to its rollout.

use serde::{Deserialize, Serialize};

/// What a rollout does when the server finds that the inputs or outputs of its release drift, where that may be the release's
/// doing (see [`DriftAlarm`](crate::DriftAlarm)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DriftGate {
    /// What happens.
    pub on_alarm: OnAlarm,
}

/// What happens at an alarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAlarm {
    /// The rollout stops, as it does for degraded metrics; `on_halt` says what becomes of its devices.
    #[default]
    Rollback,
    /// Nobody new is asked, and the wave under way is held until a person decides.
    Hold,
    /// It is told, and changes nothing.
    Ignore,
}

impl DriftGate {
    /// True for what nobody has to write down.
    #[must_use]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
