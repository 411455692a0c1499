//! The window that is open, and what is known of the rows of its version.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use muster_engine::features::Row;
use muster_sketch::{
    reference::Reference,
    window::{FeatureWindow, MAX_WINDOW_ROWS, RecordError},
};

use super::observed::Observed;
use crate::runner::protocol::Pace;

/// What changes with every row that is counted.
pub(super) struct Open {
    pub(super) window: FeatureWindow,
    /// When the first row of the window was counted.
    pub(super) since: Option<Instant>,
    /// Rows that are only looked at; `None` once k is known, and while it is computed.
    pub(super) observed: Option<Observed>,
    /// What was found, until it is told.
    pub(super) found: Option<Pace>,
    pub(super) counted: u64,
    pub(super) windows: u64,
}

/// Which windows are closed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Closing {
    /// Those that are old enough.
    Due(Instant),
    /// All: nothing follows in them.
    Last(Instant),
}

impl Open {
    /// Nothing counted yet. `is_observing` where it is not known every how manieth row is to be.
    pub(super) fn new(reference: &Reference, is_observing: bool) -> Self {
        let window = FeatureWindow::new(Arc::new(reference.clone()));
        let observed = is_observing.then(Observed::default);
        Self { window, since: None, observed, found: None, counted: 0, windows: 0 }
    }

    /// True when the time at which the window closes is known since these rows.
    pub(super) fn count(&mut self, rows: &[Row], min_rows: u64) -> bool {
        let before = self.window.rows();
        self.since = self.since.or_else(|| Some(Instant::now()));
        let mut is_full = false;
        for row in rows {
            match self.window.record_places(&row.numbers, &row.places) {
                Ok(()) => self.counted += 1,
                Err(RecordError::Full) => is_full = true,
                // A manifest with other sources than its reference asks for is refused long before.
                Err(RecordError::WrongLength { .. }) => {}
            }
        }
        is_full || (before < min_rows && self.window.rows() >= min_rows)
    }

    /// When the window is to be closed; `None` while it lacks rows.
    pub(super) fn due(&self, min_rows: u64, window_time: Duration) -> Option<Instant> {
        let (since, rows) = (self.since?, self.window.rows());
        if rows >= MAX_WINDOW_ROWS {
            return Some(since);
        }
        (rows >= min_rows).then(|| since + window_time)
    }
}
