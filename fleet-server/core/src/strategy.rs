//! How a rollout proceeds: its waves, how many failures it bears, and what it does when it stops.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most waves of a rollout: doubling from one device, 32 waves reach more devices than exist.
pub const MAX_WAVES: usize = 32;

/// Longest bake time and longest deadline: a rollout that takes longer than 90 days for one step is forgotten.
pub const MAX_STEP_SECS: u64 = 90 * 86_400;

/// Below this many reachable devices a percentage says nothing: one device of ten is already 10 %.
pub const SMALL_WAVE: usize = 20;

/// How a rollout proceeds. The default asks everybody at once and stops at the first failure of a small fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Strategy {
    /// Ordered steps; the first is the canary.
    pub waves: Vec<WaveSpec>,
    /// How many devices of a wave may refuse the release or go back from it.
    pub max_failed: MaxFailed,
    /// A reachable device that says nothing for this long is silent. Longer than the probation of the release,
    /// for a device on probation has nothing to say.
    pub silent_after_secs: u64,
    /// What a verdict does to the devices that have moved already.
    pub on_halt: StopAction,
    /// Decides the order of devices; the same seed gives the same waves.
    pub seed: u64,
    /// Ask also devices that refused this release or went back from it before.
    pub retry: bool,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            waves: vec![WaveSpec { share: WaveShare::All, bake_time_secs: 0 }],
            max_failed: MaxFailed::default(),
            silent_after_secs: 86_400,
            on_halt: StopAction::Rollback,
            seed: 0,
            retry: false,
        }
    }
}

/// One step of a rollout, as the operator describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaveSpec {
    /// How many devices.
    pub share: WaveShare,
    /// How long the wave is watched after its last device has settled.
    #[serde(default)]
    pub bake_time_secs: u64,
}

/// The size of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveShare {
    /// A percentage of all devices of the rollout, at least one device.
    Percent(u32),
    /// A number of devices.
    Count(u32),
    /// Every device that no earlier wave holds.
    All,
}

impl WaveShare {
    /// Devices that belong to a wave of this share, of `total` in the rollout.
    #[must_use]
    pub fn size(self, total: usize) -> usize {
        match self {
            Self::Percent(percent) => total.saturating_mul(percent as usize).div_ceil(100),
            Self::Count(count) => count as usize,
            Self::All => total,
        }
    }
}

/// How many devices of a wave may fail before the rollout stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaxFailed {
    /// Percentage of the reachable devices of the wave, used from [`SMALL_WAVE`] devices up.
    pub percent: u32,
    /// Number of devices that is always borne.
    pub absolute: u32,
}

impl Default for MaxFailed {
    fn default() -> Self {
        Self { percent: 5, absolute: 0 }
    }
}

impl MaxFailed {
    /// Failures that a wave bears when `reachable` of its devices were seen.
    #[must_use]
    pub fn limit(self, reachable: usize) -> usize {
        let absolute = self.absolute as usize;
        if reachable < SMALL_WAVE {
            return absolute;
        }
        absolute.max(reachable.saturating_mul(self.percent as usize) / 100)
    }
}

/// What a verdict does to the devices that have moved already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopAction {
    /// Bring them back to what they ran before, newest first.
    #[default]
    Rollback,
    /// Leave them as they are and wait for a person.
    Pause,
}

/// Why a strategy cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidStrategy {
    /// No wave or too many.
    #[error("the strategy has {0} waves; write 1 to {MAX_WAVES}")]
    WaveCount(usize),
    /// A wave holds nobody.
    #[error("wave {0} has no devices; give it a percentage from 1 to 100, a count from 1 up, or `all`")]
    EmptyWave(usize),
    /// A percentage above 100.
    #[error("{0} % is not a share; write 1 to 100")]
    Percent(u32),
    /// A time out of range.
    #[error("{what} is {secs} s; write {least} to {MAX_STEP_SECS}")]
    Time {
        /// Which field.
        what: &'static str,
        /// What it says.
        secs: u64,
        /// The smallest value that makes sense.
        least: u64,
    },
}

impl Strategy {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the first field that cannot be followed.
    pub fn check(&self) -> Result<(), InvalidStrategy> {
        if self.waves.is_empty() || self.waves.len() > MAX_WAVES {
            return Err(InvalidStrategy::WaveCount(self.waves.len()));
        }
        for (index, wave) in self.waves.iter().enumerate() {
            check_wave(index + 1, wave)?;
        }
        check_percent(self.max_failed.percent)?;
        check_secs("silent_after_secs", self.silent_after_secs, 1)
    }
}

fn check_wave(number: usize, wave: &WaveSpec) -> Result<(), InvalidStrategy> {
    match wave.share {
        WaveShare::Percent(0) | WaveShare::Count(0) => return Err(InvalidStrategy::EmptyWave(number)),
        WaveShare::Percent(percent) => check_percent(percent)?,
        WaveShare::Count(_) | WaveShare::All => {}
    }
    check_secs("bake_time_secs", wave.bake_time_secs, 0)
}

fn check_percent(percent: u32) -> Result<(), InvalidStrategy> {
    if percent > 100 { Err(InvalidStrategy::Percent(percent)) } else { Ok(()) }
}

fn check_secs(what: &'static str, secs: u64, least: u64) -> Result<(), InvalidStrategy> {
    if (least..=MAX_STEP_SECS).contains(&secs) {
        return Ok(());
    }
    Err(InvalidStrategy::Time { what, secs, least })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stops_a_small_wave_and_the_sixth_a_hundred() {
        let limit = MaxFailed::default();
        assert_eq!((limit.limit(0), limit.limit(19), limit.limit(20), limit.limit(100)), (0, 0, 1, 5));
    }

    #[test]
    fn a_strategy_that_asks_nobody_is_refused() {
        let wave =
            |share| Strategy { waves: vec![WaveSpec { share, bake_time_secs: 0 }], ..Strategy::default() };
        assert_eq!(wave(WaveShare::Count(0)).check(), Err(InvalidStrategy::EmptyWave(1)));
        assert_eq!(wave(WaveShare::Percent(101)).check(), Err(InvalidStrategy::Percent(101)));
        assert_eq!(
            Strategy { waves: vec![], ..Strategy::default() }.check(),
            Err(InvalidStrategy::WaveCount(0))
        );
        assert_eq!(Strategy::default().check(), Ok(()));
    }

    #[test]
    fn an_operator_writes_only_what_differs_from_the_default() {
        let text =
            r#"{"waves":[{"share":{"percent":5},"bake_time_secs":600},{"share":"all"}],"on_halt":"pause"}"#;
        let strategy: Strategy = serde_json::from_str(text).unwrap();
        assert_eq!(strategy.waves[0].share, WaveShare::Percent(5));
        assert_eq!((strategy.on_halt, strategy.silent_after_secs), (StopAction::Pause, 86_400));
        assert!(serde_json::from_str::<Strategy>(r#"{"wave":[]}"#).is_err());
    }
}
