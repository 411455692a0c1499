//! Telemetry of many devices, while people ask the API.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use shared::{
    BootId, ReleaseId, Timestamp,
    telemetry::{Delivery, DeviceHealth, Telemetry, VersionFigures},
    topic::{Down, Up},
};
use tokio::task::JoinSet;

use super::{Place, peer, probe::Probe, speaker::Speaker};
use crate::report::{Row, progress};

/// Reports of each device that are counted.
const REPORTS: u64 = 60;

/// Reports of each device beforehand.
const WARM_UP: u64 = 5;

/// An answer of the API that people wait for may take this long.
const API_BOUND_MS: f64 = 250.0;

/// Measures one database.
pub async fn run(place: &Place, speakers: Vec<Speaker>) -> anyhow::Result<(Vec<Row>, Vec<Speaker>)> {
    let (name, devices) = (place.name, speakers.len() as u64);
    progress(&format!("{name}: {} reports", devices * REPORTS));
    let (speakers, _) = speak(speakers, 1..=WARM_UP).await?;
    let (asking, before) = (Probe::of(&place.server)?.ask(), place.cpu_seconds()?);
    let (speakers, took) = speak(speakers, WARM_UP + 1..=WARM_UP + REPORTS).await?;
    let cpu_us = (place.cpu_seconds()? - before) * (1e6 / (devices * REPORTS) as f64);
    let latencies = asking.stop().await?;
    let per_second = (devices * REPORTS) as f64 / took.as_secs_f64();
    let count = || place.database.numbers("SELECT CAST(SUM(windows_counted) AS BIGINT) FROM devices");
    let stored = tokio::task::block_in_place(count);
    let sent = i64::try_from(devices * (WARM_UP + REPORTS))?;
    ensure!(stored == [sent], "{sent} reports were acknowledged and {stored:?} are stored");
    let raw = peer::inserts_per_second(place.database.url()).await?;
    let rows = vec![
        Row::beside(format!("telemetry into {name}, none lost"), per_second, "reports/s", peer::NAME, raw),
        Row::beside(
            format!("processor time for each, {name}"),
            cpu_us.all(),
            "µs",
            "bound",
            place.cpu_bound_us,
        ),
        Row::alone(format!("of that the server's, {name}"), cpu_us.server, "µs"),
        Row::beside(format!("API meanwhile, {name}, p99"), latencies.p99_ms(), "ms", "bound", API_BOUND_MS),
    ];
    Ok((rows, speakers))
}

/// Lets every device say these numbers, one after the other.
async fn speak(
    speakers: Vec<Speaker>,
    numbers: std::ops::RangeInclusive<u64>,
) -> anyhow::Result<(Vec<Speaker>, Duration)> {
    let began = Instant::now();
    let mut speaking = JoinSet::new();
    for mut speaker in speakers {
        let numbers = numbers.clone();
        speaking.spawn(async move {
            for sequence in numbers {
                speaker.say(Up::Telemetry, &telemetry(sequence)?).await?;
                speaker.hear(Down::Acknowledgement).await?;
            }
            anyhow::Ok(speaker)
        });
    }
    let mut speakers = Vec::new();
    while let Some(speaker) = speaking.join_next().await {
        speakers.push(speaker??);
    }
    Ok((speakers, began.elapsed()))
}

/// A window of thirty seconds with ten inferences a second, as an agent would send it.
fn telemetry(sequence: u64) -> anyhow::Result<Telemetry> {
    let release: ReleaseId = "digits@1".parse()?;
    let mut figures = VersionFigures::new(release);
    figures.counts.ok = 300;
    for number in 0..300_u16 {
        figures.latency_ms.record(0.03 + f32::from((number * 7 + sequence as u16) % 40) * 0.001);
        figures.queue_ms.record(0.01);
    }
    let to = Timestamp::default() + SystemTime::now().duration_since(UNIX_EPOCH)?;
    let health = DeviceHealth { cpu_percent: 12.5, memory_total_mib: 2_048, ..DeviceHealth::default() };
    let boot = BootId::new("bench")?;
    Ok(Telemetry {
        boot,
        sequence,
        from: to,
        to,
        health,
        delivery: Delivery::default(),
        versions: vec![figures],
        challengers: Default::default(),
        drift_alarms: Vec::new(),
    })
}
