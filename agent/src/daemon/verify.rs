//! The task that owns the verifier: takes signed desired states, answers with verified ones.
//!
//! A verifier that could not keep its metadata refuses everything from then on, because what it holds in memory may
//! be more than a power cut would leave. So it is thrown away and made anew from what the disk holds; a disk that was
//! full for a while costs one check and no restart.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use agent_core::Input;
use agent_store::StoreError;
use muster_trust::{DiskStore, Floors, VerifiedChallengers, VerifiedDesired, Verifier, VerifyError};
use shared::{
    DeviceId, Digest, Generation,
    manifest::Manifest,
    message::{ChallengersMessage, DesiredMessage, LimitsDocument},
    report::DeploymentEvent,
    trust::{Signed, Verified},
};
use tokio::sync::{mpsc, watch};

use super::{
    fetch::{Fetcher, ManifestBytes, Parts},
    home::Home,
    patience::patiently,
    stager::Stager,
    telemetry::courier::{Courier, Letter},
    voice::Voice,
};
use crate::clock::Clock;

/// The newest desired state as it came; the verifier always works on this one.
pub(super) type Newest = Arc<Mutex<Option<DesiredMessage>>>;

/// After a restart the core may want to check what the server has not sent again yet.
const NOTHING_YET: &str = "the server has not sent the desired state yet";

/// The shell's and the router's ends of a verifier.
pub(super) struct Verification {
    /// Ask for a check of the newest desired state.
    pub(super) requests: mpsc::Sender<Generation>,
    /// Ask for a check of the newest challengers.
    pub(super) challenger_requests: mpsc::Sender<u64>,
    /// Where the router puts the newest desired state.
    pub(super) newest: Newest,
    /// Where the router puts parts of metadata.
    pub(super) parts: Parts,
    /// Where the router puts limits.
    pub(super) limits: mpsc::Sender<Signed<LimitsDocument>>,
    /// The floors, as they rise.
    pub(super) floors: watch::Receiver<Floors>,
}

/// What a verifier is made from.
struct Origin {
    device: DeviceId,
    folder: PathBuf,
    /// The root that the device was enrolled with; used when the folder holds none.
    enrolled_root: Vec<u8>,
    fetcher: Fetcher,
}

/// Verifies when asked to, one desired state at a time.
struct VerifyTask {
    origin: Origin,
    verifier: Verifier<Fetcher>,
    newest: Newest,
    manifests: ManifestBytes,
    stager: Stager,
    courier: Courier,
    /// Limits whose signature did not hold when they came: a newer root may have its key.
    doubtful: Option<Signed<LimitsDocument>>,
    inputs: mpsc::Sender<Input>,
    floors: watch::Sender<Floors>,
    clock: Clock,
}

/// What the task is asked.
struct Asked {
    desired: mpsc::Receiver<Generation>,
    challengers: mpsc::Receiver<u64>,
    limits: mpsc::Receiver<Signed<LimitsDocument>>,
}

/// A verifier over what the device knows, and the future that is its task.
pub(super) async fn prepare(
    home: &Home,
    voice: &Voice,
    stager: Stager,
    inputs: mpsc::Sender<Input>,
) -> anyhow::Result<(Verification, impl Future<Output = ()> + Send + use<>)> {
    let identity = &home.identity;
    let floors = home.saved.state().floors.clone();
    let manifests = ManifestBytes::default();
    let (fetcher, parts) = Fetcher::new(voice.outgoing.clone(), manifests.clone());
    let (floor_sender, floor_receiver) = watch::channel(floors.clone());
    let newest = Newest::default();
    let origin = Origin {
        device: identity.device.clone(),
        folder: home.config.data_dir.join("metadata"),
        enrolled_root: serde_json::to_vec(&identity.root)?,
        fetcher,
    };
    let verifier = patiently(|| origin.verifier(floors.clone())).await?;
    // One check runs and one may wait: both see the newest document.
    let (requests, desired) = mpsc::channel(1);
    let (challenger_requests, challengers) = mpsc::channel(1);
    let (limits, told) = mpsc::channel(1);
    let asked = Asked { desired, challengers, limits: told };
    let task = VerifyTask {
        origin,
        verifier,
        newest: Arc::clone(&newest),
        manifests,
        stager,
        courier: voice.courier.clone(),
        doubtful: None,
        inputs,
        floors: floor_sender,
        clock: home.clock.clone(),
    };
    let floors = floor_receiver;
    let ends = Verification { requests, challenger_requests, newest, parts, limits, floors };
    Ok((ends, task.run(asked)))
}

impl Origin {
    /// A verifier over what the metadata folder holds; a fresh enrolment begins with its own root.
    fn verifier(&self, floors: Floors) -> anyhow::Result<Verifier<Fetcher>> {
        let fresh = !self.folder.join("root.json").try_exists()?;
        let store = DiskStore::open(&self.folder)?;
        let root = fresh.then_some(self.enrolled_root.as_slice());
        Ok(Verifier::new(self.device.clone(), self.fetcher.clone(), store, floors, root)?)
    }
}

impl VerifyTask {
    /// Runs until nobody asks any more.
    async fn run(mut self, mut asked: Asked) {
        loop {
            let input = tokio::select! {
                Some(limits) = asked.limits.recv() => {
                    self.limit(limits);
                    continue;
                }
                Some(revision) = asked.challengers.recv() => self.answer_challengers(revision).await,
                generation = asked.desired.recv() => match generation {
                    Some(generation) => self.answer_desired(generation).await,
                    None => return,
                },
            };
            // The floors may have moved even where the document was refused; they go to the ledger first.
            self.floors.send_replace(self.verifier.floors().clone());
            if let Some(limits) = self.doubtful.take() {
                self.limit(limits);
            }
            if self.inputs.send(input).await.is_err() {
                return;
            }
        }
    }

    async fn answer_desired(&mut self, generation: Generation) -> Input {
        match self.newest() {
            Some(message) => self.check(message).await,
            None => Input::DesiredRefused { generation, detail: NOTHING_YET.into(), retry: true },
        }
    }

    async fn answer_challengers(&mut self, revision: u64) -> Input {
        match self.newest().and_then(|message| message.challengers) {
            Some(message) => self.check_challengers(message).await,
            None => Input::ChallengersRefused { revision, detail: NOTHING_YET.into(), retry: true },
        }
    }

    fn newest(&self) -> Option<DesiredMessage> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Limits need no fresh metadata: a broker that holds back the newest can hold back limits as well.
    fn limit(&mut self, signed: Signed<LimitsDocument>) {
        match self.verifier.verify_limits(signed.clone()) {
            Ok(document) => self.courier.tell(Letter::Limits(document.limits.clone())),
            Err(error) => {
                tracing::info!(error = chain_of(&error), "limits that cannot be believed yet");
                self.doubtful = Some(signed);
            }
        }
    }

    /// The answer names the generation of the document that was checked: it may be newer than the one asked for.
    async fn check(&mut self, message: DesiredMessage) -> Input {
        match self.verifier.verify_desired(message.director, self.clock.now()).await {
            Ok(verified) => self.accept(verified).await,
            Err(error) => {
                if let VerifyError::Store(_) = error {
                    self.rebuild();
                }
                refused(message.generation, &error)
            }
        }
    }

    /// As for a desired state: a challenger comes the same way.
    async fn check_challengers(&mut self, message: ChallengersMessage) -> Input {
        match self.verifier.verify_challengers(message.document, self.clock.now()).await {
            Ok(verified) => self.accept_challengers(verified).await,
            Err(error) => {
                if let VerifyError::Store(_) = error {
                    self.rebuild();
                }
                let (detail, retry) = (chain_of(&error), may_help(&error));
                Input::ChallengersRefused { revision: message.revision, detail, retry }
            }
        }
    }

    async fn accept_challengers(&mut self, verified: VerifiedChallengers) -> Input {
        let VerifiedChallengers { document, manifests, refused } = verified;
        let revision = document.revision;
        let named = manifests.iter().map(|(named, manifest)| (named.manifest_digest, manifest));
        if let Err(error) = self.keep(named).await {
            let detail = format!("cannot keep the manifest: {error}");
            return Input::ChallengersRefused { revision, detail, retry: true };
        }
        let mut given_up = Vec::new();
        for (named, refusal) in refused {
            match refusal.event() {
                DeploymentEvent::Rejected(reason) => given_up.push((named, reason.to_string())),
                // The core sees that it is lacking and asks again; what the document ends, ends meanwhile.
                _ => tracing::info!(release = %named.release, %refusal, "a challenger cannot be had yet"),
            }
        }
        let manifests = manifests.into_iter().map(|(named, manifest)| {
            let digest = named.manifest_digest;
            (named, digest, manifest)
        });
        let (manifests, refused) = (manifests.collect(), given_up);
        Input::ChallengersVerified { document, manifests, refused }
    }

    /// What the old verifier knew and could not keep is learnt again; the floors stay.
    fn rebuild(&mut self) {
        match self.origin.verifier(self.verifier.floors().clone()) {
            Ok(verifier) => self.verifier = verifier,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(
                    error,
                    "the metadata on the disk cannot be read; trying again at the next check"
                );
            }
        }
    }

    /// Keeps the manifests before the core hears of them.
    async fn accept(&mut self, verified: VerifiedDesired) -> Input {
        let generation = verified.director.generation;
        let named = verified.manifests.iter().map(|(named, manifest)| (named.manifest_digest, manifest));
        if let Err(error) = self.keep(named).await {
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
    async fn keep(
        &self,
        manifests: impl Iterator<Item = (Digest, &Verified<Manifest>)>,
    ) -> Result<(), StoreError> {
        let mut fetched = self.manifests.take();
        for (digest, manifest) in manifests {
            let bytes = fetched.remove(&digest).or_else(|| serde_json::to_vec(&**manifest).ok());
            self.stager.keep_manifest(digest, bytes.unwrap_or_default()).await?;
        }
        Ok(())
    }
}

fn refused(generation: Generation, error: &VerifyError) -> Input {
    Input::DesiredRefused { generation, detail: chain_of(error), retry: may_help(error) }
}

/// Whether asking again may help.
fn may_help(error: &VerifyError) -> bool {
    match error {
        VerifyError::Retryable(_) | VerifyError::Store(_) => true,
        VerifyError::Final(_) => false,
    }
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
