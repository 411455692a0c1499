//! Moves rollouts on: one task that owns the machines, and makes no choices of its own.
//!
//! A turn takes inputs, lets the machines decide, and stores in one transaction what came in (reports), what they
//! now are, and what devices shall run. Only then is anything told: an acknowledgement to the device, a desired
//! state to another. Reports of many devices share a turn, because a commit costs the same for one as for fifty.
//!
//! There is no other list of things still to be sent: what a device shall run stands in the database, and a device that
//! is connected and has not confirmed it is told again (see [`crate::gateway`]); what others must hear of stands among
//! the events, written in the same transaction. So the process may die between any two statements, and nothing is lost
//! or done twice with effect.
//!
//! Several servers may share the database. Their transactions take turns, and each begins with reading what the others
//! changed, so a report or an order counts once wherever it arrives. Time is told to the machines by one server only
//! (see [`crate::servers`]).

mod begin;
mod drift;
mod effects;
mod entry;
mod experiments;
mod facts;
mod fleet;
mod freezes;
mod guard;
mod late;
mod orders;
mod others;
mod replay;
mod rivals;
mod stop;
mod task;
mod trial;
mod verdicts;

use fleet_core::{
    Plan, PlanError, Refusal, RolloutStatus, Selector, Strategy,
    experiment::{self, ExperimentStatus},
};
use shared::{
    DeviceId, ExperimentId, Generation, ModelName, ReleaseId, RolloutId,
    message::Hello,
    report::{ModelState, Report},
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::store::{RolloutRow, StoreError};

pub use experiments::{StopExperiment, WantedExperiment, experiment_status, read_experiment};
pub use orders::Order;
pub use replay::Replay;
pub use stop::Ended;
pub use task::run;
pub use trial::Tried;

/// Commands that wait for the task. Beyond it devices wait, which is what their links are told to do.
const INBOX: usize = 1_024;

/// A rollout that is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What to bring.
    pub release: ReleaseId,
    /// To whom.
    pub selector: Selector,
    /// How.
    pub strategy: Strategy,
    /// Who asks.
    pub by: String,
}

/// Why a command had no effect.
#[derive(Debug, Error)]
pub enum RolloutError {
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such release.
    #[error("there is no release {0}")]
    NoRelease(ReleaseId),
    /// There is no such rollout.
    #[error("there is no rollout {0}")]
    NoRollout(RolloutId),
    /// Nobody can be asked.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The order does not fit the rollout's state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no such experiment.
    #[error("there is no experiment {0}")]
    NoExperiment(ExperimentId),
    /// Its name is taken, also by one that is over.
    #[error("there is an experiment {0} already, or was")]
    ExperimentExists(ExperimentId),
    /// Nothing can be ordered any more.
    #[error("experiment {id} is over: {phase}")]
    ExperimentOver {
        /// Which.
        id: ExperimentId,
        /// Where it stands, in a word.
        phase: String,
    },
    /// There are as many as there may be.
    #[error("{0} experiments are under way, and no more are judged at a time")]
    TooManyExperiments(usize),
    /// It cannot be carried out.
    #[error(transparent)]
    ExperimentPlan(#[from] Box<experiment::PlanError>),
    /// What is asked does not fit its state.
    #[error(transparent)]
    ExperimentRefused(experiment::Refusal),
    /// Another process changed the rollout in between.
    #[error("another process changed the rollout in between")]
    Outdated,
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
}

/// What rollouts want to know of a hello.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// Who.
    pub device: DeviceId,
    /// The newest desired state it took in.
    pub generation: Generation,
    /// What it has, kept or on its way.
    pub holds: Vec<ReleaseId>,
    /// How far its local time is ahead of UTC, in seconds, if it tells.
    pub utc_offset_secs: Option<i32>,
}

impl Greeting {
    /// What `device` said.
    #[must_use]
    pub fn of(device: &DeviceId, hello: &Hello) -> Self {
        let named = |state: &ModelState| [state.committed.clone(), state.candidate.clone()];
        let holds = hello.models.iter().flat_map(named).flatten().collect();
        let utc_offset_secs = hello.inventory.utc_offset_secs;
        Self { device: device.clone(), generation: hello.generation, holds, utc_offset_secs }
    }
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, RolloutError>>;

/// What the task is asked to do.
pub(super) enum Command {
    Report { report: Box<Report>, reply: Reply<()> },
    Hello { greeting: Greeting },
    Plan { wanted: Wanted, reply: Reply<Plan> },
    Start { wanted: Wanted, reply: Reply<RolloutId> },
    TryStart { wanted: Wanted, reply: Reply<Box<Tried>> },
    Order { id: RolloutId, order: Order, by: String, reply: Reply<()> },
    TryOrder { id: RolloutId, order: Order, by: String, reply: Reply<Box<Tried>> },
    Refreeze { reply: Reply<()> },
    HearAlarms,
    Withdraw { device: DeviceId, model: Option<ModelName>, reply: Reply<()> },
    StopEverything { reason: String, by: String, trial: bool, reply: Reply<Ended> },
    StartExperiment { wanted: Box<WantedExperiment>, trial: bool, reply: Reply<Box<ExperimentStatus>> },
    StopExperiment { stop: StopExperiment, trial: bool, reply: Reply<Box<ExperimentStatus>> },
}

/// The commands of a task that is not yet running.
pub struct Inbox(mpsc::Receiver<Command>);

/// Asks the task to do things.
#[derive(Debug, Clone)]
pub struct Executor {
    commands: mpsc::Sender<Command>,
}

impl Executor {
    /// The two ends of the way to the task.
    #[must_use]
    pub fn channel() -> (Self, Inbox) {
        let (commands, inbox) = mpsc::channel(INBOX);
        (Self { commands }, Inbox(inbox))
    }

    /// False when the task has ended, so that nothing moves on any more.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Stores a report and lets rollouts move on. When it returns, the device may forget the report.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn report(&self, report: Report) -> Result<(), RolloutError> {
        self.ask(|reply| Command::Report { report: Box::new(report), reply }).await
    }

    /// A device said hello.
    pub async fn hello(&self, greeting: Greeting) {
        // The task is gone only when the server stops, and then nobody needs to know.
        let _ = self.commands.send(Command::Hello { greeting }).await;
    }

    /// What a rollout would do; without waves where everybody is left out.
    ///
    /// # Errors
    /// When there is no such release or nobody is selected.
    pub async fn plan(&self, wanted: Wanted) -> Result<Plan, RolloutError> {
        self.ask(|reply| Command::Plan { wanted, reply }).await
    }

    /// Starts a rollout.
    ///
    /// # Errors
    /// When there is no such release or nobody can be asked.
    pub async fn start(&self, wanted: Wanted) -> Result<RolloutId, RolloutError> {
        self.ask(|reply| Command::Start { wanted, reply }).await
    }

    /// What starting a rollout would do; nothing is started.
    ///
    /// # Errors
    /// When there is no such release or nobody can be asked.
    pub async fn try_start(&self, wanted: Wanted) -> Result<Box<Tried>, RolloutError> {
        self.ask(|reply| Command::TryStart { wanted, reply }).await
    }

    /// What an order would do; nothing is done.
    ///
    /// # Errors
    /// When there is no such rollout or the order does not fit its state.
    pub async fn try_order(
        &self,
        id: RolloutId,
        order: Order,
        by: String,
    ) -> Result<Box<Tried>, RolloutError> {
        self.ask(|reply| Command::TryOrder { id, order, by, reply }).await
    }

    /// Gives an order to a rollout.
    ///
    /// # Errors
    /// When there is no such rollout or the order does not fit its state.
    pub async fn order(&self, id: RolloutId, order: Order, by: String) -> Result<(), RolloutError> {
        self.ask(|reply| Command::Order { id, order, by, reply }).await
    }

    /// The freeze periods changed: rollouts hear of it.
    ///
    /// # Errors
    /// When it could not be stored; then rollouts go by the old ones.
    pub async fn refreeze(&self) -> Result<(), RolloutError> {
        self.ask(|reply| Command::Refreeze { reply }).await
    }

    /// Drift alarms may have been raised and committed: rollouts of their releases hear of them at once. They would hear of
    /// them at the next look anyway, so nothing is lost by whoever dies before this.
    pub fn hear_alarms(&self) {
        // A full inbox has turns to make before which alarms are looked for by themselves.
        let _ = self.commands.try_send(Command::HearAlarms);
    }

    /// A person wants no rollout to ask a device, or none of this model: those that still would leave it out.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn withdraw(&self, device: DeviceId, model: Option<ModelName>) -> Result<(), RolloutError> {
        self.ask(|reply| Command::Withdraw { device, model, reply }).await
    }

    /// Halts every rollout and ends every experiment that is under way, and tells which those were. A trial only says which they
    /// are.
    ///
    /// # Errors
    /// When it could not be stored; then none is halted.
    pub async fn stop_everything(
        &self,
        reason: String,
        by: String,
        trial: bool,
    ) -> Result<Ended, RolloutError> {
        self.ask(|reply| Command::StopEverything { reason, by, trial, reply }).await
    }

    /// Starts an experiment with the rollouts of its arms; a trial only says what it would be.
    ///
    /// # Errors
    /// When it cannot be carried out, or there is one of this name.
    pub async fn start_experiment(
        &self,
        wanted: WantedExperiment,
        trial: bool,
    ) -> Result<Box<ExperimentStatus>, RolloutError> {
        self.ask(|reply| Command::StartExperiment { wanted: Box::new(wanted), trial, reply }).await
    }

    /// Ends an experiment; a trial only says what it would be then.
    ///
    /// # Errors
    /// When there is none of this name, or it is over.
    pub async fn stop_experiment(
        &self,
        stop: StopExperiment,
        trial: bool,
    ) -> Result<Box<ExperimentStatus>, RolloutError> {
        self.ask(|reply| Command::StopExperiment { stop, trial, reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, RolloutError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| RolloutError::Stopping)?;
        answer.await.map_err(|_| RolloutError::Stopping)?
    }
}

/// The rollout of a row as people and programs see it.
///
/// # Errors
/// When a newer program wrote the row.
pub fn status(row: &RolloutRow) -> Result<RolloutStatus, StoreError> {
    Ok(entry::Entry::read(row.clone())?.machine.status())
}
