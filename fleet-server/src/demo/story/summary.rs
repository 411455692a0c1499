//! The last page: one row for each device, one for each version.

use std::collections::BTreeMap;

use super::{Device, rollout::Passage};
use crate::demo::{
    fleet::VersionSums,
    narrate::{Narrator, bytes},
    traffic::Tally,
};

/// What happened, in numbers.
pub(super) struct Summary<'a> {
    pub(super) devices: &'a [Device],
    pub(super) tallies: BTreeMap<String, Tally>,
    pub(super) passages: [&'a Passage; 3],
}

impl Summary<'_> {
    /// Tells it.
    pub(super) fn tell(&self, narrator: &Narrator, sums: &[VersionSums; 3]) {
        let header = [
            "device",
            "answers now",
            "requests",
            "failed v1",
            "failed v2",
            "failed v3",
            "v3 active for",
            "fetched",
        ];
        let rows: Vec<_> = self.devices.iter().map(|device| self.row(&device.name)).collect();
        narrator.table(&header, &rows);
        let rows: Vec<_> =
            sums.iter().enumerate().map(|(index, sums)| version_row(index + 1, sums)).collect();
        let header = ["version", "answered", "failed", "not finite", "labels", "right", "median"];
        narrator.table(&header, &rows);
    }

    fn row(&self, name: &str) -> Vec<String> {
        let tally = self.tallies.get(name).cloned().unwrap_or_default();
        let failed = |version| tally.failed.get(&version).copied().unwrap_or(0).to_string();
        let trails = self.passages.iter().filter_map(|passage| passage.trails.get(name));
        let fetched = trails.clone().map(|trail| trail.fetched_bytes).sum();
        let back = trails.filter_map(|trail| trail.evidence.as_ref()).next_back();
        vec![
            name.to_owned(),
            tally.last.map_or_else(|| "nothing".to_owned(), |(version, _)| format!("v{version}")),
            tally.requests().to_string(),
            failed(1),
            failed(2),
            failed(3),
            back.map_or_else(|| "–".to_owned(), |evidence| format!("{} ms", evidence.after_ms)),
            bytes(fetched),
        ]
    }
}

fn version_row(number: usize, sums: &VersionSums) -> Vec<String> {
    vec![
        format!("v{number}"),
        sums.ok.to_string(),
        sums.failures.to_string(),
        sums.non_finite.to_string(),
        sums.labels().to_string(),
        sums.accuracy(),
        sums.latency(),
    ]
}
