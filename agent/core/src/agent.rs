//! All models of a device together.

use std::collections::VecDeque;

use shared::{BootId, DeviceId, Digest, Timestamp, manifest::Manifest, report::ModelState};

use crate::{
    ledger::{Ledger, Outcome},
    port::{Effect, Input, Refusal, Settings, Wakeup},
};

/// All models of a device together.
#[derive(Debug)]
pub struct Agent {
    ledger: Ledger,
    revision: u64,
    effects: VecDeque<Effect>,
}

/// What a device runs of one model, and why nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelStatus {
    /// What runs and what is coming.
    pub state: ModelState,
    /// What the candidate waits for, in words; empty without a candidate.
    pub detail: String,
    /// How the last deployment ended.
    pub last: Option<Outcome>,
}

impl Agent {
    /// Takes up where the ledger left off; the first effects can be polled at once.
    ///
    /// `manifests` are those that [`Ledger::manifests`] names and the store still holds, by digest.
    #[must_use]
    pub fn new(
        device: DeviceId,
        boot: BootId,
        ledger: Ledger,
        manifests: Vec<(Digest, Manifest)>,
        settings: Settings,
        now: Timestamp,
    ) -> Self {
        let _ = (device, boot, manifests, settings, now);
        Self { ledger, revision: 0, effects: VecDeque::new() }
    }

    /// Takes an input.
    ///
    /// # Errors
    /// When the input does not fit the state; it is counted and changes nothing.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Result<(), Refusal> {
        let _ = (input, now);
        Ok(())
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to send [`Input::Tick`], and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Timestamp, Wakeup)> {
        None
    }

    /// The durable state.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Moves whenever the ledger has changed.
    #[must_use]
    pub fn ledger_revision(&self) -> u64 {
        self.revision
    }

    /// What the device runs, for its hello.
    #[must_use]
    pub fn model_states(&self) -> Vec<ModelState> {
        self.status().into_iter().map(|status| status.state).collect()
    }

    /// What the device runs, what is coming and why nothing else, for its own command line.
    #[must_use]
    pub fn status(&self) -> Vec<ModelStatus> {
        Vec::new()
    }

    /// Inputs that were refused since start.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        0
    }
}
