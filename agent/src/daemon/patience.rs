//! Waiting for what an agent that was killed still holds.
//!
//! The kernel ends the children of a killed agent and gives its lock and its sockets back when their last holder is
//! gone. A runner with a large model in memory can take longer for that than a supervisor takes to start the next agent.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Long for a process that is ending, short for a person who waits to hear that a port is in use.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Why something could not be taken.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// Somebody has it, who may be about to end.
    InUse(anyhow::Error),
    /// Waiting does not help.
    Lasting(anyhow::Error),
}

impl From<anyhow::Error> for Obstacle {
    fn from(error: anyhow::Error) -> Self {
        Self::Lasting(error)
    }
}

impl From<std::io::Error> for Obstacle {
    fn from(error: std::io::Error) -> Self {
        Self::Lasting(error.into())
    }
}

/// Attempts until it succeeds.
///
/// # Errors
/// With what lasts, at once; with who has it, when patience is at its end.
pub(super) async fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Obstacle>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(taken) => return Ok(taken),
            Err(Obstacle::InUse(_)) if Instant::now() < deadline => sleep(PAUSE).await,
            Err(Obstacle::InUse(error) | Obstacle::Lasting(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

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
            Err(anyhow!("not a socket").into())
        })
        .await;
        assert_eq!(failed.unwrap_err().to_string(), "not a socket");
        assert_eq!(attempts, 1);
    }
}
