//! How much memory models may take: what the device has left before one comes, and a limit on the runner.
//!
//! The runner cannot set its limit itself: it may lower one, but not raise it when a model comes, and locked in it may
//! do neither. So the daemon moves it from outside (`prlimit`), and only its soft half, which may go up again.
//!
//! It is the limit on private writable memory (`RLIMIT_DATA`) and not on address space: of that the C library reserves
//! 64 MiB for each thread that allocates, which says nothing and depends on the number of cores.

use std::{collections::BTreeMap, io};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use shared::{ReleaseId, manifest::Budgets, report::RejectReason};

const MIB: u64 = 1_024 * 1_024;

/// What a runner may take beside its models: the program, the stacks of its threads, and a few requests of the
/// largest size, each of which is held as bytes, as JSON and as tensors.
const BASE_MIB: u64 = 512;

/// What a model leaves to the rest of the device.
pub(super) const SPARE_MIB: u64 = 32;

/// The budgets of what one runner holds.
#[derive(Debug, Default)]
pub(super) struct RunnerMemory {
    budgets_mib: BTreeMap<ReleaseId, u64>,
    /// It only rises while the runner lives: memory that a model gave back to the C library is still the process's.
    limit_mib: u64,
}

impl RunnerMemory {
    /// A version is about to be loaded: makes room for it.
    pub(super) fn expect(&mut self, pid: u32, release: &ReleaseId, budgets: &Budgets) {
        self.budgets_mib.insert(release.clone(), budgets.memory_mib.into());
        let wanted_mib = self.wanted_mib();
        if wanted_mib <= self.limit_mib {
            return;
        }
        match limit(pid, wanted_mib) {
            Ok(()) => self.limit_mib = wanted_mib,
            Err(error) => tracing::warn!(%error, runner.pid = pid, "the runner's memory is not limited"),
        }
    }

    /// A version is dropped.
    pub(super) fn forget(&mut self, release: &ReleaseId) {
        self.budgets_mib.remove(release);
    }

    fn wanted_mib(&self) -> u64 {
        self.budgets_mib.values().fold(BASE_MIB, |sum, budget| sum.saturating_add(*budget))
    }
}

fn limit(pid: u32, mib: u64) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::NotFound)?;
    let limit = Rlimit { current: Some(mib.saturating_mul(MIB)), maximum: None };
    prlimit(Some(pid), Resource::Data, limit)?;
    Ok(())
}

/// Refuses a model whose budget is more than what the device has left, before anything of it is loaded.
pub(super) fn admit(budgets: &Budgets, available_mib: u64) -> Result<(), RejectReason> {
    let needed_mib = u64::from(budgets.memory_mib);
    if available_mib == 0 || needed_mib.saturating_add(SPARE_MIB) <= available_mib {
        return Ok(());
    }
    Err(RejectReason::Incompatible {
        detail: format!(
            "its memory budget of {needed_mib} MiB does not fit: {available_mib} MiB are available, of which \
             {SPARE_MIB} MiB stay free"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets(memory_mib: u32) -> Budgets {
        Budgets { memory_mib, ..Budgets::default() }
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_the_numbers() {
        assert_eq!(admit(&budgets(100), 100 + SPARE_MIB), Ok(()));
        let refused = admit(&budgets(101), 100 + SPARE_MIB).unwrap_err().to_string();
        assert!(refused.contains("101 MiB") && refused.contains("132 MiB are available"), "{refused}");
        assert_eq!(admit(&budgets(u32::MAX), 0), Ok(()), "a kernel that does not tell refuses nothing");
    }

    #[test]
    fn the_limit_follows_the_sum_of_the_budgets() {
        let mut memory = RunnerMemory::default();
        for (release, mib) in [("a@1", 10), ("a@2", 20), ("b@1", 5)] {
            memory.budgets_mib.insert(release.parse().unwrap(), mib);
        }
        assert_eq!(memory.wanted_mib(), BASE_MIB + 35);
        memory.forget(&"a@1".parse().unwrap());
        assert_eq!(memory.wanted_mib(), BASE_MIB + 25);
    }
}
