//! Windows of many devices added up, each once.

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;

use super::{FeatureCounts, Origin, Window, seen::Seen};
use crate::reference::{Reference, ReferenceId};

/// Runs of its agent that a sum remembers of one device, so that one that invents boots takes no room from the others.
pub const MAX_BOOTS: usize = 64;

/// The sum of windows that were counted against one reference, and which windows those are.
///
/// A window counts once, however often it is delivered; windows and partial sums may come in any order and give the
/// same bits. Memory: the counts of one window, and for each run of an agent its two names and at most 64 ranges of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedWindows {
    reference: Arc<Reference>,
    max_origins: usize,
    features: Vec<FeatureCounts>,
    seen: BTreeMap<Origin, Seen>,
    windows: u64,
    /// Earliest start and latest end, in milliseconds since 1970 by the devices' clocks.
    span_ms: Option<(u64, u64)>,
}

/// What became of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is in the sum now.
    Counted,
    /// It was in the sum already, or is so late that this is no longer known: nothing changed.
    SeenBefore,
}

/// Why windows were not added. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeError {
    /// They were counted against something else.
    #[error(
        "windows of reference {theirs} cannot be added to those of {ours}: the same bin means another range there; \
         keep a sum for each reference"
    )]
    OtherReference {
        /// The reference of the sum.
        ours: ReferenceId,
        /// That of the windows.
        theirs: ReferenceId,
    },
    /// They have other features than their reference.
    #[error(
        "window {sequence} of device '{device}' has other features or bins than its reference: decode or seal it with \
         that reference"
    )]
    OtherFeatures {
        /// Who sent it.
        device: String,
        /// Its number.
        sequence: u64,
    },
    /// No room to remember one more run of an agent.
    #[error(
        "the sum remembers {max_origins} runs of agents and has no room for device '{device}': start a new sum for \
         the next period, or give this one more room"
    )]
    TooManyOrigins {
        /// The bound.
        max_origins: usize,
        /// Who was not added.
        device: String,
    },
    /// One device was started too often.
    #[error(
        "device '{device}' has windows of {MAX_BOOTS} runs of its agent in this sum already: see why it restarts, or \
         start a new sum for the next period"
    )]
    TooManyBoots {
        /// Which device.
        device: String,
    },
    /// Two sums have some windows in common, but not all of either.
    #[error(
        "window {sequence} of device '{device}' is in both sums, and neither sum is part of the other: what they share \
         cannot be told apart; add the windows one by one"
    )]
    Overlap {
        /// Whose window it is.
        device: String,
        /// Its number.
        sequence: u64,
    },
}

impl MergedWindows {
    /// An empty sum that remembers windows of at most `max_origins` runs of agents.
    #[must_use]
    pub fn new(reference: Arc<Reference>, max_origins: usize) -> Self {
        let features = reference.features().iter().map(|it| FeatureCounts::empty(&it.values)).collect();
        Self { reference, max_origins, features, seen: BTreeMap::new(), windows: 0, span_ms: None }
    }

    /// Adds a window, once.
    ///
    /// # Errors
    /// When it is of another reference, has not its features, or comes from one run of an agent too many.
    pub fn add(&mut self, window: &Window) -> Result<Added, MergeError> {
        self.check(window)?;
        let is_new = match self.seen.get_mut(&window.origin) {
            Some(seen) => seen.insert(window.sequence),
            None => self.remember(window)?,
        };
        if !is_new {
            return Ok(Added::SeenBefore);
        }
        add_each(&mut self.features, &window.features);
        self.windows += 1;
        self.extend_span(window.from_ms, window.to_ms);
        Ok(Added::Counted)
    }

    /// Adds another sum. One that is part of this one, such as the same one delivered twice, changes nothing.
    ///
    /// # Errors
    /// When it is of another reference, when the two share only some windows, or when they have too many runs of
    /// agents together.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        self.check_reference(other.reference.id())?;
        if includes(&self.seen, &other.seen) {
            return Ok(());
        }
        if includes(&other.seen, &self.seen) {
            let max_origins = self.max_origins;
            check_room(max_origins, &self.seen, &other.seen)?;
            *self = Self { max_origins, ..other.clone() };
            return Ok(());
        }
        if let Some((origin, sequence)) = first_shared(&self.seen, &other.seen) {
            return Err(MergeError::Overlap { device: origin.device.clone(), sequence });
        }
        check_room(self.max_origins, &self.seen, &other.seen)?;
        for (origin, seen) in &other.seen {
            self.seen.entry(origin.clone()).or_default().unite(seen);
        }
        add_each(&mut self.features, &other.features);
        self.windows = self.windows.saturating_add(other.windows);
        if let Some((from_ms, to_ms)) = other.span_ms {
            self.extend_span(from_ms, to_ms);
        }
        Ok(())
    }

    /// The counts of each feature, in the order of the reference.
    #[must_use]
    pub fn features(&self) -> &[FeatureCounts] {
        &self.features
    }

    /// What they were counted against.
    #[must_use]
    pub fn reference(&self) -> &Arc<Reference> {
        &self.reference
    }

    /// Number of windows in the sum.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// Number of runs of agents whose windows are in it.
    #[must_use]
    pub fn origins(&self) -> usize {
        self.seen.len()
    }

    /// Whether a window is in the sum, or is too late to get in.
    #[must_use]
    pub fn has_seen(&self, origin: &Origin, sequence: u64) -> bool {
        self.seen.get(origin).is_some_and(|seen| seen.contains(sequence))
    }

    /// Earliest start and latest end of its windows, in milliseconds since 1970 by the devices' clocks.
    #[must_use]
    pub fn span_ms(&self) -> Option<(u64, u64)> {
        self.span_ms
    }

    fn check_reference(&self, theirs: ReferenceId) -> Result<(), MergeError> {
        let ours = self.reference.id();
        if ours == theirs { Ok(()) } else { Err(MergeError::OtherReference { ours, theirs }) }
    }

    /// Only that adding makes sense: what comes from outside was checked when it was decoded.
    fn check(&self, window: &Window) -> Result<(), MergeError> {
        self.check_reference(window.reference)?;
        let expected = self.reference.features();
        let mut pairs = window.features.iter().zip(expected);
        if window.features.len() == expected.len() && pairs.all(|(it, like)| it.has_bins_of(&like.values)) {
            return Ok(());
        }
        Err(MergeError::OtherFeatures { device: window.origin.device.clone(), sequence: window.sequence })
    }

    fn remember(&mut self, window: &Window) -> Result<bool, MergeError> {
        let device = &window.origin.device;
        if boots_of(device, &self.seen) >= MAX_BOOTS {
            return Err(MergeError::TooManyBoots { device: device.clone() });
        }
        if self.seen.len() >= self.max_origins {
            let (max_origins, device) = (self.max_origins, device.clone());
            return Err(MergeError::TooManyOrigins { max_origins, device });
        }
        Ok(self.seen.entry(window.origin.clone()).or_default().insert(window.sequence))
    }

    fn extend_span(&mut self, from_ms: u64, to_ms: u64) {
        let (first, last) = self.span_ms.unwrap_or((from_ms, to_ms));
        self.span_ms = Some((first.min(from_ms), last.max(to_ms)));
    }
}

/// Both are of one reference, which was checked, so none is refused.
fn add_each(sums: &mut [FeatureCounts], more: &[FeatureCounts]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        let added = sum.merge(more);
        debug_assert_eq!(added, Ok(()));
    }
}

fn includes(whole: &BTreeMap<Origin, Seen>, part: &BTreeMap<Origin, Seen>) -> bool {
    part.iter().all(|(origin, theirs)| whole.get(origin).is_some_and(|ours| ours.includes(theirs)))
}

fn first_shared<'a>(
    ours: &'a BTreeMap<Origin, Seen>,
    theirs: &BTreeMap<Origin, Seen>,
) -> Option<(&'a Origin, u64)> {
    ours.iter().find_map(|(origin, seen)| Some((origin, seen.first_shared(theirs.get(origin)?)?)))
}

fn check_room(
    max_origins: usize,
    ours: &BTreeMap<Origin, Seen>,
    theirs: &BTreeMap<Origin, Seen>,
) -> Result<(), MergeError> {
    let mut new = theirs.keys().filter(|origin| !ours.contains_key(origin));
    let room = max_origins.saturating_sub(ours.len());
    if let Some(origin) = new.nth(room) {
        return Err(MergeError::TooManyOrigins { max_origins, device: origin.device.clone() });
    }
    let new = theirs.keys().filter(|origin| !ours.contains_key(origin));
    let mut by_device = BTreeMap::<&str, usize>::new();
    for Origin { device, .. } in new {
        let boots = by_device.entry(device).or_insert_with(|| boots_of(device, ours));
        *boots += 1;
        if *boots > MAX_BOOTS {
            return Err(MergeError::TooManyBoots { device: device.clone() });
        }
    }
    Ok(())
}

fn boots_of(device: &str, seen: &BTreeMap<Origin, Seen>) -> usize {
    let first = Origin { device: device.to_owned(), boot: String::new() };
    seen.range(first..).take_while(|(origin, _)| origin.device == device).count()
}
