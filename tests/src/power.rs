//! Power cuts of real file systems.
//!
//! A file system lies in an image, and the image on XFS, which clones a file in milliseconds. A clone that is taken while
//! programs write is what a disk holds when the power fails: everything that the file system has handed to it, and
//! nothing that was still in memory. Mounting the clone replays the journal, as the next start would.
//!
//! A test that was killed leaves its mounts; the next one that begins ends them.
//!
//! The disk itself is a good one: what was written to it stays, in the order in which it was written. Disks that lie about
//! their caches are the simulated disk's business (`agent/store/tests/power`).

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    time::Duration,
};

use tempfile::TempDir;

use crate::{process::is_alive, programs::from_debian, wait::try_until};

/// The folder of a stage is called by this and the process that it belongs to.
const PREFIX: &str = "muster-power-";

/// Room for the images, of which nearly everything is never written.
const STAGE_SIZE: &str = "4G";

/// A process that was killed has let go of its files by then.
const FREE_WITHIN: Duration = Duration::from_secs(10);

/// A file system as devices have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// New content reaches the disk before the names that lead to it.
    Ext4Ordered,
    /// It need not.
    Ext4Writeback,
    /// Names and sizes are logged, content is not.
    Xfs,
    /// Nothing is overwritten in place.
    Btrfs,
}

/// Where images lie and are cloned.
#[derive(Debug)]
pub struct Stage {
    /// Unmounted before the folder goes.
    mount: Mount,
    _scratch: TempDir,
}

/// A file system that is mounted until this is dropped.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
}

impl FileSystem {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ext4Ordered, Self::Ext4Writeback, Self::Xfs, Self::Btrfs];

    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4Ordered => "ext4",
            Self::Ext4Writeback => "ext4 writeback",
            Self::Xfs => "XFS",
            Self::Btrfs => "btrfs",
        }
    }

    /// Makes an empty one in a new file.
    ///
    /// # Errors
    /// What the system says.
    pub fn make(self, image: &Path) -> Result<(), String> {
        // The least that each of them takes.
        let (program, package, size) = match self {
            Self::Ext4Ordered | Self::Ext4Writeback => ("mkfs.ext4", "e2fsprogs", "64M"),
            Self::Xfs => ("mkfs.xfs", "xfsprogs", "320M"),
            Self::Btrfs => ("mkfs.btrfs", "btrfs-progs", "128M"),
        };
        run("truncate", ["-s".as_ref(), size.as_ref(), image.as_os_str()])?;
        run(from_debian(program, package), ["-q".as_ref(), image.as_os_str()])
    }

    /// Mounts an image, which replays its journal.
    ///
    /// # Errors
    /// What the system says.
    pub fn mount(self, image: &Path, at: &Path) -> Result<Mount, String> {
        let options = match self {
            Self::Ext4Ordered => "loop,data=ordered",
            Self::Ext4Writeback => "loop,data=writeback",
            // Clones have the same identity; two of them may be mounted at a time.
            Self::Xfs => "loop,nouuid",
            Self::Btrfs => "loop",
        };
        mount(image, at, options)
    }
}

impl Stage {
    /// A place for images.
    ///
    /// # Errors
    /// Why this machine has none: it takes root, loop devices and XFS.
    pub fn open() -> Result<Self, String> {
        clear_leftovers();
        let prefix = format!("{PREFIX}{}-", process::id());
        let scratch = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a scratch folder");
        let (image, at) = (scratch.path().join("stage.img"), scratch.path().join("stage"));
        fs::create_dir(&at).expect("the scratch folder is writable");
        run("truncate", ["-s".as_ref(), STAGE_SIZE.as_ref(), image.as_os_str()])?;
        let arguments = ["-q".as_ref(), "-m".as_ref(), "reflink=1".as_ref(), image.as_os_str()];
        run(from_debian("mkfs.xfs", "xfsprogs"), arguments)?;
        Ok(Self { mount: mount(&image, &at, "loop")?, _scratch: scratch })
    }

    /// Where images lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.mount.at
    }
}

impl Mount {
    /// Unmounts it as a shutdown would; waits for the files of processes that were just killed.
    ///
    /// # Errors
    /// What the system says.
    pub fn end(self) -> Result<(), String> {
        let mut last = String::new();
        let ended = try_until(FREE_WITHIN, || run("umount", [&self.at]).map_err(|error| last = error).ok());
        // What is left for `drop` is a mount that cannot be ended.
        if ended.is_some() {
            std::mem::forget(self);
        }
        ended.ok_or(last)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // After a failure somebody may still use it; it goes when they do.
        let _ = run("umount", ["--lazy".as_ref(), self.at.as_os_str()]);
    }
}

/// Clones an image at this moment.
///
/// # Errors
/// What the system says.
pub fn cut(image: &Path, to: &Path) -> Result<(), String> {
    run("cp", ["--reflink=always".as_ref(), image.as_os_str(), to.as_os_str()])
}

/// Ends what tests that were killed have left: mounts, with the loop devices below them, and folders. Another test may
/// do the same at this moment, so nothing here must succeed.
fn clear_leftovers() {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok);
    let mut left: Vec<(PathBuf, PathBuf)> = devices
        .filter_map(|device| {
            let image = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
            let image = PathBuf::from(image.trim_end());
            is_left_over(&image).then(|| (image, Path::new("/dev").join(device.file_name())))
        })
        .collect();
    // A stage ends after the images that lie on it.
    left.sort_by_key(|(image, _)| std::cmp::Reverse(image.components().count()));
    for (_, device) in left {
        let _ = run("umount", ["--lazy".as_ref(), device.as_os_str()]);
    }
    let folders = fs::read_dir(env::temp_dir()).into_iter().flatten().filter_map(Result::ok);
    for folder in folders.filter(|folder| is_left_over(&folder.path())) {
        let _ = fs::remove_dir_all(folder.path());
    }
}

/// True for what lies in the folder of a process that is gone.
fn is_left_over(path: &Path) -> bool {
    let Ok(below) = path.strip_prefix(env::temp_dir()) else { return false };
    let owner = below.iter().next().and_then(OsStr::to_str).and_then(owner_of);
    owner.is_some_and(|pid| !is_alive(pid))
}

fn owner_of(folder: &str) -> Option<u32> {
    folder.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn mount(image: &Path, at: &Path, options: &str) -> Result<Mount, String> {
    run("mount", ["-o".as_ref(), options.as_ref(), image.as_os_str(), at.as_os_str()])?;
    Ok(Mount { at: at.to_owned() })
}

/// Runs a program; what it complains of begins with its name.
fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Result<(), String> {
    let name = program.as_ref().to_string_lossy().into_owned();
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_process_that_is_gone_has_left_is_cleared() {
        let path = |name: String| env::temp_dir().join(name).join("stage/live.img");
        // No process has the largest number: numbers end at 4,194,304.
        assert!(is_left_over(&path(format!("{PREFIX}{}-Xy1", u32::MAX))));
        assert!(!is_left_over(&path(format!("{PREFIX}{}-Xy1", process::id()))));
        assert!(!is_left_over(&path("muster-device-Xy1".to_owned())));
        assert!(!is_left_over(Path::new("/elsewhere").join(format!("{PREFIX}{}-Xy1", u32::MAX)).as_path()));
    }
}
