//! The honest way, and the ways in which director and image repository can disagree.

use crate::support::{self, DAY, Device, Disk, HOUR, Link, NOW, Server, YEAR, chain, device, keys};
use muster_sketch::reference::{FeatureReference, NumericReference, Reference, ReferenceValues};
use muster_trust::{Floors, Refusal, Retryable, Standing, Untrusted, Verifier, VerifyError};
use serde_json::{Value, json};
use shared::{
    Digest, Generation,
    manifest::{CapturePolicy, DriftSpec},
    message::Assignment,
    report::{DeploymentEvent, RejectReason},
    trust::Signed,
};

#[tokio::test]
async fn what_both_name_identically_is_handed_out_with_its_manifest() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    let desired = device.verify(server.direct(1, [&assignment]), NOW).await.unwrap();
    assert_eq!(desired.manifests[0].0, assignment);
    assert_eq!(desired.manifests[0].1.release, assignment.release);
    assert!(desired.refused.is_empty());
    assert_eq!((desired.floors.root, desired.floors.targets), (1, 2));
    assert_eq!((desired.floors.generation, desired.floors.time), (Generation(1), NOW));
}

#[tokio::test]
async fn only_the_four_files_that_are_read_again_are_kept() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    device.verify(server.direct(1, [&assignment]), NOW).await.unwrap();
    server.rotate(keys(40));
    device.link.serve(server.files());
    device.verifier.refresh(NOW).await.unwrap();
    let kept: Vec<_> = device.disk.files.lock().unwrap().keys().cloned().collect();
    assert_eq!(kept, ["root.json", "snapshot.json", "targets.json", "timestamp.json"]);
}

#[tokio::test]
async fn the_same_desired_state_again_needs_two_questions_and_is_accepted() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    device.verify(server.direct(1, [&assignment]), NOW).await.unwrap();
    device.link.asked.lock().unwrap().clear();
    let again = device.verify(server.direct(1, [&assignment]), NOW).await.unwrap();
    assert_eq!(again.manifests.len(), 1);
    assert_eq!(*device.link.asked.lock().unwrap(), ["2.root.json", "timestamp.json"]);
}

#[tokio::test]
async fn a_restarted_device_goes_on_from_its_store() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    device.verify(server.direct(4, [&assignment]), NOW).await.unwrap();
    let mut device = device.restarted();
    assert_eq!(device.verifier.floors().generation, Generation(4));
    assert!(device.verify(server.direct(4, [&assignment]), NOW).await.is_ok());
}

#[test]
fn without_a_trusted_root_there_is_no_verifier() {
    let refused = Verifier::new(device(), Link::default(), Disk::default(), Floors::default(), None);
    assert!(matches!(refused.unwrap_err(), VerifyError::Final(Untrusted::NoTrustedRoot)));
    let junk = Some(&b"{}"[..]);
    let refused = Verifier::new(device(), Link::default(), Disk::default(), Floors::default(), junk);
    assert!(matches!(refused.unwrap_err(), VerifyError::Final(Untrusted::TrustedRoot(_))));
}

#[tokio::test]
async fn a_release_that_the_image_repository_does_not_list_is_refused_and_others_pass() {
    let mut server = Server::new();
    let listed = server.publish("digits@1", 7);
    let unlisted = assignment_of("faces@1", 9);
    server.manifests.insert("faces/1.json".into(), support::manifest("faces@1", 9));
    let mut device = Device::enrolled(&server);
    let desired = device.verify(server.direct(1, [&unlisted, &listed]), NOW).await.unwrap();
    assert_eq!(desired.manifests.len(), 1);
    assert!(matches!(&desired.refused[..], [(a, Refusal::NotListed { .. })] if *a == unlisted));
}

#[tokio::test]
async fn another_digest_or_length_than_the_listed_one_is_refused_for_good() {
    let mut server = Server::new();
    let honest = server.publish("digits@1", 7);
    let digest = Assignment { manifest_digest: Digest::of(b"other"), ..honest.clone() };
    let length = Assignment { manifest_size_bytes: honest.manifest_size_bytes + 1, ..honest };
    let mut device = Device::enrolled(&server);
    for named in [digest, length] {
        let desired = device.verify(server.direct(1, [&named]), NOW).await.unwrap();
        assert!(desired.manifests.is_empty());
        let event = desired.refused[0].1.event();
        assert!(matches!(event, DeploymentEvent::Rejected(RejectReason::Untrusted { .. })), "{event:?}");
    }
}

#[tokio::test]
async fn a_withdrawn_release_is_neither_installed_nor_gone_back_to() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    let (release, digest) = (assignment.release.clone(), assignment.manifest_digest);
    assert_eq!(device.verifier.standing(&release, &digest), Standing::Unknown);
    device.verify(server.direct(1, [&assignment]), NOW).await.unwrap();
    assert_eq!(device.verifier.standing(&release, &digest), Standing::Listed);

    server.repository.withdraw(&server.keys, &release, NOW).unwrap();
    device.link.serve(server.files());
    let desired = device.verify(server.direct(2, [&assignment]), NOW).await.unwrap();
    assert!(matches!(desired.refused[0].1, Refusal::NotListed { .. }));
    assert_eq!(device.verifier.standing(&release, &digest), Standing::Withdrawn);
}

#[tokio::test]
async fn other_bytes_for_a_manifest_are_not_held_against_the_release() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    let mut swapped = support::manifest("digits@1", 7);
    swapped[0] = b' ';
    device.link.put("digits/1.json", swapped);
    let desired = device.verify(server.direct(1, [&assignment]), NOW).await.unwrap();
    assert!(desired.manifests.is_empty());
    assert!(matches!(desired.refused[0].1.event(), DeploymentEvent::Failed(_)));

    device.link.serve(server.files());
    let desired = device.verify(server.direct(1, [&assignment]), NOW).await.unwrap();
    assert_eq!(desired.manifests.len(), 1);
}

#[tokio::test]
async fn a_listing_that_describes_another_release_is_refused() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    relist(&device, &server, |target| target["custom"]["version"] = json!(2));
    let desired = device.verify(server.direct(1, [&assignment]), NOW).await.unwrap();
    assert!(matches!(desired.refused[0].1, Refusal::BadListing { .. }));

    let mut device = Device::enrolled(&server);
    relist(&device, &server, |target| target["custom"]["model_digest"] = json!(Digest::of(b"evil")));
    let desired = device.verify(server.direct(1, [&assignment]), NOW).await.unwrap();
    assert!(matches!(desired.refused[0].1, Refusal::BadManifest { .. }));
}

#[tokio::test]
async fn a_manifest_whose_features_cannot_be_counted_is_handed_out_since_its_model_runs() {
    let sample: Vec<f32> = (0..1_000_u16).map(f32::from).collect();
    let values = ReferenceValues::Numeric(NumericReference::from_sample("level", &sample).unwrap());
    let reference = Reference::new(vec![FeatureReference { name: "level".into(), values }]).unwrap();
    // It has no source, and a window of one row would tell that row.
    let capture = CapturePolicy { min_rows: 1, ..CapturePolicy::default() };
    let drift = DriftSpec { sources: vec![], reference, capture, guardrail: None };
    let mut manifest: Value = serde_json::from_slice(&support::manifest("digits@1", 7)).unwrap();
    manifest["drift"] = serde_json::to_value(&drift).unwrap();

    let bytes = serde_json::to_vec(&manifest).unwrap();

    let mut server = Server::new();
    let honest = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    let (manifest_digest, manifest_size_bytes) = (Digest::of(&bytes), bytes.len() as u64);
    // No repository of ours lists it, but an older or newer one may.
    relist(&device, &server, |target| {
        target["hashes"]["sha256"] = json!(manifest_digest);
        target["length"] = json!(manifest_size_bytes);
    });
    device.link.put("digits/1.json", bytes);
    let assignment = Assignment { manifest_digest, manifest_size_bytes, ..honest };
    let desired = device.verify(server.direct(1, [&assignment]), NOW).await.unwrap();
    let handed_out = &desired.manifests[0].1;
    assert!(handed_out.check().is_err() && handed_out.drift == Some(drift), "{handed_out:?}");
}

#[tokio::test]
async fn a_document_for_another_device_is_refused() {
    let server = Server::new();
    let mut device = Device::enrolled(&server);
    let other = muster_repository::director(&server.keys, "d2".parse().unwrap(), Generation(1), vec![], NOW);
    let refused = device.verify(other, NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Final(Untrusted::WrongDevice { .. })));
}

#[tokio::test]
async fn a_lower_generation_is_refused_and_an_equal_one_is_not() {
    let server = Server::new();
    let mut device = Device::enrolled(&server);
    device.verify(server.direct(5, []), NOW).await.unwrap();
    assert!(device.verify(server.direct(5, []), NOW).await.is_ok());
    let refused = device.verify(server.direct(4, []), NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Final(Untrusted::OldGeneration { .. })));
}

#[tokio::test]
async fn a_document_that_names_a_model_twice_or_too_many_is_refused() {
    let mut server = Server::new();
    let (one, two) = (server.publish("digits@1", 7), server.publish("digits@2", 8));
    let mut device = Device::enrolled(&server);
    let refused = device.verify(server.direct(1, [&one, &two]), NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Final(Untrusted::AmbiguousModel(_))));
    let many: Vec<_> = (0..33).map(|i| assignment_of(&format!("m{i}@1"), 1)).collect();
    let refused = device.verify(server.direct(1, &many), NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Final(Untrusted::TooManyAssignments(33))));
}

#[tokio::test]
async fn an_old_document_blocks_installs_until_a_new_one_comes() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let old = server.direct(1, [&assignment]);
    let mut device = Device::enrolled(&server);
    let later = NOW + DAY * 8;
    server.repository.refresh(&server.keys, later).unwrap();
    server.now = later;
    device.link.serve(server.files());
    let refused = device.verify(old, later).await.unwrap_err();
    let VerifyError::Retryable(Retryable::Expired { role, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(role, "director");
    assert!(device.verify(server.direct(1, [&assignment]), later).await.is_ok());
}

#[tokio::test]
async fn a_clock_off_by_hours_changes_nothing() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    for now in [NOW + HOUR, NOW + HOUR * 24, shared::Timestamp(NOW.0 - 3_600_000)] {
        let mut device = Device::enrolled(&server);
        assert!(device.verify(server.direct(1, [&assignment]), now).await.is_ok());
    }
}

#[tokio::test]
async fn a_clock_off_by_a_year_is_named_with_both_times() {
    let server = Server::new();
    let mut device = Device::enrolled(&server);
    let ahead = device.verify(server.direct(1, []), NOW + YEAR).await.unwrap_err();
    assert!(matches!(ahead, VerifyError::Retryable(Retryable::Expired { .. })));
    let text = chain(&ahead);
    assert!(
        text.contains("2027-01-18") && text.contains("2028-01-15") && text.contains("set the clock"),
        "{text}"
    );

    let year_ms = u64::try_from(YEAR.as_millis()).unwrap();
    let behind = device.verify(server.direct(1, []), shared::Timestamp(NOW.0 - year_ms)).await.unwrap_err();
    let text = chain(&behind);
    assert!(
        text.contains("2027-01-15") && text.contains("2026-01-15") && text.contains("set the clock"),
        "{text}"
    );
    assert!(device.verify(server.direct(1, []), NOW).await.is_ok());
}

#[tokio::test]
async fn a_clock_that_fell_back_is_held_up_by_the_floor() {
    let server = Server::new();
    let mut device = Device::enrolled(&server);
    device.verify(server.direct(1, []), NOW).await.unwrap();
    let mut device = device.restarted();
    assert!(device.verify(server.direct(1, []), shared::Timestamp(0)).await.is_ok());
}

#[tokio::test]
async fn a_server_whose_clock_is_ahead_does_not_push_the_time_of_a_device() {
    let mut server = Server::new();
    let mut device = Device::enrolled(&server);
    server.repository.refresh(&server.keys, NOW + YEAR).unwrap();
    device.link.serve(server.files());
    let refused = device.verify(server.direct(1, []), NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Retryable(Retryable::ClockBehind { .. })));
    assert!(device.verifier.floors().time <= NOW);
    server.repository.refresh(&server.keys, NOW).unwrap();
    device.link.serve(server.files());
    assert!(device.verify(server.direct(1, []), NOW).await.is_ok());
}

#[tokio::test]
async fn a_cut_cable_is_worth_another_try() {
    let server = Server::new();
    let mut device = Device::enrolled(&server);
    device.link.cut(true);
    let refused = device.verify(server.direct(1, []), NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Retryable(Retryable::Network(_))));
    assert!(chain(&refused).contains("cable cut"));
    device.link.cut(false);
    assert!(device.verify(server.direct(1, []), NOW).await.is_ok());
}

#[tokio::test]
async fn after_a_store_error_nothing_is_verified_until_the_device_restarts() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    device.disk.set_broken(true);
    let refused = device.verify(server.direct(1, [&assignment]), NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Store(_)));
    assert!(chain(&refused).contains("bad sector"));
    device.disk.set_broken(false);
    let refused = device.verify(server.direct(1, [&assignment]), NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Store(_)));
    let mut device = device.restarted();
    assert!(device.verify(server.direct(1, [&assignment]), NOW).await.is_ok());
}

/// Changes the listing of `digits/1.json` with the real keys, as a careless holder of the keys could.
fn relist(device: &Device, server: &Server, edit: impl FnOnce(&mut Value)) {
    use muster_repository::Role;
    let keys = &server.keys;
    let link = &device.link;
    link.forge("2.targets.json", &[keys.signer(Role::Targets)], |signed| {
        edit(&mut signed["targets"]["digits/1.json"]);
    });
    let name = |link: &Link, name: &str| {
        let bytes = link.files.lock().unwrap()[name].clone();
        json!({"version": 2, "length": bytes.len(), "hashes": {"sha256": Digest::of(&bytes)}})
    };
    let targets = name(link, "2.targets.json");
    link.forge("2.snapshot.json", &[keys.signer(Role::Snapshot)], |s| s["meta"]["targets.json"] = targets);
    let snapshot = name(link, "2.snapshot.json");
    link.forge("timestamp.json", &[keys.signer(Role::Timestamp)], |s| s["meta"]["snapshot.json"] = snapshot);
}

fn assignment_of(release: &str, salt: u8) -> Assignment {
    let bytes = support::manifest(release, salt);
    Assignment {
        release: release.parse().unwrap(),
        manifest_digest: Digest::of(&bytes),
        manifest_size_bytes: bytes.len() as u64,
        retry: false,
        pinned: false,
    }
}

#[tokio::test]
async fn a_document_of_an_unknown_specification_is_refused() {
    let server = Server::new();
    let mut device = Device::enrolled(&server);
    let signer = server.keys.signer(muster_repository::Role::Director);
    let document = json!({"_type": "director", "spec_version": "2.0", "device": "d1", "generation": 1,
        "expires_at": (NOW + DAY).0, "assignments": []});
    let signed = Signed::sign(&document, &[signer]).unwrap().to_vec();
    let refused = device.verify(Signed::from_slice(&signed).unwrap(), NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Final(Untrusted::DirectorVersion(_))));
}
