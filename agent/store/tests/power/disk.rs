//! A disk in memory that knows what a power cut may take away.
//!
//! Every operation changes what the running system sees. What a power cut leaves is kept beside it: the durable
//! content, and the changes that nothing has synced yet. A sync of a file makes its bytes and length durable and not
//! its name; a sync of a directory makes its names durable and not the bytes behind them. A rename within a directory
//! is one change, between directories it is two that may be lost one by one.

mod operations;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::image::{Change, Image, Node};

/// Numbers of facts.
static KNOWN: AtomicU64 = AtomicU64::new(0);

/// What is made durable, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Synced {
    /// The newest copy of the ledger, at the start.
    LedgerAtStart,
    /// A copy of the ledger that was overwritten.
    Ledger,
    /// A new file for a copy of the ledger.
    NewLedger,
    NewManifest,
    Artifact,
    /// The directory of a file that was renamed.
    NameOfLedger,
    NameOfManifest,
    NameOfArtifact,
    /// The directory of a file that was found there.
    NameFound,
    /// The parent of a directory that was made or found.
    Directory,
}

/// A moment at which the power may fail: after every operation, and whenever something became known outside.
#[derive(Debug, Clone)]
pub struct Moment<F> {
    pub durable: Image,
    pub pending: Vec<Change>,
    pub facts: Arc<F>,
    /// Different for different facts.
    pub known: u64,
    /// Length of the log by then.
    pub operations: usize,
}

/// A handle on the disk; clones are the same disk.
pub struct SimDisk<F>(Arc<Mutex<State<F>>>);

pub struct State<F> {
    live: Image,
    durable: Image,
    pending: Vec<Change>,
    next: Node,
    pub log: Vec<String>,
    pub facts: Arc<F>,
    known: u64,
    pub moments: Vec<Moment<F>>,
    pub records: bool,
    /// How often each call made something durable.
    pub syncs: BTreeMap<Synced, usize>,
    /// The process is killed after this many operations.
    pub dies_after: Option<usize>,
    /// A call that does nothing, to see whether anybody notices.
    pub swallowed: Option<Synced>,
    /// Bytes that all files together may have.
    pub capacity: usize,
    /// How many syncs of files succeed before one fails.
    pub fails_after: Option<usize>,
    /// What failed syncs have dropped: whoever syncs such a file again without writing it anew is told so.
    dropped: BTreeMap<Node, Vec<(usize, usize)>>,
    pub retried: BTreeSet<Synced>,
    /// The ledger is being opened.
    pub starts: bool,
}

impl<F> Clone for SimDisk<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> SimDisk<F> {
    pub fn new(image: Image, facts: Arc<F>) -> Self {
        let next = image.files.keys().chain(image.dirs.keys()).max().map_or(1, |node| node + 1);
        Self(Arc::new(Mutex::new(State {
            live: image.clone(),
            durable: image,
            pending: Vec::new(),
            next,
            log: Vec::new(),
            facts,
            known: KNOWN.fetch_add(1, Ordering::Relaxed),
            moments: Vec::new(),
            records: true,
            syncs: BTreeMap::new(),
            dies_after: None,
            swallowed: None,
            capacity: usize::MAX,
            fails_after: None,
            dropped: BTreeMap::new(),
            retried: BTreeSet::new(),
            starts: false,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the running system sees.
    pub fn live(&self) -> Image {
        self.state().live.clone()
    }

    /// Something became known outside.
    pub fn learn(&self, facts: F) {
        let mut state = self.state();
        state.facts = Arc::new(facts);
        state.known = KNOWN.fetch_add(1, Ordering::Relaxed);
        state.note_moment();
    }

    pub fn is_dead(&self) -> bool {
        self.state().dies_after == Some(0)
    }
}

impl<F> State<F> {
    fn note_moment(&mut self) {
        if self.records {
            self.moments.push(self.moment());
        }
    }

    /// The moment that is now.
    pub fn moment(&self) -> Moment<F> {
        let (durable, pending) = (self.durable.clone(), self.pending.clone());
        let (facts, known, operations) = (self.facts.clone(), self.known, self.log.len());
        Moment { durable, pending, facts, known, operations }
    }

    /// A killed process does nothing any more.
    fn begin(&mut self, what: impl FnOnce() -> String) -> io::Result<()> {
        match &mut self.dies_after {
            Some(0) => return Err(io::Error::other("the process was killed")),
            Some(left) => *left -= 1,
            None => {}
        }
        self.log.push(what());
        Ok(())
    }

    fn change(&mut self, change: Change) {
        if let Change::Write { node, offset, bytes } = &change
            && let Some(ranges) = self.dropped.get_mut(node)
        {
            ranges.retain(|(from, to)| from < offset || *to > offset + bytes.len());
        }
        self.live.apply(&change);
        self.pending.push(change);
        self.note_moment();
    }

    fn grow(&self, node: Node, size: usize) -> io::Result<()> {
        let used: usize = self.live.files.values().map(|bytes| bytes.len()).sum();
        let has = self.live.files.get(&node).map_or(0, |bytes| bytes.len());
        let more = size.saturating_sub(has);
        if more > 0 && used.saturating_add(more) > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn flush(&mut self, touches: impl Fn(&Change) -> bool) {
        for change in std::mem::take(&mut self.pending) {
            if touches(&change) {
                self.durable.apply(&change);
            } else {
                self.pending.push(change);
            }
        }
        self.note_moment();
    }

    /// The data of a failed sync stay in memory and never reach the disk.
    fn drop_pages(&mut self, node: Node) {
        let ranges = self.dropped.entry(node).or_default();
        self.pending.retain(|change| match change {
            Change::Write { node: written, offset, bytes } if *written == node => {
                ranges.push((*offset, offset + bytes.len()));
                false
            }
            _ => true,
        });
        self.note_moment();
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        self.live.find(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn parent(&self, path: &Path) -> io::Result<(Node, Arc<str>)> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let dir = self.node(parent)?;
        if !self.live.dirs.contains_key(&dir) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok((dir, name.as_ref().into()))
    }

    fn make(&mut self, path: &Path, is_dir: bool) -> io::Result<Node> {
        let (dir, name) = self.parent(path)?;
        let node = self.next;
        self.next += 1;
        for image in [&mut self.live, &mut self.durable] {
            if is_dir {
                image.dirs.insert(node, BTreeMap::new());
            } else {
                image.files.insert(node, Arc::default());
            }
        }
        self.change(Change::Names { dir, names: vec![(name, Some(node))] });
        Ok(node)
    }

    /// False when this call shall do nothing.
    fn counts(&mut self, sync: Synced) -> bool {
        *self.syncs.entry(sync).or_default() += 1;
        self.swallowed != Some(sync)
    }

    fn sync_of_file(&self, path: &Path) -> Synced {
        let text = path.to_string_lossy();
        match () {
            () if text.contains("ledger") && text.ends_with(".tmp") => Synced::NewLedger,
            () if text.contains("ledger") && self.starts => Synced::LedgerAtStart,
            () if text.contains("ledger") => Synced::Ledger,
            () if text.contains("staging/") => Synced::Artifact,
            () => Synced::NewManifest,
        }
    }

    /// A directory is synced for what was done just before.
    fn sync_of_dir(&self) -> Synced {
        let before = self.log.iter().rev().nth(1).map(String::as_str).unwrap_or_default();
        match () {
            () if before.starts_with("mkdir") => Synced::Directory,
            () if before.starts_with("rename ledger") => Synced::NameOfLedger,
            () if before.starts_with("rename artifacts") => Synced::NameOfManifest,
            () if before.starts_with("rename staging") => Synced::NameOfArtifact,
            () => Synced::NameFound,
        }
    }
}
