//! What the fleet should do next: who takes part in a rollout, in which order, and when it stops.
//!
//! A plan is made before anything moves and says what it leaves out and why ([`plan()`]). A [`Rollout`] then turns
//! reports of devices, orders of people and the passing of time into effects. The shell around it reads the
//! clock, stores the state and writes desired states; it makes no choices. Nothing here knows a clock, a file, a
//! socket or a random source: moments and seeds are inputs, so replaying inputs rebuilds the same state.

pub mod challenge;
pub mod device;
pub mod drift;
pub mod experiment;
pub mod plan;
pub mod rollout;
pub mod selector;
pub mod strategy;
pub mod verdict;

#[cfg(test)]
mod fixtures;

pub use device::{DeviceFacts, after_report};
pub use experiment::Experiment;
pub use plan::{
    Blocked, BlockedWhy, Expected, ExpectedWave, Plan, PlanError, PlannedDevice, Reach, ReleaseNeeds,
    RolloutSpec, RolloutSummary, Stay, Superseding, WaveKind, WavePlan, plan, plan_late,
};
pub use rollout::{
    Addressed, Cause, Contest, Counts, DeviceStatus, DriftAlarm, Effect, Event, FirstFailure, Freeze,
    FurtherBack, HoldReason, Input, LetGo, Progress, Refusal, Restoration, Rollout, RolloutStatus, State,
    Verdict, Wakeup, WaveState, WaveStatus,
};
pub use selector::{Selector, SelectorError};
pub use strategy::{
    DriftGate, InvalidCheck, InvalidStrategy, Margin, MaxFailed, MetricCheck, MetricGate, OnAlarm,
    OtherMetrics, Ramp, Retries, StopAction, Strategy, WaveShare, WaveSpec, WrongCheck,
};
