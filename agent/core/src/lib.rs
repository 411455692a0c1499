//! What an agent decides; pure.
//!
//! No clock, file, socket or random source: the shell brings inputs with the time, makes the ledger durable when
//! its revision has moved, and then performs the effects in order. So the consequence of a fact is never seen
//! before the fact is safe, and a power cut between any two effects is the same as one before the next start:
//! [`Agent::new`] continues from the ledger alone.
//!
//! ```text
//! collect inputs ─▶ handle ─▶ persist the ledger if ledger_revision moved ─▶ poll_effect until None
//! ```
//!
//! One deployment for each model. A version is *committed*, or a *candidate* on its way to be; the committed one
//! stays in the runner until the candidate is committed, so going back is one switch and needs neither network
//! nor disk.
//!
//! # Deployment
//!
//! | in | on | to | durable | effects, reports |
//! |---|---|---|---|---|
//! | any | desired: another release | Transferring | candidate | `Superseded` for the old candidate, `CancelTrial` |
//! | any | desired: the candidate's release | same | generation | |
//! | any | desired: the committed release | Idle | | `Committed` once for the generation |
//! | any | desired: a digest remembered as bad, no `retry` | Idle | | `Rejected(RememberedBad)` |
//! | any | desired: refused assignment | Idle | | `Rejected`; the committed version goes on |
//! | any | desired: another release, the model is pinned or the device in quarantine | Idle | hold, orders | `Rejected(Pinned)`, `Rejected(Quarantined)`; a candidate ends |
//! | any | desired: model not named | none | record removed | `Unload` both, `StopRunner` if it was the last |
//! | Transferring | `StagingFailed`, no answer, retries left | Transferring, paused | retries + 1 | |
//! | Transferring | `StagingFailed`, no answer, no retries left; `ArtifactGone` | Idle | outcome | `Failed` |
//! | Transferring | `UnpackFailed` | Idle | outcome, digest remembered | `Rejected` |
//! | Transferring | last artifact `Unpacked` or `AlreadyHere` | SelfTesting | trials + 1 | `Staged`, `RunTrial` |
//! | SelfTesting | `TrialFailed` | Idle | outcome, digest remembered | `Rejected` |
//! | SelfTesting | `TrialFailed(BadArtifact)`: the disk changed what was whole, retries left | Transferring, paused | retries + 1 | |
//! | SelfTesting | restart after the last allowed trial | Idle | outcome, digest remembered | `Rejected(TrialCrashed)` |
//! | SelfTesting | restart | SelfTesting | trials + 1 | `RunTrial` |
//! | SelfTesting | `TrialPassed` | Waiting | phase | `SelfTested` |
//! | Waiting | no maintenance window, or one is open | Activating | | |
//! | Waiting | restart | Waiting | | |
//! | Activating | runner ready, committed versions loaded | Activating | starts + 1 | `Load` |
//! | Activating | `Loaded` | Activating | | `Switch` |
//! | Activating | `LoadFailed` | Idle | outcome, digest remembered | `RolledBack(LoadFailed)` |
//! | Activating | `ArtifactDamaged` | Idle | outcome | `Failed(Storage)` |
//! | Activating | `Switched` | Probation | phase | `Probation`, the first time |
//! | Activating, Probation | `RunnerExited` or restart, starts left | Activating | time and counts (not at a restart) | `EnsureRunner` |
//! | Activating, Probation | `RunnerExited` or restart, no starts left | Idle | outcome, digest remembered | `RolledBack(CrashLoop)` |
//! | Activating, Probation | `RunnerReplaced` | Activating | starts − 1, time and counts | `EnsureRunner` |
//! | Activating, Probation | `MemoryExceeded` | Idle | outcome, digest remembered | `RolledBack(Memory)`, `Switch` back, `Unload` |
//! | Probation | `Hung` | Idle | outcome, digest remembered | `RolledBack(Hung)`, `Switch` back, `Unload` |
//! | Activating, Probation | `OperatorRollback`, a committed version | Idle | outcome, digest remembered | `RolledBack(Operator)`, `Switch` back, `Unload` |
//! | Probation | judge: Degraded | Idle | outcome, digest remembered | `RolledBack`, `Switch` back, `Unload` |
//! | Probation | judge: Healthy | Idle | committed := candidate | `Committed`, `Unload` the old version |
//! | Probation | judge: Insufficient | Probation | | |
//!
//! | SelfTesting, Activating, Probation | `Stopped`, and it is alive | the end of the agent | trials − 1 or starts − 1, time and counts | |
//!
//! Staged is passed through: nothing waits in it, and Waiting only while a maintenance window is closed. Every way to
//! Idle ends in `CollectGarbage`.
//!
//! # Restraint
//!
//! A *maintenance window*, by the director or else by the device's settings, holds back the first activation of a
//! version and nothing else: fetching and trying go on, a version that answered before a restart answers again, and
//! going back never waits. A *pin* keeps a model on its committed version (a first version is still taken), a
//! *quarantine* does so for the whole device. What they keep out is answered with a reason and not remembered as bad.
//!
//! Trials, starts and retries are counted in the ledger before what they count, so nothing that takes the machine down is
//! tried for ever. An orderly stop gives the count of what is alive back: it took nothing down.
//!
//! A committed version whose model is damaged on the disk is fetched once more, beside whatever else goes on: that is a
//! *repair*, a transfer without a deployment. What is tried again, how often and when, is in the table below.
//!
//! # Retries
//!
//! | class | reasons | tried again | then |
//! |---|---|---|---|
//! | network | `Network`: time-outs, blocks that are always wrong | 5 times, after 15 s and twice as long each time | `Failed`; a higher generation asks again |
//! | disk | `DiskFull`, `Storage` | 3 times, after 2, 4 and 8 s | the same |
//! | answered | `ArtifactGone` | never | the same |
//! | refused | every `RejectReason` of a digest: bad signature, golden mismatch, incompatible, … | never | remembered; only `retry` in a higher generation asks again |
//! | condemned | every `RollbackReason` | never | the same |
//! | metadata | a desired state that cannot be checked yet | without end, at most each 300 s | a newer one takes its place |
//! | repair | whatever keeps a damaged committed version away | without end, at most each 10 min | it is what the device must run |
//!
//! Waiting for the network is no attempt, and every wait is spread by the seed of the device.
//!
//! # Transfer, one at a time on a device
//!
//! | in | on | to | effects |
//! |---|---|---|---|
//! | Planned | no other transfer, repairs first | Opening | `OpenStaging` |
//! | Opening | `StagingOpened`, connected | Fetching | `Request`, report `Transferring` once |
//! | Opening | `StagingOpened`, offline | Stalled(Offline) | report `Transferring` once |
//! | Opening | `AlreadyHere` | next artifact | |
//! | Fetching | `BlockStored`, round complete | Fetching, credit + 1 | `Request` |
//! | Fetching | `BlockStored`, all here | Complete | `Unpack` |
//! | Fetching | time-out or refused round | Fetching, credit halved at a time-out | `Request` |
//! | any | it failed, and the class has retries left | Paused, which holds up no other transfer | |
//! | Paused | the wait is over | Planned | |
//! | Fetching | [`MAX_ATTEMPTS`] without progress | it fails (`Network`) | |
//! | Fetching, Stalled | `Disconnected` | Stalled(Offline) | |
//! | Fetching, Stalled(Busy) | `RetryAfter` | Stalled(Busy) | |
//! | Stalled | `Connected`, or the wait is over | Fetching | `Request` |
//! | Complete | `Unpacked` | next artifact, or the trial | |
//!
//! # Judge
//!
//! Warming (too few inferences to keep) → Watching (enough; the time runs) → Decided. Either of two sequential
//! tests may condemn in both; see [`HealthJudge`]. What was seen last has a test of its own and may hold a version back
//! from being kept; see [`Trend`].
//!
//! # Challengers
//!
//! A challenger is a release that runs beside the committed version of its model and never answers. It is no deployment:
//! it is never activated, reports nothing of its own, and is remembered as bad for nothing.
//!
//! | in | on | to | durable | effects |
//! |---|---|---|---|---|
//! | any | document: another release, or the same asked for once more | Transferring, or where its bytes allow it to be | order, terms | `StopChallenger`, `CancelTrial` |
//! | any | document: model not named | none | challenge removed | the same |
//! | any | it is what the device shall run, its time is over, refused assignment | Over | reason | the same |
//! | Transferring | every artifact is here | SelfTesting | phase | |
//! | Transferring | `UnpackFailed`, `ArtifactGone` | Over | reason | |
//! | SelfTesting | nothing has the right of way | SelfTesting | trials + 1 | `RunTrial` |
//! | SelfTesting | `TrialPassed` | Tested | phase | |
//! | SelfTesting | `TrialFailed`, or no trials left | Over | reason | |
//! | Tested | nothing has the right of way | Tested | starts + 1 | `StartChallenger` |
//! | Tested | `ChallengerEnded(Crashed)`, starts left | Tested, after a rest | | |
//! | Tested | `ChallengerEnded(Crashed)`, no starts left; `Refused` | Over | reason | |
//! | Tested | it ran for ten minutes | Tested | starts = 0 | |
//! | SelfTesting, Tested | something has the right of way, `Stopped` | same, held | trials − 1 or starts − 1 | `CancelTrial`, `StopChallenger` |
//! | any but Over | a deployment or a repair finds the disk full | Transferring, after an hour | phase | `StopChallenger`; what it held is collected |
//!
//! Every deployment that is under way, every repair, a quarantine and a champion that does not answer have the right of way,
//! of whatever model. Every way to Over ends in `CollectGarbage`.
//!
//! # Runner
//!
//! Absent → Starting → Ready; it ends → Absent at once, or Cooling with a wait that doubles to a minute. What it
//! holds follows from the wishes after every turn: committed versions first and switched to, then candidates.
//!
//! # Recording
//!
//! A core is what it was told. [`Entry`] is how that is written down, and [`Replay`] tells it to a core once more.
//!
//! # Limits of attribution
//!
//! When several models have an activated candidate and the runner dies, a start is counted against each of them:
//! from outside nobody can tell which one it was.

mod agent;
mod backoff;
mod challenger;
mod deployment;
mod event;
mod judge;
mod ledger;
mod outbox;
mod port;
mod record;
mod retry;
mod serving;
mod sprt;
mod transfer;
mod trend;

pub use agent::{Agent, ModelStatus};
pub use challenger::{Challenge, ChallengePhase, Challengers};
pub use event::{Event, Level};
pub use judge::{Case, HealthJudge, Verdict};
pub use ledger::{
    Candidate, Hold, Installed, Intake, LEDGER_FORMAT, Ledger, MAX_REMEMBERED, Orders, Outcome, Phase,
    Record, Watch,
};
pub use outbox::{MAX_REPORTS, Outbox};
pub use port::{ChallengerEnd, Effect, Input, Refusal, Settings, Wakeup};
pub use record::{
    End, Ending, Entry, Played, RECORDING_FORMAT, RecordedChallengers, RecordedDesired, RecordedInput,
    Replay, Start, Turn,
};
pub use transfer::{MAX_ATTEMPTS, MAX_CREDIT, MIN_CREDIT};
pub use trend::Trend;

/// Models that one device runs at most; telemetry has room for as many versions.
pub const MAX_MODELS: usize = 64;
