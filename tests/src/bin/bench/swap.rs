//! What callers notice of a change of the version: latencies of a stock Triton client with and without swaps.
//!
//! The runner is driven as the daemon drives it: load the next version beside the one that answers, switch, unload the
//! old one, and again without a pause. Phases with swaps and without take turns and last about as long as each other.
//! The client, the runner and this program share the machine's cores, and a load is work on one of them.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use muster_agent::runner::Event;
use system_tests::{
    hammer::{Hammer, Phase},
    models::Publication,
    process::resident_kib,
    rig::Rig,
    smuggle::BUDGETS,
};

use crate::{
    measure::{Comparison, median},
    report::{Row, progress},
};

/// Phases of each kind.
const ROUNDS: usize = 5;

/// Swaps in a phase.
const SWAPS: u32 = 200;

/// Who the requests with swaps are compared with.
const WITHOUT: &str = "without swaps";

/// Measures one runner with one client.
pub fn run() -> anyhow::Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure())
}

/// A runner whose versions are digits 1 and 2 in turn.
struct Swapper {
    rig: Rig,
    models: [Vec<u8>; 2],
    version: u32,
}

impl Swapper {
    async fn start() -> anyhow::Result<Self> {
        let models = [fs::read(Publication::digits(2).onnx)?, fs::read(Publication::digits(1).onnx)?];
        let mut rig = Rig::start(BUDGETS).await;
        let loaded = rig.load(1, &models[1]).await;
        anyhow::ensure!(matches!(loaded, Event::Loaded { .. }), "the first version: {loaded:?}");
        rig.switch(1).await;
        Ok(Self { rig, models, version: 1 })
    }

    /// A phase of swaps; tells how long it took.
    async fn swap(&mut self) -> Duration {
        let since = Instant::now();
        for _ in 0..SWAPS {
            self.version += 1;
            self.rig.swap_to(self.version, &self.models[self.version as usize % 2]).await;
        }
        since.elapsed()
    }

    fn resident_mib(&self) -> anyhow::Result<f64> {
        let kib = resident_kib(self.rig.pid()).context("the runner is gone")?;
        Ok(f64::from(u32::try_from(kib)?) / 1_024.0)
    }
}

async fn measure() -> anyhow::Result<Vec<Row>> {
    let mut swapper = Swapper::start().await?;
    let mut hammer = Hammer::start(swapper.rig.address(), "digits");
    let mut taken = swapper.swap().await;
    let before = swapper.resident_mib()?;
    let mut rates = Vec::new();
    for round in 0..ROUNDS {
        progress(&format!("round {} of {ROUNDS}", round + 1));
        hammer.begin(&name(round, false));
        thread::sleep(taken);
        hammer.begin(&name(round, true));
        taken = swapper.swap().await;
        rates.push(f64::from(SWAPS) / taken.as_secs_f64());
    }
    let after = swapper.resident_mib()?;
    rows(&hammer.end(), &rates, before, after)
}

fn name(round: usize, swapping: bool) -> String {
    format!("{round} {}", if swapping { "swaps" } else { WITHOUT })
}

fn rows(
    phases: &BTreeMap<String, Phase>,
    rates: &[f64],
    before: f64,
    after: f64,
) -> anyhow::Result<Vec<Row>> {
    let failed: Vec<&String> = phases.values().flat_map(|phase| &phase.failed).collect();
    anyhow::ensure!(failed.is_empty(), "requests failed: {failed:?}");
    let of = |swapping: bool, figure: fn(&Phase) -> f64| -> Vec<f64> {
        (0..ROUNDS).filter_map(|round| phases.get(&name(round, swapping))).map(figure).collect()
    };
    let compared = |what: &str, figure: fn(&Phase) -> f64| {
        let found = Comparison::of_rounds(&of(true, figure), &of(false, figure));
        Row::compared(what, "ms", WITHOUT, found)
    };
    let requests: u64 = phases.values().map(|phase| phase.requests).sum();
    Ok(vec![
        compared("request during swaps, median", |phase| phase.p50_ms),
        compared("request during swaps, 99 of 100", |phase| phase.p99_ms),
        compared("request during swaps, slowest", |phase| phase.max_ms),
        Row::alone("swaps under load", median(rates), "1/s"),
        Row::alone("requests", requests as f64, ""),
        Row::alone("requests that failed", 0.0, ""),
        Row::beside(
            format!("resident memory after {} swaps", ROUNDS as u32 * SWAPS),
            after,
            "MiB",
            "before",
            before,
        ),
    ])
}
