//! When something is said again that nobody has acknowledged.

use std::time::{Duration, Instant};

use muster_link::Backoff;

/// Twenty seconds are longer than any commit takes; five minutes keep a server that refuses from being asked for ever.
const AGAIN: Backoff = Backoff { min: Duration::from_secs(20), max: Duration::from_secs(300) };

/// A time-out that grows with every repetition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Again {
    at: Option<Instant>,
    times: u32,
}

impl Again {
    /// When it is time; `None` when nothing waits.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Something new was said: the time-out begins, unless one runs.
    pub(super) fn start(&mut self, now: Instant) {
        self.times = 0;
        self.at.get_or_insert(now + wait(0));
    }

    /// Everything that waits was said again.
    pub(super) fn back_off(&mut self, now: Instant) {
        self.times = self.times.saturating_add(1);
        self.at = Some(now + wait(self.times));
    }

    /// Nothing waits any more, or there is nobody to be told.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }
}

/// The whole wait, without jitter: each device began at another moment.
fn wait(times: u32) -> Duration {
    AGAIN.delay(times, u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_acknowledged_is_said_again_ever_more_rarely() {
        let now = Instant::now();
        let mut again = Again::default();
        assert_eq!(again.at(), None);
        again.start(now);
        again.start(now + Duration::from_secs(10));
        assert_eq!(again.at(), Some(now + Duration::from_secs(20)), "news do not put off what waits");
        again.back_off(now);
        assert_eq!(again.at(), Some(now + Duration::from_secs(40)));
        (0..40).for_each(|_| again.back_off(now));
        assert_eq!(again.at(), Some(now + Duration::from_secs(300)));
        again.stop();
        assert_eq!(again.at(), None);
    }
}
