//! API tokens.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Shared,
    problem::{Answer, Problem},
    routes::Caller,
};
use crate::{
    auth::{Role, new_api_token, shown_prefix},
    store::{NewToken, Store, TokenRow},
};

/// Longest name of a token.
const MAX_NAME_LEN: usize = 64;

/// A token to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What people call it; audit entries carry it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// How long it works; for ever when absent.
    #[serde(default)]
    pub expires_secs: Option<u64>,
}

/// A token that was made. Its text is shown this once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// Its id.
    pub id: String,
    /// The token.
    pub token: String,
}

/// A token as it is listed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Its first characters.
    pub prefix: String,
    /// What it may do.
    pub role: Role,
    /// When it was made, in milliseconds since 1970.
    pub created_at: u64,
    /// When it stops working.
    pub expires_at: Option<u64>,
    /// When it was last used, to the minute.
    pub last_used: Option<u64>,
    /// Works now.
    pub valid: bool,
}

/// Lists tokens, without their texts.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", responses((status = 200, body = Vec<TokenView>)))]
pub async fn list(State(app): State<Shared>) -> Answer<Json<Vec<TokenView>>> {
    let now = app.clock.now();
    let view = |row: TokenRow| TokenView {
        valid: row.is_valid(now),
        id: row.id,
        name: row.name,
        prefix: row.prefix,
        role: row.role,
        created_at: row.created_at.as_millis(),
        expires_at: row.expires_at.map(|at| at.as_millis()),
        last_used: row.last_used.map(|at| at.as_millis()),
    };
    Ok(Json(app.store.tokens().await?.into_iter().map(view).collect()))
}

/// Makes a token. Its text is in the answer and nowhere else.
#[utoipa::path(
    post,
    path = "/api/v1/tokens",
    tag = "tokens",
    request_body = CreateToken,
    responses((status = 201, body = CreatedToken), (status = 400, body = Problem))
)]
pub async fn create(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<CreateToken>,
) -> Answer<(StatusCode, Json<CreatedToken>)> {
    if wanted.name.is_empty() || wanted.name.len() > MAX_NAME_LEN {
        let detail = format!("a token's name has 1 to {MAX_NAME_LEN} characters");
        return Err(Problem::bad_request("bad_name", detail));
    }
    let (now, token) = (app.clock.now(), new_api_token());
    let new = NewToken {
        name: wanted.name.clone(),
        prefix: shown_prefix(&token),
        hash: app.token_key.hash(&token),
        role: wanted.role,
        expires_at: wanted.expires_secs.map(|secs| now + Duration::from_secs(secs)),
    };
    let mut tx = app.store.begin().await?;
    let id = Store::insert_token(&mut tx, &new, now).await?;
    let detail = wanted.role.to_string();
    Store::audit(&mut tx, now, &caller.name, "token.create", &wanted.name, &detail).await?;
    tx.commit().await.map_err(crate::store::StoreError::from)?;
    Ok((StatusCode::CREATED, Json(CreatedToken { id, token })))
}

/// Takes a token back.
#[utoipa::path(
    delete,
    path = "/api/v1/tokens/{id}",
    tag = "tokens",
    params(("id" = String, Path, description = "Id of the token")),
    responses((status = 204, description = "It opens nothing any more"), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub async fn revoke(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let mut tx = app.store.begin().await?;
    if !Store::revoke_token(&mut tx, &id).await? {
        return Err(Problem::not_found("token_not_found", format!("there is no token with the id {id}"))
            .hint("list them: muster token list"));
    }
    let now = app.clock.now();
    if Store::valid_admins(&mut tx, now).await? == 0 {
        return Err(Problem::conflict(
            "last_admin",
            "this is the last token of an admin; nobody could make another",
        )
        .hint("make the next one first: muster token create NAME --role admin"));
    }
    Store::audit(&mut tx, now, &caller.name, "token.revoke", &id, "").await?;
    tx.commit().await.map_err(crate::store::StoreError::from)?;
    Ok(StatusCode::NO_CONTENT)
}
