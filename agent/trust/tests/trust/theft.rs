//! Key theft, literally: every subset of stolen keys against what must follow.

use std::collections::BTreeMap;

use crate::support::{Device, NOW, Server, seeds};
use muster_repository::{Keys, Role};
use shared::{
    message::{Assignment, DirectorDocument},
    trust::Signed,
};

#[tokio::test]
async fn stolen_keys_install_something_else_only_if_they_are_all_four() {
    for stolen in subsets(&[Role::Director, Role::Snapshot, Role::Timestamp, Role::Targets]) {
        let installed: usize = attacks(&stolen).await.into_iter().sum();
        assert_eq!(installed > 0, stolen.len() == 4, "stolen: {stolen:?}");
    }
}

#[tokio::test]
async fn a_stolen_director_key_chooses_among_listed_releases_and_no_more() {
    let mut server = Server::new();
    let (old, _new) = (server.publish("digits@1", 7), server.publish("digits@2", 8));
    let mut device = Device::enrolled(&server);
    let chosen = device.verify(server.direct(1, [&old]), NOW).await.unwrap();
    assert_eq!(chosen.manifests.len(), 1);
    server.repository.withdraw(&server.keys, &old.release, NOW).unwrap();
    device.link.serve(server.files());
    let chosen = device.verify(server.direct(2, [&old]), NOW).await.unwrap();
    assert!(chosen.manifests.is_empty());
}

/// How many manifests a device accepts under each attack of a thief with the `stolen` keys.
async fn attacks(stolen: &[Role]) -> Vec<usize> {
    let mut honest = Server::new();
    honest.publish("digits@1", 7);
    let mut evil = Server::with_keys(thief(stolen));
    evil.publish("digits@1", 7);
    let wanted = evil.publish("digits@2", 66);
    let swapped = Assignment { release: "digits@1".parse().unwrap(), ..wanted.clone() };

    let mut mixed = honest.files();
    mixed.extend(evil.files().into_iter().filter(|(name, _)| !name.ends_with("root.json")));
    let mut hidden = honest.files();
    hidden.insert("digits/2.json".into(), evil.manifests["digits/2.json"].clone());
    hidden.insert("digits/1.json".into(), evil.manifests["digits/2.json"].clone());
    let whole = evil.files();

    let mut accepted = Vec::new();
    for files in [mixed, hidden, whole] {
        for named in [&wanted, &swapped] {
            accepted.push(accepts(&honest, &files, evil.direct(9, [named])).await);
        }
    }
    accepted
}

async fn accepts(
    honest: &Server,
    files: &BTreeMap<String, Vec<u8>>,
    order: Signed<DirectorDocument>,
) -> usize {
    let mut device = Device::enrolled(honest);
    device.link.serve(files.clone());
    let outcome = device.verify(order, NOW).await;
    outcome.map_or(0, |desired| desired.manifests.len())
}

/// The honest keys of the `stolen` roles, and keys of the thief's own for the rest.
fn thief(stolen: &[Role]) -> Keys {
    let (honest, own) = (seeds(1), seeds(70));
    let mut mixed = own;
    for (i, role) in Role::ALL.into_iter().enumerate() {
        if stolen.contains(&role) {
            mixed[i] = honest[i];
        }
    }
    Keys::from_seeds(&mixed)
}

fn subsets(roles: &[Role]) -> Vec<Vec<Role>> {
    (0..1 << roles.len())
        .map(|bits| roles.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, r)| *r).collect())
        .collect()
}
