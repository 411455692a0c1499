//! How a command fails: a sentence, a hint, and an exit code that scripts can rely on.

use std::fmt;

use crate::api::problem::Problem;

/// Exit codes; they never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Something failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The rollout was rolled back or halted.
    RolloutFailed = 3,
    /// The time was over.
    TimedOut = 4,
    /// The token does not allow it.
    NotAuthorised = 5,
    /// The thing is not in a state that allows it.
    Conflict = 6,
    /// There is no such thing.
    NotFound = 7,
    /// The server cannot be reached.
    Unreachable = 8,
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For scripts.
    pub exit: Exit,
    /// What went wrong.
    pub message: String,
    /// What to try.
    pub hint: Option<String>,
    /// Finds the request in the server's log.
    pub request_id: Option<String>,
    /// The server is away and may come back.
    pub passes: bool,
}

impl Failure {
    /// A failure.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, request_id: None, passes: false }
    }

    /// The command line is wrong.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Says what to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Whether a status says that the server is not there for now, as it or a proxy before it answers.
pub(super) fn is_away(status: u16) -> bool {
    matches!(status, 502..=504)
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let exit = match problem.status {
            401 | 403 => Exit::NotAuthorised,
            404 => Exit::NotFound,
            409 | 412 => Exit::Conflict,
            _ => Exit::Failed,
        };
        let request_id = problem.request_id.filter(|_| problem.status >= 500);
        let passes = is_away(problem.status);
        Self { exit, message: problem.detail, hint: problem.hint, request_id, passes }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  try: {hint}")?;
        }
        match &self.request_id {
            Some(id) => write!(f, "\n  request: {id}"),
            None => Ok(()),
        }
    }
}
