//! How a command fails: a sentence, a hint, and an exit code that scripts can rely on. The codes mean what they mean
//! for `muster`, the program of the server.

use std::{fmt, io};

use crate::control::{ProblemCode, client::AskError};

/// Exit codes; they never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Something failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// This user may not ask.
    NotAuthorised = 5,
    /// The model is not in a state that allows it.
    Conflict = 6,
    /// There is no such model.
    NotFound = 7,
    /// The agent does not answer.
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
    pub hint: Option<&'static str>,
}

impl Failure {
    /// A failure.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let message = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        match error {
            AskError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::new(Exit::NotAuthorised, message)
                    .hint("ask as the user that the agent runs as, or as root")
            }
            AskError::Connect { .. } => Self::new(Exit::Unreachable, message)
                .hint("is it running, with this data directory? `muster-agent doctor` tells what is wrong"),
            AskError::Silent | AskError::Garbled(_) => Self::new(Exit::Unreachable, message),
            AskError::Refused(problem) => Self::new(exit_of(problem.code), problem.detail),
        }
    }
}

fn exit_of(code: ProblemCode) -> Exit {
    match code {
        ProblemCode::NotFound => Exit::NotFound,
        ProblemCode::Conflict => Exit::Conflict,
        ProblemCode::Failed => Exit::Failed,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        self.hint.map_or(Ok(()), |hint| write!(f, "\n  try: {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_down_and_one_that_is_out_of_bounds_exit_differently() {
        let connect = |kind: io::ErrorKind| {
            Failure::from(AskError::Connect { path: "/x/control.sock".into(), source: kind.into() })
        };
        assert_eq!(connect(io::ErrorKind::PermissionDenied).exit, Exit::NotAuthorised);
        let down = connect(io::ErrorKind::NotFound);
        assert_eq!(down.exit, Exit::Unreachable);
        assert!(down.to_string().contains("/x/control.sock") && down.to_string().contains("doctor"));
    }
}
