//! Signed metadata and manifests, as devices get them over the broker; here for people and other tools.

use axum::{
    extract::{Path, State},
    http::header,
    response::IntoResponse,
};

use super::{
    Shared,
    problem::{Answer, Problem},
};
use crate::gateway::metadata_file;

/// One metadata file, such as `timestamp.json` or `1.root.json`, or a manifest, such as `digits/2.json`.
#[utoipa::path(
    get,
    path = "/api/v1/metadata/{*name}",
    tag = "metadata",
    params(("name" = String, Path, description = "Name of the file")),
    responses(
        (status = 200, description = "The file as it was signed", content_type = "application/json"),
        (status = 404, body = Problem)
    )
)]
pub async fn show(State(app): State<Shared>, Path(name): Path<String>) -> Answer<impl IntoResponse> {
    let file = metadata_file(&app, &name).await?;
    let missing = || Problem::not_found("metadata_not_found", format!("there is no metadata file {name}"));
    Ok(([(header::CONTENT_TYPE, "application/json")], file.ok_or_else(missing)?))
}
