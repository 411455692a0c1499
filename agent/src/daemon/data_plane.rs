//! The daemon's hold on the processes that touch models: the runner, and trials.
//!
//! The listening sockets are made here and stay here. While there is no model the daemon answers callers itself,
//! and says so; while a model is being brought back, callers wait.

mod challengers;
mod handover;
mod heartbeat;
mod idle;
mod listeners;
mod loads;
mod memory;
mod probe;
mod pump;

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use agent_core::{ChallengerEnd, Input};
use agent_store::ArtifactReader;
use anyhow::Context;
use shared::{
    Digest, ReleaseId,
    challenger::{ChallengerFigures, Terms},
    device::Hardening,
    manifest::Manifest,
    report::RejectReason,
    telemetry::VersionFigures,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Inputs,
    drift::{Counted, Drift},
};
use crate::{
    health,
    runner::{Command, LoadRequest, RunnerProcess},
    sandbox::Reports,
    trial::{TrialRequest, run_trial},
};
use challengers::Challengers;
use handover::{Awaited, Handover, SharedIdle};
use idle::Idle;
pub(super) use listeners::Listeners;
use loads::Loads;
use memory::RunnerMemory;
use pump::{Pump, Wanted};

/// A runner that was asked to end gets this long to answer what it accepted.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(8);

/// Attempts to open a model: a failure that lasts longer than they do is damage.
const OPEN_ATTEMPTS: u32 = 5;

/// Between them; the shell waits as long.
const OPEN_WAIT: Duration = Duration::from_millis(50);

/// Runner and trials.
pub(super) struct DataPlane {
    exe: PathBuf,
    artifacts: ArtifactReader,
    inputs: Inputs,
    figures: mpsc::Sender<VersionFigures>,
    matches: mpsc::Sender<ChallengerFigures>,
    drift: Drift,
    hardening: Reports,
    listeners: Arc<Listeners>,
    runner: Option<Runner>,
    challengers: Challengers,
    idle: SharedIdle,
    /// The runner that was asked to end last.
    ending: Option<JoinHandle<()>>,
    /// Trials by release; dropping one ends its process.
    trials: BTreeMap<ReleaseId, AbortOnDropHandle<()>>,
    /// One trial at a time, so that memory budgets need not add up.
    one_trial: Arc<Semaphore>,
}

/// One life of a runner process.
struct Runner {
    process: RunnerProcess,
    wanted: Wanted,
    loads: Loads,
    awaited: Awaited,
    memory: RunnerMemory,
    pump: JoinHandle<()>,
}

impl DataPlane {
    /// Takes the listening sockets. Without a model to bring back, callers are told that there is none.
    pub(super) fn open(
        listeners: Listeners,
        has_models: bool,
        artifacts: ArtifactReader,
        inputs: Inputs,
        (figures, matches): (mpsc::Sender<VersionFigures>, mpsc::Sender<ChallengerFigures>),
        drift: Drift,
    ) -> anyhow::Result<Self> {
        let listeners = Arc::new(listeners);
        let idle = if has_models { None } else { Some(Idle::start(&listeners)?) };
        let exe = std::env::current_exe().context("cannot find this program's own file")?;
        let hardening = Reports::default();
        if !has_models {
            let (exe, hardening) = (exe.clone(), hardening.clone());
            tokio::spawn(async move { probe::probe(&exe, &hardening).await });
        }
        let challengers = Challengers::new(exe.clone(), inputs.clone(), matches.clone(), hardening.clone());
        Ok(Self {
            challengers,
            matches,
            drift,
            exe,
            artifacts,
            inputs,
            figures,
            hardening,
            listeners,
            runner: None,
            idle: SharedIdle::new(idle.into()),
            ending: None,
            trials: BTreeMap::new(),
            one_trial: Arc::new(Semaphore::new(1)),
        })
    }

    /// What is known of the sandboxes of its processes.
    pub(super) fn hardening(&self) -> watch::Receiver<Option<Hardening>> {
        self.hardening.watch()
    }

    /// Starts the runner unless one runs.
    pub(super) fn ensure_runner(&mut self) {
        if self.runner.as_ref().is_some_and(|runner| runner.wanted.get()) {
            return;
        }
        if let Err(error) = self.start_runner() {
            tracing::error!(%error, "the runner cannot be started");
            self.tell(Input::RunnerExited { detail: format!("it cannot be started: {error}") });
        }
    }

    fn start_runner(&mut self) -> std::io::Result<()> {
        let (process, events) = RunnerProcess::spawn(&self.exe)?;
        tracing::info!(runner.pid = process.pid(), "the runner is started");
        let (wanted, loads, awaited) = (Wanted::new(), Loads::default(), Awaited::default());
        let handover = Handover {
            commands: process.commands(),
            listeners: Arc::clone(&self.listeners),
            idle: Arc::clone(&self.idle),
            done: false,
        };
        let pump = Pump {
            inputs: self.inputs.clone(),
            figures: self.figures.clone(),
            matches: self.matches.clone(),
            drift: self.drift.clone(),
            hardening: self.hardening.clone(),
            wanted: wanted.clone(),
            loads: loads.clone(),
            awaited: awaited.clone(),
            handover,
            pid: process.pid(),
        };
        let pump = tokio::spawn(pump.run(events));
        let memory = RunnerMemory::default();
        self.runner = Some(Runner { process, wanted, loads, awaited, memory, pump });
        // It takes commands from its first moment on; what it cannot do it answers.
        self.tell(Input::RunnerReady);
        Ok(())
    }

    /// Asks the runner to end; the daemon answers callers from now on.
    pub(super) fn stop_runner(&mut self) {
        let Some(runner) = self.runner.take() else { return };
        runner.wanted.clear();
        self.ending = Some(tokio::spawn(end(runner)));
        match Idle::start(&self.listeners) {
            Ok(idle) => self.set_idle(Some(idle)),
            Err(error) => tracing::warn!(%error, "callers are not answered while there is no model"),
        }
    }

    /// Process id of the runner, while there is one.
    pub(super) fn runner_pid(&self) -> Option<u32> {
        self.runner.as_ref().map(|runner| runner.process.pid())
    }

    fn set_idle(&self, idle: Option<Idle>) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = idle;
    }

    /// Ends everything, and waits for it.
    pub(super) async fn end(&mut self) {
        self.challengers.end().await;
        self.stop_runner();
        self.set_idle(None);
        self.trials.clear();
        if let Some(ending) = self.ending.take() {
            let _ = ending.await;
        }
    }

    /// Loads a version beside those that are there.
    pub(super) async fn load(&mut self, release: ReleaseId, manifest: &Manifest) {
        self.challengers.make_way().await;
        let file = match self.open_patiently(&manifest.model.digest).await {
            Ok(file) => file,
            Err(error) => {
                let detail = format!("its file cannot be opened: {error}");
                return self.tell(Input::ArtifactDamaged { release, detail });
            }
        };
        let Counted { spec: drift, known_every } = self.drift.watch(manifest);
        let request = Box::new(LoadRequest { drift, known_every, ..LoadRequest::from_manifest(manifest) });
        // Noted first: the answer of a quick load must find that it is waited for.
        if let Some(runner) = &mut self.runner {
            runner.memory.expect(runner.process.pid(), &release, &manifest.budgets);
            runner.awaited.expect(release.clone());
            let deadline = loads::deadline_of(manifest.budgets.load_ms);
            runner.loads.watch(release, deadline, runner.process.pid(), self.inputs.clone());
        }
        self.command(Command::Load(request), vec![file.into()]).await;
    }

    /// A disk that fails for a moment says nothing about a version. A file that is gone is not waited for.
    async fn open_patiently(&self, digest: &Digest) -> std::io::Result<File> {
        for _ in 1..OPEN_ATTEMPTS {
            match self.artifacts.open(digest) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => sleep(OPEN_WAIT).await,
                done => return done,
            }
        }
        self.artifacts.open(digest)
    }

    /// Lets requests reach a version that is loaded.
    pub(super) async fn switch(&mut self, release: ReleaseId) {
        self.command(Command::Switch { release }, Vec::new()).await;
    }

    /// Drops a version once its last request is answered.
    pub(super) async fn unload(&mut self, release: ReleaseId) {
        if let Some(runner) = &mut self.runner {
            runner.memory.forget(&release);
        }
        self.command(Command::Unload { release }, Vec::new()).await;
    }

    /// Starts a process for a challenger, beside the runner that holds its champion.
    pub(super) async fn start_challenger(&mut self, release: ReleaseId, manifest: &Manifest, terms: Terms) {
        let Some(champion) = self.runner.as_ref().map(|runner| runner.process.commands()) else {
            let end = ChallengerEnd::Crashed { detail: "there is no runner".into() };
            return self.tell(Input::ChallengerEnded { release, end });
        };
        let file = self.open_patiently(&manifest.model.digest).await;
        self.challengers.start(release, manifest, terms, file, champion);
    }

    /// Ends the process of a challenger, if there is one.
    pub(super) fn stop_challenger(&mut self, release: &ReleaseId) {
        self.challengers.stop(release);
    }

    /// A runner that is gone tells so by its last event.
    async fn command(&mut self, command: Command, files: Vec<OwnedFd>) {
        if let Some(runner) = &self.runner
            && runner.process.send(command, files).await.is_err()
        {
            tracing::debug!("the runner is gone");
        }
    }

    /// Tries a release in a process of its own, after those that were asked for before and after the end of
    /// challengers that were stopped: what they still hold does not fail it.
    pub(super) fn trial(&mut self, release: ReleaseId, manifest: &Manifest) {
        self.trials.retain(|_, trial| !trial.is_finished());
        let request = TrialRequest::from_manifest(manifest);
        let files = self.trial_files(manifest);
        let (exe, inputs, turn) = (self.exe.clone(), self.inputs.clone(), Arc::clone(&self.one_trial));
        let hardening = self.hardening.clone();
        let (name, ended) = (release.clone(), self.challengers.ended());
        let budgets = manifest.budgets;
        let task = tokio::spawn(async move {
            let Ok(_turn) = turn.acquire().await else { return };
            ended.await;
            let tried = match (memory::admit(&budgets, health::memory_available_mib()), files) {
                (Err(reason), _) => Err(reason),
                (Ok(()), Ok((model, golden))) => run_trial(&exe, request, model, golden, &hardening).await,
                (Ok(()), Err(error)) => Err(RejectReason::BadArtifact { detail: error.to_string() }),
            };
            let input = match tried {
                Ok(figures) => Input::TrialPassed { release, figures },
                Err(reason) => Input::TrialFailed { release, reason },
            };
            let _ = inputs.send(input).await;
        });
        self.trials.insert(name, AbortOnDropHandle::new(task));
    }

    /// Ends a trial; its process is killed, and the next one gets its turn.
    pub(super) fn cancel_trial(&mut self, release: &ReleaseId) {
        if self.trials.remove(release).is_some() {
            tracing::info!(%release, "the trial is ended: its answer is not wanted any more");
        }
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
