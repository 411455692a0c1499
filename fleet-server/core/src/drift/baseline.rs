//! Which windows belong to a baseline that was ordered anew.
//!
//! A window tells when it ended by its device's clock and not when it was sent, and nobody knows whether that clock is right. So the
//! clock is believed for a day, in which what was counted before the order arrives from every device that is connected now and then; after
//! that day the server's own time of receipt says that a window is new. A device whose clock is wrong is unwatched for a day after the
//! order and not until its clock is right. What is not told apart: windows of a device that was cut off for longer than the day count for the
//! new baseline, and so do those of the last minutes before the order where a clock is ahead by less than the tolerance.

use shared::Timestamp;

/// For so long after the order a device's clock decides.
pub const LATE_SECS: u64 = 86_400;

/// A window that ends so far after it was received, five minutes, tells of a clock that is ahead, and its end says nothing.
const AHEAD_MS: u64 = 300_000;

/// Whether a window that ended at `to_ms` by its device's clock and came at `received` is of the baseline that was ordered at
/// `ordered`.
#[must_use]
pub fn is_of_baseline(ordered: Timestamp, to_ms: u64, received: Timestamp) -> bool {
    if received.since(ordered).as_secs() >= LATE_SECS {
        return true;
    }
    let latest = received.as_millis().saturating_add(AHEAD_MS);
    (ordered.as_millis()..=latest).contains(&to_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERED: Timestamp = Timestamp(1_800_000_000_000);
    const HOUR_MS: i64 = 3_600_000;
    const YEAR_MS: i64 = 8_766 * HOUR_MS;

    /// Whether a window counts that ended this much after the order by a clock that is wrong by so much, and came then.
    fn counts(ended_ms: i64, wrong_ms: i64, came_ms: i64) -> bool {
        let at = |after: i64| ORDERED.as_millis().checked_add_signed(after).unwrap();
        is_of_baseline(ORDERED, at(ended_ms + wrong_ms), Timestamp(at(came_ms)))
    }

    #[test]
    fn a_right_clock_tells_old_windows_from_new_ones_whenever_they_come_within_a_day() {
        assert!(counts(1, 0, 1) && counts(HOUR_MS, 0, 23 * HOUR_MS));
        assert!(!counts(-1, 0, 1) && !counts(-HOUR_MS, 0, 23 * HOUR_MS));
        assert!(counts(-HOUR_MS, 0, 24 * HOUR_MS), "who was away for longer is not told apart");
    }

    #[test]
    fn a_clock_that_is_far_off_keeps_its_device_unwatched_for_a_day_and_no_longer() {
        for wrong in [-YEAR_MS, YEAR_MS] {
            assert!(!counts(-HOUR_MS, wrong, 60_000), "what was counted before the order");
            assert!(!counts(HOUR_MS, wrong, HOUR_MS));
            assert!(counts(24 * HOUR_MS, wrong, 24 * HOUR_MS), "{wrong}");
        }
    }

    #[test]
    fn a_device_that_never_learnt_anew_counts_whatever_its_clock_says() {
        for to_ms in [0, u64::MAX] {
            assert!(is_of_baseline(Timestamp(0), to_ms, ORDERED));
        }
    }
}
