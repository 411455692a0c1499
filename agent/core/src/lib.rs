//! What an agent decides; pure.

mod agent;
mod event;
mod ledger;
mod outbox;
mod port;

pub use agent::{Agent, ModelStatus};
pub use event::{Event, Level};
pub use ledger::{
    Candidate, Installed, Intake, LEDGER_FORMAT, Ledger, MAX_REMEMBERED, Outcome, Phase, Record, Watch,
};
pub use outbox::{MAX_REPORTS, Outbox};
pub use port::{Effect, Input, Refusal, Settings, Wakeup};

/// Models that one device runs at most; telemetry has room for as many versions.
pub const MAX_MODELS: usize = 64;
