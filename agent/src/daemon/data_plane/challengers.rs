//! The processes of challengers. Each has one of its own, which can do nothing to the runner but close its end of a
//! socket.

use std::{collections::BTreeMap, fs::File, os::fd::OwnedFd, path::PathBuf, time::Duration};

use agent_core::{ChallengerEnd, Input};
use shared::{
    ReleaseId,
    challenger::{ChallengerFigures, Terms},
    manifest::{Budgets, Manifest},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::Inputs,
    heartbeat::{Beat, Heartbeat},
    loads,
    memory::{self, RunnerMemory},
    pump::Wanted,
};
use crate::{
    health,
    runner::{Command, Event, LoadRequest, RunnerCommands, RunnerProcess},
    sandbox::Reports,
};

/// A challenger that was asked to end gets this long to tell its last figures, unless a model is to be loaded meanwhile.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// A device with less memory than this ends its challengers before anything else suffers: twice what the admission of a
/// model leaves to the rest.
const SHORT_MIB: u64 = 2 * memory::SPARE_MIB;

/// What all challengers of this daemon share.
pub(super) struct Challengers {
    pub(super) exe: PathBuf,
    pub(super) inputs: Inputs,
    pub(super) matches: mpsc::Sender<ChallengerFigures>,
    pub(super) hardening: Reports,
    running: BTreeMap<ReleaseId, Running>,
    /// Those that were asked to end. Closed from the start, so that it can be waited for at any time.
    ending: TaskTracker,
    /// Cancelled when those that are ending now shall end at once.
    hurry: CancellationToken,
}

struct Running {
    commands: RunnerCommands,
    wanted: Wanted,
    pump: JoinHandle<()>,
    /// Ends the pump, and with it the process.
    kill: CancellationToken,
}

impl Challengers {
    pub(super) fn new(
        exe: PathBuf,
        inputs: Inputs,
        matches: mpsc::Sender<ChallengerFigures>,
        hardening: Reports,
    ) -> Self {
        let (ending, hurry) = (TaskTracker::new(), CancellationToken::new());
        ending.close();
        Self { exe, inputs, matches, hardening, running: BTreeMap::new(), ending, hurry }
    }

    /// Starts a process for a challenger, with its model and a share of what `champion` is asked.
    pub(super) fn start(
        &mut self,
        release: ReleaseId,
        manifest: &Manifest,
        terms: Terms,
        file: std::io::Result<File>,
        champion: RunnerCommands,
    ) {
        // One that is there still has outlived what the core knows of it.
        self.stop(&release);
        if let Err(end) = self.try_start(&release, manifest, terms, file, champion) {
            self.tell(Input::ChallengerEnded { release, end });
        }
    }

    fn try_start(
        &mut self,
        release: &ReleaseId,
        manifest: &Manifest,
        terms: Terms,
        file: std::io::Result<File>,
        champion: RunnerCommands,
    ) -> Result<(), ChallengerEnd> {
        let budgets = manifest.budgets;
        memory::admit(&budgets, health::memory_available_mib())
            .map_err(|reason| ChallengerEnd::Shortage { detail: reason.to_string() })?;
        let file = file.map_err(|error| ChallengerEnd::Damaged { detail: error.to_string() })?;
        let crashed = |error: std::io::Error| ChallengerEnd::Crashed { detail: error.to_string() };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(crashed)?;
        let (process, events) = RunnerProcess::spawn_challenger(&self.exe).map_err(crashed)?;
        tracing::info!(%release, challenger.pid = process.pid(), "the challenger is started");
        RunnerMemory::default().expect(process.pid(), release, &budgets);
        let (commands, wanted, kill) = (process.commands(), Wanted::new(), CancellationToken::new());
        let pump = Pump {
            release: release.clone(),
            budgets,
            terms,
            champion,
            process,
            inputs: self.inputs.clone(),
            matches: self.matches.clone(),
            hardening: self.hardening.clone(),
            wanted: wanted.clone(),
            kill: kill.clone(),
        };
        let request = Box::new(LoadRequest::from_manifest(manifest));
        let pump = tokio::spawn(pump.run(events, request, file, (ours.into(), theirs.into())));
        self.running.insert(release.clone(), Running { commands, wanted, pump, kill });
        Ok(())
    }

    /// Asks the process of a challenger to end.
    pub(super) fn stop(&mut self, release: &ReleaseId) {
        if let Some(running) = self.running.remove(release) {
            running.wanted.clear();
            self.ending.spawn(end(running, self.hurry.clone()));
        }
    }

    /// Until those that were asked to end are gone, with the memory that they held.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let ending = self.ending.clone();
        async move { ending.wait().await }
    }

    /// The same, and at once: somebody is waiting for what needs the memory.
    pub(super) async fn make_way(&mut self) {
        std::mem::take(&mut self.hurry).cancel();
        self.ending.wait().await;
    }

    /// Ends all of them, and waits for it.
    pub(super) async fn end(&mut self) {
        let all: Vec<ReleaseId> = self.running.keys().cloned().collect();
        all.iter().for_each(|release| self.stop(release));
        self.ending.wait().await;
    }

    /// Sent from a task of its own, since the shell that reads the inputs is the one that is here.
    fn tell(&self, input: Input) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let _ = inputs.send(input).await;
        });
    }
}

async fn end(mut running: Running, hurry: CancellationToken) {
    let in_order = async {
        let _ = running.commands.send(Command::Shutdown, Vec::new()).await;
        let _ = (&mut running.pump).await;
    };
    if let Some(Ok(())) = hurry.run_until_cancelled(timeout(SHUTDOWN_PATIENCE, in_order)).await {
        return;
    }
    running.kill.cancel();
    if timeout(SHUTDOWN_PATIENCE, running.pump).await.is_err() {
        tracing::warn!("the process of a challenger was killed and is not gone yet");
    }
}

/// Carries the events of one challenger; the process lives as long as this does.
struct Pump {
    release: ReleaseId,
    budgets: Budgets,
    terms: Terms,
    champion: RunnerCommands,
    process: RunnerProcess,
    inputs: Inputs,
    matches: mpsc::Sender<ChallengerFigures>,
    hardening: Reports,
    wanted: Wanted,
    kill: CancellationToken,
}

/// The two ends of the way that samples take: the champion's and the challenger's.
type Way = (OwnedFd, OwnedFd);

impl Pump {
    /// Returns when the process is gone, and the core hears of an end no earlier.
    async fn run(self, mut events: mpsc::Receiver<Event>, request: Box<LoadRequest>, file: File, way: Way) {
        let carried = self.kill.run_until_cancelled(self.carry(&mut events, request, file, way)).await;
        let Self { process, inputs, release, wanted, .. } = self;
        // It is killed with this value; the events end after it.
        drop(process);
        while events.recv().await.is_some() {}
        if let (Some(Some(end)), true) = (carried, wanted.clear()) {
            let _ = inputs.send(Input::ChallengerEnded { release, end }).await;
        }
    }

    /// Runs until the challenger's end, and says what that was; `None` when nobody needs to know.
    async fn carry(
        &self,
        events: &mut mpsc::Receiver<Event>,
        request: Box<LoadRequest>,
        file: File,
        way: Way,
    ) -> Option<ChallengerEnd> {
        let sent = self.process.send(Command::Load(request), vec![file.into()]).await;
        if let Err(error) = sent {
            return Some(ChallengerEnd::Crashed { detail: error.to_string() });
        }
        let deadline = sleep(loads::deadline_of(self.budgets.load_ms));
        tokio::pin!(deadline);
        let (mut heartbeat, mut way) = (Heartbeat::new(), Some(way));
        loop {
            let event = tokio::select! {
                event = events.recv() => event?,
                beat = heartbeat.due(), if self.wanted.get() => match self.beat(&beat) {
                    None => continue,
                    end => return end,
                },
                () = &mut deadline, if way.is_some() => {
                    return Some(ChallengerEnd::Refused { detail: "it was not loaded in time".into() });
                }
            };
            match event {
                Event::Alive => heartbeat.heard(),
                Event::Loaded { .. } => {
                    if let Some((ours, theirs)) = way.take() {
                        self.join(ours, theirs).await;
                    }
                }
                Event::Compared(figures) => self.compared(*figures).await,
                event => {
                    if let Some(end) = self.end_of(event) {
                        return Some(end);
                    }
                }
            }
        }
    }

    /// The process says what it likes: only what may be true of its own release goes on.
    async fn compared(&self, figures: ChallengerFigures) {
        if may_say(&self.release, &figures) {
            let _ = self.matches.send(figures).await;
        } else {
            tracing::warn!(release = %self.release, "figures that this challenger cannot have are dropped");
        }
    }

    /// Joins champion and challenger. A runner that is gone meanwhile closes its end, and the core hears of it.
    async fn join(&self, ours: OwnedFd, theirs: OwnedFd) {
        let release = self.release.clone();
        let _ = self.process.send(Command::TrySamples { release: release.clone() }, vec![theirs]).await;
        let challenge = Command::Challenge { challenger: release.clone(), terms: self.terms };
        let _ = self.champion.send(challenge, vec![ours]).await;
        if self.wanted.get() {
            let _ = self.inputs.send(Input::ChallengerRuns { release }).await;
        }
    }

    /// Asks whether it still obeys, and looks whether the device can still afford it.
    fn beat(&self, beat: &Beat) -> Option<ChallengerEnd> {
        let available_mib = health::memory_available_mib();
        if available_mib > 0 && available_mib < SHORT_MIB {
            let detail = format!("{available_mib} MiB are available, and {SHORT_MIB} MiB shall stay free");
            return Some(ChallengerEnd::Shortage { detail });
        }
        match beat {
            Beat::Ask => {
                self.process.commands().try_send(Command::Ping);
                None
            }
            Beat::Missed => {
                Some(ChallengerEnd::Crashed { detail: "it does not answer and is killed".into() })
            }
        }
    }

    fn end_of(&self, event: Event) -> Option<ChallengerEnd> {
        match event {
            Event::LoadFailed { detail, .. } => Some(ChallengerEnd::Refused { detail }),
            Event::Damaged { detail, .. } => Some(ChallengerEnd::Damaged { detail }),
            Event::MemoryExceeded { used_kib, budget_kib, .. } => {
                let detail = format!("it took {used_kib} KiB of memory where {budget_kib} KiB are allowed");
                Some(ChallengerEnd::Refused { detail })
            }
            Event::Hung { .. } => Some(ChallengerEnd::Crashed { detail: "an inference hangs".into() }),
            Event::Exited(exit) => Some(ChallengerEnd::Crashed { detail: exit.detail }),
            Event::LockedIn(hardening) => {
                self.hardening.add(hardening);
                None
            }
            Event::Ready
            | Event::Alive
            | Event::Loaded { .. }
            | Event::Compared(_)
            | Event::Observed(_)
            | Event::Sketched(_)
            | Event::Paced(_)
            | Event::Switched { .. }
            | Event::SwitchFailed { .. }
            | Event::Unloaded { .. } => None,
        }
    }
}

/// The books of the process are about itself beside one champion.
fn may_say(challenger: &ReleaseId, figures: &ChallengerFigures) -> bool {
    figures.challenger == *challenger && figures.is_plausible()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_challenger_speaks_of_itself_alone_and_only_of_what_can_be_counted() {
        let release = |text: &str| text.parse::<ReleaseId>().unwrap();
        let own = ChallengerFigures::new(release("m@1"), release("m@2"));
        assert!(may_say(&release("m@2"), &own));
        assert!(!may_say(&release("m@3"), &own), "of another release");
        let mixed = ChallengerFigures::new(release("other@1"), release("m@2"));
        assert!(!may_say(&release("m@2"), &mixed), "beside another model");
    }

    /// A challenger whose process ends only when it is killed, and whether it is gone.
    fn stubborn() -> (Running, Arc<AtomicBool>) {
        let (kill, gone) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let (killed, noted) = (kill.clone(), Arc::clone(&gone));
        let pump = tokio::spawn(async move {
            killed.cancelled().await;
            noted.store(true, Ordering::Release);
        });
        let running = Running { commands: RunnerCommands::detached(), wanted: Wanted::new(), pump, kill };
        (running, gone)
    }

    #[tokio::test]
    async fn what_needs_the_memory_of_a_stopped_challenger_begins_after_its_end() {
        let (inputs, matches) = (mpsc::channel(1).0, mpsc::channel(1).0);
        let mut challengers = Challengers::new(PathBuf::new(), inputs, matches, Reports::default());
        challengers.ended().now_or_never().expect("none is ending");
        let release: ReleaseId = "m@2".parse().unwrap();
        let (running, gone) = stubborn();
        challengers.running.insert(release.clone(), running);
        challengers.stop(&release);
        assert!(challengers.ended().now_or_never().is_none(), "a trial waits");
        challengers.make_way().await;
        assert!(gone.load(Ordering::Acquire), "a model that is to be loaded has it killed");
        challengers.ended().now_or_never().expect("none is ending any more");
    }
}
