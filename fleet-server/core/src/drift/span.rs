//! Where a window is kept to be looked at: in a minute, later in an hour, later in a day.

use serde::{Deserialize, Serialize};
use shared::Timestamp;

/// How much time one row of sums is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
    /// A day of UTC.
    Day,
}

/// How long sums are kept by minute, by hour and by day. Each is at least as long as the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Seconds for which minutes are kept; older ones become hours.
    pub minutes_secs: u64,
    /// Seconds for which hours are kept; older ones become days.
    pub hours_secs: u64,
    /// Seconds for which days are kept; older ones are removed.
    pub days_secs: u64,
}

/// The row that something is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Of how much time it is.
    pub span: Span,
    /// Its start, in seconds since 1970.
    pub start_secs: u64,
}

impl Span {
    /// Its length.
    #[must_use]
    pub fn secs(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// The next longer one, into which rows are folded when they are old.
    #[must_use]
    pub fn longer(self) -> Option<Self> {
        match self {
            Self::Minute => Some(Self::Hour),
            Self::Hour => Some(Self::Day),
            Self::Day => None,
        }
    }

    /// The start of the row that a moment falls into.
    #[must_use]
    pub fn start_of(self, secs: u64) -> u64 {
        secs - secs % self.secs()
    }
}

impl Keep {
    /// Where a window that ended at `to_ms` by its device's clock belongs. A clock that is ahead counts as now, and what is older
    /// than everything as the oldest day, so a device whose clock is wrong makes no rows out of time.
    ///
    /// A window that comes late goes where the others of its time have gone meanwhile, so it is the same whether it came in time or not.
    #[must_use]
    pub fn place(&self, to_ms: u64, now: Timestamp) -> Place {
        let now_secs = now.as_millis() / 1_000;
        let moment = (to_ms / 1_000).min(now_secs).max(self.oldest_secs(Span::Day, now));
        let span = [Span::Minute, Span::Hour].into_iter().find(|span| moment >= self.oldest_secs(*span, now));
        let span = span.unwrap_or(Span::Day);
        Place { span, start_secs: span.start_of(moment) }
    }

    /// Rows of this length that start before this moment are folded into longer ones, or removed: always whole ones.
    #[must_use]
    pub fn oldest_secs(&self, span: Span, now: Timestamp) -> u64 {
        let kept = match span {
            Span::Minute => self.minutes_secs,
            Span::Hour => self.hours_secs,
            Span::Day => self.days_secs,
        };
        let oldest = (now.as_millis() / 1_000).saturating_sub(kept);
        span.longer().unwrap_or(Span::Day).start_of(oldest)
    }
}
