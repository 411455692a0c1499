//! The one clock of the agent.
//!
//! Small devices start in 1970 and jump when the network comes. The agent begins with the wall clock, never below a
//! floor it has proof for, and then follows the monotonic clock, so that time cannot go back under it. When the
//! wall clock is found ahead, because somebody set it, the agent follows that too, up to a bound; it never follows it
//! back. TLS and TUF see this clock, so they recover without a restart.
//!
//! The core sees the *steady* time instead, which does not jump: a clock that is set in the middle of a probation
//! must not end it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use shared::Timestamp;

/// No correct clock is before the day on which this version was written: 2026-11-01T00:00:00Z.
pub const WRITTEN_AT: Timestamp = Timestamp(1_793_491_200_000);

/// No device runs this version thirty years later; a clock that says so is not followed, so that one wild jump does
/// not expire every certificate until the next restart.
const LATEST: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A wall clock that is ahead by less is only being slewed.
const JUMP: Duration = Duration::from_secs(2);

/// Monotonic time with a trusted origin. Clones share what they have learnt.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
    base: Timestamp,
    wall: fn() -> Timestamp,
    /// Milliseconds that the wall clock was found ahead of the steady time.
    ahead_ms: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that starts at the system's time, but not before `floor`.
    #[must_use]
    pub fn start(floor: Timestamp) -> Self {
        Self::over(system_now, floor)
    }

    /// A clock over another wall clock than the system's.
    pub(crate) fn over(wall: fn() -> Timestamp, floor: Timestamp) -> Self {
        let base = wall().max(WRITTEN_AT).max(floor);
        Self { origin: Instant::now(), base, wall, ahead_ms: Arc::default() }
    }

    /// Now, in milliseconds since 1970, as far as is known.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let steady = self.steady();
        let wall = (self.wall)();
        if wall <= WRITTEN_AT + LATEST && wall > steady + self.ahead() + JUMP {
            let ahead = wall.since(steady);
            self.ahead_ms.fetch_max(u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            tracing::info!(now = in_words(wall), "the system's clock was set forward; the agent follows");
        }
        steady + self.ahead()
    }

    /// Time that never jumps: that of the start, and what has passed since.
    #[must_use]
    pub fn steady(&self) -> Timestamp {
        self.base + self.origin.elapsed()
    }

    /// How far the wall clock was found ahead of the steady time.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// The moment at which the steady time will be `at`; now for moments that have passed.
    #[must_use]
    pub fn instant_of(&self, at: Timestamp) -> Instant {
        Instant::now() + at.since(self.steady())
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

    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    #[test]
    fn a_device_without_a_battery_follows_when_the_network_sets_its_clock() {
        static WALL: AtomicU64 = AtomicU64::new(1_000);
        let clock = Clock::over(|| Timestamp(WALL.load(Ordering::Relaxed)), Timestamp(0));
        assert!(clock.now().since(WRITTEN_AT) < YEAR, "it starts at its floor");
        let tls = TlsClock(clock.clone());
        let right = WRITTEN_AT + 2 * YEAR;
        WALL.store(right.as_millis(), Ordering::Relaxed);
        assert!(clock.now() >= right && clock.steady() < right);
        let seen = rustls::time_provider::TimeProvider::current_time(&tls).unwrap();
        assert!(seen.as_secs() >= right.as_millis() / 1_000, "TLS follows as well");
    }

    #[test]
    fn a_clock_that_is_set_back_is_not_followed() {
        static WALL: AtomicU64 = AtomicU64::new(1_900_000_000_000);
        let clock = Clock::over(|| Timestamp(WALL.load(Ordering::Relaxed)), Timestamp(0));
        let before = clock.now();
        WALL.store(0, Ordering::Relaxed);
        assert!(clock.now() >= before);
        WALL.store(1_890_000_000_000, Ordering::Relaxed);
        assert!(clock.now() >= before);
    }

    #[test]
    fn a_clock_that_runs_wild_is_not_followed() {
        static WALL: AtomicU64 = AtomicU64::new(1_900_000_000_000);
        let clock = Clock::over(|| Timestamp(WALL.load(Ordering::Relaxed)), Timestamp(0));
        let wild = WRITTEN_AT + LATEST + Duration::from_secs(1);
        WALL.store(wild.as_millis(), Ordering::Relaxed);
        assert!(clock.now() < wild);
        assert_eq!(clock.ahead(), Duration::ZERO);
    }
}
