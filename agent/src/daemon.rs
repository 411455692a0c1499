//! `muster-agent run`: keys, link, ledger and store; never a model.
//!
//! Tasks: the *shell* turns the core; the *router* takes what arrives on the link; the *publisher* sends; the
//! *verifier* checks desired states; the *stager* thread owns the store; the *data plane* talks to the runner
//! process and starts trials. They are joined by bounded channels, and none waits for the shell's network.

mod again;
mod control;
mod data_plane;
mod fetch;
mod outgoing;
mod shell;
mod stager;
mod state;
mod telemetry;
mod uplink;
mod verify;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agent_core::{Agent, Input, Ledger, RECORDING_FORMAT, Settings, Start};
use agent_store::{ArtifactReader, Room, Store, disk::OsDisk, spool::Bounds};
use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use muster_link::Link;
use rustix::fs::FlockOperation;
use shared::{BootId, DeviceId, Digest, manifest::Manifest};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::Clock, config::Config, control::LinkView, identity::Identity, local_time, recording::Recorder,
    renew::Renewal, tls,
};
use again::Again;
use data_plane::DataPlane;
use outgoing::Outgoing;
use shell::{Shell, Sources};
use stager::Stager;
use state::Saved;
use telemetry::{Windows, courier::Courier};
use uplink::Router;

/// Inputs that may wait for the shell; senders wait when it is full.
const INPUTS: usize = 256;

/// News of the link, figures of the runner, requests to the verifier: each is taken at once.
const SMALL_QUEUE: usize = 64;

const MIB: u64 = 1_024 * 1_024;

/// Runs the daemon until `cancel`, and records what its core is told if `record` says where.
///
/// # Errors
/// When the device is not enrolled, another agent uses the data directory, the ledger is damaged, or a port is in
/// use.
#[allow(clippy::too_many_lines)] // every task and channel is joined here, in order, and nothing is decided
pub async fn run(config: Config, record: Option<PathBuf>, cancel: CancellationToken) -> anyhow::Result<()> {
    let identity = Identity::load(&config.data_dir)?;
    let _lock = lock(&config.data_dir)?;
    let saved = Saved::open(config.data_dir.clone())?;
    let floors = saved.state().floors.clone();
    let clock = Clock::start(floors.time);
    let boot = BootId::new(uuid::Uuid::now_v7().simple().to_string())?;

    let (input_sender, inputs) = mpsc::channel(INPUTS);
    let (news_sender, news) = mpsc::channel(SMALL_QUEUE);
    let (figure_sender, figures) = mpsc::channel(SMALL_QUEUE);
    let store = open_store(&config)?;
    let manifests = manifests_of(&store, &saved.state().ledger);
    let artifacts = store.reader();
    let start = start_of(&identity, &config, &boot, &saved, manifests, &clock);
    let utc_offset_secs = start.settings.utc_offset_secs;
    let recorder = record.map(|path| Recorder::begin(&path, start.clone())).transpose()?;
    let core = Agent::new(start.device, start.boot, start.ledger, start.manifests, start.settings, start.at);
    let has_models = saved.state().ledger.models.values().any(|record| record.committed.is_some());
    let data_plane =
        DataPlane::open(&config, has_models, store.reader(), input_sender.clone(), figure_sender)?;
    let stager = Stager::start(store, input_sender.clone()).context("cannot start the store's thread")?;

    let tasks = TaskTracker::new();
    // Not a child of `cancel`: the last words leave after the shell has ended.
    let link_end = CancellationToken::new();
    let (link, events) = start_link(&identity, &config, &clock, &tasks, &cancel, &link_end)?;
    let (outgoing, publisher) = Outgoing::new(identity.device.clone());
    tasks.spawn(publisher.run(link.clone()));
    let courier = start_courier(&config, outgoing.clone(), clock.clone())?;

    let (verification, verifier) = verify::prepare(
        &identity,
        &config.data_dir,
        outgoing.clone(),
        courier.clone(),
        stager.clone(),
        input_sender.clone(),
        floors,
        clock.clone(),
    )?;
    tasks.spawn(verifier);
    let seen = uplink::unseen(&identity.mqtt, clock.now());
    let link_seen = seen.subscribe();
    let router = Router {
        inputs: input_sender,
        news: news_sender,
        newest: verification.newest,
        parts: verification.parts,
        limits: verification.limits,
        courier: courier.clone(),
        stager: stager.clone(),
        clock: clock.clone(),
        seen,
    };
    tasks.spawn(router.run(events));
    let (question_sender, questions) = mpsc::channel(SMALL_QUEUE);
    if let Some(socket) = control::open(&config.data_dir) {
        let operator =
            operator(question_sender, link_seen, artifacts, &config, &identity.device, &boot, &clock);
        tasks.spawn(cancel.clone().run_until_cancelled_owned(socket.serve(operator)));
    }
    tasks.close();

    tracing::info!(device.id = %identity.device, boot = %boot, server = %identity.mqtt, "the agent runs");
    let hardening = data_plane.hardening();
    let windows = Windows::new(boot.clone(), config.data_dir.clone(), clock.now());
    let shell = Shell {
        core,
        saved,
        floors: verification.floors,
        clock,
        config,
        device: identity.device,
        boot,
        report_signer: identity.report_signer,
        outgoing: outgoing.clone(),
        link: link.clone(),
        verify: verification.requests,
        stager,
        data_plane,
        windows,
        hardening: hardening.clone(),
        courier: courier.clone(),
        announced: None,
        announced_limits: 0,
        utc_offset_secs,
        recorder,
        again: Again::default(),
    };
    let sources = Sources { inputs, news, figures, questions, hardening };
    Box::pin(shell.run(sources, cancel.clone())).await;
    say_goodbye(&courier, &outgoing, &link).await;
    link_end.cancel();
    cancel.cancel();
    Ok(())
}

/// Starts the link to the server, and what keeps its certificate fresh.
fn start_link(
    identity: &Identity,
    config: &Config,
    clock: &Clock,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
    link_end: &CancellationToken,
) -> anyhow::Result<(Link, mpsc::Receiver<muster_link::Event>)> {
    let tls = tls::link_config(&identity.ca_pem, &identity.tls_pem, clock.clone())?;
    let tls = Arc::new(ArcSwap::from_pointee(tls));
    let (link, events) = uplink::start(identity, Arc::clone(&tls), link_end.clone())?;
    let renewal = Renewal::new(identity, &config.data_dir, tls, clock.clone())?;
    tasks.spawn(cancel.clone().run_until_cancelled_owned(renewal.run(link.clone())));
    Ok((link, events))
}

/// What the operator of this device may ask about.
fn operator(
    questions: mpsc::Sender<control::Question>,
    link: watch::Receiver<LinkView>,
    artifacts: ArtifactReader,
    config: &Config,
    device: &DeviceId,
    boot: &BootId,
    clock: &Clock,
) -> control::Operator {
    control::Operator {
        questions,
        link,
        artifacts,
        data_dir: config.data_dir.clone(),
        device: device.clone(),
        boot: boot.clone(),
        clock: clock.clone(),
        started_at: clock.now(),
        started: std::time::Instant::now(),
    }
}

/// What was said last gets this long to leave.
const GOODBYE: Duration = Duration::from_secs(2);

/// A disk that hangs does not keep the agent from ending; what waits there is told after the next start.
async fn say_goodbye(courier: &Courier, outgoing: &Outgoing, link: &Link) {
    let last_words = async {
        courier.finish().await;
        outgoing.flush().await;
    };
    let _ = tokio::time::timeout(GOODBYE, last_words).await;
    link.stop(GOODBYE).await;
    let bytes = link.bytes().read();
    tracing::info!(sent_bytes = bytes.up_bytes, received_bytes = bytes.down_bytes, "the link has ended");
}

/// The spool lies in a folder of its own and leaves the spare room alone.
fn start_courier(config: &Config, outgoing: Outgoing, clock: Clock) -> anyhow::Result<Courier> {
    let bounds = Bounds {
        max_bytes: config.telemetry.spool_kib.saturating_mul(1_024),
        spare_bytes: config.limits.spare_mib.saturating_mul(MIB),
    };
    let interval = Duration::from_secs(config.telemetry.interval_secs.into());
    Courier::start(OsDisk, config.data_dir.join("spool"), bounds, interval, outgoing, clock)
        .context("cannot start the courier's thread")
}

fn open_store(config: &Config) -> anyhow::Result<Store> {
    let limits = &config.limits;
    let room = Room {
        quota_bytes: limits.store_mib.saturating_mul(MIB),
        spare_bytes: limits.spare_mib.saturating_mul(MIB),
    };
    Store::open(OsDisk, &config.data_dir, room)
        .with_context(|| format!("cannot open the store in {}", config.data_dir.display()))
}

fn manifests_of(store: &Store, ledger: &Ledger) -> Vec<(Digest, Manifest)> {
    ledger.manifests().filter_map(|digest| Some((digest, store.manifest(&digest)?))).collect()
}

/// Everything that the core is built from.
fn start_of(
    identity: &Identity,
    config: &Config,
    boot: &BootId,
    saved: &Saved,
    manifests: Vec<(Digest, Manifest)>,
    clock: &Clock,
) -> Start {
    let (seed, at) = (Digest::of(identity.device.as_str().as_bytes()).short(), clock.steady());
    let settings = Settings {
        jitter_seed: u64::from_le_bytes(seed),
        maintenance: config.maintenance(),
        utc_offset_secs: local_time::of_core(clock),
    };
    let (device, boot, ledger) = (identity.device.clone(), boot.clone(), saved.state().ledger.clone());
    Start { format: RECORDING_FORMAT, device, boot, at, settings, ledger, manifests }
}

/// Held as long as the agent runs; the system releases it however the agent ends.
fn lock(data_dir: &Path) -> anyhow::Result<std::fs::File> {
    let path: PathBuf = data_dir.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another agent uses {}; stop it first", data_dir.display());
    }
    Ok(file)
}

/// An alias that keeps signatures readable.
type Inputs = mpsc::Sender<Input>;
