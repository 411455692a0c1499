//! The machine: directory, clock, disk, memory, kernel.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use shared::Timestamp;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::Check;
use crate::{clock, config::Config, health};

/// Room beyond the spare for one more model of a size that small devices run.
const ROOM_MIB: u64 = 64;

/// The daemon takes 8 MiB, and a small model with its runner a few times that.
const MEMORY_MIB: u64 = 64;

const MIB: u64 = 1_024 * 1_024;

/// Only the agent may look into its directory.
pub(super) fn data_dir(path: &Path) -> Check {
    let (name, shown) = ("data directory", path.display());
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            return Check::fail(name, format!("{shown} is not a directory"), "set data_dir to another path");
        }
        Err(error) => {
            return Check::fail(name, format!("{shown}: {error}"), "enrol the device, or correct data_dir");
        }
    };
    let (mode, own) = (metadata.permissions().mode() & 0o777, rustix::process::geteuid().as_raw());
    if own != 0 && metadata.uid() != own {
        let owner = metadata.uid();
        return Check::fail(name, format!("{shown} belongs to user {owner}"), "ask as that user or as root");
    }
    if mode & 0o077 != 0 {
        let advice = format!("run `chmod 700 {shown}`");
        return Check::warn(name, format!("{shown} may be entered by others (mode {mode:o})"), advice);
    }
    let flags = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    match rustix::fs::access(path, flags) {
        Ok(()) => Check::ok(name, format!("{shown}, mode {mode:o}")),
        Err(error) => {
            Check::fail(name, format!("{shown} is not writable: {error}"), "is it mounted read-only?")
        }
    }
}

/// A clock before the day on which this program was written is wrong; how far the agent copes is told.
pub(super) fn system_clock(now: Timestamp) -> Check {
    let shown = clock::in_words(now);
    if now >= clock::WRITTEN_AT {
        return Check::ok("clock", shown);
    }
    let detail = format!("{shown}, which is before this program was written");
    Check::warn(
        "clock",
        detail,
        "set the clock; until then the agent counts from the last time that it has proof for",
    )
}

/// Below the spare nothing is fetched any more.
pub(super) fn disk(config: &Config) -> Check {
    let (free, spare) = (health::disk_free_mib(&config.data_dir), config.limits.spare_mib);
    let detail = format!("{free} MiB free, {spare} of them stay free");
    match free.checked_sub(spare) {
        None => {
            Check::fail("disk", detail, "make room: no new version fits, and the state may not be written")
        }
        Some(room) if room < ROOM_MIB => {
            Check::warn("disk", detail, "make room: larger versions will not fit")
        }
        Some(_) => Check::ok("disk", detail),
    }
}

pub(super) fn memory() -> Check {
    let kinds = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let Ok(system) = System::new_with_specifics(kinds) else {
        return Check::warn("memory", "the system does not tell", "is /proc mounted?");
    };
    let (free, all) = (system.available_memory() / MIB, system.total_memory() / MIB);
    let detail = format!("{free} of {all} MiB available");
    if free >= MEMORY_MIB {
        return Check::ok("memory", detail);
    }
    Check::warn("memory", detail, "models may be refused, or killed when memory runs out")
}

/// Asks the kernel what it can, by what it tells in files: nothing is restricted for an answer.
pub(super) fn kernel() -> Check {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").ok();
    let landlock = modules.map(|text| text.trim().split(',').any(|module| module == "landlock"));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    kernel_of(landlock, status.lines().any(|line| line.starts_with("Seccomp:")))
}

fn kernel_of(landlock: Option<bool>, seccomp: bool) -> Check {
    let word = |there| if there { "yes" } else { "no" };
    let files = landlock.map_or("unknown, securityfs is not mounted", word);
    let detail = format!("landlock: {files}; seccomp: {}", word(seccomp));
    if seccomp && landlock != Some(false) {
        return Check::ok("kernel hardening", detail);
    }
    let advice = "models run all the same, less locked in; a kernel of 5.13 or later with CONFIG_SECURITY_LANDLOCK \
                  and CONFIG_SECCOMP_FILTER has both";
    Check::warn("kernel hardening", detail, advice)
}

/// Under an emulator models are slow, and the kernel's sandbox is not what it seems.
pub(super) fn machine() -> Check {
    let arch = std::env::consts::ARCH;
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    machine_of(arch, &System::kernel_version().unwrap_or_default(), &cpu)
}

fn machine_of(arch: &str, kernel: &str, cpu: &str) -> Check {
    let is_intel = cpu.contains("GenuineIntel") || cpu.contains("AuthenticAMD");
    let detail = format!("{arch}, kernel {kernel}");
    if is_intel && !matches!(arch, "x86_64" | "x86") {
        let advice = "measure on a real device: latencies and the sandbox are not those of this processor";
        return Check::warn("machine", format!("{detail}, emulated"), advice);
    }
    Check::ok("machine", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_directory_that_others_may_enter_gets_the_command_that_closes_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let check = data_dir(dir.path());
        assert_eq!(check.state, State::Warn);
        assert!(check.advice.unwrap().starts_with("run `chmod 700"));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(data_dir(dir.path()).state, State::Ok);
        assert_eq!(data_dir(&dir.path().join("none")).state, State::Fail);
    }

    #[test]
    fn a_clock_of_1970_is_doubted() {
        assert_eq!(system_clock(Timestamp(4_000)).state, State::Warn);
        assert_eq!(system_clock(clock::WRITTEN_AT).state, State::Ok);
    }

    #[test]
    fn a_disk_below_its_spare_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        config.limits.spare_mib = u64::MAX;
        assert_eq!(disk(&config).state, State::Fail);
    }

    #[test]
    fn a_kernel_without_a_layer_is_told_and_one_that_hides_it_is_not_accused() {
        assert_eq!(kernel_of(Some(true), true).state, State::Ok);
        assert_eq!(kernel_of(None, true).state, State::Ok);
        assert_eq!(kernel_of(Some(false), true).state, State::Warn);
        assert_eq!(kernel_of(Some(true), false).state, State::Warn);
    }

    #[test]
    fn an_arm_program_on_an_intel_processor_is_emulated() {
        assert_eq!(machine_of("aarch64", "6.1", "vendor_id : GenuineIntel").state, State::Warn);
        assert_eq!(machine_of("x86_64", "6.1", "vendor_id : GenuineIntel").state, State::Ok);
        assert_eq!(machine_of("aarch64", "6.1", "CPU implementer : 0x41").state, State::Ok);
    }
}
