//! What the drift detector promises, measured on seeded streams and fleets. `--nocapture` prints the tables of docs/drift.md.
//!
//! `MUSTER_LONG=1` looks ten times as long for false alarms, and at ten years of a fleet.

#![allow(clippy::print_stdout, reason = "the tables are for people")]
#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]

mod bins;
mod deployed;
mod devices;
mod fleets;
mod one_feature;
mod population;
mod random;
mod summary;
mod versions;

/// How many times as much as usual.
fn long(times: u64) -> u64 {
    if std::env::var_os("MUSTER_LONG").is_some_and(|value| value == "1") { times } else { 1 }
}
