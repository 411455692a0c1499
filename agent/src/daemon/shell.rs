//! The turn of the daemon: collect inputs → run the core → make the ledger durable → perform effects.
//!
//! Nothing here decides. One task owns the core; everything slow (network, disk, trial, runner) happens
//! elsewhere and comes back as an input.

mod wind_down;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agent_core::{Agent, Effect, Event, Input, Intake, Level, RecordedInput, Refusal};
use muster_link::Link;
use muster_trust::Floors;
use shared::{
    BootId, DeviceId, Digest, Generation,
    block::Run,
    device::Hardening,
    message::{Hello, Request, StateMessage},
    report::Report,
    trust::{Signed, Signer},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    again::Again,
    control::{Answer, Asked, Facts, Question},
    data_plane::DataPlane,
    drift::{Drift, DriftNews},
    home::Home,
    outgoing::Outgoing,
    stager::Stager,
    state::Saved,
    telemetry::{Windows, courier::Courier},
    uplink::LinkNews,
    voice::Voice,
};
use crate::{
    clock::Clock,
    config::Config,
    control::{RunnerView, WaitingView},
    health, local_time,
    recording::Recorder,
    resident,
};

/// Inputs handled in one turn before the ledger is written and effects are performed.
const MAX_INPUTS_PER_TURN: usize = 64;

/// How long a transfer waits before it asks whether there is another budget.
const BUDGET_AGAIN: Duration = Duration::from_secs(600);

/// A window is sent and acknowledged within this, on most networks.
const QUIET_AFTER: Duration = Duration::from_secs(2);

/// Reports said again at once; the others follow when these are acknowledged.
const REPORTS_AGAIN: usize = 16;

/// The daemon's one task that decides, with everything it acts through.
pub(super) struct Shell {
    core: Agent,
    saved: Saved,
    floors: watch::Receiver<Floors>,
    clock: Clock,
    config: Config,
    device: DeviceId,
    boot: BootId,
    report_signer: Arc<Signer>,
    outgoing: Outgoing,
    link: Link,
    verify: mpsc::Sender<Generation>,
    verify_challengers: mpsc::Sender<u64>,
    stager: Stager,
    data_plane: DataPlane,
    drift: Drift,
    windows: Windows,
    /// What is known of the sandboxes, for the inventory.
    hardening: watch::Receiver<Option<Hardening>>,
    courier: Courier,
    /// The generation of the last hello of this connection; `None` without a connection.
    announced: Option<Generation>,
    /// The limits and the challengers of that hello.
    announced_revisions: (u64, u64),
    /// What the core knows of local time.
    utc_offset_secs: i32,
    /// Where the inputs of the core are written down, if somebody asked for it.
    recorder: Option<Recorder>,
    /// When reports that the server has not acknowledged are said again.
    again: Again,
    /// When the work of the last window, start or connection is over and its code can go.
    quiet_at: Option<Instant>,
}

/// Those who do for the shell what takes time.
pub(super) struct Hands {
    pub(super) verify: mpsc::Sender<Generation>,
    pub(super) verify_challengers: mpsc::Sender<u64>,
    pub(super) stager: Stager,
    pub(super) data_plane: DataPlane,
    pub(super) drift: Drift,
}

/// Where the shell's inputs come from.
pub(super) struct Sources {
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) news: mpsc::Receiver<LinkNews>,
    pub(super) figures: mpsc::Receiver<shared::telemetry::VersionFigures>,
    pub(super) matches: mpsc::Receiver<shared::challenger::ChallengerFigures>,
    pub(super) drift: mpsc::Receiver<DriftNews>,
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) hardening: watch::Receiver<Option<Hardening>>,
}

impl Shell {
    /// Before its first turn.
    pub(super) fn new(
        home: Home,
        core: Agent,
        recorder: Option<Recorder>,
        voice: &Voice,
        hands: Hands,
        floors: watch::Receiver<Floors>,
    ) -> Self {
        let Home { config, identity, saved, clock, boot } = home;
        let Hands { verify, verify_challengers, stager, data_plane, drift } = hands;
        let mut windows = Windows::new(boot.clone(), config.data_dir.clone(), clock.now());
        windows.add_alarms(drift.untold());
        Self {
            core,
            saved,
            floors,
            device: identity.device,
            report_signer: identity.report_signer,
            outgoing: voice.outgoing.clone(),
            link: voice.link.clone(),
            courier: voice.courier.clone(),
            verify,
            verify_challengers,
            stager,
            hardening: data_plane.hardening(),
            data_plane,
            drift,
            windows,
            announced: None,
            announced_revisions: (0, 0),
            utc_offset_secs: local_time::of_core(&clock),
            recorder,
            again: Again::default(),
            quiet_at: None,
            clock,
            config,
            boot,
        }
    }

    /// Turns until it is told to stop.
    pub(super) async fn run(mut self, mut sources: Sources, cancel: CancellationToken) {
        let mut window = interval(self.config.telemetry.interval_secs);
        self.finish_turn(&cancel).await;
        self.expect_quiet();
        loop {
            let mut answer = None;
            let wakeup = self.core.poll_timeout().map(|(at, _)| self.clock.instant_of(at));
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(input) = sources.inputs.recv() => self.take_inputs(input, &mut sources.inputs),
                Some(news) = sources.news.recv() => self.take_news(news),
                Some(figures) = sources.figures.recv() => self.windows.add(&figures),
                Some(figures) = sources.matches.recv() => self.windows.add_match(&figures),
                Some(news) = sources.drift.recv() => self.take_drift(news),
                Some(question) = sources.questions.recv() => answer = Some(self.take_question(question)),
                Ok(()) = sources.hardening.changed() => self.announce_inventory(),
                _ = window.tick() => {
                    let bytes = self.link_bytes();
                    self.windows.note_challengers(self.core.challenger_states());
                    self.follow_alarms();
                    self.windows.close_if_due(self.clock.now(), bytes, &self.courier);
                    self.expect_quiet();
                    self.tell_local_time();
                }
                () = sleep_until(wakeup) => {
                    self.tell_local_time();
                    self.handle(Input::Tick);
                }
                () = sleep_until(self.again.at()) => self.report_again(),
                () = sleep_until(self.quiet_at) => self.rest(),
            }
            self.finish_turn(&cancel).await;
            // A turn that was cut short has made nothing durable: whoever asked hears that the agent is ending.
            if let Some((result, asker)) = answer.filter(|_| !cancel.is_cancelled()) {
                let _ = asker.send(result.map(|()| self.facts()));
            }
        }
        self.wind_down(sources).await;
    }

    /// What is being done now will be done soon.
    fn expect_quiet(&mut self) {
        self.quiet_at.get_or_insert_with(|| Instant::now() + QUIET_AFTER);
    }

    fn rest(&mut self) {
        self.quiet_at = None;
        resident::release_idle_code();
    }

    fn take_inputs(&mut self, first: Input, more: &mut mpsc::Receiver<Input>) {
        self.handle(first);
        for _ in 1..MAX_INPUTS_PER_TURN {
            match more.try_recv() {
                Ok(input) => self.handle(input),
                Err(_) => break,
            }
        }
    }

    fn handle(&mut self, input: Input) {
        if let Err(refusal) = self.tell_core(input) {
            tracing::debug!(%refusal, "an input does not fit the state");
        }
    }

    /// The one way into the core: what it is told is recorded, if anything is.
    fn tell_core(&mut self, input: Input) -> Result<(), Refusal> {
        let at = self.clock.steady();
        let recorded = self.recorder.as_ref().map(|_| RecordedInput::from(&input));
        let taken = self.core.handle(input, at);
        if let (Some(recorder), Some(recorded)) = (&mut self.recorder, recorded) {
            recorder.note(at, recorded, &self.core);
        }
        taken
    }

    fn take_news(&mut self, news: LinkNews) {
        match news {
            LinkNews::Connected => {
                self.say_hello();
                self.expect_quiet();
                self.courier.connected(true);
                self.handle(Input::Connected);
            }
            LinkNews::Disconnected => {
                self.announced = None;
                self.courier.connected(false);
                self.again.stop();
                self.handle(Input::Disconnected);
            }
        }
    }

    fn take_drift(&mut self, DriftNews { figures, alarms }: DriftNews) {
        self.windows.add(&figures);
        self.windows.add_alarms(alarms);
    }

    /// Summer time begins and ends, and devices travel.
    fn tell_local_time(&mut self) {
        let utc_offset_secs = local_time::of_core(&self.clock);
        if utc_offset_secs != self.utc_offset_secs {
            self.utc_offset_secs = utc_offset_secs;
            self.handle(Input::LocalTime { utc_offset_secs });
        }
    }

    /// What is asked for happens at once, and is answered when the turn is over.
    fn take_question(&mut self, Question { asked, answer }: Question) -> (Result<(), Refusal>, Answer) {
        let result = match asked {
            Asked::Facts => Ok(()),
            Asked::RollBack(model) => {
                tracing::warn!(%model, "the operator of the device asks to go back");
                self.tell_core(Input::OperatorRollback { model })
            }
        };
        (result, answer)
    }

    fn facts(&self) -> Facts {
        let ledger = self.core.ledger();
        let delivery = self.courier.delivery();
        let (telemetry, telemetry_lost) = (delivery.windows_waiting, delivery.windows_lost);
        let runner = RunnerView { state: self.core.runner_state().into(), pid: self.data_plane.runner_pid() };
        let reports = ledger.outbox.waiting().count() as u64;
        Facts {
            generation: ledger.generation,
            taken_in: ledger.intake == Intake::Whole,
            runner,
            waiting: WaitingView { reports, reports_lost: ledger.outbox.lost(), telemetry, telemetry_lost },
            remembered_bad: ledger.remembered_bad.len() as u64,
            refused_inputs: self.core.refusals(),
            models: self.core.status(),
            challengers: self.core.challenger_states(),
            drift: self.drift.views(),
        }
    }

    /// Once the newer desired state is in the ledger the server may know that it was taken in, also when nothing
    /// follows from it that would be reported.
    fn announce_generation(&mut self) {
        let Some(announced) = self.announced else { return };
        if announced != self.core.ledger().generation || self.revisions() != self.announced_revisions {
            self.say_hello();
        }
    }

    /// Of the limits and the challengers that were verified here.
    fn revisions(&self) -> (u64, u64) {
        (self.courier.delivery().limits_revision, self.core.ledger().challengers.revision)
    }

    fn announce_inventory(&mut self) {
        if self.announced.is_some() {
            self.say_hello();
        }
    }

    fn say_hello(&mut self) {
        self.announced = Some(self.core.ledger().generation);
        let hello = Hello {
            boot: self.boot.clone(),
            at: self.clock.now(),
            generation: self.core.ledger().generation,
            inventory: health::inventory(&self.config.data_dir, self.hardening.borrow().clone()),
            models: self.core.model_states(),
            limits_revision: self.revisions().0,
            challengers_revision: self.revisions().1,
        };
        self.announced_revisions = (hello.limits_revision, hello.challengers_revision);
        self.outgoing.state(&StateMessage::Hello(Box::new(hello)));
    }

    fn close_window(&mut self) {
        let bytes = self.link_bytes();
        self.windows.note_challengers(self.core.challenger_states());
        self.windows.close(self.clock.now(), bytes, &self.courier);
        self.drift.told(&self.courier.told_alarms().alarms);
    }

    /// What the server has is told; what it has not, although nothing is on its way, is told again.
    fn follow_alarms(&mut self) {
        let told = self.courier.told_alarms();
        self.drift.told(&told.alarms);
        if told.is_all {
            self.windows.add_untold(|| self.drift.untold());
        }
    }

    fn link_bytes(&self) -> (u64, u64) {
        let bytes = self.link.bytes().read();
        (bytes.up_bytes, bytes.down_bytes)
    }

    /// The ledger is durable before anyone can notice the consequence. While it cannot be written nothing is done and
    /// no input is taken; what the runner holds goes on answering.
    async fn finish_turn(&mut self, cancel: &CancellationToken) {
        let floors = self.floors.borrow_and_update().clone();
        let saved = self.saved.save_in_the_end(&self.core, &floors);
        if cancel.run_until_cancelled(saved).await.is_none() {
            return;
        }
        while let Some(effect) = self.core.poll_effect() {
            self.perform(effect).await;
        }
        self.announce_generation();
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Verify { generation } => {
                // A full queue means that a check is under way and another waits: both see the newest document.
                let _ = self.verify.try_send(generation);
            }
            Effect::VerifyChallengers { revision } => {
                let _ = self.verify_challengers.try_send(revision);
            }
            Effect::StartChallenger { release, manifest, terms } => {
                self.data_plane.start_challenger(release, &manifest, terms).await;
            }
            Effect::StopChallenger { release } => self.data_plane.stop_challenger(&release),
            Effect::OpenStaging { artifact } => self.stager.open(artifact),
            Effect::Request { packed, block_bytes, runs } => self.request(packed, block_bytes, runs),
            Effect::Unpack { artifact } => self.stager.unpack(artifact),
            Effect::CollectGarbage { keep } => {
                self.drift.keep(&keep);
                self.stager.collect(keep);
            }
            Effect::RunTrial { release, manifest } => self.data_plane.trial(release, &manifest),
            Effect::CancelTrial { release } => self.data_plane.cancel_trial(&release),
            Effect::EnsureRunner => self.data_plane.ensure_runner(),
            Effect::StopRunner => self.data_plane.stop_runner(),
            Effect::Load { release, manifest } => self.data_plane.load(release, &manifest).await,
            Effect::Switch { release } => self.data_plane.switch(release).await,
            Effect::Unload { release } => self.data_plane.unload(release).await,
            Effect::Send { report } => {
                self.send(&report);
                self.again.start(Instant::now());
            }
            Effect::Note(event) => note(&self.device, &event),
        }
    }

    /// A transfer that has used up the day's budget waits like one that the server has no time for. The core asks again
    /// and again, so it goes on soon after midnight.
    fn request(&mut self, packed: Digest, block_bytes: u32, runs: Vec<Run>) {
        if self.courier.transfer_bytes_left() == Some(0) {
            return self.handle(Input::RetryAfter { packed, delay: BUDGET_AGAIN });
        }
        self.outgoing.request(&Request::Blocks { artifact: packed, block_bytes, runs });
    }

    /// A message may be lost between the server's broker and its database, without a trace on the link.
    fn report_again(&mut self) {
        if self.announced.is_none() || self.core.ledger().outbox.waiting().next().is_none() {
            return self.again.stop();
        }
        self.core.ledger().outbox.waiting().take(REPORTS_AGAIN).for_each(|report| self.send(report));
        self.again.back_off(Instant::now());
    }

    fn send(&self, report: &Report) {
        let mut report = report.clone();
        if report.boot == self.boot {
            // The core's time does not follow a clock that was set meanwhile.
            report.at = report.at + self.clock.ahead();
        }
        match Signed::sign(&report, &[&self.report_signer]) {
            Ok(signed) => self.outgoing.state(&StateMessage::Report(signed)),
            Err(error) => tracing::error!(%error, "a report cannot be signed"),
        }
    }
}

fn interval(secs: u32) -> Interval {
    let period = Duration::from_secs(secs.into());
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn note(device: &DeviceId, event: &Event) {
    match event.level {
        Level::Info => tracing::info!(device.id = %device, "{event}"),
        Level::Warn => tracing::warn!(device.id = %device, "{event}"),
    }
}
