//! The thread that owns the store. File work never runs on the runtime, and blocks are written in order.

use std::collections::BTreeSet;

use agent_core::Input;
use agent_store::{BlockFate, Opened, Store, StoreError};
use bytes::Bytes;
use shared::{
    Digest,
    artifact::Artifact,
    block::Frame,
    report::{FailReason, RejectReason},
};
use tokio::sync::{mpsc, oneshot};

/// Frames that may wait for the disk: the core never asks for more blocks at once than a quarter of this.
const QUEUE: usize = 64;

enum Job {
    KeepManifest(Digest, Vec<u8>, oneshot::Sender<Result<(), StoreError>>),
    Open(Artifact),
    Frame(Bytes),
    Unpack(Artifact),
    Collect(BTreeSet<Digest>),
}

/// The sending half; cheap to clone.
#[derive(Clone)]
pub(super) struct Stager {
    jobs: mpsc::Sender<Job>,
}

impl Stager {
    /// Starts the thread. It ends when every handle is gone.
    pub(super) fn start(store: Store, inputs: mpsc::Sender<Input>) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let worker = Worker { store, inputs };
        std::thread::Builder::new().name("stager".into()).spawn(move || worker.run(receiver))?;
        Ok(Self { jobs: sender })
    }

    pub(super) async fn keep_manifest(&self, digest: Digest, bytes: Vec<u8>) -> Result<(), StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.send(Job::KeepManifest(digest, bytes, sender)).await;
        receiver.await.unwrap_or(Err(StoreError::NotStaging))
    }

    pub(super) async fn open(&self, artifact: Artifact) {
        self.send(Job::Open(artifact)).await;
    }

    pub(super) async fn unpack(&self, artifact: Artifact) {
        self.send(Job::Unpack(artifact)).await;
    }

    pub(super) async fn collect(&self, keep: BTreeSet<Digest>) {
        self.send(Job::Collect(keep)).await;
    }

    /// Hands a block frame over; when the disk does not keep up the frame is dropped and will be asked for again.
    pub(super) fn frame(&self, frame: Bytes) {
        if self.jobs.try_send(Job::Frame(frame)).is_err() {
            tracing::debug!("the disk is behind; a block frame was dropped");
        }
    }

    async fn send(&self, job: Job) {
        if self.jobs.send(job).await.is_err() {
            tracing::error!("the store's thread has ended");
        }
    }
}

struct Worker {
    store: Store,
    inputs: mpsc::Sender<Input>,
}

impl Worker {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            let Some(input) = self.perform(job) else { continue };
            if self.inputs.blocking_send(input).is_err() {
                return;
            }
        }
    }

    fn perform(&mut self, job: Job) -> Option<Input> {
        match job {
            Job::KeepManifest(digest, bytes, answer) => {
                let _ = answer.send(self.store.keep_manifest(&digest, &bytes));
                None
            }
            Job::Open(artifact) => Some(self.open(&artifact)),
            Job::Frame(frame) => self.frame(&frame),
            Job::Unpack(artifact) => Some(self.unpack(&artifact)),
            Job::Collect(keep) => {
                match self.store.collect(&keep) {
                    Ok(0) => {}
                    Ok(freed_bytes) => {
                        tracing::info!(freed_bytes, "removed artifacts that are no longer needed")
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot collect artifacts that are no longer needed")
                    }
                }
                None
            }
        }
    }

    fn open(&mut self, artifact: &Artifact) -> Input {
        let packed = artifact.packed.digest;
        match self.store.stage(artifact) {
            Ok(Opened::AlreadyHere) => Input::AlreadyHere { packed },
            Ok(Opened::Staging(here)) => Input::StagingOpened { packed, here },
            Err(error) => Input::StagingFailed { packed, reason: fail_reason(error) },
        }
    }

    fn frame(&mut self, frame: &[u8]) -> Option<Input> {
        let frame = match Frame::decode(frame) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%error, "a block frame cannot be read");
                return None;
            }
        };
        match frame {
            Frame::Block { artifact, index, bytes } => self.block(artifact, index, bytes),
            Frame::RetryAfter { artifact, delay_ms } => {
                let packed = self.store.staging_digest(artifact)?;
                let delay = std::time::Duration::from_millis(delay_ms.into());
                Some(Input::RetryAfter { packed, delay })
            }
            Frame::Gone { artifact } => {
                Some(Input::ArtifactGone { packed: self.store.staging_digest(artifact)? })
            }
        }
    }

    /// A block of an artifact that is no longer wanted is nobody's business.
    fn block(&mut self, artifact: [u8; 8], index: u32, bytes: &[u8]) -> Option<Input> {
        let packed = self.store.staging_digest(artifact)?;
        match self.store.put_block(artifact, index, bytes) {
            Ok((packed, BlockFate::Stored { bytes })) => Some(Input::BlockStored { packed, index, bytes }),
            Ok((packed, BlockFate::Refused)) => Some(Input::BlockRefused { packed, index }),
            Err(error) => Some(Input::StagingFailed { packed, reason: fail_reason(error) }),
        }
    }

    fn unpack(&mut self, artifact: &Artifact) -> Input {
        let packed = artifact.packed.digest;
        match self.store.unpack(artifact) {
            Ok(()) => Input::Unpacked { packed },
            Err(StoreError::WrongBytes(detail)) => {
                Input::UnpackFailed { packed, reason: RejectReason::BadArtifact { detail } }
            }
            Err(error) => Input::StagingFailed { packed, reason: fail_reason(error) },
        }
    }
}

fn fail_reason(error: StoreError) -> FailReason {
    match error {
        StoreError::NoRoom { needed_bytes, free_bytes } => FailReason::DiskFull { needed_bytes, free_bytes },
        StoreError::Io { act, source } => FailReason::Storage { detail: format!("cannot {act}: {source}") },
        other => FailReason::Storage { detail: other.to_string() },
    }
}
