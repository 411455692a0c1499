//! Metadata over MQTT: one question and one answer at a time, part by part.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use muster_trust::{MetadataSource, SourceError};
use shared::{
    Digest,
    message::{METADATA_PART_BYTES, MetadataPart, Request},
};
use tokio::sync::mpsc;

use super::outgoing::Outgoing;

/// A part that does not come within this time was lost on the way; it is asked for again.
const PART_TIMEOUT: Duration = Duration::from_secs(5);

/// Questions for one part. After that the link is as good as gone, and the core backs off.
const MAX_ATTEMPTS: u32 = 4;

/// Manifests remembered between their fetch and their storage; a desired state names no more models than this.
const MAX_MANIFESTS: usize = 64;

/// The receiving half, fed by whoever reads the link.
pub(super) type Parts = mpsc::Sender<MetadataPart>;

/// Fetches metadata files from the server by name. Clones share the one question.
#[derive(Clone)]
pub(super) struct Fetcher {
    outgoing: Outgoing,
    parts: Arc<tokio::sync::Mutex<mpsc::Receiver<MetadataPart>>>,
    manifests: ManifestBytes,
}

/// The bytes of manifests as they came, by digest: the store keeps what was signed, not what was understood.
#[derive(Debug, Clone, Default)]
pub(super) struct ManifestBytes(Arc<Mutex<BTreeMap<Digest, Vec<u8>>>>);

impl ManifestBytes {
    fn remember(&self, bytes: &[u8]) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() < MAX_MANIFESTS {
            held.insert(Digest::of(bytes), bytes.to_vec());
        }
    }

    /// Takes everything that was fetched since the last call.
    pub(super) fn take(&self) -> BTreeMap<Digest, Vec<u8>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Fetcher {
    pub(super) fn new(outgoing: Outgoing, manifests: ManifestBytes) -> (Self, Parts) {
        // One question is open at a time; late answers to earlier ones are what else may lie here.
        let (sender, receiver) = mpsc::channel(8);
        (Self { outgoing, parts: Arc::new(tokio::sync::Mutex::new(receiver)), manifests }, sender)
    }

    async fn part(
        &self,
        parts: &mut mpsc::Receiver<MetadataPart>,
        name: &str,
        offset: u64,
    ) -> Result<MetadataPart, SourceError> {
        let network = |text: &str| SourceError::Network { name: name.into(), cause: text.into() };
        for _ in 0..MAX_ATTEMPTS {
            self.outgoing.request(&Request::Metadata { name: name.into(), offset });
            match tokio::time::timeout(PART_TIMEOUT, answer_to(parts, name, offset)).await {
                Ok(Some(part)) => return Ok(part),
                Ok(None) => return Err(network("the agent is stopping")),
                Err(_) => tracing::debug!(name, offset, "no answer to a metadata request"),
            }
        }
        Err(network("the server does not answer"))
    }
}

async fn answer_to(
    parts: &mut mpsc::Receiver<MetadataPart>,
    name: &str,
    offset: u64,
) -> Option<MetadataPart> {
    loop {
        let part = parts.recv().await?;
        if part.name == name && part.offset == offset {
            return Some(part);
        }
    }
}

impl MetadataSource for Fetcher {
    async fn fetch(&self, name: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let mut parts = self.parts.lock().await;
        let mut bytes = Vec::new();
        loop {
            let part = self.part(&mut parts, name, bytes.len() as u64).await?;
            let Some(total) = part.total_bytes else { return Ok(None) };
            if total > max_bytes || part.bytes.len() > METADATA_PART_BYTES {
                return Err(SourceError::TooLong { name: name.into(), max_bytes });
            }
            bytes.extend_from_slice(&part.bytes);
            if bytes.len() as u64 >= total {
                break;
            }
            if part.bytes.is_empty() {
                return Err(SourceError::Network {
                    name: name.into(),
                    cause: "the server sent an empty part".into(),
                });
            }
        }
        if name.contains('/') {
            self.manifests.remember(&bytes);
        }
        Ok(Some(bytes))
    }
}
