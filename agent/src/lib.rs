//! The agent: the daemon that brings models to a device, watches them, and takes them back.
//!
//! What it decides lives in `agent-core`; this crate does what the decisions say.

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod doctor;
pub mod enroll;
pub mod health;
pub mod identity;
pub mod local_time;
pub mod recording;
pub mod renew;
pub mod replay;
pub mod resident;
pub mod runner;
pub mod sandbox;
pub mod serving;
pub mod tls;
pub mod trial;
