//! What must be true for the story to have happened.

use anyhow::{bail, ensure};

use super::version_of;
use crate::demo::{
    fleet::VersionSums,
    traffic::{Tally, Traffic},
};

/// Answers in a row after which a device counts as back.
const ROW: u64 = 20;

/// A time in which nothing may fail.
pub(super) struct Quiet {
    requests: u64,
    failed: u64,
}

impl Quiet {
    /// It begins now.
    pub(super) fn start(traffic: &Traffic) -> Self {
        let (requests, failed) = sums(traffic);
        Self { requests, failed }
    }

    /// It ends now; gives the requests in it.
    pub(super) fn nothing_failed(&self, traffic: &Traffic) -> anyhow::Result<u64> {
        let (requests, failed) = sums(traffic);
        let failed = failed - self.failed;
        if failed > 0 {
            bail!("{failed} requests failed during the swap: {}", last_failures(traffic));
        }
        ensure!(requests > self.requests, "no request was sent during the swap");
        Ok(requests - self.requests)
    }
}

/// A version answered, and answers were labelled.
pub(super) fn answered(sums: &VersionSums, release: &str) -> anyhow::Result<()> {
    ensure!(sums.labels() > 0, "no answer of {release} was labelled");
    ensure!(sums.failures == 0, "{} inferences of {release} failed", sums.failures);
    Ok(())
}

/// The newer version is right more often.
pub(super) fn rises(older: &VersionSums, newer: &VersionSums) -> anyhow::Result<()> {
    ensure!(newer.failures == 0, "{} inferences of the better version failed", newer.failures);
    let (before, after) = (older.accuracy(), newer.accuracy());
    ensure!(newer.share() > older.share(), "the accuracy did not rise: {before}, then {after}");
    Ok(())
}

/// The broken version failed on some inputs with outputs that are no numbers, and on some it did not.
pub(super) fn failed_on_numbers(sums: &VersionSums, release: &str) -> anyhow::Result<()> {
    ensure!(sums.non_finite > 0, "no output of {release} was not finite");
    ensure!(sums.failures == sums.non_finite, "{release} failed in other ways than by its numbers");
    ensure!(sums.ok > 0, "no inference of {release} was answered");
    Ok(())
}

/// Whatever failed, failed in `release`.
pub(super) fn nothing_else_failed(traffic: &Traffic, release: &str) -> anyhow::Result<()> {
    let version = version_of(release);
    let other = |tally: Tally| {
        tally.failed.into_iter().filter(|(failed, _)| *failed != version).map(|(_, n)| n).sum::<u64>()
    };
    let others: u64 = traffic.tallies().into_values().map(other).sum();
    ensure!(
        others == 0,
        "{others} requests failed that {release} has no part in: {}",
        last_failures(traffic)
    );
    Ok(())
}

/// Every device answers with `version`, several times in a row.
pub(super) fn all_answer_with(traffic: &Traffic, version: u32) -> bool {
    traffic
        .tallies()
        .values()
        .all(|tally| tally.last.is_some_and(|(last, row)| last == version && row >= ROW))
}

/// The last failures in words.
pub(super) fn last_failures(traffic: &Traffic) -> String {
    let mut texts: Vec<String> = traffic
        .tallies()
        .into_iter()
        .flat_map(|(name, tally)| tally.failures.into_iter().map(move |text| format!("{name}: {text}")))
        .collect();
    texts.truncate(3);
    texts.join("; ")
}

fn sums(traffic: &Traffic) -> (u64, u64) {
    let tallies = traffic.tallies();
    (tallies.values().map(Tally::requests).sum(), tallies.values().map(Tally::all_failed).sum())
}
