//! Labels that come later: was the answer right?

use std::sync::Arc;

use axum::{Json, body::Bytes, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{error::ServingError, find_model};
use crate::runner::models::Models;

/// A label for an earlier inference.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    model: String,
    /// The id that the inference was answered with.
    id: String,
    /// The class that was right.
    label: i64,
}

/// Counts the label for the version that answered; one label per inference.
pub(super) async fn feedback(
    State(models): State<Arc<Models>>,
    body: Bytes,
) -> Result<Json<Value>, ServingError> {
    let feedback: Feedback = serde_json::from_slice(&body).map_err(|error| {
        ServingError::BadRequest(format!("a label is {{\"model\", \"id\", \"label\"}}: {error}"))
    })?;
    let model = find_model(&models, &feedback.model)?;
    let (figures, top_class) = model.recent().take_class(&feedback.id).ok_or_else(|| {
        let text =
            "no inference of this id is remembered, it has its label already, or it had no single class";
        ServingError::NotFound(text.into())
    })?;
    let correct = top_class == feedback.label;
    figures.labelled(correct);
    Ok(Json(json!({ "correct": correct })))
}
