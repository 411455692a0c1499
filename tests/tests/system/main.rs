//! The whole system, from outside: what a user, an operator and an attacker see.
// A panic is how a test fails, in its helpers too.
#![allow(clippy::unwrap_used)]
// What was measured and the seed of a failure are read in its output.
#![allow(clippy::print_stderr)]

mod aarch64;
mod bad_config;
mod bad_devices;
mod bad_models;
mod bad_tokens;
mod challengers;
mod clients;
mod delivery;
mod drift;
mod drift_export;
mod faults;
mod history;
mod hostile;
mod identity;
mod locked_in;
mod mutations;
mod network;
mod one_true_path;
mod operator;
mod postgres;
mod power_cuts;
mod power_loss;
mod references;
mod renewal;
mod rollback;
mod rollouts;
mod server_kills;
mod spool;
mod swaps;
mod telemetry;
mod treachery;
mod virtual_fleet;
mod webhooks;
