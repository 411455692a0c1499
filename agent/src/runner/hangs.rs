//! Inferences that do not come back.
//!
//! An inference cannot be cancelled: when its deadline passes the caller is answered, and the thread stays away. One that
//! stays away for long hangs, and its version is named to the daemon, which takes a candidate back for it. Nothing but
//! the end of the process frees such a thread; it comes when no thread of a model is left, or when the version that
//! holds one has been taken out.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use shared::ReleaseId;
use tokio::sync::{Notify, mpsc};

use super::{models::Models, protocol::Event, reporter};

/// How long after its deadline an inference may still come back. It was given ten times its budget, and a second at the
/// least, so a busy machine is no excuse any more.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// A version in which threads hang, and how many.
pub(crate) type Hang = (ReleaseId, usize);

/// What hangs in this process.
#[derive(Debug, Default)]
pub(crate) struct Hangs {
    threads: Mutex<Threads>,
    news: Notify,
    /// In which version the last thread of its model went, and how many there were. Only the first such model counts.
    last: OnceLock<Hang>,
    exhausted: Notify,
    abandoned: Notify,
}

#[derive(Debug, Default)]
struct Threads {
    by_release: BTreeMap<ReleaseId, usize>,
    untold: VecDeque<Hang>,
}

impl Hangs {
    /// The deadline has passed in every thread that a model has.
    pub(super) fn exhaust(&self, release: &ReleaseId, threads: usize) {
        let _ = self.last.set((release.clone(), threads));
        self.exhausted.notify_one();
    }

    /// Waits until no thread of some model is left.
    pub(super) async fn exhausted(&self) -> Option<&Hang> {
        self.exhausted.notified().await;
        self.last.get()
    }

    /// A thread did not come back.
    pub(super) fn begin(&self, release: &ReleaseId) {
        let mut threads = self.threads();
        let count = threads.by_release.entry(release.clone()).or_default();
        *count += 1;
        let hang = (release.clone(), *count);
        // No longer than the threads of this process.
        threads.untold.push_back(hang);
        self.news.notify_one();
    }

    /// It did, after all.
    pub(super) fn end(&self, release: &ReleaseId) {
        let mut threads = self.threads();
        if let Some(count) = threads.by_release.get_mut(release) {
            *count -= 1;
            if *count == 0 {
                threads.by_release.remove(release);
            }
        }
    }

    /// A version was taken out: nothing else frees what hangs in it.
    pub(super) fn taken_out(&self, release: &ReleaseId) {
        if self.threads().by_release.contains_key(release) {
            self.abandoned.notify_one();
        }
    }

    /// Waits until a thread hangs in a version that is not loaded any more.
    pub(super) async fn abandoned(&self) {
        self.abandoned.notified().await;
    }

    async fn next(&self) -> Hang {
        loop {
            if let Some(hang) = self.threads().untold.pop_front() {
                return hang;
            }
            self.news.notified().await;
        }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names to the daemon what hangs, until it no longer listens.
pub(super) async fn tell(models: Arc<Models>, events: mpsc::Sender<Event>) {
    loop {
        let (release, threads) = models.hangs.next().await;
        if !models.has(&release) {
            models.hangs.taken_out(&release);
        } else if !tell_one(&models, &events, release, threads).await {
            return;
        }
    }
}

/// What was counted comes first, so that it is judged before the version goes. False when nobody listens.
pub(super) async fn tell_one(
    models: &Models,
    events: &mpsc::Sender<Event>,
    release: ReleaseId,
    threads: usize,
) -> bool {
    let event = Event::Hung { release, threads: u32::try_from(threads).unwrap_or(u32::MAX) };
    reporter::flush(models, events).await && events.send(event).await.is_ok()
}
