//! Noticing a runner that lives and does not listen.
//!
//! Callers reach the runner without the daemon, so nothing else would tell that it answers nobody: a stopped process
//! keeps its sockets, and its callers wait. Loads and inferences have deadlines of their own; this one is for the loop
//! that obeys. It is asked also while nothing runs, since the daemon cannot know whether a caller waits; two messages in
//! ten seconds are less than what keeps the link to the server alive.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// How often a runner is asked. One that has not answered when it would be asked again is replaced, so a hang is
/// noticed after 10 to 20 s. Both wait when the device sleeps, and the runner gets a whole turn after that.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Ask.
    Ask,
    /// It did not answer.
    Missed,
}

/// The questions to one runner.
pub(super) struct Heartbeat {
    interval: Interval,
    unanswered: bool,
}

impl Heartbeat {
    pub(super) fn new() -> Self {
        let mut interval = interval_at(Instant::now() + INTERVAL, INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { interval, unanswered: false }
    }

    /// Waits until something is due. Dropping it before loses nothing.
    pub(super) async fn due(&mut self) -> Beat {
        self.interval.tick().await;
        if std::mem::replace(&mut self.unanswered, true) { Beat::Missed } else { Beat::Ask }
    }

    /// The runner answered.
    pub(super) fn heard(&mut self) {
        self.unanswered = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_without_an_answer_is_missed_at_the_next() {
        let mut heartbeat = Heartbeat::new();
        heartbeat.interval = interval_at(Instant::now(), Duration::from_millis(1));
        assert_eq!(heartbeat.due().await, Beat::Ask);
        heartbeat.heard();
        assert_eq!(heartbeat.due().await, Beat::Ask);
        assert_eq!(heartbeat.due().await, Beat::Missed);
    }
}
