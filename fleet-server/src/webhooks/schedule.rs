//! When a delivery is tried again, and when nobody tries any more.
//!
//! The first retry comes after seconds, each further one after twice as long, up to an hour: a receiver that is being restarted misses
//! nothing for long, and one that is away for a night is asked a dozen times. A part of each wait is chance, so that many
//! webhooks of one receiver do not come at once when it is back. A receiver that says when to come again is believed, within the hour.
//!
//! One that has failed for days is given up: nobody is there, and what waits for it would only grow. Failing is what
//! counts and not time alone, or a server that was off for a week would give everybody up at once.

use std::time::Duration;

use shared::Timestamp;

use super::{Failure, FailureKind};

/// The first wait.
const FIRST: Duration = Duration::from_secs(5);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Doublings after which the wait is the longest anyway.
const MOST_DOUBLINGS: u32 = 16;

/// A receiver that has failed for so long is given up.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(5 * 86_400);

/// And was tried so often: half of the tries of these days.
const GIVE_UP_TRIES: u32 = 60;

/// Chances, of which a wait is shortened by up to half.
pub(super) const CHANCES: u32 = 1_000;

/// How the next delivery of a webhook stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Tries of it that failed.
    pub failures: u32,
    /// When the first of them was.
    pub failing_since: Option<Timestamp>,
    /// It is not tried again before.
    pub not_before: Timestamp,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is tried again.
    Retry(Standing),
    /// Nobody tries any more.
    GiveUp {
        /// Since when it has failed.
        since: Timestamp,
    },
}

impl Standing {
    /// Whether the next delivery may be tried at `now`. A wait that is longer than any was written by a clock that has been
    /// set back since.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.not_before <= now || self.not_before > now + LONGEST
    }

    /// After a try that failed at `now`; `chance` is any number.
    #[must_use]
    pub fn after(&self, failure: &Failure, now: Timestamp, chance: u32) -> Then {
        let since = self.failing_since.map_or(now, |since| since.min(now));
        let failures = self.failures.saturating_add(1);
        let is_over = now.since(since) >= GIVE_UP_AFTER && failures >= GIVE_UP_TRIES;
        if is_over || failure.kind == FailureKind::Gone {
            return Then::GiveUp { since };
        }
        let asked = failure.retry_after.unwrap_or_default().min(LONGEST);
        let wait = wait(self.failures, chance).max(asked);
        Then::Retry(Self { failures, failing_since: Some(since), not_before: now + wait })
    }
}

/// Between half of a doubled wait and all of it.
fn wait(failures: u32, chance: u32) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.min(MOST_DOUBLINGS)).min(LONGEST);
    let half = doubled / 2;
    half + half * (chance % (CHANCES + 1)) / CHANCES
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_800_000_000_000);

    fn refused() -> Failure {
        Failure { kind: FailureKind::Refused, detail: "503".into(), retry_after: None }
    }

    fn retry(then: Then) -> Standing {
        match then {
            Then::Retry(standing) => standing,
            Then::GiveUp { since } => panic!("given up, failing since {since:?}"),
        }
    }

    #[test]
    fn waits_double_up_to_an_hour_and_differ_by_chance() {
        let waits: Vec<u64> = (0..14).map(|failures| wait(failures, CHANCES).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600, 3_600, 3_600]);
        assert_eq!(wait(3, 0), Duration::from_secs(20));
        assert_eq!(wait(u32::MAX, 0), LONGEST / 2);
        assert!((0..5_000).map(|chance| wait(3, chance)).all(|wait| (20..=40).contains(&wait.as_secs())));
    }

    #[test]
    fn a_receiver_that_fails_for_five_days_is_given_up_and_not_before() {
        let (mut standing, mut now, mut tries) = (Standing::default(), START, 0_u32);
        loop {
            tries += 1;
            match standing.after(&refused(), now, tries * 37) {
                Then::Retry(next) => {
                    assert!(next.not_before > now && !next.is_due(now));
                    assert!(now.since(START) < GIVE_UP_AFTER);
                    (standing, now) = (next, next.not_before);
                }
                Then::GiveUp { since } => {
                    assert_eq!(since, START);
                    break;
                }
            }
        }
        assert!(now.since(START) >= GIVE_UP_AFTER && now.since(START) < GIVE_UP_AFTER + LONGEST);
        assert!((100..400).contains(&tries), "{tries} tries");
    }

    #[test]
    fn a_server_that_was_off_for_a_week_gives_nobody_up_for_that() {
        let once = retry(Standing::default().after(&refused(), START, 0));
        let week_later = START + Duration::from_secs(7 * 86_400);
        let twice = retry(once.after(&refused(), week_later, 0));
        assert_eq!((twice.failures, twice.failing_since), (2, Some(START)));
    }

    #[test]
    fn a_receiver_that_is_gone_for_good_is_given_up_at_once() {
        let gone = Failure { kind: FailureKind::Gone, ..refused() };
        assert_eq!(Standing::default().after(&gone, START, 0), Then::GiveUp { since: START });
    }

    #[test]
    fn a_receiver_that_says_when_to_come_again_is_believed_within_the_hour() {
        let later = |secs| Failure { retry_after: Some(Duration::from_secs(secs)), ..refused() };
        let wait = |secs| retry(Standing::default().after(&later(secs), START, 0)).not_before.since(START);
        assert_eq!([wait(0), wait(120), wait(1 << 40)], [FIRST / 2, Duration::from_secs(120), LONGEST]);
    }

    #[test]
    fn a_clock_that_was_set_back_stops_nothing() {
        let standing = retry(Standing::default().after(&refused(), START, 0));
        let day_before = Timestamp(START.as_millis() - 86_400_000);
        assert!(standing.is_due(day_before));
        let next = retry(standing.after(&refused(), day_before, 0));
        assert_eq!(next.failing_since, Some(day_before));
    }
}
