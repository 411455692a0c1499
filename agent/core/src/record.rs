//! What a core was told, written down, and the core that is rebuilt from it.
//!
//! A core has no clock, file or random source, so what it was told is all there is to it: the same inputs at the same
//! moments make the same ledger, byte for byte, and the same effects. A recording begins with everything that
//! [`Agent::new`] takes and goes on with one [`Turn`] for each input, in order. It holds digests, names, numbers and manifests; it
//! holds no keys, signatures, block payloads or model inputs, because none of them ever reaches the core.
//!
//! Reading does not verify. So no recorded desired state can become an [`Input`] again: only a [`Replay`] takes it, which hands
//! out what the core would have done and has nobody who does it.

mod words;

use serde::{Deserialize, Serialize};
use shared::{
    BootId, DeviceId, Digest, Timestamp,
    challenger::{Challenger, ChallengersDocument},
    manifest::Manifest,
    message::{Assignment, DirectorDocument},
    report::RejectReason,
    trust::Verified,
};

use crate::{Agent, Effect, Input, Ledger, Refusal, Settings};

/// Version of what is written.
pub const RECORDING_FORMAT: u32 = 1;

/// One entry of a recording: first the start, then turns, then at most one end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// What the core was built from.
    Start(Box<Start>),
    /// What it was told next.
    Turn(Box<Turn>),
    /// Nothing follows.
    End(End),
}

/// What the core was built from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// [`RECORDING_FORMAT`].
    pub format: u32,
    /// Which device.
    pub device: DeviceId,
    /// Which run of its agent.
    pub boot: BootId,
    /// When it was built.
    pub at: Timestamp,
    /// What the shell had set.
    pub settings: Settings,
    /// What had survived.
    pub ledger: Ledger,
    /// The manifests that were in the store.
    pub manifests: Vec<(Digest, Manifest)>,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// The moment that the core was told.
    pub at: Timestamp,
    /// What it was told.
    pub input: RecordedInput,
    /// Digest of the ledger afterwards, when this input has changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Digest>,
}

/// An input as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedInput {
    /// A desired state that was verified then; now it is a text that somebody wrote.
    Desired(Box<RecordedDesired>),
    /// Challengers that were verified then.
    Challengers(Box<RecordedChallengers>),
    /// Any other.
    Other(Input),
}

/// What [`Input::DesiredVerified`] holds, without the proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedDesired {
    /// The director's word.
    pub director: DirectorDocument,
    /// Assignments with their manifest and its digest.
    pub manifests: Vec<(Assignment, Digest, Manifest)>,
    /// Assignments that were refused, and why.
    pub refused: Vec<(Assignment, RejectReason)>,
}

/// What [`Input::ChallengersVerified`] holds, without the proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedChallengers {
    /// The director's word.
    pub document: ChallengersDocument,
    /// Challengers with their manifest and its digest.
    pub manifests: Vec<(Challenger, Digest, Manifest)>,
    /// Challengers that were refused, and why.
    pub refused: Vec<(Challenger, String)>,
}

/// Why nothing follows, and what stood in the ledger then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Why.
    pub why: Ending,
    /// Digest of the ledger.
    pub ledger: Digest,
}

/// Why a recording ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The agent was stopped.
    Stopped,
    /// The recording had reached its bound; the agent went on.
    Full,
}

impl From<&Input> for RecordedInput {
    fn from(input: &Input) -> Self {
        match input {
            Input::DesiredVerified { director, manifests, refused } => {
                Self::Desired(Box::new(RecordedDesired {
                    director: (**director).clone(),
                    manifests: manifests.iter().map(plain).collect(),
                    refused: refused.clone(),
                }))
            }
            Input::ChallengersVerified { document, manifests, refused } => {
                Self::Challengers(Box::new(RecordedChallengers {
                    document: (**document).clone(),
                    manifests: manifests.iter().map(plain).collect(),
                    refused: refused.clone(),
                }))
            }
            other => Self::Other(other.clone()),
        }
    }
}

fn plain<T: Clone>((named, digest, manifest): &(T, Digest, Verified<Manifest>)) -> (T, Digest, Manifest) {
    (named.clone(), *digest, (**manifest).clone())
}

/// A core that is told again what it was told once.
#[derive(Debug)]
pub struct Replay {
    agent: Agent,
}

/// What the core answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// Why the input was refused, if it was.
    pub refusal: Option<Refusal>,
    /// What the shell was to do.
    pub effects: Vec<Effect>,
}

impl Replay {
    /// Builds the core anew.
    #[must_use]
    pub fn begin(start: Start) -> (Self, Played) {
        let Start { format: _, device, boot, at, settings, ledger, manifests } = start;
        let mut replay = Self { agent: Agent::new(device, boot, ledger, manifests, settings, at) };
        let effects = replay.effects();
        (replay, Played { refusal: None, effects })
    }

    /// Tells it the next input.
    pub fn turn(&mut self, at: Timestamp, input: RecordedInput) -> Played {
        let taken = match input {
            RecordedInput::Desired(desired) => self.agent.replay_desired(*desired, at),
            RecordedInput::Challengers(told) => self.agent.replay_challengers(*told, at),
            RecordedInput::Other(input) => self.agent.handle(input, at),
        };
        Played { refusal: taken.err(), effects: self.effects() }
    }

    /// The core as it stands.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.agent.poll_effect()).collect()
    }
}
