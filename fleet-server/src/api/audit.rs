//! The audit log.

use axum::{
    Json,
    extract::{Query, State},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Shared,
    problem::{Answer, Problem},
};
use crate::store::{AuditEntry, AuditError};

/// What to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct AuditQuery {
    /// Entries after this number.
    #[serde(default)]
    after: u64,
}

/// Entries of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// Entries, oldest first; ask again with the last number for more.
    #[schema(value_type = Vec<Object>)]
    pub entries: Vec<AuditEntry>,
    /// True when every entry of the whole log fits the one before it.
    pub intact: bool,
}

/// Reads the audit log and checks its chain.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    tag = "audit",
    params(AuditQuery),
    responses((status = 200, body = AuditView))
)]
pub async fn list(State(app): State<Shared>, Query(query): Query<AuditQuery>) -> Answer<Json<AuditView>> {
    let intact = match app.store.verify_audit().await {
        Ok(_) => true,
        Err(AuditError::Broken(_)) => false,
        Err(AuditError::Store(error)) => return Err(Problem::from(error)),
    };
    Ok(Json(AuditView { entries: app.store.audit_after(query.after).await?, intact }))
}
