//! The whole server, running: built in order, stopped in the opposite order.

mod addresses;
mod build;
mod first_start;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum_server::{Handle, tls_rustls::RustlsConfig};
use thiserror::Error;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    api,
    app::{App, Endpoints},
    artifacts::ArtifactError,
    broker::{BrokerLimits, EmbeddedBroker},
    config::Config,
    data_dir::{DataDir, DataDirError},
    drift,
    gateway::{self, Batcher, BlockServer, Gateway, SketchStore, TelemetryStore, run_batches},
    pki::PkiError,
    publish::{self, PublishError},
    rollouts,
    servers::{self, Identity, NameTaken},
    signing::SigningError,
    store::StoreError,
    webhooks,
};

pub use first_start::ADMIN_CONTEXT;

/// Requests under way may take this long after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the server does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Certificates cannot be made or read.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Keys or repository cannot be made or read.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifact folder cannot be used.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    /// Stored releases cannot be listed.
    #[error("cannot list the stored releases")]
    Releases(#[from] PublishError),
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} for {what}: {reason}. Stop the other program, or set {key} (or {variable}) to another port"
    )]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// What the system said, in words.
        reason: String,
        /// The key of the configuration.
        key: &'static str,
        /// The variable of the environment.
        variable: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The broker does not start.
    #[error("cannot start the broker")]
    Broker(#[source] io::Error),
}

/// Why a running server cannot go on.
#[derive(Debug, Error)]
pub enum TaskError {
    /// The stored rollouts cannot be read.
    #[error("rollouts cannot be moved on")]
    Rollouts(#[from] StoreError),
    /// Another process has this server's name.
    #[error(transparent)]
    NameTaken(#[from] NameTaken),
    /// The API cannot be served.
    #[error("the API cannot be served")]
    Api(#[source] io::Error),
    /// A part of the server panicked.
    #[error("a part of the server broke")]
    Broken(#[from] JoinError),
    /// A part of the server ended although nobody stopped it.
    #[error("a part of the server ended by itself")]
    Ended,
}

/// A running server.
pub struct Server {
    app: Arc<App>,
    data_dir: DataDir,
    addresses: addresses::Bound,
    first_token: Option<String>,
    http: Handle<SocketAddr>,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), TaskError>>,
}

impl Server {
    /// Starts everything. `program` is this program, which also serves as gate worker.
    ///
    /// # Errors
    /// Says what is missing or taken, and what to do.
    pub async fn start(config: Config, program: PathBuf) -> Result<Self, StartError> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let listeners = addresses::bind(&config).await?;
        let addresses = listeners.bound(&config)?;
        let parts = build::parts(&config, &data_dir, &addresses.endpoints, program).await?;
        let first_token = first_start::prepare(&parts.app, &data_dir).await?;
        publish::list_stored(&parts.app).await?;
        let (http, stop) = (Handle::new(), CancellationToken::new());
        let keep = Duration::from_secs(u64::from(config.telemetry.keep_hours) * 3_600);
        let app = parts.app.clone();
        let mut tasks = JoinSet::new();
        let blocks = BlockServer::new(app.clone());
        let (to_telemetry, telemetry) = Batcher::channel::<TelemetryStore>();
        let (to_sketches, sketches) = Batcher::channel::<SketchStore>();
        let gateway = Arc::new(Gateway::new(app.clone(), blocks.clone(), to_telemetry, to_sketches));
        let broker = EmbeddedBroker::start(
            listeners.mqtt,
            parts.mqtt_tls,
            BrokerLimits { max_connections: config.limits.connections as usize, ..BrokerLimits::default() },
            gateway.clone(),
            gateway,
        )
        .map_err(StartError::Broker)?;
        let _ = app.broker.set(Arc::new(broker));
        let store = TelemetryStore { app: app.clone(), keep };
        tasks.spawn(lives(run_batches(store, telemetry, stop.clone())));
        tasks.spawn(lives(run_batches(SketchStore { app: app.clone() }, sketches, stop.clone())));
        tasks.spawn(run_servers(app.clone(), parts.identity, stop.clone()));
        tasks.spawn(lives(run_blocks(blocks, stop.clone())));
        tasks.spawn(lives(gateway::redrive(app.clone(), stop.clone())));
        tasks.spawn(lives(gateway::keep_house(app.clone(), keep, stop.clone())));
        tasks.spawn(lives(webhooks::run(app.clone(), stop.clone())));
        tasks.spawn(lives(drift::run(app.clone(), stop.clone())));
        tasks.spawn(run_rollouts(app.clone(), parts.inbox, stop.clone()));
        tasks.spawn(serve_http(listeners.http, parts.http_tls, app.clone(), http.clone()));
        first_start::announce(&data_dir, &addresses)?;
        Ok(Self { app, data_dir, addresses, first_token, http, stop, tasks })
    }

    /// Where it can be reached.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.addresses.endpoints
    }

    /// The addresses it listens on: HTTP, MQTT.
    #[must_use]
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.addresses.http, self.addresses.mqtt)
    }

    /// The admin's token, if this was the first start.
    #[must_use]
    pub fn first_token(&self) -> Option<&str> {
        self.first_token.as_deref()
    }

    /// The admin's context file.
    #[must_use]
    pub fn admin_context(&self) -> PathBuf {
        self.data_dir.join(ADMIN_CONTEXT)
    }

    /// What the parts share, for tests that look inside.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Waits until a part of the server ends by itself, which none may: without it devices or rollouts would stand
    /// still and nobody would know.
    pub async fn failed(&mut self) -> TaskError {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            Some(Ok(Ok(()))) | None => TaskError::Ended,
        }
    }

    /// Takes no more requests, finishes those under way, says goodbye to devices, and closes the database.
    pub async fn stop(mut self) {
        self.app.stopping.cancel();
        self.http.graceful_shutdown(Some(DRAIN));
        if let Some(broker) = self.app.broker.get() {
            broker.stop().await;
        }
        self.stop.cancel();
        let ended = tokio::time::timeout(DRAIN, async { while self.tasks.join_next().await.is_some() {} });
        if ended.await.is_err() {
            self.tasks.shutdown().await;
        }
        self.app.store.close().await;
    }
}

async fn run_blocks(blocks: Arc<BlockServer>, stop: CancellationToken) {
    blocks.run(stop).await;
}

/// For parts that cannot fail.
async fn lives(part: impl Future<Output = ()>) -> Result<(), TaskError> {
    part.await;
    Ok(())
}

async fn run_servers(app: Arc<App>, identity: Identity, stop: CancellationToken) -> Result<(), TaskError> {
    Ok(servers::run(app, identity, stop).await?)
}

async fn run_rollouts(
    app: Arc<App>,
    inbox: rollouts::Inbox,
    stop: CancellationToken,
) -> Result<(), TaskError> {
    Ok(rollouts::run(app, inbox, stop).await?)
}

async fn serve_http(
    listener: std::net::TcpListener,
    tls: Arc<rustls::ServerConfig>,
    app: Arc<App>,
    handle: Handle<SocketAddr>,
) -> Result<(), TaskError> {
    let router = api::router(app);
    let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls));
    let server = server.map_err(TaskError::Api)?;
    server.handle(handle).serve(router.into_make_service()).await.map_err(TaskError::Api)
}
