//! Goes on asking while the server is away: one that is restarted is back after some seconds, and what is followed goes on meanwhile.

use std::time::{Duration, Instant};

use super::{Failure, output::say};

/// One that is away for longer is not just restarted.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the server has been away.
#[derive(Debug, Default)]
pub(super) struct Patience {
    away_since: Option<Instant>,
}

impl Patience {
    /// Pauses and is true when it is worth asking again: the server may come back, and neither patience nor the time that is
    /// `left` is over.
    pub(super) async fn waits(&mut self, failure: &Failure, left: Option<Duration>) -> bool {
        if !failure.passes {
            return false;
        }
        let away_since = *self.away_since.get_or_insert_with(|| {
            say(&format!("{}; asking again for a minute", failure.message));
            Instant::now()
        });
        let left = left.unwrap_or(PATIENCE).min(PATIENCE.saturating_sub(away_since.elapsed()));
        tokio::time::sleep(PAUSE.min(left)).await;
        !left.is_zero()
    }

    /// The server is there.
    pub(super) fn answered(&mut self) {
        self.away_since = None;
    }
}
