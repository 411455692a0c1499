//! Limits that a process sets on itself and can never raise again.
//!
//! Absent: memory, which the trial limits by its request and the daemon moves from outside for the runner; and the
//! number of processes, which counts those of the whole user, so that a number that fits one device starves another.
//! Processes cannot be started anyway, and threads cost memory, which is limited.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Role;

/// Callers of a runner at the same time, and a few descriptors of its own. Others wait in the listening socket's queue.
const RUNNER_OPEN_FILES: u64 = 1_024;

/// The socket, the standard streams, the two files, the runtime's own, and room for none besides.
const TRIAL_OPEN_FILES: u64 = 32;

pub(super) fn set(role: Role) -> Result<(), String> {
    let open_files = match role {
        Role::Runner => RUNNER_OPEN_FILES,
        Role::Trial | Role::Challenger => TRIAL_OPEN_FILES,
    };
    lower(Resource::Nofile, open_files)?;
    lower(Resource::Core, 0)?;
    // It has no file to write to: its log is a pipe.
    lower(Resource::Fsize, 0)
}

/// Lowers a limit for good; one that is lower already stays.
pub(crate) fn lower(resource: Resource, value: u64) -> Result<(), String> {
    let value = Some(getrlimit(resource).maximum.map_or(value, |hard| hard.min(value)));
    let limit = Rlimit { current: value, maximum: value };
    setrlimit(resource, limit).map_err(|error| format!("{resource:?}: {error}"))
}
