//! How much memory the daemon holds while it has nothing to do.
//!
//! Daemon, runner and trial are one program, and most of that program is an inference engine that the daemon never
//! calls. Still, a start touches much of it: relocations are read once, and with each page of code that is needed the
//! kernel maps its neighbours. Nearly all of it is never used again, but on a device that is not short of memory it
//! stays counted as the daemon's for ever. So when the start is over, and some time after each window of telemetry, the
//! daemon tells the kernel that it does without its code for now; what it does need comes back from the page cache, a
//! microsecond for each page. `docs/benchmarks.md` says what it is worth.

use std::{fs, ops::Range};

use crate::health::own_memory_kib;

/// Below this nothing is worth the page faults.
const ENOUGH_KIB: u64 = 4 * 1_024;

/// Gives pages that are the same in a file back, if the process holds more than is enough.
///
/// Where the kernel does not tell what is mapped, nothing happens.
pub fn release_idle_code() {
    if own_memory_kib() <= ENOUGH_KIB {
        return;
    }
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    unchanged_files(&maps).iter().for_each(code::release);
}

/// The mappings of `/proc/self/smaps` that belong to a file, cannot be written to, and have never been: the loader's
/// relocations, for example, make pages of the process's own and protect them afterwards.
fn unchanged_files(smaps: &str) -> Vec<Range<usize>> {
    let mut unchanged = Vec::new();
    let mut file = None;
    for line in smaps.lines() {
        match line.strip_prefix("Anonymous:") {
            Some(size) if size.trim() == "0 kB" => unchanged.extend(file.take()),
            Some(_) => file = None,
            None => file = protected_file(line).or(file),
        }
    }
    unchanged
}

/// The addresses of a heading of `/proc/self/smaps`, where it is about a file that can only be read or executed.
fn protected_file(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let path = words.nth(3)?;
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (matches!(rights, "r-xp" | "r--p") && path.starts_with('/')).then_some(address(start)?..address(end)?)
}

/// The one place where this package is trusted beyond what the compiler can check.
#[allow(unsafe_code)] // argued at the call
mod code {
    use std::{ffi::c_void, ops::Range, ptr::NonNull};

    use nix::sys::mman::{MmapAdvise, madvise};

    /// Drops the pages of a private mapping that was never written to. They are read from the file again when needed.
    pub(super) fn release(range: &Range<usize>) {
        let Some(start) = NonNull::new(std::ptr::with_exposed_provenance_mut::<c_void>(range.start)) else {
            return;
        };
        // SAFETY: MADV_DONTNEED on a private mapping of a file discards what was written to its pages and nothing else.
        // The kernel has just said that this one has no such page, and nobody can write to it, so every later read
        // gives the same bytes as before. Only the time of an access changes.
        let released = unsafe { madvise(start, range.len(), MmapAdvise::MADV_DONTNEED) };
        if let Err(error) = released {
            tracing::debug!(%error, "the kernel keeps the pages of idle code");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [Range<usize>; 0] = [];

    fn mapping(rights: &str, path: &str, anonymous_kib: u32) -> String {
        format!(
            "7f00-8f00 {rights} 0006c000 fe:00 1234      {path}\nSize: 4 kB\nAnonymous: {anonymous_kib} kB\nVmFlags: rd\n"
        )
    }

    #[test]
    fn only_what_the_file_can_give_back_is_released() {
        let program = "/usr/bin/muster-agent";
        for rights in ["r-xp", "r--p"] {
            assert_eq!(unchanged_files(&mapping(rights, program, 0)), vec![0x7f00..0x8f00; 1]);
            assert_eq!(unchanged_files(&mapping(rights, program, 4)), NONE, "relocated, then protected");
        }
        assert_eq!(unchanged_files(&mapping("rw-p", program, 0)), NONE);
        assert_eq!(unchanged_files(&mapping("r-xp", "[vdso]", 0)), NONE);
        assert_eq!(unchanged_files(&mapping("r-xp", "", 0)), NONE, "made by the process itself");
        let after_another = mapping("r-xp", program, 4) + &mapping("rw-p", program, 0);
        assert_eq!(
            unchanged_files(&after_another),
            NONE,
            "the sizes of one mapping are not those of the next"
        );
    }

    #[test]
    fn a_process_goes_on_without_its_code_and_holds_less() {
        let code = unchanged_files(&fs::read_to_string("/proc/self/smaps").unwrap());
        assert!(!code.is_empty(), "what is mapped is still read correctly");
        let before = own_memory_kib();
        release_idle_code();
        let after = own_memory_kib();
        assert!(before <= ENOUGH_KIB || after < before, "{before} KiB before, {after} KiB after");
    }
}
