//! What the daemon knows of the features of its releases. Decides everything about them, and touches nothing.

use std::collections::{BTreeMap, BTreeSet};

use muster_sketch::{
    detector::MAX_THINNING,
    reference::{Reference, ReferenceId},
    window::{FeatureCounts, MIN_WINDOW_ROWS, Origin, Window},
};
use shared::{
    Digest, ReleaseId, Timestamp,
    manifest::DriftSpec,
    message::MAX_PACKET_BYTES,
    sketch::SketchMessage,
    telemetry::{DriftAlarm, MAX_VERSIONS, VersionFigures},
};

use super::{figures::drift_of, guard::Guard, kept::Kept};
use crate::{
    control::DriftView,
    runner::{Paced, Sketched},
};

/// Releases that something is known of: as many as a device can run.
pub(super) const MAX_RELEASES: usize = MAX_VERSIONS;

/// What the header of an MQTT packet takes, and the topic.
const PACKET_ROOM: usize = 1_024;

/// Longer messages fit no packet. Only a reference with tens of thousands of categories makes them.
const MAX_MESSAGE_BYTES: usize = MAX_PACKET_BYTES - PACKET_ROOM;

/// All releases that something is known of.
pub(super) struct Book {
    origin: Origin,
    /// Of the next window, over all releases.
    next_sequence: u64,
    releases: BTreeMap<ReleaseId, Entry>,
    /// Those that are gone from the book and still on the disk.
    dropped: BTreeMap<ReleaseId, Hurry>,
}

struct Entry {
    kept: Kept,
    /// What this run knows from its manifest.
    watched: Option<WatchedSpec>,
    /// Why its features are not counted in this run.
    uncounted: Option<String>,
    /// The device does not keep it any more. What it has alarmed is still to be told.
    is_gone: bool,
    rows: u64,
    windows: u64,
    lost: u64,
    unsaved: Option<Hurry>,
}

struct WatchedSpec {
    reference: Reference,
    min_rows: u64,
    /// What the manifest says, over whatever was measured.
    every: Option<u32>,
    guard: Option<Guard>,
}

/// How soon something is to be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hurry {
    /// When it is convenient.
    None,
    /// At once.
    Now,
}

/// What is to be done on the disk.
#[derive(Debug)]
pub(super) enum Change {
    Write(Box<Kept>),
    Drop(ReleaseId),
}

/// A window that was taken in.
#[derive(Debug)]
pub(super) struct Closed {
    /// For the server.
    pub(super) message: Vec<u8>,
    pub(super) figures: VersionFigures,
    pub(super) alarms: Vec<DriftAlarm>,
}

impl Change {
    pub(super) fn release(&self) -> &ReleaseId {
        match self {
            Self::Write(kept) => &kept.release,
            Self::Drop(release) => release,
        }
    }
}

impl Book {
    /// Goes on with what was kept.
    pub(super) fn new(origin: Origin, kept: Vec<Kept>) -> Self {
        let entries = kept.into_iter().map(|kept| (kept.release.clone(), Entry::new(kept)));
        Self { origin, next_sequence: 1, releases: entries.collect(), dropped: BTreeMap::new() }
    }

    /// A release is about to be loaded. What is known under its name of another model or reference is forgotten.
    ///
    /// # Errors
    /// When its guardrail makes no rule, in words. Its windows are taken all the same.
    pub(super) fn watch(
        &mut self,
        release: &ReleaseId,
        model: Digest,
        spec: &DriftSpec,
    ) -> Result<(), String> {
        self.know(release, model, spec.reference.id());
        let guard = Guard::of(spec);
        let (guard, why) = match guard {
            Ok(guard) => (guard, Ok(())),
            Err(why) => (None, Err(why)),
        };
        if let Some(entry) = self.releases.get_mut(release) {
            let (min_rows, every) = (spec.capture.min_rows.into(), spec.capture.every);
            let reference = spec.reference.clone();
            entry.watched = Some(WatchedSpec { reference, min_rows, every, guard });
            entry.uncounted = None;
        }
        why
    }

    /// A release is about to be loaded whose features cannot be counted.
    pub(super) fn leave_out(&mut self, release: &ReleaseId, model: Digest, spec: &DriftSpec, why: String) {
        self.know(release, model, spec.reference.id());
        if let Some(entry) = self.releases.get_mut(release) {
            (entry.watched, entry.uncounted) = (None, Some(why));
        }
    }

    fn know(&mut self, release: &ReleaseId, model: Digest, reference: ReferenceId) {
        if !self.releases.get(release).is_some_and(|entry| entry.is_of(model, reference)) {
            self.make_room();
            self.releases.insert(release.clone(), Entry::new(Kept::new(release.clone(), model, reference)));
            self.dropped.remove(release);
        } else if let Some(entry) = self.releases.get_mut(release) {
            entry.is_gone = false;
        }
    }

    /// Every how manieth row of a release is counted, if the runner has measured it.
    pub(super) fn every(&self, release: &ReleaseId) -> Option<u32> {
        Some(self.releases.get(release)?.kept.pace?.every)
    }

    /// The runner has measured it.
    pub(super) fn paced(&mut self, paced: &Paced) {
        let may_be = (1..=MAX_THINNING).contains(&paced.pace.every);
        if let Some(entry) = self.releases.get_mut(&paced.release)
            && entry.kept.reference == paced.reference
            && may_be
        {
            entry.kept.pace = Some(paced.pace);
            entry.unsaved = Some(Hurry::Now);
        }
    }

    /// Takes a window in. The runner parses what anybody sends it, so its counts are believed only as far as they can be
    /// counts, and no window leaves that has too few rows to hide them, nor what is more than bins of a feature with too few
    /// values.
    ///
    /// # Errors
    /// Why it is dropped, in words.
    pub(super) fn close(
        &mut self,
        sketched: Sketched,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Closed, String> {
        let Sketched { release, reference, every, mut features, .. } = sketched;
        let entry = self.releases.get_mut(&release).ok_or("its release is not watched")?;
        let watched = entry.watched.as_ref().ok_or("its release is not watched")?;
        let rows = features.first().map_or(0, FeatureCounts::rows);
        let least = watched.min_rows.max(MIN_WINDOW_ROWS);
        if rows < least {
            return Err(format!("it has {rows} rows, and {least} are the least"));
        }
        let pairs = features.iter_mut().zip(watched.reference.features());
        pairs.for_each(|(counts, feature)| counts.hide_few(&feature.values));
        let window = Window {
            reference,
            origin: self.origin.clone(),
            sequence: self.next_sequence,
            from_ms: from.as_millis(),
            to_ms: to.as_millis(),
            stride: every,
            features,
        };
        let bytes = window.encode(&watched.reference).map_err(|error| error.to_string())?;
        let message = SketchMessage { release: release.clone(), window: &bytes }.encode();
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(format!("it takes {} bytes, and {MAX_MESSAGE_BYTES} fit a packet", message.len()));
        }
        self.next_sequence += 1;
        entry.windows += 1;
        entry.rows += rows;
        let mut figures = VersionFigures::new(release);
        figures.drift = drift_of(&watched.reference, &window.features);
        let alarms = entry.look(&window.features, to.as_millis() / 1_000);
        Ok(Closed { message, figures, alarms })
    }

    /// A window was taken in and did not reach the courier.
    pub(super) fn lost(&mut self, release: &ReleaseId) {
        if let Some(entry) = self.releases.get_mut(release) {
            entry.lost += 1;
        }
    }

    /// Alarms that the server does not have, as far as is known here.
    pub(super) fn untold(&self) -> Vec<DriftAlarm> {
        let alarms = self.releases.values().flat_map(|entry| &entry.kept.alarms);
        alarms.filter(|kept| !kept.told).map(|kept| kept.alarm.clone()).collect()
    }

    /// The server has these alarms. That is written down when it is convenient: until then a restart tells them again, which
    /// the server can tell.
    pub(super) fn told(&mut self, alarms: &[DriftAlarm]) {
        for alarm in alarms {
            let Some(entry) = self.releases.get_mut(&alarm.release) else { continue };
            for kept in entry.kept.alarms.iter_mut().filter(|kept| kept.alarm == *alarm) {
                kept.told = true;
                entry.unsaved = entry.unsaved.max(Some(Hurry::None));
            }
        }
        self.forget_gone();
    }

    /// Forgets releases whose model is not among `digests`, when the server has their alarms.
    pub(super) fn keep(&mut self, digests: &BTreeSet<Digest>) {
        for entry in self.releases.values_mut() {
            entry.is_gone = !digests.contains(&entry.kept.model);
        }
        self.forget_gone();
    }

    fn forget_gone(&mut self) {
        let gone = self.releases.extract_if(.., |_, entry| entry.is_gone && !entry.kept.has_untold());
        self.dropped.extend(gone.map(|(release, _)| (release, Hurry::Now)));
    }

    /// What is to be on the disk with this hurry or more. It is no longer unsaved then, until somebody says so.
    pub(super) fn changes(&mut self, least: Hurry) -> Vec<Change> {
        let dropped = self.dropped.extract_if(.., |_, hurry| *hurry >= least);
        let mut changes: Vec<_> = dropped.map(|(release, _)| Change::Drop(release)).collect();
        for entry in self.releases.values_mut().filter(|entry| entry.unsaved >= Some(least)) {
            entry.unsaved = None;
            changes.push(Change::Write(Box::new(entry.kept.clone())));
        }
        changes
    }

    /// The disk did not take a change. It waits for the next time that everything is written, so one that the disk never takes
    /// is no reason to ask the disk more often.
    pub(super) fn undone(&mut self, change: Change) {
        match (self.releases.get_mut(change.release()), change) {
            (Some(entry), Change::Write(_)) => entry.unsaved = entry.unsaved.max(Some(Hurry::None)),
            (None, Change::Drop(release)) => drop(self.dropped.insert(release, Hurry::None)),
            // It came, or went, meanwhile.
            (Some(_), Change::Drop(_)) | (None, Change::Write(_)) => {}
        }
    }

    /// Whether something waits for the disk.
    pub(super) fn waits(&self) -> bool {
        !self.dropped.is_empty() || self.releases.values().any(|entry| entry.unsaved.is_some())
    }

    /// For the operator of the device: what is counted in this run, and what has alarmed.
    pub(super) fn views(&self) -> Vec<DriftView> {
        self.releases.values().filter(|entry| entry.is_of_interest()).map(Entry::view).collect()
    }

    /// A release that this run does not load makes room for one that it does; one whose alarms the server has is the first.
    fn make_room(&mut self) {
        while self.releases.len() >= MAX_RELEASES {
            let worth = |(_, entry): &(&ReleaseId, &Entry)| {
                (entry.is_loaded() && !entry.is_gone, entry.kept.has_untold())
            };
            let Some(release) = self.releases.iter().min_by_key(worth).map(|(release, _)| release.clone())
            else {
                return;
            };
            self.releases.remove(&release);
            self.dropped.insert(release, Hurry::Now);
        }
    }
}

impl Entry {
    fn new(kept: Kept) -> Self {
        let (watched, uncounted, is_gone, unsaved) = (None, None, false, None);
        Self { kept, watched, uncounted, is_gone, rows: 0, windows: 0, lost: 0, unsaved }
    }

    fn is_loaded(&self) -> bool {
        self.watched.is_some() || self.uncounted.is_some()
    }

    fn is_of(&self, model: Digest, reference: ReferenceId) -> bool {
        self.kept.model == model && self.kept.reference == reference
    }

    fn is_of_interest(&self) -> bool {
        self.is_loaded() || !self.kept.alarms.is_empty()
    }

    /// The guardrail's look at a window.
    fn look(&mut self, features: &[FeatureCounts], at_secs: u64) -> Vec<DriftAlarm> {
        let Some(WatchedSpec { reference, guard: Some(guard), .. }) = &self.watched else {
            return Vec::new();
        };
        let found = guard.look(&mut self.kept.watches, features, at_secs);
        let name = |place: usize| reference.features().get(place).map(|feature| feature.name.clone());
        let alarms: Vec<DriftAlarm> = found
            .into_iter()
            .filter_map(|(place, alarm)| {
                Some(DriftAlarm { release: self.kept.release.clone(), feature: name(place)?, alarm })
            })
            .collect();
        let hurry = if alarms.is_empty() { Hurry::None } else { Hurry::Now };
        self.unsaved = self.unsaved.max(Some(hurry));
        self.kept.add(&alarms);
        alarms
    }

    fn view(&self) -> DriftView {
        let said = self.watched.as_ref().and_then(|watched| watched.every);
        DriftView {
            release: self.kept.release.clone(),
            uncounted: self.uncounted.clone(),
            every: said.or(self.kept.pace.map(|pace| pace.every)),
            beyond_limit: said.is_none() && self.kept.pace.is_some_and(|pace| pace.beyond_limit),
            rows: self.rows,
            windows: self.windows,
            windows_lost: self.lost,
            guardrail: self.watched.as_ref().is_some_and(|watched| watched.guard.is_some()),
            alarms: self.kept.alarms.iter().map(|kept| kept.alarm.clone()).collect(),
        }
    }
}
