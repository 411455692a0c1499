//! The agent: the daemon that brings models to a device, watches them, and takes them back.
//!
//! What it decides lives in `agent-core`; this crate does what the decisions say.

pub mod runner;
pub mod serving;
pub mod trial;
