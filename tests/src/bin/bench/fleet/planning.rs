//! A plan for a fleet of fifty thousand, as a person asks for it.

use std::time::Instant;

use anyhow::ensure;
use serde_json::json;

use super::{Place, probe::Probe};
use crate::{
    measure::{cpu_seconds, median},
    report::{Row, progress},
};

/// Devices beside those that are connected. They are copies of one that is, under other names.
const DEVICES: i64 = 50_000;

/// A person waits this long without wondering.
const BOUND_MS: f64 = 1_000.0;

/// Plans that are counted, after one that is not.
const ROUNDS: usize = 5;

const COPY: &str = "WITH RECURSIVE numbers(number) AS \
     (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 50000) \
     INSERT INTO devices (id, certificate_serial, report_key, labels, inventory, models, seen_generation, enrolled_at, \
     connected, quarantined, revoked) SELECT 'plan-' || CAST(number AS TEXT), 'none', report_key, labels, inventory, \
     models, 0, enrolled_at, 0, 0, 0 FROM numbers, devices WHERE devices.id = 'bench-1' RETURNING seen_generation";

/// Measures one database.
pub async fn run(place: &Place) -> anyhow::Result<[Row; 2]> {
    progress(&format!("{}: planning for {DEVICES} devices", place.name));
    let copied = tokio::task::block_in_place(|| place.database.numbers(COPY)).len();
    ensure!(i64::try_from(copied)? == DEVICES, "{copied} devices were made");
    let probe = Probe::of(&place.server)?;
    let body = json!({"release": "digits@1", "selector": "site=berlin"});
    let (mut times, mut cpu) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (began, cpu_before) = (Instant::now(), cpu_seconds(place.server.pid())?);
        let bytes = probe.post("/api/v1/rollouts/plan", &body).await?;
        ensure!(bytes > DEVICES as usize, "a plan of {bytes} bytes names nobody");
        if round > 0 {
            times.push(began.elapsed().as_secs_f64() * 1e3);
            cpu.push((cpu_seconds(place.server.pid())? - cpu_before) * 1e3);
        }
    }
    let name = place.name;
    let row =
        |what: &str, ms: &[f64]| Row::beside(format!("{what}, {name}"), median(ms), "ms", "bound", BOUND_MS);
    Ok([row("plan for 50,000 devices over the API", &times), row("server's processor time for it", &cpu)])
}
