//! What a process that touches models can still do: compute, and talk on the descriptors that it was handed.
//!
//! The layers overlap on purpose. Landlock takes away files, TCP and other processes by what they are, the filter on
//! system calls takes away the ways to them, and limits bound what is left. A kernel that lacks a layer does not
//! keep the agent from running: the process goes on with the others and says what is missing.
//!
//! An [`Entrance`] begins with the process and is entered while it has one thread, before it has parsed a byte of a
//! model; threads inherit what it sets. Nothing of it can be undone. See `docs/decisions` for which calls are allowed, and why.

mod files;
mod limits;
mod process;
mod reports;
mod system_calls;

use std::sync::Once;

use shared::device::{Hardening, HardeningLevel};

use crate::runner::{pool, proc_self};
pub(crate) use limits::lower;
pub use reports::Reports;

/// Which process is to be locked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves callers on listening sockets that it is handed.
    Runner,
    /// Tries one model.
    Trial,
    /// Runs a model beside the one that answers, and no caller reaches it.
    Challenger,
}

/// One thing that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// Opening or changing any file.
    Files,
    /// Binding and connecting TCP sockets.
    Network,
    /// Signals to processes outside, and their abstract Unix sockets.
    Processes,
    /// Every system call that is not needed.
    SystemCalls,
    /// More rights by executing a program.
    Privileges,
    /// Descriptors that the agent's own parent left open.
    Descriptors,
    /// Open files, file sizes and core files without bound.
    Limits,
    /// Being read by others, while it runs or after a crash.
    Dumps,
    /// Living on without the daemon.
    Orphans,
    /// Surviving others when memory is short.
    Survival,
}

impl Layer {
    fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Network => "network",
            Self::Processes => "processes",
            Self::SystemCalls => "system calls",
            Self::Privileges => "privileges",
            Self::Descriptors => "descriptors",
            Self::Limits => "limits",
            Self::Dumps => "dumps",
            Self::Orphans => "orphans",
            Self::Survival => "survival",
        }
    }
}

/// The first half: what has to happen before the process opens anything of its own.
#[derive(Debug)]
pub struct Entrance {
    role: Role,
    missing: Vec<Layer>,
}

impl Entrance {
    /// Closes what was inherited, and ties the process to the daemon that started it.
    #[must_use]
    pub fn begin(role: Role) -> Self {
        let mut entrance = Self { role, missing: Vec::new() };
        entrance.note(Layer::Descriptors, process::close_inherited());
        entrance.note(Layer::Orphans, process::die_with_parent());
        entrance.note(Layer::Survival, process::die_first(role));
        entrance
    }

    /// Locks the process in, as far as the kernel can, and tells how far that is. It must have one thread only.
    #[must_use]
    pub fn enter(mut self) -> Hardening {
        prepare();
        self.note(Layer::Limits, limits::set(self.role));
        // Files of /proc that belong to it are root's from here on.
        self.note(Layer::Dumps, process::forbid_dumps());
        self.note(Layer::Privileges, process::forbid_privileges());
        let landlock = files::restrict();
        self.note(Layer::Files, landlock.files);
        self.note(Layer::Network, landlock.network);
        self.note(Layer::Processes, landlock.processes);
        self.note(Layer::SystemCalls, system_calls::restrict(self.role));
        told(self.missing)
    }

    fn note(&mut self, layer: Layer, done: Result<(), String>) {
        if let Err(error) = done {
            tracing::debug!(layer = layer.name(), error, "a layer of the sandbox does not hold");
            self.missing.push(layer);
        }
    }
}

/// Both halves, for a process that has opened nothing yet.
#[must_use]
pub fn enter(role: Role) -> Hardening {
    Entrance::begin(role).enter()
}

/// Reads what is read from files once, and is read too late after [`Entrance::enter`]: the processor's features, how many cores there are, and the open file in which
/// the kernel tells this process's memory.
pub fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        muster_engine::prepare();
        pool::workers();
        proc_self::open();
    });
}

fn told(mut missing: Vec<Layer>) -> Hardening {
    missing.sort_unstable();
    let open = |layer| missing.contains(&layer);
    let level = match missing.len() {
        0 => HardeningLevel::Full,
        _ if open(Layer::Files) && open(Layer::SystemCalls) => HardeningLevel::None,
        _ => HardeningLevel::Partial,
    };
    Hardening { level, missing: missing.into_iter().map(|layer| layer.name().to_owned()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_reaches_files_and_calls_is_not_hardened_at_all() {
        assert_eq!(told(vec![]).level, HardeningLevel::Full);
        assert_eq!(told(vec![Layer::Network]).level, HardeningLevel::Partial);
        assert_eq!(told(vec![Layer::SystemCalls]).level, HardeningLevel::Partial);
        let none = told(vec![Layer::SystemCalls, Layer::Files]);
        assert_eq!(
            (none.level, none.missing),
            (HardeningLevel::None, vec!["files".into(), "system calls".into()])
        );
    }
}
