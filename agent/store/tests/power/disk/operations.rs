//! The operations of the simulated disk.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use agent_store::disk::{Disk, DiskFile, Entry, OpenAs};

use super::SimDisk;
use crate::image::{Change, Node};

impl<F: Send + Sync + 'static> Disk for SimDisk<F> {
    type File = SimFile<F>;

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(|| format!("mkdir {}", path.display()))?;
        match state.live.find(path) {
            Some(_) => Ok(()),
            None => state.make(path, true).map(drop),
        }
    }

    fn open(&self, path: &Path, open_as: OpenAs) -> io::Result<SimFile<F>> {
        let mut state = self.state();
        state.begin(|| format!("open {} {open_as:?}", path.display()))?;
        let node = match (state.live.find(path), open_as) {
            (Some(node), OpenAs::Reader | OpenAs::Editor) => node,
            (Some(node), OpenAs::Empty) => {
                if state.live.files.get(&node).is_some_and(|bytes| !bytes.is_empty()) {
                    state.change(Change::Resize { node, size: 0 });
                }
                node
            }
            (None, OpenAs::Reader) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenAs::Editor | OpenAs::Empty) => state.make(path, false)?,
        };
        if !state.live.files.contains_key(&node) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        drop(state);
        Ok(SimFile { disk: self.clone(), node, path: path.to_owned() })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(|| format!("rename {} to {}", from.display(), to.display()))?;
        let node = state.node(from)?;
        let ((old_dir, old), (new_dir, new)) = (state.parent(from)?, state.parent(to)?);
        if old_dir == new_dir {
            state.change(Change::Names { dir: new_dir, names: vec![(old, None), (new, Some(node))] });
        } else {
            state.change(Change::Names { dir: new_dir, names: vec![(new, Some(node))] });
            state.change(Change::Names { dir: old_dir, names: vec![(old, None)] });
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(|| format!("remove {}", path.display()))?;
        state.node(path)?;
        let (dir, name) = state.parent(path)?;
        state.change(Change::Names { dir, names: vec![(name, None)] });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(|| format!("sync directory {}", path.display()))?;
        let synced = state.node(path)?;
        let sync = state.sync_of_dir();
        if state.counts(sync) {
            state.flush(|change| matches!(change, Change::Names { dir, .. } if *dir == synced));
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        state.begin(|| format!("list {}", dir.display()))?;
        let files = state.live.files_in(dir).into_iter();
        Ok(files
            .map(|(name, bytes)| Entry { name: name.to_string(), size_bytes: bytes.len() as u64 })
            .collect())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.state();
        let used: usize = state.live.files.values().map(|bytes| bytes.len()).sum();
        Ok(state.capacity.saturating_sub(used) as u64)
    }
}

pub struct SimFile<F> {
    disk: SimDisk<F>,
    node: Node,
    path: PathBuf,
}

impl<F: Send + Sync + 'static> DiskFile for SimFile<F> {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().live.files.get(&self.node).map_or(0, |bytes| bytes.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let bytes = state.live.files.get(&self.node).ok_or(io::ErrorKind::NotFound)?;
        let rest = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin(|| format!("write {} bytes at {offset} of {}", bytes.len(), self.path.display()))?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        state.grow(self.node, offset + bytes.len())?;
        state.change(Change::Write { node: self.node, offset, bytes: bytes.into() });
        Ok(())
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin(|| format!("allocate {size_bytes} bytes of {}", self.path.display()))?;
        let size = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        state.grow(self.node, size)?;
        state.change(Change::Resize { node: self.node, size });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin(|| format!("sync {}", self.path.display()))?;
        let (synced, sync) = (self.node, state.sync_of_file(&self.path));
        if state.dropped.get(&synced).is_some_and(|ranges| !ranges.is_empty()) {
            state.retried.insert(sync);
        }
        if state.fails_after.as_mut().is_some_and(|left| std::mem::replace(left, left.wrapping_sub(1)) == 0) {
            state.fails_after = None;
            state.drop_pages(synced);
            return Err(io::Error::other("the disk does not answer"));
        }
        if state.counts(sync) {
            let touches = |node: Node| node == synced;
            state.flush(|change| match change {
                Change::Write { node, .. } | Change::Resize { node, .. } => touches(*node),
                Change::Names { .. } => false,
            });
        }
        Ok(())
    }
}

impl<F> fmt::Debug for SimDisk<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

impl<F> fmt::Debug for SimFile<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).finish_non_exhaustive()
    }
}
