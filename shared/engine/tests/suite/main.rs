//! What every engine must do, what an inspection finds, and what becomes of real images.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report of a test")]
#![allow(clippy::print_stdout, reason = "the table is for people")]

mod drift;
mod engine;
mod files;
mod inspect;
mod support;
