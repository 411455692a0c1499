//! What the figures were measured on.

use std::{fmt, fs, thread};

use serde::Serialize;

/// Facts of the machine that figures depend on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Processor model.
    pub cpu: String,
    /// Logical processors that this process may use.
    pub cores: usize,
    /// Memory.
    pub memory_mib: u64,
    /// Kernel release.
    pub kernel: String,
    /// How many others wanted a processor in the minute before, as the kernel counts them.
    pub load_before: String,
    /// How this program was built; the programs it measures lie beside it.
    pub profile: &'static str,
}

impl Machine {
    /// Facts of this machine; what the kernel does not tell stays empty.
    pub fn look() -> Self {
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory_mib().unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease"),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_mib, kernel, load_before, profile } = self;
        write!(
            f,
            "{cpu}, {cores} cores, {memory_mib} MiB, Linux {kernel}, load {load_before} before, {profile} build"
        )
    }
}

fn memory_mib() -> Option<u64> {
    let kib: u64 = field("/proc/meminfo", "MemTotal")?.trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1_024)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim_start_matches([' ', '\t', ':']).to_owned())
}
