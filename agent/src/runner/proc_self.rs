//! What the kernel says about this process's memory. Zero where it does not say.

use std::{fs::File, os::unix::fs::FileExt as _, sync::OnceLock};

/// The kernel writes about 1.5 KiB; a page holds it for some years to come.
const MAX_STATUS_BYTES: usize = 4_096;

/// Opened once, since a process that is locked in opens nothing; each read from its start tells the present state.
static STATUS: OnceLock<Option<File>> = OnceLock::new();

/// Opens the file in which the kernel tells; afterwards no file needs to be opened.
pub(crate) fn open() {
    status_file();
}

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

fn status_file() -> Option<&'static File> {
    STATUS.get_or_init(|| File::open("/proc/self/status").ok()).as_ref()
}

fn status_field(name: &str) -> u64 {
    let mut status = [0; MAX_STATUS_BYTES];
    let read = status_file().and_then(|file| file.read_at(&mut status, 0).ok()).unwrap_or(0);
    std::str::from_utf8(&status[..read]).ok().and_then(|text| field(text, name)).unwrap_or(0)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_our_memory_as_it_is_each_time() {
        assert!(peak_memory_kib() >= memory_kib() / 2 && address_space_kib() > 0);
        let before = memory_kib();
        let block = vec![1_u8; 64 * 1_024 * 1_024];
        assert!(before > 0 && memory_kib() > before + 32 * 1_024);
        assert!(block.iter().all(|byte| *byte == 1), "so that it is really there");
        assert_eq!(field("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
    }
}
