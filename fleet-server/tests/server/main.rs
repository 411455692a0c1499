//! The server as its neighbours see it: its API over TLS, its broker, its command line.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a panic here is the failure report of a test")]

mod api;
mod broker;
mod command_line;
mod devices;
mod drift;
mod drift_gate;
mod experiments;
mod history;
mod operator;
mod references;
mod renewal;
mod rollouts;
mod server_world;
mod verdicts;
mod webhooks;
mod world;
