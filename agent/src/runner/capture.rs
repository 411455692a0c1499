//! Counting the features of inputs and outputs on the device, so that drift shows without any of them leaving it.
//!
//! # Which rows
//! Every k-th row of what is asked, if its answer is good. Consecutive frames of a camera show the same scene, and every test of
//! independent samples fails when they are all counted. k stands in the manifest, or was measured before on this device,
//! or is measured now: then the first rows are only looked at ([`observed`]) and none is counted.
//!
//! # What it costs the caller
//! Of an inference with one row that is counted, which is the usual one, the inputs are read before the model runs: their bytes
//! came from the caller just now and are near the processor, while afterwards the model's weights are. With several rows, or one that
//! takes long, the caller would wait for it; then the inputs are kept, whose bytes are shared and not copied, and read
//! after the answer has been handed out. So is every answer. The lock of the window is not held meanwhile. More than [`MAX_COUNTING`] answers do not wait to be counted; those that find no room are left out and
//! counted as that.
//!
//! # Windows
//! One begins with its first row and is closed after the manifest's time, but not before it has the manifest's rows; also
//! when the version is unloaded or the process ends, with as many rows. With fewer it is dropped: counts of a few
//! rows tell what was in them. A process that is killed loses the window that is open.
//!
//! A specification that does not fit its model costs the capture and never the model.

mod observed;
mod open;
mod rows;
mod tell;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use muster_engine::{
    Tensor,
    features::{Extractor, Row},
};
use muster_sketch::reference::ReferenceId;
use shared::{
    ReleaseId,
    manifest::{CapturePolicy, DriftSpec, TensorSpec},
};
use tokio::sync::{Notify, Semaphore};

use super::protocol::{Pace, Paced, Sketched};
use observed::Observed;
use open::{Closing, Open};
use rows::{Counting, Kept, Seen};
pub(crate) use tell::{finish, tell, tell_gone};

/// Answers whose rows wait to be counted, of all models. They are counted by the threads that take requests, in turn
/// with them, so this many are there only while the processor is short; then answering comes first.
const MAX_COUNTING: usize = 64;

/// [`Capture::every`] while rows are only looked at.
const OBSERVING: u32 = 0;

/// The same while it is computed what they showed.
const COMPUTING: u32 = u32::MAX;

/// What is counted of one version.
pub(crate) struct Capture {
    release: ReleaseId,
    reference: ReferenceId,
    extractor: Extractor,
    window_time: Duration,
    min_rows: u64,
    /// Every how manieth row is counted, or one of the two numbers above.
    every: AtomicU32,
    /// Number of the next row that is asked about.
    next_row: AtomicU64,
    /// Rows that found no room.
    left_out: AtomicU64,
    open: Mutex<Open>,
    common: Arc<Common>,
}

/// What all captures of a process share.
struct Common {
    counting: Arc<Semaphore>,
    /// A window may be closed sooner than was known, or k was found.
    news: Notify,
}

/// The captures of a process, also of versions that are gone and have something untold.
pub(crate) struct Captures {
    all: Mutex<Vec<Arc<Capture>>>,
    common: Arc<Common>,
}

/// What a capture did since its version was loaded, for the statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// `None` while it is measured.
    pub(crate) every: Option<u32>,
    pub(crate) counted: u64,
    pub(crate) windows: u64,
    pub(crate) left_out: u64,
    /// Rows that were looked at to find `every`, so far.
    pub(crate) observed: u64,
}

impl Default for Captures {
    fn default() -> Self {
        let counting = Arc::new(Semaphore::new(MAX_COUNTING));
        Self { all: Mutex::default(), common: Arc::new(Common { counting, news: Notify::new() }) }
    }
}

impl Captures {
    /// What counts what a version sees, if that can be done; to be [added](Self::add) once it is loaded. `known` is what was
    /// measured of it before.
    pub(crate) fn prepare(
        &self,
        release: &ReleaseId,
        spec: &DriftSpec,
        known: Option<u32>,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Option<Arc<Capture>> {
        let extractor = Extractor::new(&spec.sources, inputs, outputs);
        let extractor = extractor.map_err(
            |error| tracing::warn!(%release, %error, "its features cannot be read, so nothing is watched for drift"),
        );
        let capture = Capture::new(release, spec, known, extractor.ok()?, Arc::clone(&self.common));
        Some(Arc::new(capture))
    }

    /// The version is loaded: what is counted of it is told from now on.
    pub(crate) fn add(&self, capture: Arc<Capture>) {
        self.all().push(capture);
    }

    /// When the next window is to be closed.
    fn next_due(&self) -> Option<Instant> {
        self.all().iter().filter_map(|capture| capture.due()).min()
    }

    /// Nothing that runs under the lock panics half way through a change.
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Capture>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Capture {
    fn new(
        release: &ReleaseId,
        spec: &DriftSpec,
        known: Option<u32>,
        extractor: Extractor,
        common: Arc<Common>,
    ) -> Self {
        let CapturePolicy { every, window_secs, min_rows } = spec.capture;
        let every = every.or(known).map_or(OBSERVING, |every| every.clamp(1, COMPUTING - 1));
        Self {
            release: release.clone(),
            reference: spec.reference.id(),
            extractor,
            window_time: Duration::from_secs(window_secs.into()),
            min_rows: min_rows.into(),
            every: AtomicU32::new(every),
            next_row: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            open: Mutex::new(Open::new(&spec.reference, every == OBSERVING)),
            common,
        }
    }

    /// Keeps of the inputs of an inference what is to be looked at, if anything is.
    pub(crate) fn keep(self: &Arc<Self>, inputs: &[(String, Tensor)]) -> Option<Kept> {
        let every = self.every.load(Ordering::Relaxed);
        let rows = self.extractor.rows(inputs);
        let first = self.next_row.fetch_add(rows as u64, Ordering::Relaxed);
        let counting = Counting::of(every, first, rows)?;
        let seen = Seen::of(&self.extractor, inputs, counting);
        Some(Kept { capture: Arc::clone(self), rows, seen, counting })
    }

    /// What it did since the version was loaded.
    pub(crate) fn totals(&self) -> Totals {
        let every = self.every.load(Ordering::Relaxed);
        let open = self.open();
        Totals {
            every: Some(every).filter(|every| ![OBSERVING, COMPUTING].contains(every)),
            counted: open.counted,
            windows: open.windows,
            left_out: self.left_out.load(Ordering::Relaxed),
            observed: open.observed.as_ref().map_or(0, |observed| observed.rows() as u64),
        }
    }

    /// Counts rows, or looks at them. Gives what was looked at when it is time to compute.
    fn take(&self, rows: &[Row], counting: Counting) -> Option<Observed> {
        let mut open = self.open();
        match counting {
            Counting::Some { .. } => {
                let asks = open.count(rows, self.min_rows);
                drop(open);
                if asks {
                    self.common.news.notify_one();
                }
                None
            }
            Counting::Look { .. } => {
                let observed = open.observed.as_mut()?;
                rows.iter().for_each(|row| observed.push(row));
                if !observed.is_time_to_look() {
                    return None;
                }
                self.every.store(COMPUTING, Ordering::Relaxed);
                open.observed.take()
            }
        }
    }

    /// What the rows showed. If that is nothing yet, looking at them goes on.
    fn looked(&self, observed: Observed, found: Option<Pace>) {
        let mut open = self.open();
        let Some(pace) = found else {
            open.observed = Some(observed);
            self.every.store(OBSERVING, Ordering::Relaxed);
            return;
        };
        let Pace { every, beyond_limit, rows } = pace;
        if beyond_limit {
            tracing::warn!(release = %self.release, every, "rows are alike for longer than is counted apart; drift may be told that is none");
        }
        tracing::info!(release = %self.release, every, rows, "every so manieth row is counted from now on");
        open.found = Some(pace);
        self.every.store(every, Ordering::Relaxed);
        drop(open);
        self.common.news.notify_one();
    }

    /// When its window is to be closed; `None` while it lacks rows.
    fn due(&self) -> Option<Instant> {
        self.open().due(self.min_rows, self.window_time)
    }

    fn left_out(&self, rows: u64) {
        self.left_out.fetch_add(rows, Ordering::Relaxed);
    }

    /// What was found of k, once.
    fn found(&self) -> Option<Paced> {
        let pace = self.open().found.take()?;
        Some(Paced { release: self.release.clone(), reference: self.reference, pace })
    }

    /// The window, if it has its rows and, unless it is the last, its time.
    fn close(&self, closing: Closing) -> Option<Sketched> {
        let mut open = self.open();
        let now = match closing {
            Closing::Due(now) if open.due(self.min_rows, self.window_time).is_none_or(|due| due > now) => {
                return None;
            }
            Closing::Due(now) | Closing::Last(now) => now,
        };
        if open.window.rows() < self.min_rows {
            return None;
        }
        let features = open.window.seal()?;
        open.windows += 1;
        let age = open.since.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        Some(Sketched {
            release: self.release.clone(),
            reference: self.reference,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            every: self.every.load(Ordering::Relaxed),
            features,
        })
    }

    /// Nothing that runs under the lock panics half way through a change.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
