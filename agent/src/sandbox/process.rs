//! What the process is to the rest of the system: who can read it, when it dies, and what it inherited.

use std::fs;

use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};

use super::Role;

/// Standard input is the socket to the daemon, output and error go where the daemon says. The rest came by accident.
const FIRST_INHERITED: i32 = 3;

/// When memory runs out the kernel ends a trial before a challenger, that before a runner, and a runner before
/// anything else. From −1000 to 1000.
const TRIAL_OOM_SCORE: &str = "900";
const CHALLENGER_OOM_SCORE: &str = "800";
const RUNNER_OOM_SCORE: &str = "500";

/// Closes every descriptor that this process did not open itself; called before it has opened any.
pub(super) fn close_inherited() -> Result<(), String> {
    let list = fs::read_dir("/proc/self/fd").map_err(|error| error.to_string())?;
    let numbers = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // Collected first: one of them is the open folder itself, which is closed by now and refuses.
    let numbers: Vec<i32> = numbers.filter(|number| *number >= FIRST_INHERITED).collect();
    for number in numbers {
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

/// The kernel kills this process when the thread of the daemon that started it ends. If that has happened before this
/// call, the socket to the daemon is at its end, and the first read ends the process.
pub(super) fn die_with_parent() -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())
}

/// Offers this process to the kernel when memory runs out.
pub(super) fn die_first(role: Role) -> Result<(), String> {
    let score = match role {
        Role::Runner => RUNNER_OOM_SCORE,
        Role::Trial => TRIAL_OOM_SCORE,
        Role::Challenger => CHALLENGER_OOM_SCORE,
    };
    fs::write("/proc/self/oom_score_adj", score).map_err(|error| error.to_string())
}

/// Memory is not written out after a crash, and processes of the same user cannot look into it.
pub(super) fn forbid_dumps() -> Result<(), String> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| error.to_string())
}

/// No program that is executed gives more rights than this process has.
pub(super) fn forbid_privileges() -> Result<(), String> {
    rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())
}
