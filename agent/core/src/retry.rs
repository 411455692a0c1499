//! Which failures are tried again by the device itself, how often, and after which wait.
//!
//! The table is in the documentation of the crate. A full disk is reported after a quarter of a minute: what the agent itself
//! frees is free by then, and people should hear soon of what it cannot. A network gets longer, since only time helps.

use std::time::Duration;

use shared::report::FailReason;

use crate::backoff;

/// The longest wait of any class.
const LONGEST: Duration = Duration::from_secs(600);

const NETWORK: Schedule = Schedule { retries: 5, first: Duration::from_secs(15) };
const DISK: Schedule = Schedule { retries: 3, first: Duration::from_secs(2) };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Schedule {
    retries: u32,
    first: Duration,
}

/// The wait before attempt `retries + 1` is repeated; `None` when the class is not, or not any more.
pub(crate) fn wait_of(reason: &FailReason, retries: u32, seed: u64) -> Option<Duration> {
    let schedule = schedule_of(reason)?;
    (retries < schedule.retries).then(|| spread(schedule.first, retries, seed))
}

/// The wait before a repair is tried again, whatever failed.
pub(crate) fn wait_of_repair(retries: u32, seed: u64) -> Duration {
    spread(NETWORK.first, retries, seed)
}

fn schedule_of(reason: &FailReason) -> Option<Schedule> {
    match reason {
        FailReason::Network { .. } => Some(NETWORK),
        FailReason::DiskFull { .. } | FailReason::Storage { .. } => Some(DISK),
        FailReason::ArtifactGone { .. } => None,
    }
}

fn spread(first: Duration, retries: u32, seed: u64) -> Duration {
    backoff::spread(backoff::doubled(first, retries, LONGEST), seed ^ u64::from(retries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_retry_waits_longer_and_there_is_a_last_one() {
        let network = FailReason::Network { detail: "x".into() };
        let waits: Vec<_> = (0..9).map_while(|retries| wait_of(&network, retries, 7)).collect();
        assert_eq!(waits.len(), 5);
        assert!(waits[4] > waits[0] && waits.iter().all(|wait| *wait <= LONGEST), "{waits:?}");
        assert!(wait_of_repair(1_000, 7) <= LONGEST);
    }

    #[test]
    fn people_hear_of_a_full_disk_within_a_quarter_of_a_minute() {
        let full = FailReason::DiskFull { needed_bytes: 2, free_bytes: 1 };
        let waits: Vec<_> = (0..9).map_while(|retries| wait_of(&full, retries, 7)).collect();
        assert!(waits.len() == 3 && waits.iter().sum::<Duration>() <= Duration::from_secs(15), "{waits:?}");
    }

    #[test]
    fn what_the_server_does_not_have_is_not_asked_for_again() {
        let digest = shared::Digest::of(b"x");
        assert_eq!(wait_of(&FailReason::ArtifactGone { digest }, 0, 7), None);
    }
}
