//! Counting what a version does: what is still to be told, and the sums since it was loaded.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use shared::{
    MetricName, ReleaseId,
    telemetry::{CustomKind, Sums, VersionFigures},
};
use tokio::sync::Notify;

/// How an inference ended. Each but [`Busy`](Outcome::Busy) and [`BadRequest`](Outcome::BadRequest) says
/// something about the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    BadRequest,
    Busy,
    EngineError,
    NonFinite,
    WrongShape,
    Timeout,
}

impl Outcome {
    /// True when the daemon must hear of it at once.
    fn is_failure(self) -> bool {
        matches!(self, Self::EngineError | Self::NonFinite | Self::WrongShape | Self::Timeout)
    }
}

/// Sums since the version was loaded, as the statistics extension tells them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) failed_time: Duration,
    pub(crate) queue_time: Duration,
    pub(crate) compute_time: Duration,
    pub(crate) last_inference: Option<SystemTime>,
}

/// The figures of one version.
pub(crate) struct Figures {
    release: ReleaseId,
    inner: Mutex<(VersionFigures, Totals)>,
    wake: Arc<Wake>,
}

/// What the reporter sleeps on.
#[derive(Default)]
pub(crate) struct Wake {
    /// Something was counted.
    pub(crate) activity: Notify,
    /// A failure was counted.
    pub(crate) failure: Notify,
}

/// Times of one inference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) queue: Duration,
    pub(crate) compute: Duration,
}

impl Figures {
    pub(crate) fn new(release: ReleaseId, wake: Arc<Wake>) -> Self {
        Self { inner: Mutex::new((VersionFigures::new(release.clone()), Totals::default())), release, wake }
    }

    /// Of which version.
    pub(crate) fn release(&self) -> &ReleaseId {
        &self.release
    }

    /// Counts an inference that never reached the engine.
    pub(crate) fn turned_away(&self, outcome: Outcome) {
        count(&mut self.lock().0, outcome);
        self.wake(outcome);
    }

    /// Counts an inference that reached the engine; `slow` when it took longer than the latency budget.
    pub(crate) fn answered(&self, outcome: Outcome, times: Times, slow: bool) {
        let mut inner = self.lock();
        let (figures, totals) = &mut *inner;
        count(figures, outcome);
        figures.counts.slow += u64::from(slow);
        figures.latency_ms.record(times.compute.as_secs_f32() * 1_000.0);
        figures.queue_ms.record(times.queue.as_secs_f32() * 1_000.0);
        totals.add(outcome, times);
        drop(inner);
        self.wake(outcome);
    }

    /// Counts how sure the model was of the rows of an answer.
    pub(crate) fn confident(&self, rows: &Sums) {
        self.lock().0.confidence.merge(rows);
    }

    /// Counts what an application reported.
    pub(crate) fn reported(&self, name: &MetricName, kind: CustomKind, value: f64) {
        self.lock().0.custom.record(name, kind, value);
        self.wake.activity.notify_one();
    }

    /// Counts a label that came back.
    pub(crate) fn labelled(&self, correct: bool) {
        let mut inner = self.lock();
        inner.0.labels.correct += u64::from(correct);
        inner.0.labels.wrong += u64::from(!correct);
        drop(inner);
        self.wake.activity.notify_one();
    }

    /// What was counted since the last call; `None` when that is nothing.
    pub(crate) fn take(&self) -> Option<VersionFigures> {
        let mut inner = self.lock();
        let empty = VersionFigures::new(self.release.clone());
        if inner.0 == empty { None } else { Some(std::mem::replace(&mut inner.0, empty)) }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().1
    }

    fn wake(&self, outcome: Outcome) {
        if outcome.is_failure() {
            self.wake.failure.notify_one();
        }
        self.wake.activity.notify_one();
    }

    /// Nothing that runs under the lock panics half way through a change.
    fn lock(&self) -> MutexGuard<'_, (VersionFigures, Totals)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Totals {
    fn add(&mut self, outcome: Outcome, times: Times) {
        self.last_inference = Some(SystemTime::now());
        if outcome == Outcome::Ok {
            self.ok += 1;
            self.queue_time += times.queue;
            self.compute_time += times.compute;
        } else {
            self.failed += 1;
            self.failed_time += times.queue + times.compute;
        }
    }
}

fn count(figures: &mut VersionFigures, outcome: Outcome) {
    let counts = &mut figures.counts;
    let counter = match outcome {
        Outcome::Ok => &mut counts.ok,
        Outcome::BadRequest => &mut counts.bad_request,
        Outcome::Busy => &mut counts.busy,
        Outcome::EngineError => &mut counts.engine_error,
        Outcome::NonFinite => &mut counts.non_finite,
        Outcome::WrongShape => &mut counts.wrong_shape,
        Outcome::Timeout => &mut counts.timeout,
    };
    *counter = counter.saturating_add(1);
}
