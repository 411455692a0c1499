//! What every part of the running server shares.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use fleet_core::Selector;
use shared::DeviceId;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    artifacts::Artifacts,
    auth::TokenKey,
    broker::Broker,
    clock::Clock,
    config::Limits,
    drift::{DriftConfig, Specs},
    metrics::Metrics,
    pki::Authority,
    rollouts::Executor,
    servers::Lease,
    signing::Signing,
    store::Store,
};

/// Where the server can be reached.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Endpoints {
    /// Address of the API.
    pub url: String,
    /// `host:port` of the broker.
    pub mqtt: String,
}

/// The parts of a running server.
pub struct App {
    // What the operator gave.
    /// Bounds that protect the server.
    pub limits: Limits,
    /// Where the server can be reached.
    pub endpoints: Endpoints,
    /// The program that runs as gate worker: this one.
    pub program: PathBuf,
    /// Time between two looks at the metrics of devices.
    pub look_every: Duration,
    /// Devices that no rollout reaches before somebody else agreed to it.
    pub approval: Vec<Selector>,
    /// How drift is watched.
    pub drift: DriftConfig,
    /// Folder for files of a publication under way.
    pub scratch: PathBuf,

    // What the server holds.
    /// The time.
    pub clock: Clock,
    /// Tables.
    pub store: Store,
    /// Who signs certificates.
    pub authority: Authority,
    /// Who hashes tokens.
    pub token_key: TokenKey,
    /// Who signs metadata.
    pub signing: Signing,
    /// Where artifacts lie.
    pub artifacts: Artifacts,
    /// What is watched of each release.
    pub specs: Specs,
    /// Numbers for the monitoring.
    pub metrics: Metrics,

    // What runs.
    /// Moves rollouts on.
    pub rollouts: Executor,
    /// Whether it does so with time, among the servers on this database.
    pub lease: Lease,
    /// The way to the devices; set once, before the API listens.
    pub broker: OnceLock<Arc<dyn Broker>>,
    /// Counts changes of rollouts, for those who wait for one.
    pub changes: watch::Sender<u64>,
    /// Cancelled when the server is about to stop: whoever waits for a change gets an answer now.
    pub stopping: CancellationToken,
    /// One publication at a time: versions are numbered without gaps, and the gate may use all memory it is given.
    pub publishing: Mutex<()>,
}

impl App {
    /// Cuts the connections of a device.
    pub async fn kick(&self, device: &DeviceId) {
        if let Some(broker) = self.broker.get() {
            broker.kick(device).await;
        }
    }
}
