//! Renewal: a device that the fleet knows gets its next certificate.
//!
//! The request is signed with the key of the device's reports, so neither a token nor a valid certificate is needed:
//! a device that was off for longer than its certificate lasted comes back by itself. A request can be repeated
//! when its answer was lost, because the certificate that the device uses stays good until a newer one was used.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use serde_json::Value;
use shared::{
    DeviceId, Timestamp,
    enroll::{RenewRequest, RenewResponse},
    trust::{KeySet, Signed, TrustError, Verified},
};

use super::{
    Shared,
    problem::{Answer, Problem},
};
use crate::store::{DeviceRow, Store, StoreError};

/// A request is good for a day around the moment it names: as far as a clock may be wrong, and no recorded request
/// is of use later.
const CLOCKS_DIFFER_AT_MOST: Duration = Duration::from_secs(86_400);

/// Gives a device its next certificate. The signature of its report key is the permission.
///
/// The request is an envelope of `signed` and `signatures`. What is signed holds `device`, `at` (milliseconds since
/// 1970) and `csr_pem` (PKCS #10 for a new P-256 key); the answer holds the certificate and the address of the broker.
#[utoipa::path(
    post,
    path = "/api/v1/enroll/renew",
    tag = "enrolment",
    request_body = Object,
    responses(
        (status = 200, body = Object),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 422, body = Problem)
    )
)]
pub async fn renew(State(app): State<Shared>, Json(body): Json<Value>) -> Answer<Json<RenewResponse>> {
    let request = authenticate(&app, body).await?;
    let now = app.clock.now();
    check_time(request.at, now)?;
    let certificate = app.authority.issue_device(&request.csr_pem, &request.device, now)?;
    enter(&app, &request.device, &certificate.serial, now).await?;
    tracing::info!(device.id = %request.device, "a device renewed its certificate");
    Ok(Json(RenewResponse { certificate_pem: certificate.pem, mqtt: app.endpoints.mqtt.clone() }))
}

/// Whether a device is locked out is told only to itself.
async fn authenticate(app: &Shared, body: Value) -> Answer<Verified<RenewRequest>> {
    let claimed = DeviceId::new(body["signed"]["device"].as_str().unwrap_or_default())
        .map_err(|error| unreadable(error.to_string()))?;
    let signed: Signed<RenewRequest> =
        serde_json::from_value(body).map_err(|error| unreadable(error.to_string()))?;
    let device = app.store.device(&claimed).await?.ok_or_else(not_believed)?;
    let DeviceRow { report_key, revoked, .. } = device;
    let request = signed.verify(&KeySet::single(report_key)).map_err(|error| match error {
        TrustError::Malformed(why) => unreadable(why.to_string()),
        _ => not_believed(),
    })?;
    if revoked { Err(locked_out()) } else { Ok(request) }
}

fn check_time(at: Timestamp, now: Timestamp) -> Answer<()> {
    if at.since(now).max(now.since(at)) <= CLOCKS_DIFFER_AT_MOST {
        return Ok(());
    }
    let detail = format!("the request is of {}, and here it is {}", in_words(at), in_words(now));
    Err(Problem::refused("clocks_differ", detail)
        .hint("set the clock of the device, or the one of the server"))
}

async fn enter(app: &Shared, device: &DeviceId, serial: &str, now: Timestamp) -> Answer<()> {
    let mut tx = app.store.begin().await?;
    if !Store::renew_certificate(&mut tx, device, serial).await? {
        return Err(locked_out());
    }
    let actor = format!("device:{device}");
    Store::audit(&mut tx, now, &actor, "device.renew", device.as_str(), serial).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(())
}

fn in_words(at: Timestamp) -> String {
    let moment = i64::try_from(at.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(|| at.to_string(), |moment| moment.to_string())
}

fn unreadable(why: String) -> Problem {
    Problem::bad_request("bad_renewal", why)
}

fn not_believed() -> Problem {
    let detail = "no device of this fleet has signed the request";
    Problem::new(StatusCode::FORBIDDEN, "renewal_refused", detail)
        .hint("enrol the device again: muster enroll token create --uses 1 --expires 1h")
}

fn locked_out() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "device_revoked", "the device is locked out of the fleet")
        .hint("to let it in again, enrol it anew: muster enroll token create --uses 1 --expires 1h")
}
