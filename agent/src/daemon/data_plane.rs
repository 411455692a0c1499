//! The daemon's hold on the processes that touch models: the runner, and one trial at a time.
//!
//! The listening sockets are made here and stay here. While there is no runner the daemon answers callers itself,
//! and says that there is no model; so nobody waits for an answer that cannot come.

mod idle;
mod listeners;

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agent_core::Input;
use anyhow::Context;
use shared::{Digest, ReleaseId, manifest::Manifest, report::RejectReason, telemetry::VersionFigures};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::Inputs;
use crate::{
    config::Config,
    runner::{Command, Event, LoadRequest, RunnerProcess},
    store::ArtifactReader,
    trial::{TrialRequest, run_trial},
};
use idle::Idle;
use listeners::Listeners;

/// A load may take the budget of its manifest and this much more, for starting on a busy device.
const LOAD_ALLOWANCE: Duration = Duration::from_secs(10);

/// A runner that was asked to end gets this long to answer what it accepted.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(8);

/// Runner and trials.
pub(super) struct DataPlane {
    exe: PathBuf,
    artifacts: ArtifactReader,
    inputs: Inputs,
    figures: mpsc::Sender<VersionFigures>,
    listeners: Listeners,
    runner: Option<Runner>,
    idle: Option<Idle>,
    /// The runner that was asked to end last.
    ending: Option<JoinHandle<()>>,
    /// Dropping it ends the trial's process.
    trial: Option<JoinHandle<()>>,
}

/// One life of a runner process.
struct Runner {
    process: RunnerProcess,
    /// Cleared when the process has ended, or when its end is nobody's business any more.
    wanted: Arc<AtomicBool>,
    pump: JoinHandle<()>,
}

impl DataPlane {
    /// Opens the listening sockets and answers for models that are not there yet.
    pub(super) fn open(
        config: &Config,
        artifacts: ArtifactReader,
        inputs: Inputs,
        figures: mpsc::Sender<VersionFigures>,
    ) -> anyhow::Result<Self> {
        let listeners = Listeners::open(config)?;
        let idle = Some(Idle::start(&listeners)?);
        let exe = std::env::current_exe().context("cannot find this program's own file")?;
        Ok(Self { exe, artifacts, inputs, figures, listeners, runner: None, idle, ending: None, trial: None })
    }

    /// Starts the runner unless one runs.
    pub(super) async fn ensure_runner(&mut self) {
        if self.runner.as_ref().is_some_and(|runner| runner.wanted.load(Ordering::Acquire)) {
            return;
        }
        if let Err(error) = self.start_runner().await {
            tracing::error!(%error, "the runner cannot be started");
            self.tell(Input::RunnerExited { detail: format!("it cannot be started: {error}") });
        }
    }

    async fn start_runner(&mut self) -> std::io::Result<()> {
        let (process, events) = RunnerProcess::spawn(&self.exe)?;
        tracing::info!(runner.pid = process.pid(), "the runner is started");
        let wanted = Arc::new(AtomicBool::new(true));
        let pump = Pump { inputs: self.inputs.clone(), figures: self.figures.clone(), wanted: Arc::clone(&wanted) };
        let pump = tokio::spawn(pump.run(events));
        process.send(Command::Listeners { tcp: true, unix: true }, self.listeners.descriptors()?).await?;
        self.idle = None;
        self.runner = Some(Runner { process, wanted, pump });
        Ok(())
    }

    /// Asks the runner to end; the daemon answers callers from now on.
    pub(super) fn stop_runner(&mut self) {
        let Some(runner) = self.runner.take() else { return };
        runner.wanted.store(false, Ordering::Release);
        self.ending = Some(tokio::spawn(end(runner)));
        match Idle::start(&self.listeners) {
            Ok(idle) => self.idle = Some(idle),
            Err(error) => tracing::warn!(%error, "callers are not answered while there is no model"),
        }
    }

    /// Ends everything, and waits for it.
    pub(super) async fn end(&mut self) {
        self.stop_runner();
        self.idle = None;
        if let Some(trial) = self.trial.take() {
            trial.abort();
        }
        if let Some(ending) = self.ending.take() {
            let _ = ending.await;
        }
    }

    /// Loads a version beside those that are there.
    pub(super) async fn load(&mut self, release: ReleaseId, manifest: &Manifest) {
        let file = match self.artifacts.open(&manifest.model.digest) {
            Ok(file) => file,
            Err(error) => return self.tell(Input::LoadFailed { release, detail: error.to_string() }),
        };
        let request = Box::new(LoadRequest::from_manifest(manifest));
        self.command(Command::Load(request), vec![file.into()]).await;
        self.watch_load(release, manifest.budgets.load_ms);
    }

    /// A load that is not answered in time is a runner that hangs: it is killed, and its end is the answer.
    fn watch_load(&self, release: ReleaseId, load_ms: u32) {
        let Some(runner) = &self.runner else { return };
        let (wanted, pid) = (Arc::clone(&runner.wanted), runner.process.pid());
        let inputs = self.inputs.clone();
        let patience = Duration::from_millis(load_ms.into()) + LOAD_ALLOWANCE;
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            if wanted.load(Ordering::Acquire) {
                // The core refuses this where the load was answered; nothing is known here of what it still waits for.
                let detail = format!("it was not loaded within {} ms (runner {pid})", patience.as_millis());
                let _ = inputs.send(Input::LoadFailed { release, detail }).await;
            }
        });
    }

    /// Lets requests reach a version that is loaded.
    pub(super) async fn switch(&mut self, release: ReleaseId) {
        self.command(Command::Switch { release }, Vec::new()).await;
    }

    /// Drops a version once its last request is answered.
    pub(super) async fn unload(&mut self, release: ReleaseId) {
        self.command(Command::Unload { release }, Vec::new()).await;
    }

    /// A runner that is gone tells so by its last event.
    async fn command(&mut self, command: Command, files: Vec<OwnedFd>) {
        if let Some(runner) = &self.runner
            && runner.process.send(command, files).await.is_err()
        {
            tracing::debug!("the runner is gone");
        }
    }

    /// Tries a release in a process of its own. A trial that still runs is ended: nobody waits for it any more.
    pub(super) fn trial(&mut self, release: ReleaseId, manifest: &Manifest) {
        if let Some(running) = self.trial.take() {
            running.abort();
        }
        let request = TrialRequest::from_manifest(manifest);
        let files = self.trial_files(manifest);
        let (exe, inputs) = (self.exe.clone(), self.inputs.clone());
        self.trial = Some(tokio::spawn(async move {
            let tried = match files {
                Ok((model, golden)) => run_trial(&exe, request, model, golden).await,
                Err(error) => Err(RejectReason::BadArtifact { detail: error.to_string() }),
            };
            let input = match tried {
                Ok(figures) => Input::TrialPassed { release, figures },
                Err(reason) => Input::TrialFailed { release, reason },
            };
            let _ = inputs.send(input).await;
        }));
    }

    fn trial_files(&self, manifest: &Manifest) -> std::io::Result<(File, File)> {
        let open = |digest: &Digest| self.artifacts.open(digest);
        Ok((open(&manifest.model.digest)?, open(&manifest.golden.artifact.digest)?))
    }

    /// An answer that is known at once. It is sent from a task of its own, since the shell that reads the inputs
    /// is the one that is here.
    fn tell(&self, input: Input) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let _ = inputs.send(input).await;
        });
    }
}

async fn end(runner: Runner) {
    let _ = runner.process.send(Command::Shutdown, Vec::new()).await;
    if timeout(SHUTDOWN_PATIENCE, runner.pump).await.is_err() {
        tracing::warn!(runner.pid = runner.process.pid(), "the runner did not end in time and is killed");
    }
}

/// Turns what a runner says into inputs.
struct Pump {
    inputs: Inputs,
    figures: mpsc::Sender<VersionFigures>,
    wanted: Arc<AtomicBool>,
}

impl Pump {
    async fn run(self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            let input = match event {
                Event::Observed(figures) => {
                    let _ = self.figures.send(*figures).await;
                    continue;
                }
                Event::Ready => Input::RunnerReady,
                Event::Loaded { release, load_ms, memory_kib } => {
                    tracing::info!(%release, load_ms, memory_kib, "loaded");
                    Input::Loaded { release, load_ms }
                }
                Event::LoadFailed { release, detail } | Event::SwitchFailed { release, detail } => {
                    Input::LoadFailed { release, detail }
                }
                Event::Switched { release } => Input::Switched { release },
                Event::Unloaded { release } => {
                    tracing::info!(%release, "unloaded");
                    continue;
                }
                Event::Exited(exit) => {
                    if !self.wanted.swap(false, Ordering::AcqRel) {
                        return;
                    }
                    tracing::warn!(detail = %exit.detail, "the runner has ended");
                    Input::RunnerExited { detail: exit.detail }
                }
            };
            if self.inputs.send(input).await.is_err() {
                return;
            }
        }
    }
}
