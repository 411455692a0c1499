//! Sums of readings, and the counters and gauges that applications report beside what the agent counts by itself.
//!
//! Sums and counts are all that a comparison of means needs, and they add up over windows, devices and restarts.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::id::MetricName;

/// Most counters and gauges of one model on one device: each travels with every window and is kept for every version.
pub const MAX_CUSTOM_METRICS: usize = 16;

/// No reading and no increment lies further from zero: room for a terabyte in bytes, and far from where the sum of a
/// device's life loses single units of what is added to it.
pub const MAX_VALUE: f64 = 1e12;

/// Room for what rounding adds to a sum of many readings at their bound.
const ROUNDING: f64 = 1e-9;

/// Readings as their sum and their number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Sum of the readings.
    pub sum: f64,
    /// How many.
    pub count: u64,
}

/// Which of the two an application reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CustomKind {
    /// How often something happened, or how much of it: reported as what is added. Compared per inference.
    Counter,
    /// How something stands: reported as it is read. Compared as the mean of the readings.
    Gauge,
}

impl fmt::Display for CustomKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        })
    }
}

/// What was reported of one counter or gauge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CustomSums {
    /// Which of the two it is.
    pub kind: CustomKind,
    /// What was added to the counter, or the sum of the gauge's readings.
    pub sum: f64,
    /// How many reports.
    pub count: u64,
}

/// Counters and gauges by name, at most [`MAX_CUSTOM_METRICS`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CustomMetrics(BTreeMap<MetricName, CustomSums>);

impl Sums {
    /// Counts one reading.
    pub fn record(&mut self, value: f64) {
        self.sum += value;
        self.count = self.count.saturating_add(1);
    }

    /// Adds the readings of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.count = self.count.saturating_add(other.count);
    }

    /// True without any reading.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Mean of the readings; `None` without any.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// True when readings from `least` to `most` can have made it.
    #[must_use]
    pub fn is_within(&self, least: f64, most: f64) -> bool {
        let (count, room) = (self.count as f64, ROUNDING * self.count as f64);
        self.sum.is_finite() && (least * count - room..=most * count + room).contains(&self.sum)
    }
}

impl CustomSums {
    /// What was reported, as readings.
    #[must_use]
    pub fn sums(&self) -> Sums {
        Sums { sum: self.sum, count: self.count }
    }

    /// The least value of one report of this kind: a counter only grows.
    #[must_use]
    pub fn least(kind: CustomKind) -> f64 {
        match kind {
            CustomKind::Counter => 0.0,
            CustomKind::Gauge => -MAX_VALUE,
        }
    }
}

impl CustomMetrics {
    /// Counts one report. Does nothing when the name is known as the other kind, or there is no room for another name.
    pub fn record(&mut self, name: &MetricName, kind: CustomKind, value: f64) {
        self.add(name, CustomSums { kind, sum: value, count: 1 });
    }

    /// Adds what `other` holds. Names that are known here stay; new ones are taken, in order, while there is room.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, sums)| self.add(name, *sums));
    }

    /// What was reported, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&MetricName, &CustomSums)> {
        self.0.iter()
    }

    /// What was reported of one.
    #[must_use]
    pub fn get(&self, name: &MetricName) -> Option<&CustomSums> {
        self.0.get(name)
    }

    /// True when nothing was reported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when reports within the bounds can have made it.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let fits = |of: &CustomSums| of.sums().is_within(CustomSums::least(of.kind), MAX_VALUE);
        self.0.len() <= MAX_CUSTOM_METRICS && self.0.values().all(fits)
    }

    fn add(&mut self, name: &MetricName, more: CustomSums) {
        if let Some(known) = self.0.get_mut(name) {
            if known.kind == more.kind {
                known.sum += more.sum;
                known.count = known.count.saturating_add(more.count);
            }
        } else if self.0.len() < MAX_CUSTOM_METRICS {
            self.0.insert(name.clone(), more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::VersionFigures;

    fn name(text: &str) -> MetricName {
        MetricName::new(text).unwrap()
    }

    #[test]
    fn reports_of_one_name_add_up_over_windows() {
        let mut first = CustomMetrics::default();
        first.record(&name("queue"), CustomKind::Gauge, 3.0);
        let mut second = first.clone();
        second.record(&name("queue"), CustomKind::Gauge, -1.0);
        first.merge(&second);
        let queue = CustomSums { kind: CustomKind::Gauge, sum: 5.0, count: 3 };
        assert_eq!(first.get(&name("queue")), Some(&queue));
    }

    #[test]
    fn a_name_too_many_is_left_out_and_the_known_ones_go_on() {
        let mut metrics = CustomMetrics::default();
        let names: Vec<_> = (0..MAX_CUSTOM_METRICS).map(|n| name(&format!("n{n}"))).collect();
        names.iter().for_each(|name| metrics.record(name, CustomKind::Counter, 1.0));
        metrics.record(&name("a-new-one"), CustomKind::Counter, 1.0);
        metrics.record(&names[0], CustomKind::Counter, 2.0);
        assert_eq!((metrics.iter().count(), metrics.get(&name("a-new-one"))), (MAX_CUSTOM_METRICS, None));
        assert_eq!(metrics.get(&names[0]).unwrap().sum, 3.0);
        assert!(metrics.is_plausible());
    }

    #[test]
    fn a_counter_is_no_gauge_of_the_same_name() {
        let mut metrics = CustomMetrics::default();
        metrics.record(&name("n"), CustomKind::Counter, 1.0);
        metrics.record(&name("n"), CustomKind::Gauge, 9.0);
        assert_eq!(metrics.get(&name("n")).unwrap().sum, 1.0);
    }

    #[test]
    fn sums_that_no_reports_make_are_not_plausible() {
        let of = |kind, sum, count| {
            CustomMetrics(BTreeMap::from([(name("n"), CustomSums { kind, sum, count })])).is_plausible()
        };
        assert!(of(CustomKind::Gauge, -5.0, 2) && of(CustomKind::Counter, 5.0, 2));
        assert!(!of(CustomKind::Counter, -5.0, 2));
        assert!(!of(CustomKind::Gauge, 5.0, 0));
        assert!(!of(CustomKind::Gauge, 2.0 * MAX_VALUE, 1) && !of(CustomKind::Gauge, f64::NAN, 1));
        let confidence = |sum, count| Sums { sum, count }.is_within(0.0, 1.0);
        assert!(confidence(2.0, 2) && confidence(0.0, 0) && !confidence(2.1, 2) && !confidence(-0.1, 2));
    }

    #[test]
    fn figures_of_an_older_agent_are_read_and_those_of_one_that_measured_nothing_are_as_short() {
        let figures = VersionFigures::new("digits@1".parse().unwrap());
        let text = serde_json::to_string(&figures).unwrap();
        assert!(!text.contains("custom") && !text.contains("confidence"), "{text}");
        assert_eq!(serde_json::from_str::<VersionFigures>(&text).unwrap(), figures);
    }
}
