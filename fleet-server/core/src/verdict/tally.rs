//! From sums that only grow to what happened in one interval.
//!
//! The server keeps for each device and version what it did since the beginning. Every few minutes it writes down those
//! sums of the devices that did something: a [`Tally`]. Two of them tell what happened in between, so nothing is lost or
//! counted twice by a server that was away for a while, and there is nothing to write for each report.

use std::collections::BTreeMap;

use muster_sketch::canary::Sample;
use serde::{Deserialize, Serialize};
use shared::{
    DeviceId, MetricName, ModelName, Version,
    telemetry::{CustomKind, VersionFigures},
};

use super::{Cohorts, Figures, Look, Metric, figures_of};

/// What each version of a model did on a device.
pub type ByVersion = BTreeMap<Version, Figures>;

/// The sums since the beginning of those devices that did something in an interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tally(pub BTreeMap<DeviceId, ByVersion>);

/// Turns one tally after the other into what happened in each interval.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Intervals {
    known: BTreeMap<DeviceId, ByVersion>,
}

/// Which part of a rollout a look belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Before the wave: what every device did with what it ran then.
    Before,
    /// Since the wave: of a canary only what the candidate did.
    Since,
}

/// The tallies of what devices reported since the beginning, by model.
///
/// A counter that a device knows stands at nothing for each of its versions that never added to it, or a candidate would
/// be judged only by the intervals in which something happened.
#[must_use]
pub fn tallies(figures: impl IntoIterator<Item = (DeviceId, VersionFigures)>) -> BTreeMap<ModelName, Tally> {
    let mut reported = BTreeMap::<(ModelName, DeviceId), Vec<VersionFigures>>::new();
    for (device, figures) in figures {
        reported.entry((figures.release.model.clone(), device)).or_default().push(figures);
    }
    let mut tallies = BTreeMap::<ModelName, Tally>::new();
    for ((model, device), versions) in reported {
        tallies.entry(model).or_default().0.insert(device, by_version(&versions));
    }
    tallies
}

fn by_version(versions: &[VersionFigures]) -> ByVersion {
    let counters: Vec<&MetricName> = versions.iter().flat_map(counters_of).collect();
    let with_counters = |version: &VersionFigures| {
        let mut figures = figures_of(version);
        for &name in &counters {
            let nothing = Sample { sum: 0.0, count: version.counts.judged() };
            figures.entry(Metric::Custom(name.clone())).or_insert(nothing);
        }
        (version.release.version, figures)
    };
    versions.iter().map(with_counters).collect()
}

fn counters_of(version: &VersionFigures) -> impl Iterator<Item = &MetricName> {
    let counters = version.custom.iter().filter(|(_, of)| of.kind == CustomKind::Counter);
    counters.map(|(name, _)| name)
}

impl Intervals {
    /// What happened since the tally before. The first figures of a device are where counting begins, and so are sums that
    /// are smaller than before, as after a new enrolment.
    pub fn advance(&mut self, tally: &Tally) -> BTreeMap<DeviceId, ByVersion> {
        let mut happened = BTreeMap::new();
        for (device, versions) in &tally.0 {
            let known = self.known.get(device);
            let is_new = known.is_none();
            let grown = versions.iter().filter_map(|(version, sums)| {
                let before = known.and_then(|known| known.get(version));
                Some((*version, since(sums, before)?))
            });
            let grown: ByVersion = if is_new { ByVersion::new() } else { grown.collect() };
            self.known.entry(device.clone()).or_default().extend(versions.clone());
            happened.insert(device.clone(), grown);
        }
        happened
    }
}

/// The look of one interval for the devices of a wave.
#[must_use]
pub fn look_at(
    number: u64,
    happened: &BTreeMap<DeviceId, ByVersion>,
    cohorts: &Cohorts,
    candidate: Version,
    period: Period,
) -> Look {
    let figures = |device: &DeviceId| -> Option<Figures> {
        let is_canary = cohorts.canaries.contains(device);
        if !is_canary && !cohorts.controls.contains(device) {
            return None;
        }
        let wants_candidate = is_canary && period == Period::Since;
        let versions = happened.get(device)?.iter();
        let fitting = versions.filter(|(version, _)| (**version == candidate) == wants_candidate);
        let sums = fitting.fold(Figures::new(), |mut sums, (_, figures)| {
            add(&mut sums, figures);
            sums
        });
        (!sums.is_empty()).then_some(sums)
    };
    let devices = happened.keys().filter_map(|device| Some((device.clone(), figures(device)?))).collect();
    Look { number, devices }
}

/// The first figures of a metric are where its counting begins, but for a version that is new itself.
fn since(sums: &Figures, before: Option<&Figures>) -> Option<Figures> {
    let Some(before) = before else { return Some(sums.clone()) };
    let known = sums.iter().filter_map(|(metric, now)| Some((metric, now, before.get(metric)?)));
    let grown = known.map(|(metric, now, then)| {
        let count = now.count.checked_sub(then.count)?;
        Some((metric.clone(), Sample { sum: now.sum - then.sum, count }))
    });
    grown.collect()
}

fn add(sums: &mut Figures, figures: &Figures) {
    for (metric, sample) in figures {
        let sum = sums.entry(metric.clone()).or_insert(Sample { sum: 0.0, count: 0 });
        sum.sum += sample.sum;
        sum.count = sum.count.saturating_add(sample.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{id, release};

    fn version(number: u32) -> Version {
        release(&format!("digits@{number}")).version
    }

    fn tally(device: &str, of: &[(u32, f64, u64)]) -> Tally {
        let figures = |sum, count| Figures::from([(Metric::Latency, Sample { sum, count })]);
        let versions = of.iter().map(|&(number, sum, count)| (version(number), figures(sum, count)));
        Tally([(id(device), versions.collect())].into())
    }

    fn counts(happened: &BTreeMap<DeviceId, ByVersion>, device: &str, number: u32) -> Option<(f64, u64)> {
        let sample = happened.get(&id(device))?.get(&version(number))?[&Metric::Latency];
        Some((sample.sum, sample.count))
    }

    #[test]
    fn an_interval_is_what_was_added_whatever_was_missed_in_between() {
        let mut intervals = Intervals::default();
        assert_eq!(counts(&intervals.advance(&tally("d0", &[(1, 500.0, 100)])), "d0", 1), None);
        let next = intervals.advance(&tally("d0", &[(1, 530.0, 110)]));
        assert_eq!(counts(&next, "d0", 1), Some((30.0, 10)));
        assert!(intervals.advance(&Tally::default()).is_empty());
        let later = intervals.advance(&tally("d0", &[(1, 590.0, 130)]));
        assert_eq!(counts(&later, "d0", 1), Some((60.0, 20)));
    }

    #[test]
    fn a_candidate_that_begins_counts_from_its_first_inference() {
        let mut intervals = Intervals::default();
        intervals.advance(&tally("d0", &[(1, 500.0, 100)]));
        let next = intervals.advance(&tally("d0", &[(1, 505.0, 101), (2, 40.0, 10)]));
        assert_eq!((counts(&next, "d0", 1), counts(&next, "d0", 2)), (Some((5.0, 1)), Some((40.0, 10))));
    }

    #[test]
    fn a_device_that_was_enrolled_anew_begins_to_count_again() {
        let mut intervals = Intervals::default();
        intervals.advance(&tally("d0", &[(1, 500.0, 100)]));
        assert_eq!(counts(&intervals.advance(&tally("d0", &[(1, 5.0, 1)])), "d0", 1), None);
        assert_eq!(counts(&intervals.advance(&tally("d0", &[(1, 15.0, 3)])), "d0", 1), Some((10.0, 2)));
    }

    /// What d0 reported of a version: inferences, and what was added to its counter if anything was.
    fn reported(version: &str, inferences: u64, counter: Option<f64>) -> (DeviceId, VersionFigures) {
        let mut figures = VersionFigures::new(release(version));
        figures.counts.ok = inferences;
        let name = MetricName::new("scrap").unwrap();
        counter.iter().for_each(|value| figures.custom.record(&name, CustomKind::Counter, *value));
        (id("d0"), figures)
    }

    #[test]
    fn a_counter_that_a_candidate_never_adds_to_stands_at_nothing_for_it() {
        let mut intervals = Intervals::default();
        let model = release("digits@1").model;
        let scrap = Metric::Custom(MetricName::new("scrap").unwrap());
        let mut advance = |reports: Vec<_>| intervals.advance(&tallies(reports)[&model]);
        advance(vec![reported("digits@1", 100, Some(7.0))]);
        let next = advance(vec![reported("digits@1", 110, Some(8.0)), reported("digits@2", 40, None)]);
        let of = |number| next[&id("d0")][&version(number)][&scrap];
        assert_eq!((of(1), of(2)), (Sample { sum: 1.0, count: 10 }, Sample { sum: 0.0, count: 40 }));
    }

    #[test]
    fn a_counter_that_begins_late_is_not_spread_over_the_inferences_from_before() {
        let mut intervals = Intervals::default();
        let model = release("digits@1").model;
        let scrap = Metric::Custom(MetricName::new("scrap").unwrap());
        let mut advance = |report| {
            let happened = intervals.advance(&tallies([report])[&model]);
            happened[&id("d0")].get(&version(1)).and_then(|figures| figures.get(&scrap).copied())
        };
        assert_eq!(advance(reported("digits@1", 100, None)), None);
        assert_eq!(advance(reported("digits@1", 110, Some(1.0))), None);
        let third = Sample { sum: 2.0, count: 10 };
        assert_eq!(advance(reported("digits@1", 120, Some(3.0))), Some(third));
    }

    #[test]
    fn of_a_canary_only_the_candidate_counts_once_the_wave_began() {
        let cohorts = Cohorts { canaries: [id("d0")].into(), controls: [id("d1")].into() };
        let mut intervals = Intervals::default();
        let both = |of| {
            let mut all = tally("d0", of);
            all.0.extend(tally("d1", of).0);
            all.0.extend(tally("x", of).0);
            all
        };
        intervals.advance(&both(&[(1, 0.0, 0)]));
        let happened = intervals.advance(&both(&[(1, 5.0, 1), (2, 40.0, 10)]));
        let sums = |period| {
            let look = look_at(3, &happened, &cohorts, version(2), period);
            let of = |device| look.devices.get(&id(device)).map(|figures| figures[&Metric::Latency].count);
            (of("d0"), of("d1"), of("x"))
        };
        assert_eq!(sums(Period::Before), (Some(1), Some(1), None));
        assert_eq!(sums(Period::Since), (Some(10), Some(1), None));
    }
}
