//! Renewal of certificates over a real server: who gets one, who does not, and what stays good meanwhile.

use crate::server_world::World;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::{
    DeviceId, Timestamp,
    enroll::{RENEW_PATH, RenewRequest},
    trust::{Signed, Signer},
};

const DAY_MS: u64 = 86_400_000;

/// A server with the enrolled device `cam-7`.
async fn world() -> World {
    let world = World::start().await;
    let token = world.enroll_token(1).await;
    let _ = world.enroll_with_key(&token, "cam-7").await;
    world
}

/// The key that the device enrolled with.
fn report_key() -> Signer {
    Signer::from_seed(&[7; 32])
}

fn request(world: &World, device: &str) -> RenewRequest {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    RenewRequest {
        device: DeviceId::new(device).unwrap(),
        at: world.server().app().clock.now(),
        csr_pem: csr.pem().unwrap(),
    }
}

async fn send(world: &World, request: &RenewRequest, key: &Signer) -> (StatusCode, Value) {
    let signed = Signed::sign(request, &[key]).unwrap();
    world.request(&Method::POST, RENEW_PATH, None, Some(serde_json::to_value(&signed).unwrap())).await
}

async fn serials(world: &World) -> (String, Option<String>) {
    let device = world.server().app().store.device(&DeviceId::new("cam-7").unwrap()).await.unwrap().unwrap();
    (device.certificate_serial, device.previous_serial)
}

fn code(problem: &Value) -> &str {
    problem["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_repeated_renewal_keeps_the_certificate_that_is_in_use() {
    let world = world().await;
    let (first, _) = serials(&world).await;
    let request = request(&world, "cam-7");
    let mut newest = Vec::new();
    for _ in 0..2 {
        let (status, renewed) = send(&world, &request, &report_key()).await;
        assert_eq!(status, StatusCode::OK, "{renewed}");
        assert!(renewed["certificate_pem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        assert_eq!(renewed["mqtt"], world.server().endpoints().mqtt);
        let (serial, previous) = serials(&world).await;
        assert_eq!(previous.as_ref(), Some(&first));
        newest.push(serial);
    }
    assert_ne!(newest[0], newest[1]);
    let audit = world.get("/api/v1/audit").await.to_string();
    assert_eq!(audit.matches("device.renew").count(), 2, "{audit}");
}

#[tokio::test]
async fn a_stranger_learns_nothing_about_who_is_a_device() {
    let world = world().await;
    let stranger = Signer::from_seed(&[8; 32]);
    let (status, known) = send(&world, &request(&world, "cam-7"), &stranger).await;
    assert_eq!((status, code(&known)), (StatusCode::FORBIDDEN, "renewal_refused"), "{known}");
    let (status, unknown) = send(&world, &request(&world, "cam-8"), &report_key()).await;
    assert_eq!((status, code(&unknown)), (StatusCode::FORBIDDEN, "renewal_refused"), "{unknown}");
    assert_eq!(known["detail"], unknown["detail"]);
    assert_eq!(serials(&world).await.1, None);
}

#[tokio::test]
async fn a_revoked_device_gets_no_certificate() {
    let world = world().await;
    let (status, _) = world.post("/api/v1/devices/cam-7/revoke", json!({})).await;
    assert!(status.is_success(), "{status}");
    let (status, problem) = send(&world, &request(&world, "cam-7"), &report_key()).await;
    assert_eq!((status, code(&problem)), (StatusCode::FORBIDDEN, "device_revoked"), "{problem}");
    let (_, stranger) = send(&world, &request(&world, "cam-7"), &Signer::from_seed(&[8; 32])).await;
    assert_eq!(code(&stranger), "renewal_refused", "only the device is told that it is locked out");
}

#[tokio::test]
async fn a_request_of_another_day_is_refused_with_both_times() {
    let world = world().await;
    let now = request(&world, "cam-7");
    for at in [now.at.0 - 2 * DAY_MS, now.at.0 + 2 * DAY_MS] {
        let request = RenewRequest { at: Timestamp(at), ..now.clone() };
        let (status, problem) = send(&world, &request, &report_key()).await;
        assert_eq!(
            (status, code(&problem)),
            (StatusCode::UNPROCESSABLE_ENTITY, "clocks_differ"),
            "{problem}"
        );
        assert_eq!(problem["detail"].as_str().unwrap().matches("Z").count(), 2, "{problem}");
    }
    let an_hour_late = RenewRequest { at: Timestamp(now.at.0 - DAY_MS / 24), ..now };
    assert_eq!(send(&world, &an_hour_late, &report_key()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn nonsense_is_told_from_a_renewal() {
    let world = world().await;
    let signed = Signed::sign(&json!({"device": "cam-7"}), &[&report_key()]).unwrap();
    for body in [json!({}), json!({"signed": {"device": "cam-7"}}), serde_json::to_value(&signed).unwrap()] {
        let (status, problem) = world.request(&Method::POST, RENEW_PATH, None, Some(body)).await;
        assert_eq!((status, code(&problem)), (StatusCode::BAD_REQUEST, "bad_renewal"), "{problem}");
    }
    let bad_csr = RenewRequest { csr_pem: "nonsense".into(), ..request(&world, "cam-7") };
    let (status, problem) = send(&world, &bad_csr, &report_key()).await;
    assert_eq!((status, code(&problem)), (StatusCode::BAD_REQUEST, "bad_csr"), "{problem}");
}
