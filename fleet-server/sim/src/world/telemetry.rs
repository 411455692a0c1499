//! What devices tell of their inferences, for stories whose rollouts compare metrics.

use std::{collections::BTreeMap, time::Duration};

use fleet_core::verdict::{Figures, Metric, Tally};
use muster_sketch::canary::Sample;
use shared::{DeviceId, ModelName, ReleaseId};

use super::{Happening, World};
use crate::{nature::Nature, random::Random, server::Told};

/// How long an inference takes on a device of the middle, in milliseconds.
const LATENCY_MS: f64 = 20.0;

impl World {
    /// Counts what every device did since the last look, and lets the server look at it.
    pub(super) fn look(&mut self) {
        let every = self.look_every();
        self.after(every, Happening::Look);
        self.count_inferences();
        let tallies: Vec<(ModelName, Tally)> =
            self.told.iter().map(|(model, told)| (model.clone(), Tally(told.clone()))).collect();
        for (model, tally) in tallies {
            self.server_turn(|server, now| server.look(&model, tally, every, now));
        }
    }

    pub(super) fn look_every(&self) -> Duration {
        Duration::from_secs(self.story.look_secs.max(1).into())
    }

    fn count_inferences(&mut self) {
        let (tells_of_drift, every) = (self.story.drift, self.look_every());
        for (id, inhabitant) in &self.fleet {
            if !inhabitant.is_reachable() {
                continue;
            }
            for state in inhabitant.device.agent().model_states() {
                let Some(release) = inhabitant.device.serves(&state.model) else { continue };
                let inferences = u64::from(inhabitant.device.traffic()) * every.as_secs() / 60;
                let nature = inhabitant.device.nature_of(release);
                let figures = add(&mut self.told, &mut self.random, id, release, nature, inferences);
                if tells_of_drift && inferences > 0 {
                    add_drift(figures, &mut self.random, nature);
                }
            }
        }
    }
}

fn add<'a>(
    told: &'a mut BTreeMap<ModelName, Told>,
    random: &mut Random,
    id: &DeviceId,
    release: &ReleaseId,
    nature: Nature,
    inferences: u64,
) -> &'a mut Figures {
    let versions = told.entry(release.model.clone()).or_default().entry(id.clone()).or_default();
    let figures: &mut Figures = versions.entry(release.version).or_default();
    let slower = match nature {
        Nature::Slower(percent) => 1.0 + f64::from(percent) / 100.0,
        _ => 1.0,
    };
    // Devices differ by a third, and each moves by a few percent from one interval to the next.
    let own = 0.85 + f64::from(id.as_str().bytes().map(u32::from).sum::<u32>() % 30) / 100.0;
    let moves = 0.97 + random.below(600) as f64 / 10_000.0;
    let latency = LATENCY_MS * own * moves * slower * inferences as f64;
    let errors = (0..inferences).filter(|_| random.chance(1_000)).count() as f64;
    for (metric, sum) in [(Metric::Latency, latency), (Metric::Errors, errors)] {
        let sample = figures.entry(metric).or_insert(Sample { sum: 0.0, count: 0 });
        sample.sum += sum;
        sample.count += inferences;
    }
    figures
}

/// A window of each of two features: the population stability index less its noise floor, so around nothing without drift.
fn add_drift(figures: &mut Figures, random: &mut Random, nature: Nature) {
    let further = match nature {
        Nature::Drifts(hundredths) => f64::from(hundredths) / 100.0,
        _ => 0.0,
    };
    let sample = figures.entry(Metric::Drift).or_insert(Sample { sum: 0.0, count: 0 });
    for _ in 0..2 {
        sample.sum += further + random.below(600) as f64 / 10_000.0 - 0.03;
        sample.count += 1;
    }
}
