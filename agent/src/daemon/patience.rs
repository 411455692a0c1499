//! Waiting for what an agent that was killed still holds, and for a disk that fails for a moment.
//!
//! The kernel ends the children of a killed agent and gives its lock and its sockets back when their last holder is
//! gone. A runner with a large model in memory can take longer for that than a supervisor takes to start the next agent.
//!
//! An agent that ends for one error of its disk takes a committed model down that could be served. What a person has to
//! mend (no identity, a damaged ledger) is told at once.

use std::{
    error::Error,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use tokio::time::sleep;

/// Long for a process that is ending, short for a person who waits to hear that a port is in use.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Long for a bus that is reset, short beside a supervisor's own pause before it starts the agent again.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// A disk in trouble is not to be hurried.
const DISK_PAUSE: Duration = Duration::from_millis(100);

/// What the system says of a disk that is full, busy or in trouble.
const DISK_TROUBLE: [Errno; 6] =
    [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::NOMEM, Errno::BUSY, Errno::TIMEDOUT];

/// Why something could not be taken.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// Somebody has it, who may be about to end.
    InUse(anyhow::Error),
    /// The disk fails, perhaps for a moment.
    Failing(anyhow::Error),
    /// Waiting does not help.
    Lasting(anyhow::Error),
}

impl From<anyhow::Error> for Obstacle {
    fn from(error: anyhow::Error) -> Self {
        if is_disk_trouble(&error) { Self::Failing(error) } else { Self::Lasting(error) }
    }
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}

fn is_disk_trouble(error: &anyhow::Error) -> bool {
    let mut numbers = error.chain().filter_map(|cause| said_by_system(cause)?.raw_os_error());
    numbers.any(|number| DISK_TROUBLE.contains(&Errno::from_raw_os_error(number)))
}

/// Errors that are kept for others share what the system said.
fn said_by_system<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let shared = || cause.downcast_ref::<Arc<io::Error>>().map(Arc::as_ref);
    cause.downcast_ref().or_else(shared)
}

/// Attempts until it succeeds.
///
/// # Errors
/// With what lasts, at once; with who has it or what fails, when patience is at its end.
pub(super) async fn patiently<T, E: Into<Obstacle>>(
    mut attempt: impl FnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let (mut held, mut failing) = (Since::default(), Since::default());
    loop {
        let obstacle = match attempt() {
            Ok(taken) => return Ok(taken),
            Err(error) => error.into(),
        };
        let (error, lasted, pause) = match obstacle {
            Obstacle::InUse(error) => (error, held.longer_than(PATIENCE), PAUSE),
            Obstacle::Failing(error) => (error, failing.longer_than(DISK_PATIENCE), DISK_PAUSE),
            Obstacle::Lasting(error) => return Err(error),
        };
        if lasted {
            return Err(error);
        }
        tracing::debug!(error = format!("{error:#}"), "trying again");
        sleep(pause).await;
    }
}

/// When an obstacle of one kind was met first: a disk that fails after a wait for another agent has its own time.
#[derive(Default)]
struct Since(Option<Instant>);

impl Since {
    fn longer_than(&mut self, patience: Duration) -> bool {
        self.0.get_or_insert_with(Instant::now).elapsed() >= patience
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[tokio::test]
    async fn what_is_given_back_in_time_is_taken() {
        let mut held_for = 3;
        let taken = patiently(|| {
            held_for -= 1;
            if held_for > 0 { Err(Obstacle::InUse(anyhow!("held"))) } else { Ok(held_for) }
        });
        assert_eq!(taken.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_lasts_is_told_at_once() {
        let mut attempts = 0;
        let failed: anyhow::Result<()> = patiently(|| {
            attempts += 1;
            Err(anyhow!("not a socket"))
        })
        .await;
        assert_eq!(failed.unwrap_err().to_string(), "not a socket");
        assert_eq!(attempts, 1);
    }

    fn failing(errno: Errno, times: u32) -> impl FnMut() -> anyhow::Result<u32> {
        let mut attempts = 0;
        move || {
            attempts += 1;
            if attempts > times {
                Ok(attempts)
            } else {
                Err(io::Error::from(errno)).context("cannot read a file")
            }
        }
    }

    #[tokio::test]
    async fn a_disk_that_fails_for_a_moment_does_not_keep_a_device_from_starting() {
        assert_eq!(patiently(failing(Errno::IO, 1)).await.unwrap(), 2);
        assert_eq!(patiently(failing(Errno::NOSPC, 3)).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_disk_that_goes_on_failing_is_told() {
        let failed = patiently(failing(Errno::IO, u32::MAX)).await.unwrap_err();
        assert_eq!(failed.to_string(), "cannot read a file");
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_at_once() {
        assert!(patiently(failing(Errno::NOENT, 1)).await.is_err());
    }
}
