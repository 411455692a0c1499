//! What every engine must do, what an inspection finds, and what becomes of real images.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report of a test")]

mod drift;
mod engine;
mod files;
mod inspect;
mod support;
