//! Challengers are releases like others: what may not be installed may not challenge.

use crate::support::{DAY, Device, NOW, Server, device, keys};
use muster_repository::{Keys, challengers};
use muster_trust::{Refusal, Retryable, Untrusted, VerifyError};
use shared::{
    DeviceId, Digest,
    challenger::{Challenger, ChallengersDocument, Terms},
    message::Assignment,
    trust::Signed,
};

fn named(assignment: &Assignment) -> Challenger {
    Challenger {
        release: assignment.release.clone(),
        manifest_digest: assignment.manifest_digest,
        manifest_size_bytes: assignment.manifest_size_bytes,
        order: 3,
        terms: Terms::default(),
    }
}

fn signed(keys: &Keys, device: DeviceId, named: &[Challenger]) -> Signed<ChallengersDocument> {
    challengers(keys, device, 3, named.to_vec(), NOW)
}

#[tokio::test]
async fn what_both_sides_name_identically_may_challenge() {
    let mut server = Server::new();
    let challenger = named(&server.publish("digits@2", 7));
    let mut at = Device::enrolled(&server);
    let document = signed(&server.keys, device(), std::slice::from_ref(&challenger));
    let verified = at.verifier.verify_challengers(document, NOW).await.unwrap();
    assert_eq!(verified.document.revision, 3);
    assert_eq!(verified.manifests[0].0, challenger);
    assert_eq!(verified.manifests[0].1.release, challenger.release);
    assert!(verified.refused.is_empty());
}

#[tokio::test]
async fn a_challenger_that_the_image_repository_does_not_list_so_is_refused_and_others_pass() {
    let mut server = Server::new();
    let listed = named(&server.publish("digits@2", 7));
    let other = named(&server.publish("faces@1", 9));
    let other = Challenger { manifest_digest: Digest::of(b"other"), ..other };
    let unlisted = Challenger { release: "voices@1".parse().unwrap(), ..listed.clone() };
    let mut at = Device::enrolled(&server);
    let document = signed(&server.keys, device(), &[listed, other, unlisted]);
    let verified = at.verifier.verify_challengers(document, NOW).await.unwrap();
    assert_eq!(verified.manifests.len(), 1);
    let refusals: Vec<_> = verified.refused.iter().map(|(_, refusal)| refusal).collect();
    assert!(matches!(refusals[..], [Refusal::Differs { .. }, Refusal::NotListed { .. }]), "{refusals:?}");
}

#[tokio::test]
async fn one_that_cannot_be_fetched_does_not_hold_up_what_the_director_says_of_others() {
    let mut server = Server::new();
    let unreachable = named(&server.publish("faces@1", 9));
    let mut at = Device::enrolled(&server);
    at.link.fail_at("faces");
    let document = signed(&server.keys, device(), std::slice::from_ref(&unreachable));
    let verified = at.verifier.verify_challengers(document, NOW).await.unwrap();
    assert_eq!((verified.document.revision, verified.manifests.len()), (3, 0));
    let [(challenger, refusal)] = &verified.refused[..] else { panic!("{:?}", verified.refused) };
    assert_eq!(*challenger, unreachable);
    assert!(matches!(refusal, Refusal::Unavailable { .. }), "it is asked for again: {refusal:?}");
}

#[tokio::test]
async fn nobody_but_the_director_of_this_device_names_challengers_and_not_for_ever() {
    let mut server = Server::new();
    let challenger = named(&server.publish("digits@2", 7));
    let twice = [challenger.clone(), challenger.clone()];
    let five: Vec<_> = (1..6)
        .map(|i| Challenger { release: format!("m{i}@1").parse().unwrap(), ..challenger.clone() })
        .collect();
    let mut at = Device::enrolled(&server);
    let stolen = keys(90);
    let other: DeviceId = "d2".parse().unwrap();
    for document in [
        signed(&stolen, device(), &[]),
        signed(&server.keys, other, &[]),
        signed(&server.keys, device(), &twice),
        signed(&server.keys, device(), &five),
    ] {
        let refused = at.verifier.verify_challengers(document, NOW).await.unwrap_err();
        assert!(matches!(refused, VerifyError::Final(_)), "{refused:?}");
    }
    let document = signed(&server.keys, device(), &[challenger]);
    let late = NOW + 8 * DAY;
    server.repository.refresh(&server.keys, late).unwrap();
    at.link.serve(server.files());
    let refused = at.verifier.verify_challengers(document, late).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Retryable(Retryable::Expired { .. })), "{refused:?}");
}

#[tokio::test]
async fn one_signed_document_does_not_pass_for_the_other() {
    let server = Server::new();
    let mut at = Device::enrolled(&server);
    let desired = server.direct(1, []);
    let posing = Signed::from_slice(&desired.to_vec()).unwrap();
    let refused = at.verifier.verify_challengers(posing, NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Final(Untrusted::Director(_))), "{refused:?}");
    let document = signed(&server.keys, device(), &[]);
    let posing = Signed::from_slice(&document.to_vec()).unwrap();
    let refused = at.verify(posing, NOW).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Final(Untrusted::Director(_))), "{refused:?}");
}
