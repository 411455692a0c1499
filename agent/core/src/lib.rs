//! What an agent decides; pure.

mod agent;
mod backoff;
mod deployment;
mod event;
mod judge;
mod ledger;
mod outbox;
mod port;
mod serving;
mod sprt;
mod transfer;

pub use agent::{Agent, ModelStatus};
pub use event::{Event, Level};
pub use judge::{Case, HealthJudge, Verdict};
pub use ledger::{
    Candidate, Installed, Intake, LEDGER_FORMAT, Ledger, MAX_REMEMBERED, Outcome, Phase, Record, Watch,
};
pub use outbox::{MAX_REPORTS, Outbox};
pub use port::{Effect, Input, Refusal, Settings, Wakeup};
pub use transfer::{MAX_ATTEMPTS, MAX_CREDIT, MIN_CREDIT};

/// Models that one device runs at most; telemetry has room for as many versions.
pub const MAX_MODELS: usize = 64;
