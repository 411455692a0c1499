//! Which metrics an operator wants judged, how much worse is still fine, and in which direction.
//!
//! A check says only what differs from the default of its metric. Together with the rest of the gate checks become the
//! [`VerdictPolicy`] of a wave; what cannot be meant, such as a margin of 5 where 5 % was, is refused when a rollout is planned.

use muster_sketch::canary::{Measure, Scale, Worse};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::verdict::{Metric, MetricPolicy, Need};

/// No figure of a device is larger than this ([`shared::telemetry::MAX_VALUE`]), so no margin can be.
const MAX_ABSOLUTE: f64 = shared::telemetry::MAX_VALUE;

/// Below this rate of errors the margin is a share of this rate instead.
const FLOOR_OF_ERRORS: f64 = 0.001;

/// What differs from the default of one metric. Whoever names a metric wants to know about it, so by default a rollout
/// cannot be healthy without it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricCheck {
    /// How much worse is still fine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<Margin>,
    /// Which direction is bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worse: Option<Worse>,
    /// For a relative margin of a share from 0 to 1, such as errors or a rare event over inferences: below this rate the
    /// margin is a share of this instead, so that a device where it never happened has a margin too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// Looks of a device with fewer inferences, labels or readings do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_count: Option<u64>,
    /// Whether a rollout can be healthy without it.
    pub need: Need,
}

impl Default for MetricCheck {
    fn default() -> Self {
        Self { margin: None, worse: None, floor: None, min_count: None, need: Need::Always }
    }
}

/// How much worse is still fine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Margin {
    /// A share of what the device itself showed before: 0.05 is 5 %.
    Relative(f64),
    /// In the unit of the metric: 0.02 of a confidence, 3 of a queue's length.
    Absolute(f64),
}

/// What becomes of the metrics that no check names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherMetrics {
    /// They are judged as by default.
    #[default]
    Judged,
    /// They are left out.
    Ignored,
}

/// Why a check cannot be followed.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("metrics.checks.\"{metric}\": {what}")]
pub struct InvalidCheck {
    /// Of which metric.
    pub metric: Metric,
    /// What is wrong, and what to write.
    pub what: WrongCheck,
}

/// What is wrong with a check.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum WrongCheck {
    /// A share that is none.
    #[error("margin.relative is {0}; write a share above 0 and at most 1: 0.05 is 5 %")]
    Relative(f64),
    /// A fall by everything, which nothing can exceed.
    #[error("margin.relative is {0} downwards, and nothing falls by more than it was; write a share below 1")]
    NeverExceeded(f64),
    /// A difference that is none.
    #[error(
        "margin.absolute is {0}; write a difference above 0 and at most {MAX_ABSOLUTE:e}, in the unit of the metric"
    )]
    Absolute(f64),
    /// The metric lies between 0 and 1.
    #[error(
        "margin.absolute is {0}, and the metric lies between 0 and 1; write a difference below 1: 0.02 is two points"
    )]
    AbsoluteOfShare(f64),
    /// A floor that is no rate.
    #[error("floor is {0}; write a rate above 0 and at most 1")]
    Floor(f64),
    /// A floor without a relative margin of a rate.
    #[error(
        "floor is the least rate that a relative margin is a share of; it goes with margin.relative of errors or of a \
         counter or gauge between 0 and 1"
    )]
    FloorOfNoRate,
    /// A least count of nothing.
    #[error("min_count is 0; write 1 or more")]
    MinCount,
}

impl MetricCheck {
    /// How `metric` counts by this check.
    ///
    /// # Errors
    /// Names the first thing that cannot be meant.
    pub(super) fn policy_of(&self, metric: &Metric) -> Result<MetricPolicy, InvalidCheck> {
        self.measure_of(metric)
            .map(|measure| MetricPolicy { measure, need: self.need })
            .map_err(|what| InvalidCheck { metric: metric.clone(), what })
    }

    fn measure_of(&self, metric: &Metric) -> Result<Measure, WrongCheck> {
        let default = MetricPolicy::of(metric).measure;
        let worse = self.worse.unwrap_or(default.worse);
        let margin = self.margin.unwrap_or(match default.scale {
            Scale::Rate { .. } | Scale::Level => Margin::Relative(default.margin),
            Scale::Absolute => Margin::Absolute(default.margin),
        });
        let min_count = self.min_count.unwrap_or(default.min_count);
        if min_count == 0 {
            return Err(WrongCheck::MinCount);
        }
        let (scale, margin) = match margin {
            Margin::Relative(share) => (self.relative(metric, share, worse)?, share),
            Margin::Absolute(difference) => (self.absolute(metric, difference)?, difference),
        };
        Ok(Measure { scale, worse, margin, min_count })
    }

    fn relative(&self, metric: &Metric, share: f64, worse: Worse) -> Result<Scale, WrongCheck> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(WrongCheck::Relative(share));
        }
        if worse == Worse::Lower && share >= 1.0 {
            return Err(WrongCheck::NeverExceeded(share));
        }
        let floor = match metric {
            Metric::Errors => Some(self.floor.unwrap_or(FLOOR_OF_ERRORS)),
            Metric::Custom(_) => self.floor,
            Metric::Latency | Metric::Confidence | Metric::Accuracy | Metric::Drift => {
                return if self.floor.is_some() { Err(WrongCheck::FloorOfNoRate) } else { Ok(Scale::Level) };
            }
        };
        match floor {
            Some(floor) if floor > 0.0 && floor <= 1.0 => Ok(Scale::Rate { floor }),
            Some(floor) => Err(WrongCheck::Floor(floor)),
            None => Ok(Scale::Level),
        }
    }

    fn absolute(&self, metric: &Metric, difference: f64) -> Result<Scale, WrongCheck> {
        if !(difference > 0.0 && difference <= MAX_ABSOLUTE) {
            return Err(WrongCheck::Absolute(difference));
        }
        let is_share = match metric {
            Metric::Errors | Metric::Confidence | Metric::Accuracy => true,
            Metric::Latency | Metric::Drift | Metric::Custom(_) => false,
        };
        if is_share && difference >= 1.0 {
            return Err(WrongCheck::AbsoluteOfShare(difference));
        }
        if self.floor.is_some() {
            return Err(WrongCheck::FloorOfNoRate);
        }
        Ok(Scale::Absolute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::MetricGate;

    /// What the checks of a rollout file come to.
    fn rules(checks: &str) -> Result<MetricGate, String> {
        let gate: MetricGate = serde_json::from_str(checks).map_err(|error| error.to_string())?;
        gate.rules().map(|_| gate).map_err(|error| error.to_string())
    }

    fn of(checks: &str, metric: &str) -> MetricPolicy {
        rules(checks).unwrap().rules().unwrap().metrics[&metric.parse().unwrap()]
    }

    #[test]
    fn a_check_changes_only_what_it_names() {
        let checks = r#"{"checks":{"custom:queue":{},"latency":{"margin":{"relative":0.1}},
            "custom:yield":{"margin":{"absolute":0.5},"worse":"lower"},
            "custom:scrap":{"margin":{"relative":0.25},"floor":0.001,"min_count":20}}}"#;
        let queue = Measure { scale: Scale::Level, worse: Worse::Higher, margin: 0.05, min_count: 1 };
        assert_eq!(of(checks, "custom:queue"), MetricPolicy { measure: queue, need: Need::Always });
        let latency = of(checks, "latency").measure;
        assert_eq!(latency, Measure { margin: 0.1, ..MetricPolicy::of(&Metric::Latency).measure });
        let produced = Measure { scale: Scale::Absolute, worse: Worse::Lower, margin: 0.5, min_count: 1 };
        assert_eq!(of(checks, "custom:yield").measure, produced);
        let scrap = of(checks, "custom:scrap").measure;
        assert_eq!((scrap.scale, scrap.min_count), (Scale::Rate { floor: 0.001 }, 20));
        assert_eq!(of(checks, "errors"), MetricPolicy::of(&Metric::Errors));
    }

    #[test]
    fn every_metric_that_is_named_without_more_is_judged_by_its_default_and_has_to_be_there() {
        for metric in ["latency", "errors", "confidence", "accuracy", "drift", "custom:n"] {
            let checks = format!(r#"{{"checks":{{"{metric}":{{}}}}}}"#);
            let default = MetricPolicy::of(&metric.parse().unwrap());
            assert_eq!(of(&checks, metric), MetricPolicy { need: Need::Always, ..default });
        }
        let loose = r#"{"checks":{"confidence":{"need":"when_reported"}}}"#;
        assert_eq!(of(loose, "confidence"), MetricPolicy::of(&Metric::Confidence));
    }

    #[test]
    fn metrics_that_no_check_names_can_be_left_out() {
        let only = rules(r#"{"checks":{"custom:queue":{}},"others":"ignored"}"#).unwrap().rules().unwrap();
        assert_eq!(only.metrics.keys().map(ToString::to_string).collect::<Vec<_>>(), ["custom:queue"]);
        assert_eq!(only.alpha_rollback, 0.001);
        let nothing = rules(r#"{"others":"ignored"}"#).unwrap_err();
        assert!(nothing.contains("0 metrics"), "{nothing}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_metric_and_what_to_write() {
        let cases = [
            (r#"{"checks":{"latency":{"margin":{"relative":5}}}}"#, "0.05 is 5 %"),
            (
                r#"{"checks":{"latency":{"margin":{"relative":0}}}}"#,
                r#"metrics.checks."latency": margin.relative is 0"#,
            ),
            (r#"{"checks":{"custom:y":{"margin":{"relative":1},"worse":"lower"}}}"#, "custom:y"),
            (r#"{"checks":{"custom:y":{"margin":{"absolute":-3}}}}"#, "margin.absolute is -3"),
            (r#"{"checks":{"accuracy":{"margin":{"absolute":2}}}}"#, "0.02 is two points"),
            (r#"{"checks":{"errors":{"floor":2}}}"#, "floor is 2"),
            (r#"{"checks":{"latency":{"floor":0.1}}}"#, "margin.relative of errors"),
            (r#"{"checks":{"custom:y":{"margin":{"absolute":3},"floor":0.1}}}"#, "margin.relative of errors"),
            (r#"{"checks":{"errors":{"min_count":0}}}"#, "min_count is 0"),
            (r#"{"checks":{"speed":{}}}"#, "'speed' is no metric; write latency, errors"),
            (r#"{"checks":{"custom:a b":{}}}"#, "'custom:a b' is no metric"),
            (r#"{"checks":{"errors":{"marjin":{"absolute":3}}}}"#, "unknown field `marjin`"),
        ];
        for (checks, part) in cases {
            let text = rules(checks).unwrap_err();
            assert!(text.contains(part), "{checks}: {text}");
        }
    }

    #[test]
    fn a_gate_without_checks_is_stored_as_it_always_was() {
        let text = serde_json::to_string(&MetricGate::default()).unwrap();
        assert!(!text.contains("checks") && !text.contains("others"), "{text}");
    }
}
