//! The one clock of the server.
//!
//! The wall clock is read once at start; from then on the monotonic clock counts, so that no correction of the
//! system's time makes a deadline jump or a timestamp go back.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use shared::Timestamp;

/// Tells the time, never going back.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall_at_start: Timestamp,
    started: Instant,
}

impl Clock {
    /// A clock that agrees with the system's at this moment.
    #[must_use]
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_at_start = Timestamp::default() + since_epoch;
        Self { wall_at_start, started: Instant::now() }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall_at_start + self.started.elapsed()
    }

    /// When this clock was started.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.wall_at_start
    }
}

/// A moment for people, `2026-01-31 08:45:00Z`.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    let seconds = i64::try_from(at.as_millis() / 1_000).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    moment.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
