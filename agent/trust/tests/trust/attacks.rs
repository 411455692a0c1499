//! The attacks that the TUF specification and Uptane name, tried on the whole way from link to manifest.

use crate::support::{self, DAY, Device, NOW, Server, chain, keys};
use muster_repository::{Keys, Role, director};
use muster_trust::{Retryable, Untrusted, Verifier, VerifyError};
use serde_json::{Value, json};
use shared::{
    Digest, Generation,
    message::DirectorDocument,
    trust::{Signed, TrustError},
};

// Arbitrary installation: signatures.

#[tokio::test]
async fn unsigned_metadata_is_refused() {
    for name in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let mut device = Device::enrolled(&Server::new());
        device.link.forge(name, &[], |_| {});
        refused_with(device.verifier.refresh(NOW).await, "");
    }
}

#[tokio::test]
async fn metadata_signed_by_a_key_of_another_role_is_refused() {
    let server = Server::new();
    let mut device = Device::enrolled(&server);
    device.link.forge("timestamp.json", &[server.keys.signer(Role::Snapshot)], |_| {});
    refused_with(device.verifier.refresh(NOW).await, "threshold not met for role timestamp: 0/1");
}

#[tokio::test]
async fn changed_metadata_is_refused() {
    let mut device = Device::enrolled(&Server::new());
    let mut bytes = device.link.files.lock().unwrap()["timestamp.json"].clone();
    let text = String::from_utf8(bytes).unwrap();
    bytes = text.replace("\"version\":1", "\"version\":9").into_bytes();
    device.link.put("timestamp.json", bytes);
    refused_with(device.verifier.refresh(NOW).await, "threshold not met");
}

#[tokio::test]
async fn a_threshold_of_two_is_not_met_by_one_key_however_often_it_signs() {
    let server = Server::new();
    let old = &server.keys;
    let second = keys(60);
    for signers in
        [vec![old.signer(Role::Timestamp)], vec![old.signer(Role::Timestamp), old.signer(Role::Timestamp)]]
    {
        let mut device = Device::enrolled(&server);
        next_root(&device, old, 2, |root| {
            let key = second.signer(Role::Timestamp);
            root["keys"][key.id()] = json!(key.public());
            root["roles"]["timestamp"]["keyids"].as_array_mut().unwrap().push(json!(key.id()));
            root["roles"]["timestamp"]["threshold"] = json!(2);
        });
        device.link.forge("timestamp.json", &signers, |_| {});
        assert!(device.verifier.refresh(NOW).await.is_err());
        let both = [old.signer(Role::Timestamp), second.signer(Role::Timestamp)];
        device.link.forge("timestamp.json", &both, |_| {});
        device.verifier.refresh(NOW).await.unwrap();
    }
}

#[tokio::test]
async fn a_director_document_needs_as_many_directors_as_the_root_says() {
    let server = Server::new();
    let mut device = Device::enrolled(&server);
    let (first, second) = (server.keys.signer(Role::Director), keys(60));
    let second = second.signer(Role::Director);
    next_root(&device, &server.keys, 2, |root| {
        root["x-muster-director"]["keys"][second.id()] = json!(second.public());
        root["x-muster-director"]["threshold"] = json!(2);
    });
    let document: Value = serde_json::from_slice(&server.direct(1, []).to_vec()).unwrap();
    let signed = |signers: &[_]| -> Signed<DirectorDocument> {
        Signed::from_slice(&Signed::sign(&document["signed"], signers).unwrap().to_vec()).unwrap()
    };
    for signers in [vec![first], vec![first, first], vec![]] {
        let refused = device.verify(signed(&signers), NOW).await.unwrap_err();
        let VerifyError::Final(Untrusted::Director(TrustError::BelowThreshold { .. })) = refused else {
            panic!("{refused:?}")
        };
    }
    assert!(device.verify(signed(&[first, second]), NOW).await.is_ok());
}

#[tokio::test]
async fn another_key_directs_nothing() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    for thief in [keys(90), Keys::from_seeds(&[[2; 32]; 5])] {
        let forged = director(&thief, support::device(), Generation(9), vec![assignment.clone()], NOW);
        let refused = device.verify(forged, NOW).await.unwrap_err();
        assert!(matches!(refused, VerifyError::Final(Untrusted::Director(_))));
    }
    assert_eq!(device.verifier.floors().generation, Generation(0));
}

#[tokio::test]
async fn a_root_that_names_no_director_directs_nothing() {
    let server = Server::new();
    let mut device = Device::enrolled(&server);
    next_root(&device, &server.keys, 2, |root| {
        root.as_object_mut().unwrap().remove("x-muster-director");
    });
    let refused = device.verify(server.direct(1, []), NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Final(Untrusted::NoDirector)));
}

// Rollback, freeze, mix and match, endless data.

#[tokio::test]
async fn an_older_timestamp_is_refused() {
    let mut server = Server::new();
    let old = server.files();
    server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    device.verifier.refresh(NOW).await.unwrap();
    device.link.serve(old);
    refused_with(device.verifier.refresh(NOW).await, "rollback detected for timestamp");
    let mut device = device.restarted();
    refused_with(device.verifier.refresh(NOW).await, "rollback detected for timestamp");
}

#[tokio::test]
async fn older_snapshots_and_targets_under_a_new_timestamp_are_refused() {
    let mut server = Server::new();
    server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    device.verifier.refresh(NOW).await.unwrap();

    let snapshot = described(&device, "1.snapshot.json", 1);
    device.link.put("1.snapshot.json", server.files()["1.snapshot.json"].clone());
    resign_timestamp(&device, &server, 3, snapshot);
    refused_with(device.verifier.refresh(NOW).await, "rollback detected for snapshot");

    let targets = described(&device, "1.targets.json", 1);
    device.link.put("3.snapshot.json", server.files()["2.snapshot.json"].clone());
    device.link.forge("3.snapshot.json", &[server.keys.signer(Role::Snapshot)], |signed| {
        signed["version"] = json!(3);
        signed["meta"]["targets.json"] = targets;
    });
    let snapshot = described(&device, "3.snapshot.json", 3);
    resign_timestamp(&device, &server, 4, snapshot);
    refused_with(device.verifier.refresh(NOW).await, "rollback detected for targets.json");
}

#[tokio::test]
async fn a_lost_store_does_not_reopen_the_way_back() {
    let mut server = Server::new();
    let old = server.files();
    server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    device.verifier.refresh(NOW).await.unwrap();
    let floors = device.verifier.floors().clone();
    device.disk.wipe();
    device.link.serve(old);
    let root = server.repository.trusted_root();
    let (link, disk) = (device.link.clone(), device.disk.clone());
    let mut again = Verifier::new(support::device(), link.clone(), disk, floors, Some(&root)).unwrap();
    let refused = again.verify_desired(server.direct(1, []), NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Final(Untrusted::Rollback { .. })), "{refused:?}");
    link.serve(server.files());
    assert!(again.verify_desired(server.direct(1, []), NOW).await.is_ok());
}

#[tokio::test]
async fn an_old_root_after_a_lost_store_is_refused() {
    let mut server = Server::new();
    let (first, old) = (server.repository.trusted_root(), server.files());
    let mut device = Device::enrolled(&server);
    server.rotate(keys(40));
    device.link.serve(server.files());
    device.verifier.refresh(NOW).await.unwrap();
    let floors = device.verifier.floors().clone();
    device.disk.wipe();
    device.link.serve(old);
    let mut again =
        Verifier::new(support::device(), device.link.clone(), device.disk, floors, Some(&first)).unwrap();
    let refused = again.refresh(NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Final(Untrusted::Rollback { file: "root", .. })), "{refused:?}");
}

#[tokio::test]
async fn news_cannot_be_held_back_for_longer_than_the_timestamp_lives() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    assert!(device.verify(server.direct(1, [&assignment]), NOW + DAY * 2).await.is_ok());
    let refused = device.verify(server.direct(1, [&assignment]), NOW + DAY * 4).await.unwrap_err();
    let VerifyError::Retryable(Retryable::Expired { role, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(role, "timestamp");
}

#[tokio::test]
async fn files_of_different_moments_do_not_mix() {
    let mut server = Server::new();
    server.publish("digits@1", 7);
    let first = server.files();
    server.publish("digits@2", 8);
    for (name, from) in [("3.targets.json", "2.targets.json"), ("3.snapshot.json", "2.snapshot.json")] {
        let mut device = Device::enrolled(&server);
        device.link.put(name, first[from].clone());
        refused_with(device.verifier.refresh(NOW).await, "integrity check failed");
    }
}

#[tokio::test]
async fn a_file_without_end_is_cut_off() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    for name in ["timestamp.json", "2.snapshot.json", "2.targets.json", "2.root.json", "digits/1.json"] {
        let mut device = Device::enrolled(&server);
        device.link.put(name, vec![b' '; 6 * 1_024 * 1_024]);
        let refused = device.verify(server.direct(1, [&assignment]), NOW).await.unwrap_err();
        assert!(matches!(refused, VerifyError::Final(Untrusted::Source(_))), "{name}: {refused:?}");
    }
}

#[tokio::test]
async fn a_missing_file_is_worth_another_try() {
    for name in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let mut device = Device::enrolled(&Server::new());
        device.link.files.lock().unwrap().remove(name);
        let refused = device.verifier.refresh(NOW).await.unwrap_err();
        assert!(matches!(refused, VerifyError::Retryable(Retryable::Missing(_))), "{refused:?}");
    }
}

// Roots and recovery.

#[tokio::test]
async fn a_device_that_slept_through_fifty_rotations_follows_them_all() {
    let mut server = Server::new();
    let mut device = Device::enrolled(&server);
    let before = server.direct(7, []);
    for seed in 50..100 {
        server.rotate(keys(seed));
    }
    let assignment = server.publish("digits@1", 7);
    device.link.serve(server.files());
    let refused = device.verify(before, NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Final(Untrusted::Director(_))), "the old director is retired");
    let desired = device.verify(server.direct(8, [&assignment]), NOW).await.unwrap();
    assert_eq!((desired.floors.root, desired.manifests.len()), (51, 1));
    let mut device = device.restarted();
    device.link.asked.lock().unwrap().clear();
    device.verifier.refresh(NOW).await.unwrap();
    assert_eq!(device.link.asked.lock().unwrap()[0], "52.root.json");
}

#[tokio::test]
async fn a_root_is_followed_only_one_step_at_a_time_and_only_with_the_old_key() {
    let server = Server::new();
    let mut device = Device::enrolled(&server);
    next_root(&device, &server.keys, 3, |_| {});
    device.link.files.lock().unwrap().remove("2.root.json");
    let third = device.link.files.lock().unwrap().remove("3.root.json").unwrap();
    device.link.put("2.root.json", third);
    refused_with(device.verifier.refresh(NOW).await, "root version must increment by one");

    let (mut device, thief) = (Device::enrolled(&server), keys(80));
    next_root(&device, &thief, 2, |root| {
        let key = thief.signer(Role::Root);
        root["keys"][key.id()] = json!(key.public());
        root["roles"]["root"]["keyids"] = json!([key.id()]);
    });
    refused_with(device.verifier.refresh(NOW).await, "threshold not met for role root");
}

#[tokio::test]
async fn new_keys_end_a_fast_forward() {
    let mut server = Server::new();
    let assignment = server.publish("digits@1", 7);
    let mut device = Device::enrolled(&server);
    // A thief of the online keys counts as far as numbers go, to lock the server out.
    let far = 1_000_000_000;
    device.link.put(&format!("{far}.snapshot.json"), server.files()["2.snapshot.json"].clone());
    device.link.forge(&format!("{far}.snapshot.json"), &[server.keys.signer(Role::Snapshot)], |signed| {
        signed["version"] = json!(far);
    });
    let snapshot = described(&device, &format!("{far}.snapshot.json"), far);
    resign_timestamp(&device, &server, far, snapshot);
    device.verify(server.direct(far, [&assignment]), NOW).await.unwrap();
    assert_eq!(device.verifier.floors().snapshot, far);
    device.link.serve(server.files());
    refused_with(device.verifier.refresh(NOW).await, "rollback");

    server.rotate(keys(40));
    device.link.serve(server.files());
    let mut device = device.restarted();
    let desired = device.verify(server.direct(2, [&assignment]), NOW).await.unwrap();
    assert_eq!(desired.manifests.len(), 1);
    assert!(desired.floors.snapshot < far && desired.floors.generation == Generation(2));
}

/// Serves a root of `version`, made from the first one and signed by the root key of `keys`.
fn next_root(device: &Device, keys: &Keys, version: u64, edit: impl FnOnce(&mut Value)) {
    let name = format!("{version}.root.json");
    let first = device.link.files.lock().unwrap()["1.root.json"].clone();
    device.link.put(&name, first);
    device.link.forge(&name, &[keys.signer(Role::Root)], |root| {
        root["version"] = json!(version);
        edit(root);
    });
}

fn resign_timestamp(device: &Device, server: &Server, version: u64, snapshot: Value) {
    device.link.forge("timestamp.json", &[server.keys.signer(Role::Timestamp)], |signed| {
        signed["version"] = json!(version);
        signed["meta"]["snapshot.json"] = snapshot;
    });
}

fn described(device: &Device, name: &str, version: u64) -> Value {
    let bytes = device.link.files.lock().unwrap()[name].clone();
    json!({"version": version, "length": bytes.len(), "hashes": {"sha256": Digest::of(&bytes)}})
}

fn refused_with(outcome: Result<(), VerifyError>, reason: &str) {
    let refused = outcome.unwrap_err();
    let text = chain(&refused);
    assert!(matches!(refused, VerifyError::Final(_)) && text.contains(reason), "{text}");
}
