//! What the shell is asked, and how its answer becomes a view.
//!
//! The shell tells only what it knows by heart. Files are looked at here, so that the turn of the daemon does not
//! wait for a disk because somebody is curious.

use std::{path::PathBuf, time::Instant};

use agent_core::{ModelStatus, Refusal};
use agent_store::ArtifactReader;
use muster_link::{ByteCount, LinkBytes};
use shared::{
    BootId, DeviceId, Digest, Generation, ModelName, Timestamp, challenger::ChallengerState,
    device::Hardening,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clock::{self, Clock},
    control::{ClockView, DriftView, LinkView, ModelView, RunnerView, StatusView, TrafficView, WaitingView},
    health, identity, renew,
};

/// A question to the shell; answered after the turn, when the ledger is durable.
pub(crate) struct Question {
    pub(crate) asked: Asked,
    pub(crate) answer: Answer,
}

/// Where the answer goes.
pub(crate) type Answer = oneshot::Sender<Result<Facts, Refusal>>;

/// What is asked.
#[derive(Debug)]
pub(crate) enum Asked {
    /// How things stand.
    Facts,
    /// To take a model back, and then how things stand.
    RollBack(ModelName),
}

/// What the shell knows by heart.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) generation: Generation,
    pub(crate) taken_in: bool,
    pub(crate) runner: RunnerView,
    pub(crate) waiting: WaitingView,
    pub(crate) remembered_bad: u64,
    pub(crate) refused_inputs: u64,
    pub(crate) models: Vec<ModelStatus>,
    pub(crate) challengers: Vec<ChallengerState>,
    pub(crate) drift: Vec<DriftView>,
}

/// Stands for the operator of the device before the shell.
pub(crate) struct Operator {
    pub(crate) questions: mpsc::Sender<Question>,
    pub(crate) link: watch::Receiver<LinkView>,
    pub(crate) link_bytes: LinkBytes,
    pub(crate) hardening: watch::Receiver<Option<Hardening>>,
    pub(crate) artifacts: ArtifactReader,
    pub(crate) data_dir: PathBuf,
    pub(crate) device: DeviceId,
    pub(crate) boot: BootId,
    pub(crate) clock: Clock,
    pub(crate) started_at: Timestamp,
    /// The same moment on the clock that never jumps.
    pub(crate) started: Instant,
}

impl Operator {
    /// How things stand; `None` when the shell has ended.
    pub(crate) async fn status(&self) -> Option<StatusView> {
        let facts = self.ask(Asked::Facts).await?.ok()?;
        let now = self.clock.now();
        Some(StatusView {
            device: self.device.clone(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            boot: self.boot.clone(),
            pid: std::process::id(),
            started_at: self.started_at,
            uptime_secs: self.started.elapsed().as_secs(),
            generation: facts.generation,
            taken_in: facts.taken_in,
            link: self.link.borrow().clone(),
            traffic: self.traffic(),
            clock: ClockView::of(now, clock::system_now()),
            runner: facts.runner,
            hardening: self.hardening.borrow().clone(),
            disk_free_mib: health::disk_free_mib(&self.data_dir),
            waiting: facts.waiting,
            certificate_until: self.certificate_until(),
            remembered_bad: facts.remembered_bad,
            refused_inputs: facts.refused_inputs,
            models: self.views(facts.models),
            challengers: facts.challengers,
            drift: facts.drift,
        })
    }

    fn traffic(&self) -> TrafficView {
        let ByteCount { up_bytes, down_bytes } = self.link_bytes.read();
        TrafficView { sent_bytes: up_bytes, received_bytes: down_bytes }
    }

    /// Every model that is assigned.
    pub(crate) async fn models(&self) -> Option<Vec<ModelView>> {
        let facts = self.ask(Asked::Facts).await?.ok()?;
        Some(self.views(facts.models))
    }

    /// Takes a model back, if it is in a state that allows it; then tells the models.
    pub(crate) async fn roll_back(&self, model: ModelName) -> Option<Result<Vec<ModelView>, Refusal>> {
        let answer = self.ask(Asked::RollBack(model)).await?;
        Some(answer.map(|facts| self.views(facts.models)))
    }

    async fn ask(&self, asked: Asked) -> Option<Result<Facts, Refusal>> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question { asked, answer }).await.ok()?;
        answered.await.ok()
    }

    fn views(&self, models: Vec<ModelStatus>) -> Vec<ModelView> {
        models.into_iter().map(|status| ModelView::of(status, |digest| self.size_of(digest))).collect()
    }

    fn size_of(&self, digest: &Digest) -> u64 {
        self.artifacts.open(digest).and_then(|file| file.metadata()).map_or(0, |metadata| metadata.len())
    }

    /// A renewal replaces the file, so it is the file that knows.
    fn certificate_until(&self) -> Option<Timestamp> {
        let pem = identity::tls_pem_of(&self.data_dir).ok()?;
        renew::life_of(&pem).ok().map(|life| life.not_after)
    }
}
