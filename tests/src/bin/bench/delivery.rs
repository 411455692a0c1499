//! One artifact to many devices at once, against copies of the same bytes over bare TCP.
//!
//! The server is real and is published to like any other. The devices are sessions of the agents' own link in this
//! process: enrolled over the API, mutual TLS, MQTT, blocks asked for with credit, the digest of every block compared.
//! What they leave out is the disk. The server's rates are lifted, or the figure would be the configured one.

mod copy;
mod device;
pub mod enrolment;
pub mod server;

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use shared::artifact::Packed;
use system_tests::models::Publication;
use tokio::task::JoinSet;

use crate::{
    measure::{Comparison, cpu_seconds},
    report::{Row, progress},
};
use device::Device;
use server::Server;

/// Bytes of noise in the model: nothing can compress them away.
const ARTIFACT_BYTES: usize = 20 * 1_000 * 1_000;

/// Devices with the rounds that are counted. Many devices carry many bytes, so fewer rounds do.
const FLEETS: [(usize, usize); 3] = [(1, 41), (10, 11), (100, 5)];

/// What the artifact is called in the fleet.
const MODEL: &str = "bench";

const COPY: &str = "loopback TCP copy";

/// What one round found.
struct Round {
    ours: Figures,
    copy: Figures,
}

/// How many bytes went in what time, at what cost for the sender.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    megabytes: f64,
    seconds: f64,
    sender_cpu_seconds: f64,
}

impl Figures {
    /// Figures of `bytes` that took `seconds`, and the sender's processors `sender_cpu_seconds`.
    #[allow(clippy::cast_precision_loss)] // far below 2^52 bytes
    pub fn new(bytes: usize, seconds: f64, sender_cpu_seconds: f64) -> Self {
        Self { megabytes: bytes as f64 / 1e6, seconds, sender_cpu_seconds }
    }
}

/// Measures fleets of growing size.
pub fn run() -> anyhow::Result<Vec<Row>> {
    let server = Server::start()?;
    progress("publishing an artifact of 20 MB");
    let model = Publication::big(server.scratch(), ARTIFACT_BYTES, 1);
    server.publish(&model, MODEL)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(&server))
}

async fn measure(server: &Server) -> anyhow::Result<Vec<Row>> {
    let largest = FLEETS.iter().map(|(devices, _)| *devices).max().unwrap_or_default();
    progress(&format!("enrolling {largest} devices"));
    let identities = enrolment::enrol(server, largest)?;
    let mut devices = Vec::new();
    for identity in identities {
        devices.push(Device::connect(identity).await?);
    }
    let first = devices.first_mut().context("there are devices")?;
    let packed = Arc::new(first.manifest(&format!("{MODEL}/1.json")).await?.model.packed);
    ensure!(packed.size_bytes >= ARTIFACT_BYTES as u64, "the artifact was compressed");

    let mut rows = Vec::new();
    for (count, rounds) in FLEETS {
        progress(&format!("sending to {count} devices"));
        let mut found = Vec::new();
        for round in 0..=rounds {
            let ours;
            (ours, devices) = deliver(server, devices, count, &packed).await?;
            let bytes = usize::try_from(packed.size_bytes)?;
            let copy = tokio::task::spawn_blocking(move || copy::copy(count, bytes)).await??;
            // The first round warms up.
            if round > 0 {
                found.push(Round { ours, copy });
            }
        }
        rows.extend(summary(count, &found));
    }
    Ok(rows)
}

/// Sends the artifact to the first `count` devices at once.
async fn deliver(
    server: &Server,
    mut devices: Vec<Device>,
    count: usize,
    packed: &Arc<Packed>,
) -> anyhow::Result<(Figures, Vec<Device>)> {
    let idle = devices.split_off(count);
    let (since, cpu_before) = (Instant::now(), cpu_seconds(server.pid())?);
    let mut fetching = JoinSet::new();
    for mut device in devices {
        let packed = Arc::clone(packed);
        fetching.spawn(async move { device.fetch(&packed).await.map(|()| device) });
    }
    let mut devices = Vec::new();
    while let Some(fetched) = fetching.join_next().await {
        devices.push(fetched??);
    }
    let (seconds, cpu) = (since.elapsed().as_secs_f64(), cpu_seconds(server.pid())? - cpu_before);
    devices.extend(idle);
    Ok((Figures::new(count * usize::try_from(packed.size_bytes)?, seconds, cpu), devices))
}

fn summary(count: usize, rounds: &[Round]) -> [Row; 2] {
    let speed = |figures: &Figures| figures.megabytes / figures.seconds;
    let ours: Vec<f64> = rounds.iter().map(|round| speed(&round.ours)).collect();
    let peers: Vec<f64> = rounds.iter().map(|round| speed(&round.copy)).collect();
    let (ours_cost, peers_cost) = (cost(rounds, |round| &round.ours), cost(rounds, |round| &round.copy));
    let devices = if count == 1 { "1 device".to_owned() } else { format!("{count} devices") };
    let together = Comparison::of_rounds(&ours, &peers);
    [
        Row::compared(format!("20 MB to {devices}, together"), "MB/s", COPY, together),
        Row::beside(format!("20 MB to {devices}, CPU of the sender"), ours_cost, "ms/MB", COPY, peers_cost),
    ]
}

/// Over all rounds: the kernel counts a process in hundredths of a second, which is much of a short round.
fn cost(rounds: &[Round], of: fn(&Round) -> &Figures) -> f64 {
    let sum = |figure: fn(&Figures) -> f64| rounds.iter().map(|round| figure(of(round))).sum::<f64>();
    sum(|figures| figures.sender_cpu_seconds) * 1e3 / sum(|figures| figures.megabytes)
}
