//! Numbers of the fleet, read from the database at every scrape, so that a restart of the server resets none.
//!
//! Devices send mergeable histograms whose bounds are those of floating point numbers. The bounds shown here are a
//! choice among them, so every value is counted on the right side. Only the sum is an estimate, as good as one
//! bucket of the histogram is narrow: 1/16.

use std::fmt;

use muster_sketch::FloatHistogram;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};
use shared::telemetry::VersionFigures;

use crate::store::{DeliverySums, DevicesByStatus};

/// Versions that are shown: the newest. A monitoring pays for every series, and a fleet runs few versions at once.
pub const MAX_RELEASES: u32 = 50;

/// Upper bounds of the latency buckets in milliseconds, from a small network on a desktop to a large one on a small
/// board. Each is a bound of the histograms that devices send.
const BOUNDS_MS: [f64; 18] = [
    0.0625, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1_280.0, 2_560.0,
    5_120.0, 10_240.0,
];

/// What the database knows at the moment of a scrape.
#[derive(Debug, Default)]
pub struct FleetFigures {
    /// What all devices together did with each version.
    pub releases: Vec<VersionFigures>,
    /// Devices by status.
    pub devices: DevicesByStatus,
    /// How telemetry gets here.
    pub delivery: DeliverySums,
}

impl Collector for FleetFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.devices(&mut encoder)?;
        self.delivery(&mut encoder)?;
        self.inferences(&mut encoder)?;
        self.slow(&mut encoder)?;
        self.labels(&mut encoder)?;
        self.latency(&mut encoder)
    }
}

impl FleetFigures {
    fn devices(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Devices by status; each counts once";
        let mut family = encoder.encode_descriptor("devices", help, None, MetricType::Gauge)?;
        let DevicesByStatus { connected, offline, quarantined, revoked } = self.devices;
        let statuses = [
            ("connected", connected),
            ("offline", offline),
            ("quarantined", quarantined),
            ("revoked", revoked),
        ];
        for (status, count) in statuses {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            family.encode_family(&[("status", status)])?.encode_gauge(&count)?;
        }
        Ok(())
    }

    fn delivery(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let DeliverySums { windows_lost, windows_waiting, telemetry_bytes_today } = self.delivery;
        let gauges = [
            (
                "telemetry_windows_lost",
                "Windows that devices dropped, for want of room or of a taker",
                windows_lost,
            ),
            ("telemetry_windows_waiting", "Windows that wait on devices, as they last said", windows_waiting),
            (
                "telemetry_bytes_today",
                "Bytes that telemetry cost on the devices' days",
                telemetry_bytes_today,
            ),
        ];
        for (name, help, value) in gauges {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn inferences(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Inferences by how they ended";
        let mut family = encoder.encode_descriptor("inferences", help, None, MetricType::Counter)?;
        for figures in &self.releases {
            let counts = &figures.counts;
            let outcomes = [
                ("ok", counts.ok),
                ("bad_request", counts.bad_request),
                ("busy", counts.busy),
                ("engine_error", counts.engine_error),
                ("non_finite", counts.non_finite),
                ("wrong_shape", counts.wrong_shape),
                ("timeout", counts.timeout),
            ];
            for (outcome, count) in outcomes {
                counter(&mut family, figures, Some(("outcome", outcome)), count)?;
            }
        }
        Ok(())
    }

    fn slow(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Inferences slower than the latency budget, whatever their outcome";
        let mut family = encoder.encode_descriptor("inferences_slow", help, None, MetricType::Counter)?;
        self.releases.iter().try_for_each(|figures| counter(&mut family, figures, None, figures.counts.slow))
    }

    fn labels(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Labels that came back for inferences, by whether the top class was right";
        let mut family = encoder.encode_descriptor("labels", help, None, MetricType::Counter)?;
        for figures in &self.releases {
            let labels = &figures.labels;
            for (result, count) in [("correct", labels.correct), ("wrong", labels.wrong)] {
                counter(&mut family, figures, Some(("result", result)), count)?;
            }
        }
        Ok(())
    }

    fn latency(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Time in the engine; the sum is an estimate, at most 1/16 off";
        let (name, kind) = ("inference_latency", MetricType::Histogram);
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
        for figures in &self.releases {
            let histogram = &figures.latency_ms;
            family.encode_family(&release_labels(figures))?.encode_histogram::<NoLabelSet>(
                histogram.sum() / 1_000.0,
                histogram.count(),
                &buckets(histogram),
                None,
            )?;
        }
        Ok(())
    }
}

fn counter(
    family: &mut MetricEncoder,
    figures: &VersionFigures,
    label: Option<(&'static str, &'static str)>,
    count: u64,
) -> fmt::Result {
    let [model, version] = release_labels(figures);
    let encode = |mut encoder: MetricEncoder| encoder.encode_counter::<NoLabelSet, u64, f64>(&count, None);
    match label {
        Some((name, value)) => encode(family.encode_family(&[model, version, (name, value.to_owned())])?),
        None => encode(family.encode_family(&[model, version])?),
    }
}

fn release_labels(figures: &VersionFigures) -> [(&'static str, String); 2] {
    let release = &figures.release;
    [("model", release.model.to_string()), ("version", release.version.to_string())]
}

/// The histogram by our bounds, in seconds. The encoder adds the counts up, so they must not add up beyond a `u64`,
/// whatever devices claim.
fn buckets(histogram: &FloatHistogram) -> Vec<(f64, u64)> {
    let mut edges = histogram.edges().peekable();
    let mut total = 0_u64;
    let mut up_to = |bound_ms: f64| {
        let mut count = 0_u64;
        while let Some((_, more)) = edges.next_if(|(edge, _)| *edge <= bound_ms) {
            count = count.saturating_add(more);
        }
        let count = count.min(u64::MAX - total);
        total += count;
        count
    };
    let mut buckets: Vec<_> = BOUNDS_MS.iter().map(|&bound| (bound / 1_000.0, up_to(bound))).collect();
    buckets.push((f64::INFINITY, up_to(f64::INFINITY)));
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f32]) -> FloatHistogram {
        let mut histogram = FloatHistogram::new();
        values.iter().for_each(|&value| histogram.record(value));
        histogram
    }

    #[test]
    fn a_value_just_below_a_bound_is_counted_below_it_and_one_on_it_above() {
        for bound in BOUNDS_MS {
            let below = buckets(&histogram(&[(bound as f32).next_down()]));
            let above = buckets(&histogram(&[bound as f32]));
            let place = |buckets: &[(f64, u64)]| buckets.iter().position(|(_, count)| *count == 1).unwrap();
            assert_eq!(below[place(&below)].0, bound / 1_000.0);
            assert_eq!(place(&above), place(&below) + 1);
        }
    }

    #[test]
    fn every_value_is_in_one_bucket() {
        let histogram = histogram(&[0.0, 0.01, 3.0, 3.0, 99.0, 1e6, f32::NAN]);
        let sum: u64 = buckets(&histogram).iter().map(|(_, count)| count).sum();
        assert_eq!((sum, histogram.count()), (6, 6));
    }

    #[test]
    fn counts_that_no_device_can_have_do_not_overflow() {
        let claimed = format!(r#"{{"buckets":{{"1016":{max},"1100":{max}}}}}"#, max = u64::MAX);
        let histogram: FloatHistogram = serde_json::from_str(&claimed).unwrap();
        let sum = buckets(&histogram).iter().try_fold(0_u64, |sum, (_, count)| sum.checked_add(*count));
        assert_eq!(sum, Some(u64::MAX));
    }
}
