//! Windows of features on their way from the runner to the server, and the device's own look at them.
//!
//! The runner counts and closes windows ([`capture`](crate::runner)); it knows neither the time of day nor the disk. Here a
//! window gets its name (device, boot, number) and its bytes, which the courier keeps until the server has them. What it
//! says of the distance from the reference goes into the telemetry of its version. Where the manifest asks for a guardrail,
//! each feature is watched against what it was on this device at first, and an alarm needs no server.
//!
//! What has to outlive the process lies in one small file for each release ([`files`]): every how manieth row is counted, what
//! the guardrail knows, and its alarms. k and an alarm are written at once. Evidence is written every half an hour: a
//! power cut then costs the evidence of that time, which makes an alarm later and never a false one. What the disk refuses is
//! tried again within seconds, then ever more rarely.
//!
//! A specification of features that cannot be counted costs the counting and never the model, and its reason is told.
//!
//! The book of all that is behind one lock and decides without files, clock and network ([`book`]).

mod book;
mod figures;
mod files;
mod guard;
mod kept;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use agent_store::disk::{Disk, OsDisk};
use muster_engine::features::Extractor;
use muster_link::Backoff;
use muster_sketch::window::Origin;
use shared::{
    Digest, Timestamp,
    manifest::{DriftSpec, Manifest},
    telemetry::{DriftAlarm, VersionFigures},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use super::{SMALL_QUEUE, home::Home, telemetry::courier::Courier};
use crate::{
    clock::Clock,
    control::DriftView,
    runner::{Paced, Sketched},
};
use book::{Book, Change, Closed, Hurry};
use files::Files;

/// How long evidence may wait for the disk.
const SAVE_EVERY: Duration = Duration::from_secs(1_800);

/// What the disk refuses is tried again: it may be full or busy for a moment, and an alarm waits for it.
const SAVE_AGAIN: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(300) };

/// What is written at the end gets this long.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// What a closed window says, for the telemetry of its version.
#[derive(Debug)]
pub(super) struct DriftNews {
    pub(super) figures: VersionFigures,
    pub(super) alarms: Vec<DriftAlarm>,
}

/// How a version that is about to be loaded is counted.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Counted {
    /// What is watched of it; nothing where the manifest asks for nothing, or for what cannot be counted.
    pub(super) spec: Option<DriftSpec>,
    /// Every how manieth of its rows is counted, if that was measured before.
    pub(super) known_every: Option<u32>,
}

/// The way to the book; cheap to clone.
#[derive(Clone)]
pub(super) struct Drift {
    book: Arc<Mutex<Book>>,
    changed: Arc<Notify>,
    news: mpsc::Sender<DriftNews>,
    ending: mpsc::Sender<oneshot::Sender<()>>,
    courier: Courier,
    clock: Clock,
}

impl Drift {
    /// Opens the book with what the last run left, and starts the task that writes it down. Must be called inside a runtime.
    pub(super) fn open(home: &Home, courier: Courier) -> (Self, mpsc::Receiver<DriftNews>) {
        let origin = Origin { device: home.identity.device.to_string(), boot: home.boot.to_string() };
        let files = Files::new(OsDisk, home.config.data_dir.join("drift"));
        let book = Book::new(origin, files.read());
        let schedule = Schedule::new(Instant::now(), SAVE_AGAIN);
        Self::start(book, files, schedule, courier, home.clock.clone())
    }

    fn start<D: Disk>(
        book: Book,
        files: Files<D>,
        schedule: Schedule,
        courier: Courier,
        clock: Clock,
    ) -> (Self, mpsc::Receiver<DriftNews>) {
        let (news, told) = mpsc::channel(SMALL_QUEUE);
        let (ending, asked) = mpsc::channel(1);
        let (book, changed) = (Arc::new(Mutex::new(book)), Arc::<Notify>::default());
        let writer = Writer { book: Arc::clone(&book), changed: Arc::clone(&changed), files };
        tokio::spawn(writer.run(schedule, asked));
        (Self { book, changed, news, ending, courier, clock }, told)
    }

    /// A version is about to be loaded.
    pub(super) fn watch(&self, manifest: &Manifest) -> Counted {
        let Manifest { release, model, drift: Some(spec), .. } = manifest else { return Counted::default() };
        // That takes time, in which others may look into the book.
        if let Err(why) = can_be_counted(spec, manifest) {
            tracing::warn!(%release, why, "its features cannot be counted; it answers all the same");
            self.book().leave_out(release, model.digest, spec, why);
            return Counted::default();
        }
        let mut book = self.book();
        if let Err(why) = book.watch(release, model.digest, spec) {
            tracing::warn!(%release, why, "the device does not watch its features by itself");
        }
        Counted { spec: Some(spec.clone()), known_every: book.every(release) }
    }

    /// The runner has measured every how manieth row is counted.
    pub(super) fn paced(&self, paced: &Paced) {
        self.book().paced(paced);
        self.changed.notify_one();
    }

    /// The runner has closed a window, just now.
    pub(super) async fn closed(&self, sketched: Sketched) {
        let (release, now) = (sketched.release.clone(), self.clock.now());
        let began = Timestamp(now.as_millis().saturating_sub(sketched.age_ms));
        let closed = self.book().close(sketched, began, now);
        let Closed { message, figures, alarms } = match closed {
            Ok(closed) => closed,
            Err(why) => return tracing::warn!(%release, why, "a window of features is dropped"),
        };
        self.changed.notify_one();
        if !self.courier.take_sketch(message) {
            self.book().lost(&release);
            tracing::warn!(%release, "the courier is far behind, and a window of features is lost");
        }
        for DriftAlarm { feature, alarm, .. } in &alarms {
            let (score, sign) = (alarm.direction.score, alarm.direction.sign);
            tracing::warn!(
                %release, feature, ?score, ?sign, alarm.evidence, alarm.threshold, alarm.shift,
                "a feature has drifted"
            );
        }
        // The shell may have ended.
        let _ = self.news.send(DriftNews { figures, alarms }).await;
    }

    /// Alarms that the server does not have, as far as is known here.
    pub(super) fn untold(&self) -> Vec<DriftAlarm> {
        self.book().untold()
    }

    /// The server has stored windows of telemetry with these alarms.
    pub(super) fn told(&self, alarms: &[DriftAlarm]) {
        self.book().told(alarms);
        if !alarms.is_empty() {
            // What was kept for their sake may go.
            self.changed.notify_one();
        }
    }

    /// Forgets releases whose model is not among what the device keeps.
    pub(super) fn keep(&self, digests: &BTreeSet<Digest>) {
        self.book().keep(digests);
        self.changed.notify_one();
    }

    /// For the operator of the device.
    pub(super) fn views(&self) -> Vec<DriftView> {
        self.book().views()
    }

    /// Waits until everything is written down. A disk that hangs is not waited for.
    pub(super) async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        let written = async {
            if self.ending.send(done).await.is_ok() {
                let _ = finished.await;
            }
        };
        if timeout(LAST_WRITE, written).await.is_err() {
            tracing::warn!("what is known of drift was not written down at the end");
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

/// Whether sources, reference and numbers belong together and to this model.
fn can_be_counted(spec: &DriftSpec, manifest: &Manifest) -> Result<(), String> {
    let Manifest { inputs, outputs, .. } = manifest;
    spec.check(inputs, outputs)?;
    Extractor::new(&spec.sources, inputs, outputs).map(drop).map_err(|error| error.to_string())
}

/// What is under the lock is whole at every moment.
fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When everything is written down that waits.
#[derive(Debug)]
struct Schedule {
    at: Instant,
    /// How often in a row the disk refused.
    failures: u32,
    /// How soon it is asked again then.
    again: Backoff,
}

impl Schedule {
    fn new(now: Instant, again: Backoff) -> Self {
        Self { at: now + SAVE_EVERY, failures: 0, again }
    }

    /// Everything with this hurry and more was written, or was not.
    fn saved(&mut self, least: Hurry, is_done: bool, now: Instant) {
        if !is_done {
            let again = now + self.again.delay(self.failures, u32::MAX);
            // What was refused before does not wait longer for what is refused now.
            self.at = if least == Hurry::None { again } else { again.min(self.at) };
            self.failures = self.failures.saturating_add(1);
        } else if least == Hurry::None {
            *self = Self::new(now, self.again);
        }
    }
}

/// Writes the book down.
struct Writer<D> {
    book: Arc<Mutex<Book>>,
    changed: Arc<Notify>,
    files: Files<D>,
}

impl<D: Disk> Writer<D> {
    /// Runs until it is asked to end, or nobody can ask any more.
    async fn run(self, mut schedule: Schedule, mut asked: mpsc::Receiver<oneshot::Sender<()>>) {
        loop {
            let least = tokio::select! {
                () = self.changed.notified() => Hurry::Now,
                () = tokio::time::sleep_until(schedule.at.into()), if lock(&self.book).waits() => Hurry::None,
                asker = asked.recv() => {
                    self.save(Hurry::None).await;
                    if let Some(asker) = asker {
                        let _ = asker.send(());
                    }
                    return;
                }
            };
            let is_done = self.save(least).await;
            schedule.saved(least, is_done, Instant::now());
        }
    }

    /// On a thread where the disk may take its time. False when it has not taken everything.
    async fn save(&self, least: Hurry) -> bool {
        let changes = lock(&self.book).changes(least);
        let (book, files) = (Arc::clone(&self.book), self.files.clone());
        let save = move |change: Change| {
            let Err(error) = files.write(&change) else { return true };
            let release = change.release();
            tracing::warn!(%error, %release, "what is known of the drift of a release is not written down; it is tried again");
            lock(&book).undone(change);
            false
        };
        changes.is_empty()
            || tokio::task::spawn_blocking(move || {
                changes.into_iter().map(save).fold(true, |all, done| all & done)
            })
            .await
            .unwrap_or(false)
    }
}
