//! The models that are loaded, and the one pointer per model that a hot swap changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use arc_swap::ArcSwapOption;
use muster_engine::Session;
use shared::{
    ModelName, ReleaseId, Version,
    manifest::{Budgets, TensorSpec},
    telemetry::VersionFigures,
};
use tokio::sync::oneshot;

use super::{
    capture::{Capture, Captures},
    challenge::{books::Books, feed::Feed, flights::Flights},
    confidence::Confidence,
    custom::CustomNames,
    figures::{Figures, Wake},
    hangs::Hangs,
    memory::Memory,
    pool::Pool,
    recent::Recent,
};

/// A loaded version. A request holds it while it is answered, so an old version goes when its last request has.
pub(crate) struct Loaded {
    pub(crate) release: ReleaseId,
    pub(crate) session: Box<dyn Session>,
    pub(crate) budgets: Budgets,
    pub(crate) figures: Arc<Figures>,
    pub(crate) confidence: Confidence,
    /// What counts its features, where they are watched for drift.
    pub(crate) capture: Option<Arc<Capture>>,
    /// Told when this value is dropped, by being dropped.
    pub(crate) _gone: oneshot::Sender<()>,
}

impl Loaded {
    pub(crate) fn inputs(&self) -> &[TensorSpec] {
        self.session.inputs()
    }

    pub(crate) fn outputs(&self) -> &[TensorSpec] {
        self.session.outputs()
    }
}

/// A model: its versions, and which of them answers.
pub(crate) struct Model {
    pub(crate) active: ArcSwapOption<Loaded>,
    pub(crate) pool: Pool,
    versions: RwLock<BTreeMap<Version, Arc<Loaded>>>,
    recent: Mutex<Recent>,
    custom_names: Mutex<CustomNames>,
    /// Where a share of its inferences goes, while there is a challenger.
    pub(crate) feed: ArcSwapOption<Feed>,
}

impl Model {
    /// A version by its number.
    pub(crate) fn version(&self, version: Version) -> Option<Arc<Loaded>> {
        self.versions.read().unwrap_or_else(PoisonError::into_inner).get(&version).cloned()
    }

    /// All loaded versions, lowest first.
    pub(crate) fn versions(&self) -> Vec<Arc<Loaded>> {
        self.versions.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn custom_names(&self) -> MutexGuard<'_, CustomNames> {
        self.custom_names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that is loaded.
pub(crate) struct Models {
    by_name: RwLock<BTreeMap<ModelName, Arc<Model>>>,
    /// Figures of every version, also of one that is gone and has figures untold.
    figures: Mutex<Vec<Arc<Figures>>>,
    pub(crate) wake: Arc<Wake>,
    pub(crate) captures: Captures,
    pub(crate) memory: Arc<Memory>,
    pub(crate) hangs: Arc<Hangs>,
    /// Requests under way.
    pub(crate) flights: Arc<Flights>,
    /// What champions and challengers did side by side.
    pub(crate) books: Arc<Books>,
}

impl Models {
    pub(crate) fn new() -> Self {
        let wake = Arc::<Wake>::default();
        Self {
            by_name: RwLock::default(),
            figures: Mutex::default(),
            books: Arc::new(Books::new(Arc::clone(&wake))),
            wake,
            captures: Captures::default(),
            memory: Arc::default(),
            hangs: Arc::default(),
            flights: Arc::default(),
        }
    }

    pub(crate) fn get(&self, name: &ModelName) -> Option<Arc<Model>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All models, by name.
    pub(crate) fn all(&self) -> Vec<(ModelName, Arc<Model>)> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        by_name.iter().map(|(name, model)| (name.clone(), Arc::clone(model))).collect()
    }

    /// Figures for a version that is about to be loaded.
    pub(crate) fn new_figures(&self, release: &ReleaseId) -> Arc<Figures> {
        let figures = Arc::new(Figures::new(release.clone(), Arc::clone(&self.wake)));
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&figures));
        figures
    }

    /// What was counted since the last call; forgets the figures that nobody can add to any more.
    pub(crate) fn take_figures(&self) -> Vec<VersionFigures> {
        let mut all = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        // Held by this list alone *before* the taking: nothing can be added between.
        let (last, live): (Vec<_>, Vec<_>) =
            all.drain(..).partition(|figures| Arc::strong_count(figures) == 1);
        let taken = last.iter().chain(&live).filter_map(|figures| figures.take()).collect();
        *all = live;
        taken
    }

    /// Adds a version beside those of its model.
    pub(crate) fn insert(&self, loaded: Loaded) -> std::io::Result<()> {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let name = loaded.release.model.clone();
        let model = match by_name.get(&name) {
            Some(model) => Arc::clone(model),
            None => Arc::new(Model {
                active: ArcSwapOption::empty(),
                pool: Pool::start(Arc::clone(&self.hangs), Arc::clone(&self.memory))?,
                versions: RwLock::default(),
                recent: Mutex::default(),
                custom_names: Mutex::default(),
                feed: ArcSwapOption::empty(),
            }),
        };
        let mut versions = model.versions.write().unwrap_or_else(PoisonError::into_inner);
        versions.insert(loaded.release.version, Arc::new(loaded));
        drop(versions);
        by_name.insert(name, model);
        Ok(())
    }

    /// True when the version is loaded.
    pub(crate) fn has(&self, release: &ReleaseId) -> bool {
        self.get(&release.model).is_some_and(|model| model.version(release.version).is_some())
    }

    /// Lets a loaded version answer; false when it is not loaded.
    pub(crate) fn switch(&self, release: &ReleaseId) -> bool {
        let Some(model) = self.get(&release.model) else { return false };
        let Some(loaded) = model.version(release.version) else { return false };
        model.active.store(Some(loaded));
        true
    }

    /// Takes a version out; requests that hold it go on. A model without versions is forgotten. False when the
    /// version is not loaded.
    pub(crate) fn remove(&self, release: &ReleaseId) -> bool {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let Some(model) = by_name.get(&release.model) else { return false };
        let mut versions = model.versions.write().unwrap_or_else(PoisonError::into_inner);
        let Some(removed) = versions.remove(&release.version) else { return false };
        if model.active.load().as_ref().is_some_and(|active| Arc::ptr_eq(active, &removed)) {
            model.active.store(None);
        }
        let empty = versions.is_empty();
        drop(versions);
        if empty {
            by_name.remove(&release.model);
        }
        true
    }
}
