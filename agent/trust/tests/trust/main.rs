//! What a device believes, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report of a test")]

mod attacks;
mod challengers;
mod desired;
mod support;
mod theft;
