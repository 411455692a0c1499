//! The child processes of the agent, driven as the daemon drives them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a panic here is the failure report of a test")]

mod capture;
mod challenger;
#[path = "../../../shared/engine/tests/suite/support/mod.rs"]
mod onnx;
mod rig;
mod runner;
mod sandbox;
mod trial;
