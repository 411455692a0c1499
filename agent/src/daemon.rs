//! `muster-agent run`: keys, link, ledger and store; never a model.
//!
//! Tasks: the *shell* turns the core; the *router* takes what arrives on the link; the *publisher* sends; the
//! *verifier* checks desired states; the *stager* thread owns the store; the *data plane* talks to the runner
//! process and starts trials. They are joined by bounded channels, and none waits for the shell's network.

mod again;
mod control;
mod data_plane;
mod drift;
mod fetch;
mod home;
mod outgoing;
mod patience;
mod shell;
mod stager;
mod state;
mod telemetry;
mod uplink;
mod verify;
mod voice;

use std::path::PathBuf;

use agent_core::Input;
use agent_store::ArtifactReader;
use anyhow::Context;
use muster_link::LinkBytes;
use shared::device::Hardening;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::Config, control::LinkView};
use data_plane::{DataPlane, Listeners};
use drift::Drift;
use home::Home;
use shell::{Hands, Shell, Sources};
use stager::Stager;
use uplink::Router;
use voice::Voice;

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
pub async fn run(config: Config, record: Option<PathBuf>, cancel: CancellationToken) -> anyhow::Result<()> {
    let (home, _lock) = Home::open(config).await?;
    let store = home.store().await?;
    let start = home.start(&store).await?;
    let (core, recorder) = home::core(start, record)?;
    let (input_sender, inputs) = mpsc::channel(INPUTS);
    let (news_sender, news) = mpsc::channel(SMALL_QUEUE);
    let (figure_sender, figures) = mpsc::channel(SMALL_QUEUE);
    let (match_sender, matches) = mpsc::channel(SMALL_QUEUE);
    let (question_sender, questions) = mpsc::channel(SMALL_QUEUE);

    let artifacts = store.reader();
    let listeners = Listeners::open(&home.config).await?;
    let stager = Stager::start(store, input_sender.clone()).context("cannot start the store's thread")?;
    let tasks = TaskTracker::new();
    let (voice, events) = Voice::start(&home, &tasks, &cancel)?;
    let (drift, drift_news) = Drift::open(&home, voice.courier.clone());
    let data_plane = DataPlane::open(
        listeners,
        home.has_models(),
        artifacts.clone(),
        input_sender.clone(),
        (figure_sender, match_sender),
        drift.clone(),
    )?;
    let hardening = data_plane.hardening();
    let (verification, verifier) =
        verify::prepare(&home, &voice, stager.clone(), input_sender.clone()).await?;
    tasks.spawn(verifier);
    let seen = uplink::unseen(&home.identity.mqtt, home.clock.now());
    let link_bytes = voice.link.bytes();
    let operator =
        operator(&home, question_sender, seen.subscribe(), link_bytes, hardening.clone(), artifacts);
    let router = Router {
        inputs: input_sender,
        news: news_sender,
        newest: verification.newest,
        parts: verification.parts,
        limits: verification.limits,
        courier: voice.courier.clone(),
        stager: stager.clone(),
        clock: home.clock.clone(),
        seen,
    };
    tasks.spawn(router.run(events));
    if let Some(socket) = control::open(&home.config.data_dir).await {
        tasks.spawn(cancel.clone().run_until_cancelled_owned(socket.serve(operator)));
    }
    tasks.close();

    tracing::info!(
        device.id = %home.identity.device, boot = %home.boot, server = %home.identity.mqtt, "the agent runs"
    );
    let (requests, floors) = (verification.requests, verification.floors);
    let verify_challengers = verification.challenger_requests;
    let hands = Hands { verify: requests, verify_challengers, stager, data_plane, drift };
    let shell = Shell::new(home, core, recorder, &voice, hands, floors);
    let sources = Sources { inputs, news, figures, matches, drift: drift_news, questions, hardening };
    Box::pin(shell.run(sources, cancel.clone())).await;
    voice.say_goodbye().await;
    cancel.cancel();
    Ok(())
}

/// What the operator of this device may ask about.
fn operator(
    home: &Home,
    questions: mpsc::Sender<control::Question>,
    link: watch::Receiver<LinkView>,
    link_bytes: LinkBytes,
    hardening: watch::Receiver<Option<Hardening>>,
    artifacts: ArtifactReader,
) -> control::Operator {
    control::Operator {
        questions,
        link,
        link_bytes,
        hardening,
        artifacts,
        data_dir: home.config.data_dir.clone(),
        device: home.identity.device.clone(),
        boot: home.boot.clone(),
        clock: home.clock.clone(),
        started_at: home.clock.now(),
        started: std::time::Instant::now(),
    }
}

/// An alias that keeps signatures readable.
type Inputs = mpsc::Sender<Input>;
