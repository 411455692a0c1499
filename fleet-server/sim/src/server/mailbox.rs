//! What devices say to the server, as `fleet-server/src/gateway.rs` and `rollouts/fleet.rs` take it.

use fleet_core::{Input, after_report, plan_late};
use shared::{
    DeviceId, ReleaseId, Timestamp,
    message::{
        Acknowledgement, DirectorDocument, DirectorKind, Hello, METADATA_PART_BYTES, MetadataPart, Request,
        Stream,
    },
    report::{ModelState, Report},
};

use super::{
    Flaw, Server,
    entry::{self, Greeting},
};
use crate::{
    catalog::vouched,
    wire::{BlockNews, Down, Up},
};

/// How long the director's word is fresh: as the server signs it anew at each telling, a day is enough.
const FRESH_MS: u64 = 86_400_000;

impl Server {
    /// A device spoke.
    pub fn receive(&mut self, device: &DeviceId, message: Up, now: Timestamp) {
        match message {
            Up::Hello(hello) => self.hello(device, &hello, now),
            Up::Report(report) => self.report(device, &report, now),
            Up::Request(Request::Metadata { name, offset }) => self.send_metadata(device, name, offset),
            Up::Request(Request::Blocks { artifact, block_bytes: _, runs }) => {
                let short = artifact.short();
                let Some(packed) = self.catalog.packed(artifact) else {
                    return self.send(device, Down::Block(BlockNews::Gone { artifact: short }));
                };
                let indices = runs.iter().flat_map(|run| run.first..run.first.saturating_add(run.count));
                let blocks = indices.filter_map(|index| Some((index, packed.block_range(index)?.1)));
                let news = blocks.map(|(index, bytes)| {
                    Down::Block(BlockNews::Came { artifact: short, index, bytes, whole: true })
                });
                for frame in news.collect::<Vec<_>>() {
                    self.send(device, frame);
                }
            }
        }
    }

    /// The broker says whether a device is connected.
    pub fn note_connection(&mut self, device: &DeviceId, connected: bool) {
        if let Some(row) = self.rows.get_mut(device) {
            row.connected = connected;
        }
    }

    /// Tells connected devices again what they have not confirmed.
    pub fn redrive(&mut self) {
        if self.flaw == Some(Flaw::TellsOnce) {
            return;
        }
        for device in self.lagging() {
            self.send_desired(&device);
        }
    }

    /// True when there is somebody to be told again.
    #[must_use]
    pub fn is_anybody_lagging(&self) -> bool {
        self.rows.values().any(|row| row.connected && row.desired.generation > row.seen)
    }

    fn lagging(&self) -> Vec<DeviceId> {
        let lags = self.rows.iter().filter(|(_, row)| row.connected && row.desired.generation > row.seen);
        lags.map(|(device, _)| device.clone()).collect()
    }

    fn hello(&mut self, device: &DeviceId, hello: &Hello, now: Timestamp) {
        let Some(row) = self.rows.get_mut(device) else { return };
        row.inventory = hello.inventory.clone();
        row.models.clone_from(&hello.models);
        (row.seen, row.last_seen, row.connected) = (hello.generation, Some(now), true);
        let holds: Vec<&ReleaseId> = hello.models.iter().flat_map(named).collect();
        let utc_offset_secs = hello.inventory.utc_offset_secs;
        let greeting = Greeting { device, generation: hello.generation, holds, utc_offset_secs };
        for entry in self.entries.values_mut() {
            if !entry.is_finished() || entry.addressed.is_restoring() {
                entry.greet(&greeting, now);
            }
        }
        self.take_in(device, now);
        self.finish();
        if self.flaw != Some(Flaw::TellsOnce) {
            self.send_desired(device);
        }
    }

    /// A device that came to match a continuous rollout is taken in, as `fleet-server/src/rollouts/late.rs` does.
    fn take_in(&mut self, device: &DeviceId, now: Timestamp) {
        let mut takers: Vec<_> = self.rollouts().filter(|machine| machine.takes_in(device)).collect();
        takers.sort_by_key(|machine| std::cmp::Reverse(machine.rank()));
        let takers: Vec<_> = takers.into_iter().map(|machine| machine.id().clone()).collect();
        let known = |release: &ReleaseId| self.catalog.get(release).is_some();
        let Some(facts) = self.rows.get(device).map(|row| entry::facts(device, row, known)) else { return };
        for id in takers {
            let others: Vec<_> = self.rollouts().map(fleet_core::Rollout::summary).collect();
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let machine = &mut entry.machine;
            let Some(published) = self.catalog.get(&machine.spec().release) else { continue };
            if let Some(Ok(planned)) = plan_late(machine.spec(), &published.needs(), &facts, &others) {
                let _ = machine.handle(Input::Join { planned }, now);
                self.take_over(&id, now);
            }
        }
    }

    fn report(&mut self, device: &DeviceId, report: &Report, now: Timestamp) {
        if report.device != *device || !self.rows.contains_key(device) {
            return;
        }
        let key = (device.clone(), report.boot.clone(), report.sequence);
        if self.stored.insert(key) {
            self.take_report(report, now);
            self.reports.push(report.clone());
        }
        self.finish();
        let (boot, sequence) = (report.boot.clone(), report.sequence);
        self.send(device, Down::Acknowledgement(Acknowledgement { stream: Stream::Report, boot, sequence }));
    }

    fn take_report(&mut self, report: &Report, now: Timestamp) {
        let checks_generation = self.flaw != Some(Flaw::IgnoresGenerations);
        if let Some(row) = self.rows.get_mut(&report.device) {
            row.seen = row.seen.max(report.generation);
            row.last_seen = Some(now);
            row.models = after_report(std::mem::take(&mut row.models), report);
        }
        for entry in self.entries.values_mut() {
            let ours = entry.release().model == report.release.model;
            let concerned =
                entry.concerns(report) || (!checks_generation && entry.addressed.has_asked(&report.device));
            if ours && concerned {
                let _ = entry.report(report, now);
            }
        }
    }

    fn send_metadata(&mut self, device: &DeviceId, name: String, offset: u64) {
        let file = self.catalog.file(&name);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = file.and_then(|file| file.get(from..)).unwrap_or_default();
        let bytes = rest[..rest.len().min(METADATA_PART_BYTES)].to_vec();
        let total_bytes = file.map(|file| file.len() as u64);
        self.send(device, Down::Metadata(MetadataPart { name, total_bytes, offset, bytes }));
    }

    /// Tells a device what it shall run.
    pub(super) fn send_desired(&mut self, device: &DeviceId) {
        let Some(row) = self.rows.get(device) else { return };
        let document = DirectorDocument {
            kind: DirectorKind::Director,
            spec_version: "1.0.31".into(),
            device: device.clone(),
            generation: row.desired.generation,
            expires_at: Timestamp(self.now.as_millis().saturating_add(FRESH_MS)),
            assignments: row.desired.assignments.clone(),
            maintenance: None,
            quarantine: None,
        };
        self.send(device, Down::Desired(Box::new(vouched(document))));
    }

    /// A turn begins.
    pub fn set_time(&mut self, now: Timestamp) {
        self.now = now;
    }

    fn send(&mut self, device: &DeviceId, message: Down) {
        if self.rows.get(device).is_some_and(|row| row.connected) {
            self.messages.push((device.clone(), message));
        }
    }
}

fn named(state: &ModelState) -> impl Iterator<Item = &ReleaseId> {
    state.committed.iter().chain(&state.candidate)
}
