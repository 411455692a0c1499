//! The harness of the whole-system tests: real programs, real sockets, real disks.
//!
//! A test starts `muster serve` and any number of `muster-agent run`, drives them through their command lines and
//! their network, and looks only at what a user could see. Everything lives in a scratch directory, every port comes
//! from the system, and every wait has a deadline and looks for a condition. A test that fails prints the end of the
//! logs of its programs.
//!
//! What a test needs and this machine does not have (a Python environment, an aarch64 agent) is a failure that says
//! where it comes from, never a test that passes because it did nothing. Only what no installation can bring, such as
//! loop devices, is told to the run instead ([`effort::not_run`]), which closes with it.
// A panic is how a test fails, here as in the tests themselves.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod bare_device;
pub mod cli;
pub mod clock;
pub mod crew;
pub mod database;
pub mod device;
pub mod digits;
pub mod effort;
pub mod fleet;
pub mod hammer;
pub mod hostile;
pub mod http;
pub mod inference;
pub mod installed;
pub mod lanes;
pub mod memory;
pub mod models;
pub mod mutate;
pub mod oracle;
pub mod power;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod random;
pub mod receiver;
pub mod rig;
pub mod server;
pub mod smuggle;
pub mod strace;
pub mod traffic;
pub mod views;
pub mod wait;
