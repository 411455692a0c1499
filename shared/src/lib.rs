//! The words and formats that the fleet server and the agents agree on.
//!
//! Nothing here reads a clock, a file, a socket or a random source. Every type that comes from outside checks
//! itself while it is decoded, so a value that exists is a value that is well formed; that it is *true* is told
//! by [`trust::Verified`].

pub mod artifact;
pub mod block;
pub mod challenger;
pub mod device;
pub mod enroll;
pub mod id;
pub mod maintenance;
pub mod manifest;
pub mod message;
pub mod report;
pub mod sketch;
pub mod telemetry;
pub mod time;
pub mod topic;
pub mod trust;
pub mod words;

pub use id::{
    BootId, DeviceId, Digest, ExperimentId, Generation, GroupName, MetricName, ModelName, ReleaseId,
    RolloutId, Version,
};
pub use time::Timestamp;
