//! What a device does with messages that come: desired states, manifests, blocks, acknowledgements.

use std::{collections::BTreeMap, time::Duration};

use agent_core::Input;
use shared::{
    Digest, Generation, Timestamp,
    block::BlockMap,
    manifest::Manifest,
    message::{Assignment, DirectorDocument, MetadataPart, Request, Stream},
    report::RejectReason,
    trust::Verified,
};

use super::{Job, VirtualDevice};
use crate::{
    catalog::file_name,
    wire::{BlockNews, Down, Up},
};

/// How long a manifest may take before the device asks once more.
const METADATA_PATIENCE: Duration = Duration::from_secs(30);

/// Time that the check of a desired state takes, in milliseconds.
const VERIFY_MS: u64 = 5;

/// The check of a desired state whose manifests are on their way.
#[derive(Debug)]
pub(super) struct Verifying {
    generation: Generation,
    /// Files that came in part, by name.
    parts: BTreeMap<String, Vec<u8>>,
    /// Files that the server does not have.
    absent: Vec<String>,
}

impl VirtualDevice {
    /// A message came.
    pub fn receive(&mut self, message: Down, now: Timestamp) {
        if !self.is_on() || !self.online {
            return;
        }
        self.now = now;
        match message {
            Down::Desired(director) => self.desired_came(*director),
            Down::Acknowledgement(acknowledged) if acknowledged.stream == Stream::Report => {
                let (boot, sequence) = (acknowledged.boot, acknowledged.sequence);
                self.give(Input::ReportAcknowledged { boot, sequence });
            }
            Down::Acknowledgement(_) => {}
            Down::Metadata(part) => self.metadata_came(part),
            Down::Block(news) => self.block_news(news),
        }
    }

    fn desired_came(&mut self, director: Verified<DirectorDocument>) {
        let generation = director.generation;
        // Messages overtake each other; the newest counts, as the document's number says.
        if self.desired.as_ref().is_none_or(|known| known.generation <= generation) {
            self.desired = Some(director);
        }
        self.give(Input::DesiredArrived { generation });
    }

    pub(super) fn begin_verifying(&mut self, generation: Generation) {
        let Some(director) = self.desired.clone() else {
            return self.refuse_desired(generation, "the desired state has not come again", true);
        };
        if director.expires_at < self.device_time() {
            return self.refuse_desired(generation, "the desired state is no longer fresh", true);
        }
        let lacking = |named: &&Assignment| !self.disk.manifests.contains_key(&named.manifest_digest);
        let names: Vec<String> =
            director.assignments.iter().filter(lacking).map(|named| file_name(&named.release)).collect();
        self.verifying = Some(Verifying { generation, parts: BTreeMap::new(), absent: vec![] });
        if names.is_empty() {
            return self.finish_verifying();
        }
        for name in names {
            self.messages.push_back(Up::Request(Request::Metadata { name, offset: 0 }));
        }
        self.after(METADATA_PATIENCE, Job::MetadataOverdue(generation));
    }

    fn metadata_came(&mut self, part: MetadataPart) {
        let Some(verifying) = &mut self.verifying else { return };
        let Some(total) = part.total_bytes else {
            verifying.absent.push(part.name);
            return self.advance_verifying();
        };
        let file = verifying.parts.entry(part.name.clone()).or_default();
        if part.offset != file.len() as u64 {
            return;
        }
        file.extend_from_slice(&part.bytes);
        let offset = file.len() as u64;
        if offset < total {
            return self.messages.push_back(Up::Request(Request::Metadata { name: part.name, offset }));
        }
        self.advance_verifying();
    }

    /// Keeps the manifests that are whole, and ends the check when nothing is missing.
    fn advance_verifying(&mut self) {
        let (Some(verifying), Some(director)) = (&self.verifying, &self.desired) else { return };
        let mut missing = false;
        for (at, named) in director.assignments.iter().enumerate() {
            let name = file_name(&named.release);
            if self.disk.manifests.contains_key(&named.manifest_digest) || verifying.absent.contains(&name) {
                continue;
            }
            let digest = director.project(|document| document.assignments[at].manifest_digest);
            let bytes = verifying.parts.get(&name).map_or(&[][..], Vec::as_slice);
            match Verified::<Manifest>::by_digest(bytes, &digest) {
                Ok(manifest) => {
                    self.disk.manifests.insert(named.manifest_digest, manifest.into_inner());
                }
                Err(_) => missing = true,
            }
        }
        if !missing {
            self.finish_verifying();
        }
    }

    fn finish_verifying(&mut self) {
        let (Some(_), Some(director)) = (self.verifying.take(), self.desired.clone()) else { return };
        let (mut manifests, mut refused) = (vec![], vec![]);
        for (at, named) in director.assignments.iter().enumerate() {
            match self.disk.manifests.get(&named.manifest_digest) {
                Some(manifest) => manifests.push(verified(&director, at, manifest.clone())),
                None => {
                    let detail = format!("the server has no manifest of {}", named.release);
                    refused.push((named.clone(), RejectReason::Untrusted { detail }));
                }
            }
        }
        let director = director.project(Clone::clone);
        self.answer(VERIFY_MS, Input::DesiredVerified { director, manifests, refused });
    }

    pub(super) fn metadata_overdue(&mut self, generation: Generation) {
        if self.verifying.as_ref().is_some_and(|verifying| verifying.generation == generation) {
            self.give_up_verifying();
        }
    }

    /// An answer is owed whatever happens.
    pub(super) fn give_up_verifying(&mut self) {
        if let Some(verifying) = self.verifying.take() {
            self.refuse_desired(verifying.generation, "metadata did not come", true);
        }
    }

    fn refuse_desired(&mut self, generation: Generation, detail: &str, retry: bool) {
        self.answer(VERIFY_MS, Input::DesiredRefused { generation, detail: detail.into(), retry });
    }

    fn block_news(&mut self, news: BlockNews) {
        let (BlockNews::Came { artifact, .. }
        | BlockNews::RetryAfter { artifact, .. }
        | BlockNews::Gone { artifact }) = news;
        let Some(staged) = self.staging.get(&artifact) else { return };
        let packed = staged.packed.digest;
        match news {
            BlockNews::Came { index, bytes, whole: true, .. } => {
                self.keep_block(packed, staged.packed.block_count(), index);
                self.give(Input::BlockStored { packed, index, bytes });
            }
            BlockNews::Came { index, whole: false, .. } => self.give(Input::BlockRefused { packed, index }),
            BlockNews::RetryAfter { delay_ms, .. } => {
                self.give(Input::RetryAfter { packed, delay: Duration::from_millis(delay_ms.into()) });
            }
            BlockNews::Gone { .. } => self.give(Input::ArtifactGone { packed }),
        }
    }

    /// The digest that a block must have, for the shell that has its bytes; `None` when nobody waits for the artifact.
    #[must_use]
    pub fn block_digest(&self, artifact: [u8; 8], index: u32) -> Option<Digest> {
        self.staging.get(&artifact)?.packed.blocks.get(index as usize).copied()
    }

    fn keep_block(&mut self, packed: Digest, count: u32, index: u32) {
        self.disk.blocks.entry(packed).or_insert_with(|| BlockMap::empty(count)).insert(index);
    }
}

/// A manifest whose digest a verified document names, and which was checked when it came.
fn verified(
    director: &Verified<DirectorDocument>,
    at: usize,
    manifest: Manifest,
) -> (Assignment, Digest, Verified<Manifest>) {
    let named = director.assignments[at].clone();
    let digest = named.manifest_digest;
    (named, digest, director.project(|_| manifest))
}
