//! The one clock of the agent.
//!
//! Small devices start in 1970 and jump when the network comes. The agent reads the wall clock once, never
//! below a floor it has proof for, and then follows the monotonic clock, so that time cannot go back under it.
//! TLS, TUF and the core all see this clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shared::Timestamp;

/// No correct clock is before the day on which this version was written: 2026-11-01T00:00:00Z.
const WRITTEN_AT: Timestamp = Timestamp(1_793_491_200_000);

/// Monotonic time with a trusted origin. Copies share the origin.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    base: Timestamp,
}

impl Clock {
    /// A clock that starts at the system's time, but not before `floor`.
    #[must_use]
    pub fn start(floor: Timestamp) -> Self {
        Self { origin: Instant::now(), base: system_now().max(WRITTEN_AT).max(floor) }
    }

    /// Now, in milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.base + self.origin.elapsed()
    }

    /// The moment at which this clock will show `at`; now for moments that have passed.
    #[must_use]
    pub fn instant_of(&self, at: Timestamp) -> Instant {
        Instant::now() + at.since(self.now())
    }
}

fn system_now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(0) + since_1970
}

/// Lets rustls judge certificates by this clock.
#[derive(Debug)]
pub struct TlsClock(pub Clock);

impl rustls::time_provider::TimeProvider for TlsClock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let now = Duration::from_millis(self.0.now().as_millis());
        Some(rustls::pki_types::UnixTime::since_unix_epoch(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_starts_before_its_floor() {
        let floor = Timestamp(4_102_444_800_000);
        assert!(Clock::start(floor).now() >= floor);
        assert!(Clock::start(Timestamp(0)).now() >= WRITTEN_AT);
    }
}
