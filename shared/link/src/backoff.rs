//! The wait between two attempts: doubling, capped, with jitter so that a fleet does not come back as one wave.

use std::time::Duration;

/// How long to wait between attempts to connect.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Before the first repeat.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for Backoff {
    /// One second hides a blip; five minutes keeps a fleet of thousands off a server that is down.
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(300) }
    }
}

impl Backoff {
    /// The wait before repeat number `attempt` (from 0); `dice` picks a point in the upper half of the interval.
    #[must_use]
    pub fn delay(&self, attempt: u32, dice: u32) -> Duration {
        let doubled = self.min.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX));
        let longest = doubled.min(self.max);
        let half = longest / 2;
        half + half.mul_f64(f64::from(dice) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn the_wait_doubles_until_it_reaches_its_cap() {
        let longest = |attempt| BACKOFF.delay(attempt, u32::MAX).as_secs();
        assert_eq!([0, 1, 2, 5, 6, 31, 32, 1000].map(longest), [1, 2, 4, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn jitter_never_takes_more_than_half_of_the_wait() {
        assert_eq!(BACKOFF.delay(3, 0), Duration::from_secs(4));
        let middle = BACKOFF.delay(3, u32::MAX / 2);
        assert!(middle > Duration::from_secs(5) && middle < Duration::from_secs(7));
    }
}
