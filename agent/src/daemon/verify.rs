//! The task that owns the verifier: takes signed desired states, answers with verified ones.

use std::sync::{Arc, Mutex, PoisonError};

use agent_core::Input;
use muster_trust::{DiskStore, Floors, VerifiedDesired, Verifier, VerifyError};
use shared::{Generation, message::DesiredMessage, report::DeploymentEvent};
use tokio::sync::{mpsc, watch};

use super::{
    fetch::{Fetcher, ManifestBytes},
    stager::Stager,
};
use crate::clock::Clock;

/// The newest desired state as it came; the verifier always works on this one.
pub(super) type Newest = Arc<Mutex<Option<DesiredMessage>>>;

/// Verifies when asked to, one desired state at a time.
pub(super) struct VerifyTask {
    pub(super) verifier: Verifier<Fetcher>,
    pub(super) newest: Newest,
    pub(super) manifests: ManifestBytes,
    pub(super) stager: Stager,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) floors: watch::Sender<Floors>,
    pub(super) clock: Clock,
}

/// Opens the verifier on the metadata folder; a fresh enrolment replaces what is there.
pub(super) fn open_verifier(
    identity: &crate::identity::Identity,
    data_dir: &std::path::Path,
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
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Generation>) {
        while let Some(generation) = requests.recv().await {
            let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(message) = newest else { continue };
            let input = match self.verifier.verify_desired(message.director, self.clock.now()).await {
                Ok(verified) => self.accept(verified).await,
                Err(error) => refused(generation, &error),
            };
            // The floors may have moved even where the document was refused; they go to the ledger first.
            self.floors.send_replace(self.verifier.floors().clone());
            if self.inputs.send(input).await.is_err() {
                return;
            }
        }
    }

    /// Keeps the manifests before the core hears of them.
    async fn accept(&mut self, verified: VerifiedDesired) -> Input {
        let generation = verified.director.generation;
        for (digest, bytes) in self.manifests.take() {
            let needed =
                verified.manifests.iter().any(|(assignment, _)| assignment.manifest_digest == digest);
            if needed && let Err(error) = self.stager.keep_manifest(digest, bytes).await {
                return Input::DesiredRefused {
                    generation,
                    detail: format!("cannot keep the manifest: {error}"),
                    retry: true,
                };
            }
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
