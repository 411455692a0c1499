//! From a rate that people can mean to the evidence that an alarm takes.

use muster_sketch::detector::{BadRule, FleetRule, FleetSize, Scores};

use super::DriftSettings;

/// Seconds of a year, with its share of leap days.
const YEAR_SECS: f64 = 31_557_600.0;

/// A little below the largest threshold that detectors take, for what rounding adds; what asks for more gets this, and so fewer
/// checks between false alarms than it asked for. The largest fleet at a check a minute reaches it at 200 years.
const MAX_CHECKS: f64 = 0.999e15;

/// What is watched of a model, over all its versions that devices run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// Devices.
    pub devices: u64,
    /// Groups that they are in.
    pub groups: u64,
    /// Versions. The devices of each are a world of their own, which may alarm.
    pub versions: u64,
}

/// The rule for a version with these features, of a model of which `watched` is watched at a check every `check_secs`.
///
/// # Errors
/// When there is no feature.
pub fn rule(
    settings: &DriftSettings,
    scores: &[Scores],
    watched: Watched,
    check_secs: u64,
) -> Result<FleetRule, BadRule> {
    let scores: Vec<_> = scores.iter().collect();
    // A fleet counts its own world; those of the other versions are groups more.
    let groups = watched.groups.saturating_add(watched.versions.saturating_sub(1));
    let size = FleetSize::of(&scores, watched.devices.max(1), groups);
    let checks_per_year = YEAR_SECS / check_secs.max(1) as f64;
    let scopes = size.devices.saturating_add(size.groups).saturating_add(1);
    let most_years = MAX_CHECKS / (checks_per_year * size.features.saturating_mul(scopes) as f64);
    let years = settings.one_false_alarm_in_years.min(most_years);
    FleetRule::one_false_alarm_in(years, checks_per_year, size, settings.suppress_secs)
}
