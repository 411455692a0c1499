//! The task that owns the verifier: takes signed desired states, answers with verified ones.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use agent_core::Input;
use agent_store::StoreError;
use muster_trust::{DiskStore, Floors, VerifiedDesired, Verifier, VerifyError};
use shared::{
    Generation,
    manifest::Manifest,
    message::{Assignment, DesiredMessage},
    report::DeploymentEvent,
    trust::Verified,
};
use tokio::sync::{mpsc, watch};

use super::{
    fetch::{Fetcher, ManifestBytes, Parts},
    outgoing::Outgoing,
    stager::Stager,
};
use crate::{clock::Clock, identity::Identity};

/// The newest desired state as it came; the verifier always works on this one.
pub(super) type Newest = Arc<Mutex<Option<DesiredMessage>>>;

/// After a restart the core may want to check what the server has not sent again yet.
const NOTHING_YET: &str = "the server has not sent the desired state yet";

/// The shell's and the router's ends of a verifier.
pub(super) struct Verification {
    /// Ask for a check of the newest desired state.
    pub(super) requests: mpsc::Sender<Generation>,
    /// Where the router puts the newest desired state.
    pub(super) newest: Newest,
    /// Where the router puts parts of metadata.
    pub(super) parts: Parts,
    /// The floors, as they rise.
    pub(super) floors: watch::Receiver<Floors>,
}

/// Verifies when asked to, one desired state at a time.
struct VerifyTask {
    verifier: Verifier<Fetcher>,
    newest: Newest,
    manifests: ManifestBytes,
    stager: Stager,
    inputs: mpsc::Sender<Input>,
    floors: watch::Sender<Floors>,
    clock: Clock,
}

/// A verifier over what the device knows, and the future that is its task.
pub(super) fn prepare(
    identity: &Identity,
    data_dir: &Path,
    outgoing: Outgoing,
    stager: Stager,
    inputs: mpsc::Sender<Input>,
    floors: Floors,
    clock: Clock,
) -> anyhow::Result<(Verification, impl Future<Output = ()> + Send + use<>)> {
    let manifests = ManifestBytes::default();
    let (fetcher, parts) = Fetcher::new(outgoing, manifests.clone());
    let (floor_sender, floor_receiver) = watch::channel(floors.clone());
    let newest = Newest::default();
    let verifier = open_verifier(identity, data_dir, fetcher, floors)?;
    // One check runs and one may wait: both see the newest document.
    let (requests, asked) = mpsc::channel(1);
    let task = VerifyTask {
        verifier,
        newest: Arc::clone(&newest),
        manifests,
        stager,
        inputs,
        floors: floor_sender,
        clock,
    };
    Ok((Verification { requests, newest, parts, floors: floor_receiver }, task.run(asked)))
}

/// Opens the verifier on the metadata folder; a fresh enrolment replaces what is there.
fn open_verifier(
    identity: &Identity,
    data_dir: &Path,
    source: Fetcher,
    floors: Floors,
) -> anyhow::Result<Verifier<Fetcher>> {
    let dir = data_dir.join("metadata");
    let fresh = !dir.join("root.json").exists();
    let store = DiskStore::open(&dir)?;
    let root = serde_json::to_vec(&identity.root)?;
    Ok(Verifier::new(identity.device.clone(), source, store, floors, fresh.then_some(root.as_slice()))?)
}

impl VerifyTask {
    /// Runs until nobody asks any more.
    async fn run(mut self, mut requests: mpsc::Receiver<Generation>) {
        while let Some(asked) = requests.recv().await {
            let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let input = match newest {
                Some(message) => self.check(message).await,
                None => Input::DesiredRefused { generation: asked, detail: NOTHING_YET.into(), retry: true },
            };
            // The floors may have moved even where the document was refused; they go to the ledger first.
            self.floors.send_replace(self.verifier.floors().clone());
            if self.inputs.send(input).await.is_err() {
                return;
            }
        }
    }

    /// The answer names the generation of the document that was checked: it may be newer than the one asked for.
    async fn check(&mut self, message: DesiredMessage) -> Input {
        match self.verifier.verify_desired(message.director, self.clock.now()).await {
            Ok(verified) => self.accept(verified).await,
            Err(error) => refused(message.generation, &error),
        }
    }

    /// Keeps the manifests before the core hears of them.
    async fn accept(&mut self, verified: VerifiedDesired) -> Input {
        let generation = verified.director.generation;
        if let Err(error) = self.keep(&verified.manifests).await {
            let detail = format!("cannot keep the manifest: {error}");
            return Input::DesiredRefused { generation, detail, retry: true };
        }
        let mut refused = Vec::new();
        for (assignment, refusal) in verified.refused {
            match refusal.event() {
                DeploymentEvent::Rejected(reason) => refused.push((assignment, reason)),
                _ => return Input::DesiredRefused { generation, detail: refusal.to_string(), retry: true },
            }
        }
        let manifests = verified.manifests.into_iter().map(|(a, manifest)| {
            let digest = a.manifest_digest;
            (a, digest, manifest)
        });
        Input::DesiredVerified { director: verified.director, manifests: manifests.collect(), refused }
    }
}

impl VerifyTask {
    /// A manifest that was fetched for an earlier check and could not be kept then is written anew; the store refuses
    /// it should its bytes not be the signed ones.
    async fn keep(&self, manifests: &[(Assignment, Verified<Manifest>)]) -> Result<(), StoreError> {
        let mut fetched = self.manifests.take();
        for (assignment, manifest) in manifests {
            let digest = assignment.manifest_digest;
            let bytes = fetched.remove(&digest).or_else(|| serde_json::to_vec(&**manifest).ok());
            self.stager.keep_manifest(digest, bytes.unwrap_or_default()).await?;
        }
        Ok(())
    }
}

fn refused(generation: Generation, error: &VerifyError) -> Input {
    let retry = match error {
        VerifyError::Retryable(_) => true,
        VerifyError::Final(_) | VerifyError::Store(_) => false,
    };
    Input::DesiredRefused { generation, detail: chain_of(error), retry }
}

/// An error with all its causes in one line.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
