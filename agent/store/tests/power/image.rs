//! What a disk holds, and the changes that make one content into another.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Component, Path},
    sync::Arc,
};

/// A file or a directory, whatever its names are.
pub type Node = u32;

/// The directory in which everything lies.
pub const ROOT: Node = 0;

/// The content of a disk: cheap to copy, because what files hold is shared.
#[derive(Debug, Clone)]
pub struct Image {
    pub files: BTreeMap<Node, Arc<Vec<u8>>>,
    pub dirs: BTreeMap<Node, BTreeMap<Arc<str>, Node>>,
}

/// A change that is lost in a power cut unless it was synced.
#[derive(Clone)]
pub enum Change {
    /// Bytes at a position; a file that ends before them grows.
    Write { node: Node, offset: usize, bytes: Arc<[u8]> },
    /// Another length; new bytes are zero.
    Resize { node: Node, size: usize },
    /// Names in one directory, all of them or none.
    Names { dir: Node, names: Vec<(Arc<str>, Option<Node>)> },
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { node, offset, bytes } => {
                write!(f, "{} bytes at {offset} of node {node}", bytes.len())
            }
            Self::Resize { node, size } => write!(f, "{size} bytes for node {node}"),
            Self::Names { dir, names } => write!(f, "names in {dir}: {names:?}"),
        }
    }
}

impl Image {
    pub fn empty() -> Self {
        Self { files: BTreeMap::new(), dirs: BTreeMap::from([(ROOT, BTreeMap::new())]) }
    }

    pub fn find(&self, path: &Path) -> Option<Node> {
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        });
        names.into_iter().try_fold(ROOT, |dir, name| self.dirs.get(&dir)?.get(name).copied())
    }

    pub fn read(&self, path: &Path) -> Option<&[u8]> {
        self.files.get(&self.find(path)?).map(|bytes| bytes.as_slice())
    }

    /// The files in a directory, by name.
    pub fn files_in(&self, dir: &Path) -> Vec<(Arc<str>, Arc<Vec<u8>>)> {
        let names = self.find(dir).and_then(|dir| self.dirs.get(&dir)).into_iter().flatten();
        names.filter_map(|(name, node)| Some((name.clone(), self.files.get(node)?.clone()))).collect()
    }

    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { node, offset, bytes } => self.write(*node, *offset, bytes),
            Change::Resize { node, size } => {
                if let Some(file) = self.files.get_mut(node) {
                    Arc::make_mut(file).resize(*size, 0);
                }
            }
            Change::Names { dir, names } => {
                let Some(entries) = self.dirs.get_mut(dir) else { return };
                for (name, node) in names {
                    match node {
                        Some(node) => entries.insert(name.clone(), *node),
                        None => entries.remove(name),
                    };
                }
            }
        }
    }

    pub fn write(&mut self, node: Node, offset: usize, bytes: &[u8]) {
        let Some(file) = self.files.get_mut(&node) else { return };
        let file = Arc::make_mut(file);
        if file.len() < offset + bytes.len() {
            file.resize(offset + bytes.len(), 0);
        }
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// The same for every disk that nobody can tell apart: names and contents, and no node numbers.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_dir(ROOT, &mut hasher);
        hasher.finish()
    }

    fn hash_dir(&self, dir: Node, hasher: &mut DefaultHasher) {
        for (name, node) in &self.dirs[&dir] {
            name.hash(hasher);
            match self.files.get(node) {
                Some(bytes) => bytes.hash(hasher),
                None => self.hash_dir(*node, hasher),
            }
        }
    }
}
