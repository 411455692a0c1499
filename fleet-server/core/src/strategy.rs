//! How a rollout proceeds: its waves and their pace, what it bears, what it asks of the metrics, and what it does when
//! it stops.

mod checks;
mod drift;
mod limits;
mod pace;
mod wave;

use serde::{Deserialize, Serialize};
use shared::{ReleaseId, Version, maintenance::MaintenanceWindows};
use thiserror::Error;

use crate::verdict::InvalidPolicy;

pub use checks::{InvalidCheck, Margin, MetricCheck, OtherMetrics, WrongCheck};
pub use drift::{DriftGate, OnAlarm};
pub use limits::{MaxFailed, MetricGate, Retries, SMALL_WAVE, StopAction};
pub use pace::Ramp;
pub use wave::{WaveShare, WaveSpec};

/// Most waves of a rollout: doubling from one device, 32 waves reach more devices than exist.
pub const MAX_WAVES: usize = 32;

/// Longest bake time and longest deadline: a rollout that takes longer than 90 days for one step is forgotten.
pub const MAX_STEP_SECS: u64 = 90 * 86_400;

/// Longest that the metrics of a wave are judged after its devices have settled. Every look is kept as evidence, one every
/// five minutes by default, and what 4000 looks have not shown needs a person.
pub const MAX_JUDGED_SECS: u64 = 14 * 86_400;

/// Most versions that a rollout may name as those to come from.
pub const MAX_FROM: usize = 64;

/// How a rollout proceeds. The default asks everybody at once and stops at the first failure of a small fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Strategy {
    /// Ordered steps; the first is the canary.
    pub waves: Vec<WaveSpec>,
    /// Percentage of the devices that is held back until every wave has passed, to compare the others with.
    pub control_percent: u32,
    /// How fast devices are asked within a wave; all at once when absent.
    pub ramp: Option<Ramp>,
    /// When, in the device's local time, it may be asked; always when absent.
    pub windows: Option<MaintenanceWindows>,

    /// How many devices of a wave may refuse the release or go back from it.
    pub max_failed: MaxFailed,
    /// A reachable device that says nothing for this long is silent. Longer than the probation of the release, or
    /// nothing is planned: a device on probation has nothing to say.
    pub silent_after_secs: u64,
    /// Percentage of a wave's devices that were seen and may have fallen silent; with more the wave is held.
    pub max_silent_percent: u32,
    /// Percentage of a wave's devices that must have been seen before it passes.
    pub quorum_percent: u32,
    /// What the metrics must show before a wave passes; nothing when absent.
    pub metrics: Option<MetricGate>,
    /// What a drift alarm about the release does.
    #[serde(skip_serializing_if = "DriftGate::is_default")]
    pub drift: DriftGate,
    /// How often a device is asked again when the network did not carry the release.
    pub retries: Retries,
    /// What a verdict does to the devices that have moved already.
    pub on_halt: StopAction,

    /// Versions of the model that a device may come from; any, or none at all, when empty.
    pub from: Vec<Version>,
    /// Of two rollouts of one model the one with the higher priority holds a device, and of equal ones the newer.
    pub priority: u8,
    /// Ask also devices that come to match the selector after the start.
    pub continuous: bool,
    /// Decides the order of devices; the same seed gives the same waves.
    pub seed: u64,
    /// Ask also devices that refused this release or went back from it before.
    pub retry: bool,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            waves: vec![WaveSpec::of(WaveShare::All)],
            control_percent: 0,
            ramp: None,
            windows: None,
            max_failed: MaxFailed::default(),
            silent_after_secs: 86_400,
            max_silent_percent: 20,
            quorum_percent: 50,
            metrics: None,
            drift: DriftGate::default(),
            retries: Retries::default(),
            on_halt: StopAction::Rollback,
            from: vec![],
            priority: 0,
            continuous: false,
            seed: 0,
            retry: false,
        }
    }
}

/// Why a strategy cannot be followed.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum InvalidStrategy {
    /// No wave or too many.
    #[error("the strategy has {0} waves; write 1 to {MAX_WAVES}")]
    WaveCount(usize),
    /// A wave holds nobody.
    #[error("wave {0} has no devices; give it a percentage from 1 to 100, a count from 1 up, or `all`")]
    EmptyWave(usize),
    /// A percentage out of range.
    #[error("{what} is {percent} %; write {least} to {most}")]
    Percent {
        /// Which field.
        what: &'static str,
        /// What it says.
        percent: u32,
        /// The smallest value that makes sense.
        least: u32,
        /// The largest.
        most: u32,
    },
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
    /// A ramp that does not move, or turns back.
    #[error(
        "the ramp cannot be followed: write per_minute and max_per_minute from 1 to {most}, factor from 1 to 10, \
         and after from 1 up",
        most = Ramp::MOST_PER_MINUTE
    )]
    Ramp,
    /// Too many retries.
    #[error("retries.max is {0}; write 0 to {most}", most = Retries::MOST)]
    Retries(u32),
    /// Too many versions to come from.
    #[error("the strategy allows {0} versions to come from; write at most {MAX_FROM}, or none for any")]
    From(usize),
    /// A wave would be watched for longer than its metrics are judged, and nobody would see what degrades after that.
    #[error(
        "{what} is {secs} s, and the metrics of a wave are judged for {MAX_JUDGED_SECS} s at most; write up to \
         {MAX_JUDGED_SECS}, or leave metrics out"
    )]
    BeyondJudgement {
        /// Which field.
        what: String,
        /// What it says.
        secs: u64,
    },
    /// A device on probation, as healthy as it may be, would count as silent.
    #[error(
        "silent_after_secs is {silent_after_secs} s, and a device that watches {release} says nothing for {probation_secs} s; \
         write more than {probation_secs}, with room for devices that answer little, or publish the release with a shorter \
         probation"
    )]
    SilentOnProbation {
        /// What the strategy says.
        silent_after_secs: u64,
        /// What is brought.
        release: ReleaseId,
        /// How long a device watches it at least.
        probation_secs: u64,
    },
    /// There is nobody to compare the first wave with.
    #[error(
        "metrics need devices to compare with: write control_percent, or more than one wave, so that the devices of \
         later waves are compared with those of earlier ones"
    )]
    NobodyToCompareWith,
    /// The metrics cannot be judged by these rules.
    #[error("the metrics cannot be judged: {0}")]
    Metrics(#[from] InvalidPolicy),
    /// A check of a metric cannot be meant.
    #[error(transparent)]
    Check(#[from] InvalidCheck),
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
            wave.check(index + 1)?;
            if self.may_compare(index) {
                check_judged(|| format!("bake_time_secs of wave {}", index + 1), wave.bake_time_secs)?;
            }
        }
        check_percent("control_percent", self.control_percent, 0, 90)?;
        check_percent("max_failed.percent", self.max_failed.percent, 0, 100)?;
        check_percent("max_silent_percent", self.max_silent_percent, 0, 100)?;
        check_percent("quorum_percent", self.quorum_percent, 0, 100)?;
        check_secs("silent_after_secs", self.silent_after_secs, 1)?;
        self.ramp.map_or(Ok(()), Ramp::check)?;
        self.retries.check()?;
        if self.from.len() > MAX_FROM {
            return Err(InvalidStrategy::From(self.from.len()));
        }
        if self.metrics.is_some() && self.control_percent == 0 && self.waves.len() == 1 {
            return Err(InvalidStrategy::NobodyToCompareWith);
        }
        self.metrics.as_ref().map_or(Ok(()), MetricGate::check)
    }

    /// Checks that a device has said something by the time it counts as silent. Of all that may take it long only the probation
    /// is known before: neither its link nor its traffic is, and what is not known refuses nothing.
    ///
    /// # Errors
    /// When every device that takes `release` would fall silent on probation.
    pub fn check_patience(&self, release: &ReleaseId, probation_secs: u64) -> Result<(), InvalidStrategy> {
        let silent_after_secs = self.silent_after_secs;
        if silent_after_secs > probation_secs {
            return Ok(());
        }
        let release = release.clone();
        Err(InvalidStrategy::SilentOnProbation { silent_after_secs, release, probation_secs })
    }

    /// Whether the metrics of this wave, counted from 0, may be compared: somebody is left who is not asked before it is over.
    fn may_compare(&self, wave: usize) -> bool {
        self.metrics.is_some() && (self.control_percent > 0 || wave + 1 < self.waves.len())
    }
}

fn check_percent(what: &'static str, percent: u32, least: u32, most: u32) -> Result<(), InvalidStrategy> {
    if (least..=most).contains(&percent) {
        return Ok(());
    }
    Err(InvalidStrategy::Percent { what, percent, least, most })
}

fn check_secs(what: &'static str, secs: u64, least: u64) -> Result<(), InvalidStrategy> {
    if (least..=MAX_STEP_SECS).contains(&secs) {
        return Ok(());
    }
    Err(InvalidStrategy::Time { what, secs, least })
}

fn check_judged(what: impl Fn() -> String, secs: u64) -> Result<(), InvalidStrategy> {
    if secs <= MAX_JUDGED_SECS {
        return Ok(());
    }
    Err(InvalidStrategy::BeyondJudgement { what: what(), secs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_that_cannot_be_followed_names_the_field() {
        let default = Strategy::default;
        let wave = |share| Strategy { waves: vec![WaveSpec::of(share)], ..default() };
        let says = |strategy: Strategy| strategy.check().unwrap_err().to_string();
        assert!(says(wave(WaveShare::Count(0))).starts_with("wave 1 has no devices"));
        assert_eq!(says(wave(WaveShare::Percent(101))), "share.percent is 101 %; write 1 to 100");
        assert!(says(Strategy { waves: vec![], ..default() }).starts_with("the strategy has 0 waves"));
        let all_control = Strategy { control_percent: 100, ..default() };
        assert_eq!(says(all_control), "control_percent is 100 %; write 0 to 90");
        let still = Ramp { per_minute: 0, ..Ramp::steady(1) };
        assert!(says(Strategy { ramp: Some(still), ..default() }).starts_with("the ramp cannot be followed"));
        let retries = Retries { max: 99, ..Retries::default() };
        assert!(says(Strategy { retries, ..default() }).starts_with("retries.max is 99"));
        assert_eq!(default().check(), Ok(()));
    }

    #[test]
    fn an_operator_writes_only_what_differs_from_the_default() {
        let text = r#"{"waves":[{"share":{"percent":5},"bake_time_secs":600},{"share":"all","approve":true}],
            "on_halt":"halt","ramp":{"per_minute":10},"windows":["Mon-Fri 22:00-05:00"],"metrics":{},
            "drift":{"on_alarm":"hold"}}"#;
        let strategy: Strategy = serde_json::from_str(text).unwrap();
        assert_eq!(strategy.waves[0].share, WaveShare::Percent(5));
        assert!(strategy.waves[1].approve && !strategy.waves[0].approve);
        assert_eq!((strategy.on_halt, strategy.silent_after_secs), (StopAction::Halt, 86_400));
        assert_eq!(strategy.ramp, Some(Ramp::steady(10)));
        assert_eq!(strategy.metrics, Some(MetricGate::default()));
        assert_eq!(strategy.drift.on_alarm, OnAlarm::Hold);
        assert_eq!(strategy.check(), Ok(()));
        assert!(serde_json::from_str::<Strategy>(r#"{"wave":[]}"#).is_err());
    }

    #[test]
    fn no_wave_is_watched_for_longer_than_its_metrics_are_judged() {
        let long = |share| WaveSpec { bake_time_secs: MAX_JUDGED_SECS + 1, ..WaveSpec::of(share) };
        let first = vec![long(WaveShare::Count(1)), WaveSpec::of(WaveShare::All)];
        let last = vec![WaveSpec::of(WaveShare::Count(1)), long(WaveShare::All)];
        let judged = |waves: &[WaveSpec], control_percent| {
            let metrics = Some(MetricGate::default());
            Strategy { waves: waves.to_vec(), control_percent, metrics, ..Strategy::default() }.check()
        };
        let told = judged(&first, 0).unwrap_err().to_string();
        assert!(told.starts_with("bake_time_secs of wave 1 is 1209601 s, and the metrics"), "{told}");
        assert!(told.ends_with("write up to 1209600, or leave metrics out"), "{told}");
        // Behind the last wave only those that are held back are left to compare with.
        assert_eq!(judged(&last, 0), Ok(()));
        assert!(judged(&last, 10).is_err());
        assert_eq!(Strategy { waves: first, ..Strategy::default() }.check(), Ok(()));

        let gate = MetricGate { max_bake_secs: MAX_JUDGED_SECS + 1, ..MetricGate::default() };
        let capped = Strategy { metrics: Some(gate), control_percent: 10, ..Strategy::default() };
        let told = capped.check().unwrap_err().to_string();
        assert!(told.starts_with("metrics.max_bake_secs is 1209601 s"), "{told}");
    }

    #[test]
    fn a_strategy_of_an_older_program_is_read() {
        let text = r#"{"waves":[{"share":"all","bake_time_secs":0}],"max_failed":{"percent":5,"absolute":0},
            "silent_after_secs":86400,"on_halt":"rollback","seed":0,"retry":false}"#;
        assert_eq!(serde_json::from_str::<Strategy>(text).unwrap(), Strategy::default());
    }

    #[test]
    fn a_strategy_that_says_nothing_of_drift_is_written_so_that_older_programs_read_it() {
        assert!(!serde_json::to_string(&Strategy::default()).unwrap().contains("drift"));
    }
}
