//! What the machine must allow, and what the run takes of it.

use std::{fs, process};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::cli::Failure;

/// Descriptors besides those of devices: the database, logs, the API, and connections that are just being made.
const OTHER_FILES: u64 = 512;

/// Lets this process, and the server that it starts, open as many files as the hard limit allows.
///
/// # Errors
/// When that is too little for one connection of each device.
pub(super) fn allow_files(devices: usize) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    let needed = devices as u64 + OTHER_FILES;
    if limit.maximum.is_some_and(|hard| hard < needed) {
        let hard = limit.maximum.unwrap_or_default();
        let message = format!(
            "{devices} devices need {needed} open files in this process and as many in the server, and the hard limit \
             here is {hard}"
        );
        let most = hard.saturating_sub(OTHER_FILES);
        return Err(Failure::usage(message).hint(format!(
            "ask for at most {most} devices, or raise the hard limit (ulimit -Hn, LimitNOFILE=)"
        )));
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| Failure::usage(format!("cannot raise the limit of open files: {error}")))
}

/// Resident memory of the processes of a run, in KiB.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Memory {
    /// This process.
    pub sim_kib: u64,
    /// The server, where the run has started it.
    pub server_kib: Option<u64>,
}

impl Memory {
    /// What they take now.
    pub(super) fn now(server: Option<u32>) -> Self {
        Self {
            sim_kib: resident_kib(process::id()).unwrap_or_default(),
            server_kib: server.and_then(resident_kib),
        }
    }
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_devices_for_the_machine_are_refused_with_how_many_it_can_hold() {
        let Some(hard) = getrlimit(Resource::Nofile).maximum else { return };
        let failure = allow_files(usize::try_from(hard).unwrap()).unwrap_err();
        assert!(failure.hint.unwrap().contains(&(hard - OTHER_FILES).to_string()));
        allow_files(1).unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(hard));
    }

    #[test]
    fn a_process_that_runs_takes_memory() {
        assert!(Memory::now(None).sim_kib > 0);
    }
}
