//! What the kernel says about this process's memory. Zero where it does not say.

/// Peak resident memory so far.
pub(crate) fn peak_memory_kib() -> u64 {
    status_field("VmHWM:")
}

/// Resident memory now.
pub(crate) fn memory_kib() -> u64 {
    status_field("VmRSS:")
}

/// Address space in use now.
pub(crate) fn address_space_kib() -> u64 {
    status_field("VmSize:")
}

fn status_field(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    field(&status, name).unwrap_or(0)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_our_memory() {
        assert!(memory_kib() > 0 && peak_memory_kib() >= memory_kib() / 2 && address_space_kib() > 0);
        assert_eq!(field("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
    }
}
