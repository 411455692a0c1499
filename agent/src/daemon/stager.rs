//! The thread that owns the store. File work never runs on the runtime, and blocks are written in order.
//!
//! What the core orders goes before the frames that the link brings, in a lane of its own, and giving an order never
//! waits. So a broker that floods frames delays no order, and the shell, which takes the stager's answers, can never
//! wait for a stager that waits for it.

mod lanes;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

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

use lanes::{Job, Lanes, Order};

/// The sending half; cheap to clone.
#[derive(Clone)]
pub(super) struct Stager {
    lanes: Arc<Sending>,
}

/// Closes the lanes when the last handle is gone.
struct Sending(Arc<Lanes>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Stager {
    /// Starts the thread. It ends when every handle is gone.
    pub(super) fn start(store: Store, inputs: mpsc::Sender<Input>) -> std::io::Result<Self> {
        let lanes = Arc::new(Lanes::default());
        let worker = Worker { store, fresh: VecDeque::new(), inputs, lanes: Arc::clone(&lanes) };
        std::thread::Builder::new().name("stager".into()).spawn(move || worker.run())?;
        Ok(Self { lanes: Arc::new(Sending(lanes)) })
    }

    pub(super) async fn keep_manifest(&self, digest: Digest, bytes: Vec<u8>) -> Result<(), StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.order(Order::KeepManifest(digest, bytes, sender));
        receiver.await.unwrap_or(Err(StoreError::NotStaging))
    }

    pub(super) fn open(&self, artifact: Artifact) {
        self.order(Order::Open(artifact));
    }

    pub(super) fn unpack(&self, artifact: Artifact) {
        self.order(Order::Unpack(artifact));
    }

    pub(super) fn collect(&self, keep: BTreeSet<Digest>) {
        self.order(Order::Collect(keep));
    }

    /// Hands a block frame over; when the disk does not keep up the frame is dropped and will be asked for again.
    pub(super) fn frame(&self, frame: Bytes) {
        if !self.lanes.0.put_frame(frame) {
            tracing::debug!("the disk is behind; a block frame was dropped");
        }
    }

    fn order(&self, order: Order) {
        if !self.lanes.0.put_order(order) {
            tracing::error!("the store's thread has ended or is far behind; an order was dropped");
        }
    }
}

/// More manifests than one desired state names on a device, twice.
const MAX_FRESH: usize = 128;

struct Worker {
    store: Store,
    /// Manifests that were kept for the core and that it has not asked to keep yet.
    fresh: VecDeque<Digest>,
    inputs: mpsc::Sender<Input>,
    lanes: Arc<Lanes>,
}

/// However the thread ends, nobody goes on handing it work.
impl Drop for Worker {
    fn drop(&mut self) {
        self.lanes.close();
    }
}

impl Worker {
    fn run(mut self) {
        while let Some(job) = self.lanes.next() {
            let input = match job {
                Job::Order(order) => self.perform(order),
                Job::Frame(frame) => self.frame(&frame),
            };
            let Some(input) = input else { continue };
            if self.inputs.blocking_send(input).is_err() {
                return;
            }
        }
    }

    fn perform(&mut self, order: Order) -> Option<Input> {
        match order {
            Order::KeepManifest(digest, bytes, answer) => {
                let kept = self.store.keep_manifest(&digest, &bytes);
                if kept.is_ok() {
                    self.note_fresh(digest);
                }
                let _ = answer.send(kept);
                None
            }
            Order::Open(artifact) => Some(self.open(&artifact)),
            Order::Unpack(artifact) => Some(self.unpack(&artifact)),
            Order::Collect(keep) => {
                self.collect(keep);
                None
            }
        }
    }

    /// The core may order a collection before it has heard of a manifest that was kept for it meanwhile; such a one
    /// stays until the core knows it.
    fn note_fresh(&mut self, manifest: Digest) {
        if self.fresh.len() == MAX_FRESH {
            self.fresh.pop_front();
        }
        self.fresh.push_back(manifest);
    }

    fn collect(&mut self, mut keep: BTreeSet<Digest>) {
        self.fresh.retain(|manifest| !keep.contains(manifest));
        keep.extend(self.fresh.iter().copied());
        match self.store.collect(&keep) {
            Ok(0) => {}
            Ok(freed_bytes) => tracing::info!(freed_bytes, "removed artifacts that are no longer needed"),
            Err(error) => tracing::warn!(%error, "cannot collect artifacts that are no longer needed"),
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
