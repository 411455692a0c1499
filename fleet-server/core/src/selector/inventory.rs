//! What can be selected of what a device told of itself.

use shared::device::Inventory;

/// Something that is a word; it is compared for equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Arch,
    Agent,
    Hardening,
}

/// Something that is a number; it is compared by size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Memory,
    Disk,
    Cpus,
}

/// A comparison by size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    AtLeast,
    AtMost,
    Above,
    Below,
}

impl Word {
    const ALL: [Self; 3] = [Self::Arch, Self::Agent, Self::Hardening];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Arch => "arch",
            Self::Agent => "agent",
            Self::Hardening => "hardening",
        }
    }

    /// `None` for a device that has not told.
    pub(super) fn of(self, inventory: &Inventory) -> Option<&str> {
        let told = match self {
            Self::Arch => inventory.arch.as_str(),
            Self::Agent => inventory.agent_version.as_str(),
            Self::Hardening => inventory.hardening.as_ref().map_or("", |hardening| hardening.level.word()),
        };
        Some(told).filter(|told| !told.is_empty())
    }
}

impl Number {
    pub(super) const ALL: [Self; 3] = [Self::Memory, Self::Disk, Self::Cpus];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|number| number.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "mem_mib",
            Self::Disk => "disk_mib",
            Self::Cpus => "cpus",
        }
    }

    /// `None` for a device that has not told. A disk may be full, but no device is without a processor.
    pub(super) fn of(self, inventory: &Inventory) -> Option<u64> {
        let told = match self {
            Self::Memory => inventory.memory_mib,
            Self::Disk => inventory.disk_free_mib,
            Self::Cpus => inventory.cpus.into(),
        };
        Some(told).filter(|_| inventory.cpus > 0)
    }
}

impl Order {
    /// Longer signs first, since they begin with the shorter ones.
    pub(super) const ALL: [Self; 4] = [Self::AtLeast, Self::AtMost, Self::Above, Self::Below];

    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::Below => "<",
        }
    }

    pub(super) fn holds(self, value: u64, bound: u64) -> bool {
        match self {
            Self::AtLeast => value >= bound,
            Self::AtMost => value <= bound,
            Self::Above => value > bound,
            Self::Below => value < bound,
        }
    }
}
