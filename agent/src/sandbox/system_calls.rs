//! seccomp: the system calls that inference needs, and no others.
//!
//! Three filters, the newest asked first, the strictest answer counts:
//! 1. *allowed*: what is not in the list fails with EPERM. A library that tries something new must not take down the
//!    models that are served, and what it gets is an error as from a file that is not there.
//! 2. *fatal*: what no library here ever asks for, and an intruder would. The kernel ends the process, and how it ended
//!    is the evidence.
//! 3. *unknown*: calls that do not exist here (ENOSYS), so that the C library takes the older way, whose arguments a
//!    filter can see, and no further filter is installed.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod list;

use super::Role;

/// Installs the filters on this thread and those that it starts.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn restrict(role: Role) -> Result<(), String> {
    use seccompiler::{SeccompAction, SeccompFilter, TargetArch, apply_filter};

    let apply = |calls, mismatch, matched| {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let filter = SeccompFilter::new(calls, mismatch, matched, arch)?;
        apply_filter(&seccompiler::BpfProgram::try_from(filter)?)
    };
    let error = |code: i32| SeccompAction::Errno(code.unsigned_abs());
    let (allow, kill) = (SeccompAction::Allow, SeccompAction::KillProcess);
    let (no_permission, no_such_call) = (error(libc::EPERM), error(libc::ENOSYS));
    let allowed = list::allowed(role).map_err(|error| error.to_string())?;
    apply(allowed, no_permission, allow.clone())
        .and_then(|()| apply(list::fatal(), allow.clone(), kill))
        .and_then(|()| apply(list::unknown(), allow, no_such_call))
        .map_err(|error| error.to_string())
}

/// The compiler of the filters does not know this processor.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn restrict(_: Role) -> Result<(), String> {
    Err(format!("no filter for {}", std::env::consts::ARCH))
}
