//! Which metrics count, and how much worse is still fine.

use std::{collections::BTreeMap, fmt, str::FromStr};

use muster_sketch::canary::{Measure, Scale, Worse};
use serde::{Deserialize, Serialize};
use shared::{MetricName, id::MAX_NAME_LEN};
use thiserror::Error;

/// Most metrics of a policy: the evidence of each is divided by their number, and a screen still holds them.
pub const MAX_METRICS: usize = 32;

/// The rules of a metric verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerdictPolicy {
    /// Share of harmless rollouts that may be condemned, over all metrics and looks. Above 0, at most 0.5.
    pub alpha_rollback: f64,
    /// Share of rollouts that are worse than a margin and may be promoted all the same.
    pub alpha_promote: f64,
    /// Fewer canaries with a history cannot tell an unlucky device from a bad release.
    pub min_canaries: u32,
    /// Fewer controls cannot tell how far devices move by themselves: with 5, one rollout in a thousand was condemned
    /// without harm in simulation where they drift, and any margin became several times wider.
    pub min_controls: u32,
    /// Nothing is promoted before so many looks.
    pub min_looks: u64,
    /// The metrics.
    pub metrics: BTreeMap<Metric, MetricPolicy>,
}

impl Default for VerdictPolicy {
    fn default() -> Self {
        let metrics = [Metric::Latency, Metric::Errors, Metric::Confidence, Metric::Accuracy, Metric::Drift];
        Self {
            alpha_rollback: 0.001,
            alpha_promote: 0.05,
            min_canaries: 3,
            min_controls: 20,
            min_looks: 12,
            metrics: metrics.map(|metric| (metric.clone(), MetricPolicy::of(&metric))).into(),
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Metric {
    /// Time in the engine: milliseconds over inferences.
    Latency,
    /// Inferences that the model failed, of those that say something about it.
    Errors,
    /// Confidence of the top class: sum over inferences, each 0 to 1.
    Confidence,
    /// Labels that were the top class, of those that came back.
    Accuracy,
    /// How far windows of inputs and outputs are from the reference: the population stability index less its noise floor,
    /// summed over features and windows, over their number.
    Drift,
    /// A counter or gauge that applications report, written `custom:NAME`: what was added over inferences, or the sum of
    /// readings over readings.
    Custom(MetricName),
}

/// How one metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricPolicy {
    /// What difference matters.
    pub measure: Measure,
    /// Whether a rollout can be healthy without it.
    pub need: Need,
}

/// Whether a rollout can be healthy without a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Without evidence on it the verdict is Insufficient.
    Always,
    /// It counts when enough devices reported it before the rollout.
    WhenReported,
}

impl MetricPolicy {
    /// The default of a metric: latency 2 %, errors a quarter more, confidence 0.02, accuracy one point, drift 0.1, and
    /// 5 % upwards for custom ones.
    #[must_use]
    pub fn of(metric: &Metric) -> Self {
        let (scale, worse, margin, min_count, need) = match metric {
            Metric::Latency => (Scale::Level, Worse::Higher, 0.02, 10, Need::Always),
            // One error in a thousand inferences is as good as none.
            Metric::Errors => (Scale::Rate { floor: 0.001 }, Worse::Higher, 0.25, 10, Need::Always),
            Metric::Confidence => (Scale::Absolute, Worse::Lower, 0.02, 10, Need::WhenReported),
            Metric::Accuracy => (Scale::Absolute, Worse::Lower, 0.01, 1, Need::WhenReported),
            Metric::Drift => (Scale::Absolute, Worse::Higher, 0.1, 1, Need::WhenReported),
            Metric::Custom(_) => (Scale::Level, Worse::Higher, 0.05, 1, Need::WhenReported),
        };
        Self { measure: Measure { scale, worse, margin, min_count }, need }
    }
}

/// Why a policy cannot be followed.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum InvalidPolicy {
    /// A share of errors out of range.
    #[error("{name} is {value}; write a share above 0 and at most 0.5")]
    Alpha {
        /// Which.
        name: &'static str,
        /// What it says.
        value: f64,
    },
    /// No metric, or too many.
    #[error("the policy has {0} metrics; write 1 to {MAX_METRICS}")]
    MetricCount(usize),
    /// A margin, floor or count that cannot be worked with.
    #[error("{0}: write a margin above 0, a floor above 0 and at most 1, and a least count from 1 up")]
    Measure(Metric),
}

impl VerdictPolicy {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the first thing that cannot be followed.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        check_alpha("alpha_rollback", self.alpha_rollback)?;
        check_alpha("alpha_promote", self.alpha_promote)?;
        if self.metrics.is_empty() || self.metrics.len() > MAX_METRICS {
            return Err(InvalidPolicy::MetricCount(self.metrics.len()));
        }
        match self.metrics.iter().find(|(_, of)| !of.measure.is_sound()) {
            Some((metric, _)) => Err(InvalidPolicy::Measure(metric.clone())),
            None => Ok(()),
        }
    }
}

fn check_alpha(name: &'static str, value: f64) -> Result<(), InvalidPolicy> {
    if value > 0.0 && value <= 0.5 { Ok(()) } else { Err(InvalidPolicy::Alpha { name, value }) }
}

/// The text names no metric.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "'{0}' is no metric; write latency, errors, confidence, accuracy, drift, or custom:NAME with 1 to {MAX_NAME_LEN} \
     characters out of A-Z a-z 0-9 _ -"
)]
pub struct UnknownMetric(String);

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(text: &str) -> Result<Self, UnknownMetric> {
        match text {
            "latency" => Ok(Self::Latency),
            "errors" => Ok(Self::Errors),
            "confidence" => Ok(Self::Confidence),
            "accuracy" => Ok(Self::Accuracy),
            "drift" => Ok(Self::Drift),
            _ => {
                let name = text.strip_prefix("custom:").and_then(|name| MetricName::new(name).ok());
                // A name may be a whole file that was written into the wrong place.
                name.map(Self::Custom)
                    .ok_or_else(|| UnknownMetric(text.chars().take(2 * MAX_NAME_LEN).collect()))
            }
        }
    }
}

impl TryFrom<String> for Metric {
    type Error = UnknownMetric;

    fn try_from(text: String) -> Result<Self, UnknownMetric> {
        text.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency => f.write_str("latency"),
            Self::Errors => f.write_str("errors"),
            Self::Confidence => f.write_str("confidence"),
            Self::Accuracy => f.write_str("accuracy"),
            Self::Drift => f.write_str("drift"),
            Self::Custom(name) => write!(f, "custom:{name}"),
        }
    }
}
