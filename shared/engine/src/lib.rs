//! Models: looking into them, loading them, running them, and comparing them with their golden vectors.
//!
//! The fleet server uses this crate as its gate at publication, the agent in its trial and runner processes, so
//! both refuse the same models with the same words. The daemon itself never calls it: a panic is caught here
//! and becomes an error, but an abort, a hang or a full memory cannot be, and need a process of their own.
//!
//! The way of a model is [`inspect()`] (structure, without the engine) → [`Engine::load`] → [`Session::run`], with
//! [`replay()`] for its golden vectors.

/// The engine that is built in, as `name version`, for inventories and reports.
pub const ENGINE: &str = "tract-onnx 0.23";

mod checks;
mod engine;
pub mod features;
mod golden;
mod inspect;
pub mod onnx;
mod tensor;
mod tract_engine;

#[cfg(target_endian = "big")]
compile_error!("tensors are little-endian bytes and are handed to the engine as they are");

pub use checks::{WrongOutput, outputs_are_finite, outputs_match};
pub use engine::{Engine, EngineError, Session};
pub use golden::{Golden, GoldenFailure, InvalidGolden, MAX_GOLDEN_CASES, ReplayFigures, replay};
pub use inspect::{InspectError, Inspected, MAX_DEPTH, MAX_NODES, inspect};
pub use tensor::{InvalidTensor, MAX_RANK, Tensor};
pub use tract_engine::{MAX_PLANS, TractEngine, prepare};
