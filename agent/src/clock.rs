//! The one clock of the agent.
//!
//! Small devices start in 1970 and jump when the network comes. The agent reads the wall clock once, never
//! below a floor it has proof for, and then follows the monotonic clock, so that time cannot go back under it.
//! TLS, TUF and the core all see this clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shared::Timestamp;

/// No correct clock is before the day on which this version was written: 2026-11-01T00:00:00Z.
pub const WRITTEN_AT: Timestamp = Timestamp(1_793_491_200_000);

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

/// The end of a sentence about a failure that a wrong clock explains; empty for any other `reason`. A wrong clock
/// shows as a certificate that seems to lie in the past or in the future.
#[must_use]
pub fn doubt(reason: &str, now: Timestamp) -> String {
    let looks_like_it = ["expired", "Expired", "NotValidYet", "not valid yet"];
    if !looks_like_it.iter().any(|words| reason.contains(words)) {
        return String::new();
    }
    format!("; this device's clock says {}: is it right?", in_words(now))
}

/// A moment as people write it.
#[must_use]
pub fn in_words(at: Timestamp) -> String {
    let moment = i64::try_from(at.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(|| at.to_string(), |moment| moment.to_string())
}

/// What the system's clock says, right or wrong.
#[must_use]
pub fn system_now() -> Timestamp {
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
    fn a_certificate_of_another_time_casts_doubt_on_the_clock() {
        let now = Timestamp(1_800_000_000_000);
        let said = doubt("invalid peer certificate: certificate expired", now);
        assert_eq!(said, "; this device's clock says 2027-01-15T08:00:00Z: is it right?");
        assert!(!doubt("invalid peer certificate: NotValidYet", now).is_empty());
        assert_eq!(doubt("connection refused", now), "");
    }

    #[test]
    fn a_clock_never_starts_before_its_floor() {
        let floor = Timestamp(4_102_444_800_000);
        assert!(Clock::start(floor).now() >= floor);
        assert!(Clock::start(Timestamp(0)).now() >= WRITTEN_AT);
    }
}
