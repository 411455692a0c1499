//! Enrolment: a device that holds a secret becomes a member of the fleet.
//!
//! Taking one use of the token and entering the device are one transaction, so a request that fails costs nothing.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::Value;
use shared::{
    DeviceId, Timestamp,
    device::Labels,
    enroll::{EnrollRequest, EnrollResponse, MAX_CLOCK_SKEW},
};
use uuid::Uuid;

use super::{
    Shared,
    problem::{Answer, Problem},
};
use crate::{
    pki::DeviceCertificate,
    store::{NewDevice, Redeemed, Store, StoreError},
};

/// Joins a device. The secret of an enrolment token is the permission.
///
/// The request holds `secret`, optionally `device` (the wished name), `csr_pem` (PKCS #10 for a P-256 key),
/// `report_key` (Ed25519), `inventory`, and optionally `at`, the time by the device's clock in milliseconds since 1970,
/// which must agree with the server's to five minutes; the answer holds the device's certificate, the CA, the address of the
/// broker, the root metadata to pin, and the labels.
#[utoipa::path(
    post,
    path = "/api/v1/enroll",
    tag = "enrolment",
    request_body = Object,
    responses(
        (status = 201, body = Object),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 409, body = Problem),
        (status = 422, body = Problem)
    )
)]
pub async fn enroll(
    State(app): State<Shared>,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<EnrollResponse>)> {
    let request: EnrollRequest = serde_json::from_value(body)
        .map_err(|error| Problem::bad_request("bad_enrolment", error.to_string()))?;
    let id = match &request.device {
        Some(id) => id.clone(),
        None => made_up_name(),
    };
    let now = app.clock.now();
    check_clock(request.at, now)?;
    let certificate = app.authority.issue_device(&request.csr_pem, &id, now)?;
    let labels = join(&app, request, &id, &certificate).await?;
    tracing::info!(device.id = %id, "a device joined");
    let response = EnrollResponse {
        device: id,
        certificate_pem: certificate.pem,
        ca_pem: app.authority.pem().to_owned(),
        mqtt: app.endpoints.mqtt.clone(),
        root: app.signing.trusted_root(),
        labels,
    };
    Ok((StatusCode::CREATED, Json(response)))
}

/// A device whose clock is wrong would judge certificates and metadata by it, so it is told before it joins.
fn check_clock(theirs: Option<Timestamp>, ours: Timestamp) -> Answer<()> {
    let Some(theirs) = theirs else { return Ok(()) };
    let (side, off) =
        if theirs > ours { ("ahead of", theirs.since(ours)) } else { ("behind", ours.since(theirs)) };
    if off <= MAX_CLOCK_SKEW {
        return Ok(());
    }
    let detail = format!("the clock of this device is {} s {side} the server's", off.as_secs());
    Err(Problem::refused("wrong_clock", detail).hint(
        "set it and enrol again with the same token, or say --any-clock if this device has no clock that keeps time",
    ))
}

async fn join(
    app: &Shared,
    request: EnrollRequest,
    id: &DeviceId,
    certificate: &DeviceCertificate,
) -> Answer<Labels> {
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    let hash = app.token_key.hash(&request.secret);
    let labels = match Store::redeem(&mut tx, &hash, now).await? {
        Redeemed::Accepted(labels) => labels,
        refused => return Err(token_refused(&refused)),
    };
    let device = NewDevice {
        id: id.clone(),
        certificate_serial: certificate.serial.clone(),
        report_key: request.report_key,
        labels: labels.clone(),
        inventory: request.inventory,
    };
    if !Store::insert_device(&mut tx, &device, now).await? {
        return Err(Problem::conflict("device_exists", format!("there is a device {id} already"))
            .hint("enrol under another name, or lock the old one out first: muster device revoke NAME"));
    }
    Store::audit(&mut tx, now, &format!("device:{id}"), "device.enroll", id.as_str(), "").await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(labels)
}

fn token_refused(why: &Redeemed) -> Problem {
    let (code, detail) = match why {
        Redeemed::Expired => ("enroll_token_expired", "the enrolment token has expired"),
        Redeemed::UsedUp => ("enroll_token_used_up", "the enrolment token was used as often as it may be"),
        Redeemed::Unknown | Redeemed::Accepted(_) => {
            ("enroll_token_unknown", "this server did not make the enrolment token")
        }
    };
    Problem::new(StatusCode::FORBIDDEN, code, detail)
        .hint("make a new one: muster enroll token create --uses 1 --expires 1h")
}

fn made_up_name() -> DeviceId {
    let text = format!("dev-{}", Uuid::new_v4().simple());
    DeviceId::new(text).expect("hexadecimal digits are allowed in names")
}
