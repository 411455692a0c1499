//! This process in the place of the daemon: the agent's own runner and trials, driven by the daemon's own code.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    time::Duration,
};

use muster_agent::{
    runner::{Command, Event, LoadRequest, RunnerProcess},
    sandbox::Reports,
    trial::{TrialRequest, run_trial},
};
use shared::{
    Digest, ReleaseId,
    manifest::{Budgets, Tolerance},
    report::{RejectReason, TrialFigures},
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    programs,
    smuggle::{CASES, tensor},
    wait::PATIENCE,
};

/// What a trial made of a model.
pub type Tried = Result<TrialFigures, RejectReason>;

/// The request for a trial of something that is said to be a model of the digits.
#[must_use]
pub fn trial_request(model: &[u8], golden: &[u8], budgets: Budgets) -> TrialRequest {
    TrialRequest {
        release: release(1),
        model_digest: Digest::of(model),
        golden_digest: Digest::of(golden),
        inputs: vec![tensor("image", &[1, 1, 8, 8])],
        outputs: vec![tensor("probabilities", &[1, 10])],
        cases: CASES,
        tolerance: Tolerance::default(),
        budgets,
    }
}

/// Tries a model in the agent's trial process; also tells how long that took and how long it may take.
pub async fn try_model(model: &[u8], golden: &[u8], budgets: Budgets) -> (Tried, Duration, Duration) {
    let request = trial_request(model, golden, budgets);
    let limit = request.wall_time();
    let since = std::time::Instant::now();
    let reports = Reports::default();
    let (model, golden) = (file_of(model), file_of(golden));
    let tried = run_trial(&programs::muster_agent(), request, model, golden, &reports).await;
    (tried, since.elapsed(), limit)
}

/// The word by which programs know a refusal.
#[must_use]
pub fn word(tried: &Tried) -> String {
    match tried {
        Ok(_) => "passed".into(),
        Err(reason) => {
            let json = serde_json::to_value(reason).expect("a reason is words and numbers");
            json["reason"].as_str().expect("a reason has a name").to_owned()
        }
    }
}

/// `digits` in a version.
#[must_use]
pub fn release(version: u32) -> ReleaseId {
    format!("digits@{version}").parse().expect("a release id")
}

/// A file that is nowhere but here.
#[must_use]
pub fn file_of(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a scratch file");
    file.write_all(content).and_then(|()| file.rewind()).expect("the scratch folder is writable");
    file
}

/// A runner and the socket on which it answers.
pub struct Rig {
    runner: RunnerProcess,
    events: mpsc::Receiver<Event>,
    listener: TcpListener,
    budgets: Budgets,
}

impl Rig {
    /// Starts a runner that listens. Must be called inside a runtime.
    pub async fn start(budgets: Budgets) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (runner, events) = RunnerProcess::spawn(&programs::muster_agent()).expect("the agent starts");
        let mut rig = Self { runner, events, listener, budgets };
        rig.hand_over().await;
        rig
    }

    /// Starts another runner in the place of one that has ended.
    pub async fn restart(&mut self) {
        let agent = programs::muster_agent();
        (self.runner, self.events) = RunnerProcess::spawn(&agent).expect("the agent starts");
        self.hand_over().await;
    }

    async fn hand_over(&mut self) {
        let files: Vec<OwnedFd> = vec![self.listener.try_clone().expect("a socket can be shared").into()];
        self.send(Command::Listeners { tcp: true, unix: false }, files).await;
        assert_eq!(self.step().await, Event::Ready);
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a listener has an address")
    }

    /// The runner's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.runner.pid()
    }

    /// The next event that answers a command, or the end.
    pub async fn step(&mut self) -> Event {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await.expect("the runner says nothing");
            let event = event.expect("the last event is the end of the runner");
            if is_answer(&event) {
                return event;
            }
        }
    }

    /// Loads a model of the digits and tells what came of it.
    pub async fn load(&mut self, version: u32, model: &[u8]) -> Event {
        let request = LoadRequest {
            release: release(version),
            model_digest: Digest::of(model),
            inputs: vec![tensor("image", &[1, 1, 8, 8])],
            outputs: vec![tensor("probabilities", &[1, 10])],
            budgets: self.budgets,
            drift: None,
            known_every: None,
        };
        self.load_as(request, model).await
    }

    /// Loads any model and tells what came of it.
    pub async fn load_as(&mut self, request: LoadRequest, model: &[u8]) -> Event {
        self.send(Command::Load(Box::new(request)), vec![file_of(model).into()]).await;
        self.step().await
    }

    /// Lets a version answer.
    pub async fn switch(&mut self, version: u32) {
        self.send(Command::Switch { release: release(version) }, vec![]).await;
        assert_eq!(self.step().await, Event::Switched { release: release(version) });
    }

    /// Drops a version.
    pub async fn unload(&mut self, version: u32) {
        self.send(Command::Unload { release: release(version) }, vec![]).await;
        assert_eq!(self.step().await, Event::Unloaded { release: release(version) });
    }

    /// Loads `version`, lets it answer, and drops the version before it.
    pub async fn swap_to(&mut self, version: u32, model: &[u8]) {
        let loaded = self.load(version, model).await;
        assert!(matches!(loaded, Event::Loaded { .. }), "{loaded:?}");
        self.switch(version).await;
        self.unload(version - 1).await;
    }

    async fn send(&self, command: Command, files: Vec<OwnedFd>) {
        // A runner that is gone says so by its last event.
        let _ = self.runner.send(command, files).await;
    }
}

fn is_answer(event: &Event) -> bool {
    matches!(
        event,
        Event::Ready
            | Event::Loaded { .. }
            | Event::LoadFailed { .. }
            | Event::Switched { .. }
            | Event::SwitchFailed { .. }
            | Event::Unloaded { .. }
            | Event::Exited(_)
    )
}
