//! What every engine must do, and what an inspection finds.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report of a test")]

mod engine;
mod files;
mod inspect;
mod support;
