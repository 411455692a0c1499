//! Looks at the metrics of waves, as `fleet-server/src/rollouts/verdicts.rs` takes them, without a database.

use std::{collections::BTreeMap, time::Duration};

use fleet_core::{
    Input,
    verdict::{
        CanaryJudge, Cohorts, Figures, Intervals, MetricVerdict, Period, Tally, VerdictPolicy, look_at,
    },
};
use shared::{DeviceId, ModelName, RolloutId, Timestamp, Version};

use super::{Flaw, Server};

/// Looks that are kept: a day of them.
const KEPT: usize = 288;

/// What was counted, and what is judged.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    intervals: BTreeMap<ModelName, Intervals>,
    tallies: BTreeMap<ModelName, Vec<(u64, Tally)>>,
    judges: BTreeMap<(RolloutId, usize), (CanaryJudge, Cohorts)>,
    /// What the judges said last.
    verdicts: BTreeMap<(RolloutId, usize), MetricVerdict>,
}

impl Server {
    /// Devices told what each version of a model has done since the beginning, as they do so often; every wave that is
    /// compared is judged.
    pub fn look(&mut self, model: &ModelName, tally: Tally, every: Duration, now: Timestamp) {
        let number = now.as_millis() / u64::try_from(every.as_millis()).unwrap_or(1).max(1);
        let happened = self.metrics.intervals.entry(model.clone()).or_default().advance(&tally);
        let kept = self.metrics.tallies.entry(model.clone()).or_default();
        kept.push((number, tally));
        if kept.len() > KEPT {
            kept.remove(0);
        }
        for (id, entry) in &mut self.entries {
            let release = entry.release().clone();
            let Some(wave) = entry.machine.compared_wave().filter(|_| release.model == *model) else {
                continue;
            };
            let Some((judge, cohorts)) = self.metrics.judges.get_mut(&(id.clone(), wave)) else { continue };
            let look = look_at(number, &happened, cohorts, release.version, Period::Since);
            let Ok(record) = judge.observe(&look) else { continue };
            self.metrics.verdicts.insert((id.clone(), wave), record.verdict.clone());
            let flatters = self.flaw == Some(Flaw::FlattersMetrics);
            let verdict = if flatters { MetricVerdict::Healthy { look: number } } else { record.verdict };
            let _ = entry.machine.handle(Input::Judged { wave, verdict }, now);
        }
        self.finish();
    }

    /// True while somebody is compared.
    #[must_use]
    pub fn compares(&self) -> bool {
        self.entries.values().any(|entry| entry.machine.compared_wave().is_some())
    }

    /// What the judge of a wave said last.
    #[must_use]
    pub fn verdict(&self, id: &RolloutId, wave: usize) -> Option<&MetricVerdict> {
        self.metrics.verdicts.get(&(id.clone(), wave))
    }

    /// Begins to compare a wave: the judge learns from what the devices did until now.
    pub(super) fn compare(&mut self, id: &RolloutId, wave: usize, cohorts: Cohorts, policy: VerdictPolicy) {
        let Some(release) = self.entries.get(id).map(|entry| entry.release().clone()) else { return };
        let mut intervals = Intervals::default();
        let tallies = self.metrics.tallies.get(&release.model).map(Vec::as_slice).unwrap_or_default();
        let looks = tallies.iter().map(|(number, tally)| {
            look_at(*number, &intervals.advance(tally), &cohorts, release.version, Period::Before)
        });
        let history: Vec<_> = looks.filter(|look| !look.devices.is_empty()).collect();
        if let Ok(judge) = CanaryJudge::start(policy, cohorts.clone(), &history) {
            self.metrics.judges.insert((id.clone(), wave), (judge, cohorts));
        }
    }
}

/// What devices did, by device and version.
pub type Told = BTreeMap<DeviceId, BTreeMap<Version, Figures>>;
