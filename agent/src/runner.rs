//! The runner: the process that holds the models and answers inference.
//!
//! It is a child of the daemon and lives as long as the daemon wants: its control socket is its standard input,
//! and when that ends, so does it. The listening sockets are the daemon's too, handed over at the start; a
//! caller who connects while a runner is being replaced waits for a moment instead of being refused.
//!
//! It parses models and requests, so it must be able to die without loss. It holds no keys, writes no files and
//! decides nothing: it counts what happened and tells the daemon, at once when something failed.
//!
//! The order for a new version is `Load` → `Loaded` → `Switch` → `Switched` → `Unload` of the old → `Unloaded`
//! once its last request is answered.

pub(crate) mod capture;
pub(crate) mod challenge;
pub mod channel;
pub(crate) mod child;
pub(crate) mod confidence;
mod control;
pub(crate) mod custom;
pub(crate) mod figures;
pub(crate) mod file;
mod handle;
mod hangs;
mod load;
mod log;
pub(crate) mod memory;
pub(crate) mod models;
pub(crate) mod pool;
pub(crate) mod proc_self;
mod protocol;
pub(crate) mod recent;
mod reporter;
pub(crate) mod schema;

pub use control::{challenger_main, main};
pub use handle::{RunnerCommands, RunnerProcess};
pub use protocol::{Command, Event, Exit, LoadRequest, Pace, Paced, Sketched};

/// Exit status of a runner in which a model has no thread left: an inference cannot be cancelled, only its process.
pub const EXIT_STUCK: u8 = 86;

/// Exit status of a runner that wants to be replaced, for threads that hang in a version that was taken out of it.
pub const EXIT_REPLACE: u8 = 87;
