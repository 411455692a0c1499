//! How the device is, read from the operating system through `sysinfo`.

use std::{path::Path, time::Instant};

use shared::{
    device::{Hardening, Inventory},
    telemetry::DeviceHealth,
};
use sysinfo::{Components, CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::local_time;

const MIB: u64 = 1_024 * 1_024;

/// What the device is; read once at every connect.
#[must_use]
pub fn inventory(data_dir: &Path, hardening: Option<Hardening>) -> Inventory {
    let kinds = RefreshKind::nothing()
        .with_memory(MemoryRefreshKind::nothing().with_ram())
        .with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(kinds).ok();
    let cpus = system.as_ref().map_or(0, |system| system.cpus().len());
    Inventory {
        agent_version: env!("CARGO_PKG_VERSION").into(),
        arch: std::env::consts::ARCH.into(),
        os: System::long_os_version().unwrap_or_default(),
        kernel: System::kernel_version().unwrap_or_default(),
        cpu: system
            .as_ref()
            .and_then(|s| s.cpus().first())
            .map(|cpu| cpu.brand().trim().to_owned())
            .unwrap_or_default(),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_mib: system.as_ref().map_or(0, |system| system.total_memory() / MIB),
        disk_free_mib: disk_free_mib(data_dir),
        engines: vec![muster_engine::ENGINE.into()],
        hardening,
        utc_offset_secs: Some(local_time::utc_offset_now_secs()),
    }
}

/// Free space of the file system of `data_dir`; 0 when it cannot be told.
#[must_use]
pub fn disk_free_mib(data_dir: &Path) -> u64 {
    rustix::fs::statvfs(data_dir).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize) / MIB)
}

/// Memory that programs can still take without pushing others out; 0 where the kernel does not tell.
#[must_use]
pub fn memory_available_mib() -> u64 {
    let kinds = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    System::new_with_specifics(kinds).map_or(0, |system| system.available_memory() / MIB)
}

/// Reads the figures that change. Processor use is measured between two readings.
pub struct Monitor {
    system: Option<System>,
    components: Option<Components>,
    started: Instant,
}

impl Default for Monitor {
    fn default() -> Self {
        Self::new()
    }
}

impl Monitor {
    /// Starts measuring.
    #[must_use]
    pub fn new() -> Self {
        let kinds = RefreshKind::nothing()
            .with_memory(MemoryRefreshKind::nothing().with_ram())
            .with_cpu(CpuRefreshKind::nothing().with_usage());
        Self {
            system: System::new_with_specifics(kinds).ok(),
            components: Components::new_with_refreshed_list().ok(),
            started: Instant::now(),
        }
    }

    /// The device as it is now; `link_bytes` is what the link has sent and received.
    pub fn read(&mut self, data_dir: &Path, link_bytes: (u64, u64)) -> DeviceHealth {
        let mut health = DeviceHealth {
            disk_free_mib: disk_free_mib(data_dir),
            uptime_secs: System::uptime().unwrap_or_else(|_| self.started.elapsed().as_secs()),
            agent_memory_kib: own_memory_kib(),
            link_sent_bytes: link_bytes.0,
            link_received_bytes: link_bytes.1,
            temperature_celsius: self.hottest(),
            ..DeviceHealth::default()
        };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory();
            health.cpu_percent = system.global_cpu_usage().clamp(0.0, 100.0);
            health.memory_used_mib = system.used_memory() / MIB;
            health.memory_total_mib = system.total_memory() / MIB;
        }
        health
    }

    fn hottest(&mut self) -> Option<f32> {
        let components = self.components.as_mut()?;
        components.refresh(false);
        components
            .iter()
            .filter_map(sysinfo::Component::temperature)
            .filter(|t| t.is_finite())
            .reduce(f32::max)
    }
}

/// Resident memory of this process. The kernel tells it in pages; reading one line is cheaper than a walk over
/// all processes.
pub(crate) fn own_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_device_has_a_processor_and_memory() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = inventory(dir.path(), None);
        assert!(
            inventory.cpus > 0 && inventory.memory_mib > 0 && inventory.disk_free_mib > 0,
            "{inventory:?}"
        );
        let health = Monitor::new().read(dir.path(), (1, 2));
        assert!(
            health.agent_memory_kib > 0 && health.memory_total_mib >= health.memory_used_mib,
            "{health:?}"
        );
        assert_eq!((health.link_sent_bytes, health.link_received_bytes), (1, 2));
    }
}
