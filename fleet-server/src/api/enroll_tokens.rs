//! Enrolment tokens: what an operator hands to devices.

use std::time::Duration;

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use shared::{
    device::{Labels, MAX_LABELS, parse_label},
    enroll::EnrollToken,
};
use utoipa::ToSchema;

use super::{
    Shared,
    problem::{Answer, Problem},
    routes::Caller,
};
use crate::{
    auth::new_secret,
    store::{NewEnrollToken, Store, StoreError},
};

/// A token that leaks should be worth little.
const MAX_LIFE_SECS: u64 = 366 * 86_400;

/// More devices than this are enrolled with several tokens.
const MAX_USES: u32 = 100_000;

/// An enrolment token to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEnrollToken {
    /// Labels of the devices that use it.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
    /// How many devices may use it.
    pub uses: u32,
    /// How long it works.
    pub expires_secs: u64,
}

/// An enrolment token that was made. Its text is shown this once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CreatedEnrollToken {
    /// Its id.
    pub id: String,
    /// The whole string for `muster-agent enroll`.
    pub token: String,
    /// When it stops working, in milliseconds since 1970.
    pub expires_at: u64,
}

/// Makes an enrolment token. Its text is in the answer and nowhere else.
#[utoipa::path(
    post,
    path = "/api/v1/enroll-tokens",
    tag = "enrolment",
    request_body = CreateEnrollToken,
    responses((status = 201, body = CreatedEnrollToken), (status = 400, body = Problem))
)]
pub async fn create(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<CreateEnrollToken>,
) -> Answer<(StatusCode, Json<CreatedEnrollToken>)> {
    check(&wanted)?;
    let (now, secret) = (app.clock.now(), new_secret());
    let new = NewEnrollToken {
        hash: app.token_key.hash(&secret),
        labels: wanted.labels.clone(),
        uses: wanted.uses,
        expires_at: now + Duration::from_secs(wanted.expires_secs),
    };
    let mut tx = app.store.begin().await?;
    let id = Store::insert_enroll_token(&mut tx, &new, now).await?;
    let detail = format!("{} uses, {} s", wanted.uses, wanted.expires_secs);
    Store::audit(&mut tx, now, &caller.name, "enroll_token.create", &id, &detail).await?;
    tx.commit().await.map_err(StoreError::from)?;
    let token = EnrollToken { url: app.endpoints.url.clone(), ca: app.authority.fingerprint(), secret };
    let expires_at = new.expires_at.as_millis();
    Ok((StatusCode::CREATED, Json(CreatedEnrollToken { id, token: token.to_string(), expires_at })))
}

fn check(wanted: &CreateEnrollToken) -> Answer<()> {
    check_labels(&wanted.labels)?;
    if !(1..=MAX_USES).contains(&wanted.uses) {
        return Err(Problem::bad_request("bad_uses", format!("uses is a number from 1 to {MAX_USES}")));
    }
    if !(1..=MAX_LIFE_SECS).contains(&wanted.expires_secs) {
        let detail = format!("expires_secs is a number from 1 to {MAX_LIFE_SECS}");
        return Err(Problem::bad_request("bad_expiry", detail));
    }
    Ok(())
}

/// Labels from a request must look like labels everywhere else.
pub(super) fn check_labels(labels: &Labels) -> Answer<()> {
    if labels.len() > MAX_LABELS {
        return Err(Problem::bad_request(
            "too_many_labels",
            format!("a device has at most {MAX_LABELS} labels"),
        ));
    }
    labels.iter().try_for_each(|(name, value)| {
        let read = parse_label(&format!("{name}={value}"));
        match read {
            Ok(pair) if pair == (name.clone(), value.clone()) => Ok(()),
            Ok(_) => Err(Problem::bad_request("bad_label", format!("'{name}' is not the name of a label"))),
            Err(detail) => Err(Problem::bad_request("bad_label", detail)),
        }
    })
}
