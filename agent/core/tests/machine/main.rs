//! The agent's machine, driven by its inputs alone.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report of a test")]

mod challenger;
mod crash;
mod deployment;
mod guard;
mod link;
mod random;
mod repair;
mod restraint;
mod runner;
mod stop;
mod support;
