//! Puts the parts together, from the bottom up.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::{StartError, addresses::certificate_names};
use crate::{
    app::{App, Endpoints},
    artifacts::Artifacts,
    auth::TokenKey,
    clock::Clock,
    config::Config,
    data_dir::{DataDir, DataDirError},
    drift::{DriftConfig, Specs},
    metrics::Metrics,
    pki::{Authority, ServerCertificate, mutual_tls_config, tls_config},
    rollouts::{Executor, Inbox},
    servers::{self, Identity, Lease},
    signing::Signing,
    store::Store,
};

/// What the server is made of.
pub(super) struct Parts {
    pub(super) app: Arc<App>,
    pub(super) identity: Identity,
    pub(super) inbox: Inbox,
    pub(super) http_tls: Arc<rustls::ServerConfig>,
    pub(super) mqtt_tls: Arc<rustls::ServerConfig>,
}

pub(super) async fn parts(
    config: &Config,
    data_dir: &DataDir,
    endpoints: &Endpoints,
    program: PathBuf,
) -> Result<Parts, StartError> {
    let clock = Clock::start();
    let device_life = Duration::from_secs(config.certificates.device_life_secs.into());
    let authority = Authority::open(data_dir, device_life, clock.now())?;
    let names = certificate_names(config, endpoints);
    let certificate = ServerCertificate::open(data_dir, &authority, &names, clock.now())?;
    let identity = Identity::open(data_dir)?;
    let store = Store::open(config.database.url.as_deref(), data_dir.path(), identity.id.clone()).await?;
    servers::join(&store, &identity).await?;
    let has_tokens = !store.tokens().await?.is_empty();
    let (rollouts, inbox) = Executor::channel();
    let (http_tls, mqtt_tls) = (tls_config(&certificate)?, mutual_tls_config(&certificate, &authority)?);
    let signing = Signing::open(data_dir, &store, clock.now()).await?;
    let app = App {
        limits: config.limits.clone(),
        endpoints: endpoints.clone(),
        program,
        look_every: Duration::from_secs(config.rollouts.look_secs.into()),
        approval: config.rollouts.approval.clone(),
        drift: DriftConfig::from(&config.drift),
        scratch: scratch(data_dir)?,
        clock,
        lease: Lease::new(store.is_shared()),
        specs: Specs::new(store.clone()),
        store,
        authority,
        token_key: TokenKey::open(data_dir, has_tokens)?,
        signing,
        artifacts: Artifacts::open(&data_dir.join("artifacts"))?,
        metrics: Metrics::default(),
        rollouts,
        broker: OnceLock::new(),
        changes: watch::Sender::new(0),
        stopping: CancellationToken::new(),
        publishing: Mutex::new(()),
    };
    Ok(Parts { app: Arc::new(app), identity, inbox, http_tls, mqtt_tls })
}

/// An empty folder for publications under way; what a crash left there is removed.
fn scratch(data_dir: &DataDir) -> Result<PathBuf, DataDirError> {
    let path = data_dir.join("scratch");
    let io = |act: &'static str| {
        let path = path.clone();
        move |source| DataDirError::Io { act, path, source }
    };
    if path.exists() {
        std::fs::remove_dir_all(&path).map_err(io("empty the folder"))?;
    }
    std::fs::create_dir(&path).map_err(io("make the folder"))?;
    Ok(path)
}
