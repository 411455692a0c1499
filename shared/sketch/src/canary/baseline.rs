//! What each device was like before.

use serde::{Deserialize, Serialize};

use super::{Measure, Sample, Scale, Window, measure::Values};

/// A device with fewer looks of history has no baseline: an hour of looks of five minutes.
const MIN_HISTORY_LOOKS: usize = 12;

/// A level this small or less has no meaningful ratio.
const SMALLEST_LEVEL: f64 = 1e-30;

/// Devices with their own past; the index is the place in a [`Window`](super::Window).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Baselines {
    pub(super) canaries: Vec<Option<f64>>,
    pub(super) controls: Vec<Option<f64>>,
    /// The mean of all of them, at least the floor of a rate. Unit of a rate's differences.
    pub(super) pooled: f64,
}

/// Sums over the looks of one device.
#[derive(Clone, Copy, Default)]
struct Past {
    sum: f64,
    count: f64,
    looks: usize,
}

impl Baselines {
    /// `history` are the windows with what is usable of each.
    pub(super) fn learn(measure: &Measure, history: &[(&Window, Values)], devices: (usize, usize)) -> Self {
        let mut canaries = vec![Past::default(); devices.0];
        let mut controls = vec![Past::default(); devices.1];
        for (window, values) in history {
            add(&mut canaries, &window.canaries, &values.canaries);
            add(&mut controls, &window.controls, &values.controls);
        }
        let pooled = pooled(measure, canaries.iter().chain(&controls));
        let of = |devices: &[Past]| devices.iter().map(|past| past.baseline(measure, pooled)).collect();
        Self { canaries: of(&canaries), controls: of(&controls), pooled }
    }
}

fn add(devices: &mut [Past], samples: &[Option<Sample>], usable: &[Option<f64>]) {
    for ((past, sample), usable) in devices.iter_mut().zip(samples).zip(usable) {
        if let (Some(sample), Some(_)) = (sample, usable) {
            past.sum += sample.sum;
            past.count += sample.count as f64;
            past.looks += 1;
        }
    }
}

impl Past {
    fn baseline(&self, measure: &Measure, pooled: f64) -> Option<f64> {
        if self.looks < MIN_HISTORY_LOOKS {
            return None;
        }
        match measure.scale {
            // One more event at the fleet's rate: a device that never failed is not one that cannot.
            Scale::Rate { .. } => Some((self.sum + 1.0) / (self.count + 1.0 / pooled)),
            Scale::Level => Some(self.sum / self.count).filter(|&level| level > SMALLEST_LEVEL),
            Scale::Absolute => Some(self.sum / self.count),
        }
    }
}

fn pooled<'a>(measure: &Measure, devices: impl Iterator<Item = &'a Past>) -> f64 {
    let all = devices.fold(Past::default(), |all, past| Past {
        sum: all.sum + past.sum,
        count: all.count + past.count,
        looks: all.looks + past.looks,
    });
    let mean = if all.count > 0.0 { all.sum / all.count } else { 0.0 };
    match measure.scale {
        Scale::Rate { floor } => mean.max(floor),
        Scale::Level | Scale::Absolute => mean,
    }
}
