//! From what a runner says to inputs of the core.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agent_core::Input;
use shared::{challenger::ChallengerFigures, telemetry::VersionFigures};
use tokio::{sync::mpsc, time::sleep};

use super::{
    super::{Inputs, drift::Drift},
    handover::{Awaited, Handover},
    heartbeat::{Beat, Heartbeat},
    loads::{self, Loads},
};
use crate::{
    runner::{Command, EXIT_REPLACE, Event},
    sandbox::Reports,
};

/// Callers wait this long for a model that is being brought back; after that they are told what is not there.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(10);

/// Cleared when a runner has ended, or when its end is nobody's business any more.
#[derive(Debug, Clone)]
pub(super) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Tells whether it was still wanted.
    pub(super) fn clear(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// Carries the events of one runner.
pub(super) struct Pump {
    pub(super) inputs: Inputs,
    pub(super) figures: mpsc::Sender<VersionFigures>,
    pub(super) matches: mpsc::Sender<ChallengerFigures>,
    pub(super) drift: Drift,
    pub(super) hardening: Reports,
    pub(super) wanted: Wanted,
    pub(super) loads: Loads,
    pub(super) awaited: Awaited,
    pub(super) handover: Handover,
    pub(super) pid: u32,
}

impl Pump {
    /// Runs until the runner's last event.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let patience = sleep(HANDOVER_PATIENCE);
        tokio::pin!(patience);
        let mut heartbeat = Heartbeat::new();
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                beat = heartbeat.due(), if self.wanted.get() => {
                    self.beat(&beat);
                    continue;
                }
                () = &mut patience, if !self.handover.done && self.wanted.get() => {
                    self.handover.perform().await;
                    continue;
                }
            };
            let Some(event) = event else { return };
            if self.wanted.get() && self.all_answer(&event) {
                self.handover.perform().await;
            }
            match event {
                Event::Alive => heartbeat.heard(),
                Event::Compared(figures) => drop(self.matches.send(*figures).await),
                Event::Sketched(sketched) => self.drift.closed(*sketched).await,
                Event::Paced(paced) => self.drift.paced(&paced),
                Event::Observed(figures) => {
                    if !self.observed(*figures).await {
                        return;
                    }
                }
                event => {
                    if let Some(input) = self.input_of(event)
                        && self.inputs.send(input).await.is_err()
                    {
                        return;
                    }
                }
            }
        }
    }

    /// The core hears of figures in the stream of all other events, so what the last inferences showed is judged before
    /// the end of the runner that made them. The windows of telemetry need no order. False when nobody listens.
    async fn observed(&self, figures: VersionFigures) -> bool {
        let (release, counts) = (figures.release.clone(), figures.counts);
        let heard = self.inputs.send(Input::Observed { release, counts }).await.is_ok();
        let _ = self.figures.send(figures).await;
        heard
    }

    /// A question that the runner has no room for is one that it will not have answered.
    fn beat(&self, beat: &Beat) {
        match beat {
            Beat::Ask => self.handover.commands.try_send(Command::Ping),
            Beat::Missed => {
                tracing::warn!(runner.pid = self.pid, "the runner does not answer and is killed");
                loads::kill(self.pid);
            }
        }
    }

    /// True when this event settles the last model that callers wait for.
    fn all_answer(&self, event: &Event) -> bool {
        match event {
            Event::Switched { release } => self.awaited.answers(release),
            Event::LoadFailed { release, .. }
            | Event::Damaged { release, .. }
            | Event::SwitchFailed { release, .. } => self.awaited.failed(release),
            _ => false,
        }
    }

    fn input_of(&self, event: Event) -> Option<Input> {
        match event {
            Event::Observed(_)
            | Event::Compared(_)
            | Event::Sketched(_)
            | Event::Paced(_)
            | Event::Ready
            | Event::Alive => None,
            Event::LockedIn(hardening) => {
                self.hardening.add(hardening);
                None
            }
            Event::Loaded { release, load_ms, memory_kib } => {
                tracing::info!(%release, load_ms, memory_kib, "loaded");
                self.loads.answered(&release).then_some(Input::Loaded { release, load_ms })
            }
            Event::LoadFailed { release, detail } => {
                self.loads.answered(&release).then_some(Input::LoadFailed { release, detail })
            }
            Event::Damaged { release, detail } => {
                self.loads.answered(&release).then_some(Input::ArtifactDamaged { release, detail })
            }
            Event::SwitchFailed { release, detail } => Some(Input::LoadFailed { release, detail }),
            Event::Switched { release } => Some(Input::Switched { release }),
            Event::Hung { release, threads } => Some(Input::Hung { release, threads }),
            Event::MemoryExceeded { release, used_kib, budget_kib } => {
                Some(Input::MemoryExceeded { release, used_kib, budget_kib })
            }
            Event::Unloaded { release } => {
                tracing::info!(%release, "unloaded");
                None
            }
            Event::Exited(exit) => self.wanted.clear().then(|| {
                self.loads.clear();
                tracing::warn!(detail = %exit.detail, "the runner has ended");
                if exit.code == Some(EXIT_REPLACE.into()) {
                    Input::RunnerReplaced
                } else {
                    Input::RunnerExited { detail: exit.detail }
                }
            }),
        }
    }
}
