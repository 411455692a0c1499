//! What an engine is: it loads a model, and the session it gives runs it.

use bytes::Bytes;
use shared::manifest::TensorSpec;
use thiserror::Error;

use crate::tensor::Tensor;

/// Something that can run models.
pub trait Engine: Send + Sync {
    /// Name for people and reports, for example `tract`.
    fn name(&self) -> &'static str;

    /// Loads and compiles a model that takes `inputs` and gives `outputs`.
    ///
    /// # Errors
    /// When the engine cannot run the model. A panic of the engine is caught and is such an error.
    fn load(
        &self,
        model: Bytes,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Box<dyn Session>, EngineError>;
}

/// A loaded model. Runs may go on in several threads at a time.
pub trait Session: Send + Sync {
    /// What goes in, in the model's order.
    fn inputs(&self) -> &[TensorSpec];

    /// What comes out, in the model's order.
    fn outputs(&self) -> &[TensorSpec];

    /// Runs the model once; inputs come in any order, outputs in the model's.
    ///
    /// The outputs are as the engine gave them: whether they are finite and of the right shape is told by
    /// [`outputs_are_finite`](crate::outputs_are_finite) and [`outputs_match`](crate::outputs_match).
    ///
    /// # Errors
    /// When the inputs do not fit the model, or the engine fails.
    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<Tensor>, EngineError>;

    /// Runs the model once on zeros, so that the first caller does not wait for what happens only once.
    /// Variable axes are one long; a model that does not take such a shape is left cold.
    ///
    /// # Errors
    /// When every axis is fixed and the run fails.
    fn warm(&self) -> Result<(), EngineError>;
}

/// Why a model cannot be loaded or run.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum EngineError {
    /// The model does not load.
    #[error("the model does not load: {0}")]
    Load(String),
    /// The inputs do not fit the model; says nothing about the model.
    #[error("{0}")]
    Input(String),
    /// The engine failed while it ran the model.
    #[error("inference failed: {0}")]
    Run(String),
    /// The engine panicked.
    #[error("the engine panicked while {attempt}: {detail}")]
    Panic {
        /// What it was doing.
        attempt: &'static str,
        /// Its last words.
        detail: String,
    },
}

/// Longest text taken over from an engine: its error chains can quote whole graphs.
pub(crate) const MAX_DETAIL_CHARS: usize = 600;

/// Runs `act`; a panic inside becomes an error.
pub(crate) fn catch<T>(
    attempt: &'static str,
    act: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    // What `act` touches is either dropped with it or behind a mutex whose poison is ignored only for caches.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let detail = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(EngineError::Panic { attempt, detail: cut(detail) })
    })
}

/// The first [`MAX_DETAIL_CHARS`] characters on one line.
pub(crate) fn cut(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= MAX_DETAIL_CHARS {
        return line;
    }
    line.chars().take(MAX_DETAIL_CHARS).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_engine_is_an_error_with_its_last_words() {
        let error = catch::<()>("loading", || panic!("stride {}", 0)).unwrap_err();
        assert_eq!(error, EngineError::Panic { attempt: "loading", detail: "stride 0".into() });
    }
}
