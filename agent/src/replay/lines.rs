//! The parts of a transcript: as JSON one object each, for people one or more lines each.

use std::fmt;

use agent_core::Ending;
use serde::Serialize;
use shared::{BootId, DeviceId, Digest, Generation, Timestamp};

use crate::clock::in_words;

/// What the core was built from, and what it did before it was told anything.
#[derive(Serialize)]
pub(super) struct Beginning {
    pub(super) device: DeviceId,
    pub(super) boot: BootId,
    pub(super) at: Timestamp,
    pub(super) generation: Generation,
    pub(super) models: usize,
    pub(super) ledger: Digest,
    pub(super) followed: Followed,
}

/// One input, and what followed.
#[derive(Serialize)]
pub(super) struct Step {
    pub(super) turn: u64,
    pub(super) after_ms: u128,
    pub(super) input: String,
    pub(super) followed: Followed,
    /// From here on the ledger is another than the recorded one.
    pub(super) differs_here: bool,
}

/// What the core made of it.
#[derive(Serialize)]
pub(super) struct Followed {
    pub(super) refused: Option<String>,
    pub(super) effects: Vec<String>,
    pub(super) models: Vec<String>,
}

/// Why nothing follows.
#[derive(Serialize)]
pub(super) struct Stop {
    pub(super) why: Ending,
    pub(super) differs_here: bool,
}

/// Whether the core came out where the recorded one did.
#[derive(Serialize)]
pub(super) struct Conclusion {
    pub(super) turns: u64,
    pub(super) ledger: Digest,
    pub(super) agreement: Agreement,
}

/// How the rebuilt ledger stands to the recorded one.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Agreement {
    Equal,
    Different,
    Unknown,
}

impl fmt::Display for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device {}, boot {}, at {}", self.device, self.boot, in_words(self.at))?;
        let Self { generation, models, ledger, .. } = self;
        writeln!(f, "  starts from generation {generation} with {models} models and ledger {ledger}")?;
        self.followed.fmt(f)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} +{} ms  {}", self.turn, self.after_ms, self.input)?;
        self.followed.fmt(f)?;
        note_difference(f, self.differs_here)
    }
}

impl fmt::Display for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.refused {
            writeln!(f, "  refused: {why}")?;
        }
        for effect in &self.effects {
            writeln!(f, "  -> {effect}")?;
        }
        if self.models.is_empty() { Ok(()) } else { writeln!(f, "  == {}", self.models.join("; ")) }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.why {
            Ending::Stopped => "the agent was stopped\n",
            Ending::Full => "the recording is full; the agent went on\n",
        })?;
        note_difference(f, self.differs_here)
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.agreement {
            Agreement::Equal => "equal to what was recorded",
            Agreement::Different => "NOT what was recorded",
            Agreement::Unknown => "the recording noted none",
        };
        writeln!(f, "{} turns, ledger {}: {verdict}", self.turns, self.ledger)
    }
}

fn note_difference(f: &mut fmt::Formatter<'_>, differs_here: bool) -> fmt::Result {
    if differs_here {
        writeln!(f, "  the ledger is another than the one that was noted here")
    } else {
        Ok(())
    }
}
