//! Webhooks stand where they stood, and events of a kind are followed.

use super::*;
use crate::webhooks::Standing;

on_each_database! {
    a_webhook_begins_at_the_newest_event_and_is_removed_once,
    webhooks_are_bounded,
    of_two_servers_that_deliver_an_event_one_writes_it_down,
    failures_are_kept_until_a_delivery_arrives,
    a_webhook_is_given_up_once_and_goes_on_where_it_stopped,
    events_of_a_kind_are_followed_from_where_a_reader_stopped,
}

fn new() -> NewWebhook {
    NewWebhook {
        url: "https://hooks.example/muster".into(),
        events: vec!["drift".into(), "rollout.halted".into()],
        ca_pem: None,
        created_by: "ann".into(),
    }
}

async fn add(store: &Store) -> Option<WebhookRow> {
    let mut tx = store.begin().await.unwrap();
    let added = Store::insert_webhook(&mut tx, &new(), NOW).await.unwrap();
    tx.commit().await.unwrap();
    added
}

async fn happens(store: &Store, kinds: &[&str]) {
    let mut tx = store.begin().await.unwrap();
    for kind in kinds {
        Store::insert_event(&mut tx, NOW, kind, "s", &"moved").await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn advance(store: &Store, id: &str, from: u64, to: u64, delivered_at: Option<Timestamp>) -> bool {
    let mut tx = store.begin().await.unwrap();
    let done = Store::advance_webhook(&mut tx, id, &Advance { from, to, delivered_at }).await.unwrap();
    tx.commit().await.unwrap();
    done
}

async fn a_webhook_begins_at_the_newest_event_and_is_removed_once(scene: &Scene) {
    let store = scene.open().await;
    let first = add(&store).await.unwrap();
    happens(&store, &["drift", "rollout"]).await;
    let second = add(&store).await.unwrap();
    assert_eq!((first.sequence, second.sequence, store.newest_event().await.unwrap()), (0, 2, 2));
    assert_eq!((&first.events, first.standing, &first.disabled), (&new().events, Standing::default(), &None));
    assert!(first.id != second.id && first.salt != second.salt);
    assert_eq!(store.webhook(&first.id).await.unwrap(), Some(first.clone()));
    let mut tx = store.begin().await.unwrap();
    assert_eq!(Store::delete_webhook(&mut tx, &first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(Store::delete_webhook(&mut tx, &first.id).await.unwrap(), None);
    tx.commit().await.unwrap();
    assert_eq!(store.webhooks().await.unwrap(), [second]);
}

async fn webhooks_are_bounded(scene: &Scene) {
    let store = scene.open().await;
    for _ in 0..Store::MAX_WEBHOOKS {
        assert!(add(&store).await.is_some());
    }
    assert_eq!(add(&store).await, None);
}

async fn of_two_servers_that_deliver_an_event_one_writes_it_down(scene: &Scene) {
    let store = scene.open().await;
    let row = add(&store).await.unwrap();
    happens(&store, &["drift", "drift", "drift"]).await;
    let page = store.events_page(1, 1).await.unwrap();
    assert_eq!(page.iter().map(|event| event.sequence).collect::<Vec<_>>(), [2]);
    assert!(advance(&store, &row.id, 0, 1, Some(NOW)).await);
    assert!(!advance(&store, &row.id, 0, 1, Some(NOW)).await, "it stands at 1 by now");
    assert!(advance(&store, &row.id, 1, 3, None).await);
    let row = store.webhook(&row.id).await.unwrap().unwrap();
    assert_eq!((row.sequence, row.delivered_at), (3, Some(NOW)));
}

async fn failures_are_kept_until_a_delivery_arrives(scene: &Scene) {
    let store = scene.open().await;
    let row = add(&store).await.unwrap();
    let failing = Standing { failures: 3, failing_since: Some(NOW), not_before: NOW + HOUR };
    let mut tx = store.begin().await.unwrap();
    Store::webhook_failed(&mut tx, &row.id, 0, &failing, "the receiver\0 answered 503").await.unwrap();
    // Another server that is behind says nothing new.
    Store::webhook_failed(&mut tx, &row.id, 7, &Standing::default(), "late").await.unwrap();
    tx.commit().await.unwrap();
    let kept = store.webhook(&row.id).await.unwrap().unwrap();
    assert_eq!((kept.standing, kept.last_error.unwrap().contains("503")), (failing, true));
    assert!(advance(&store, &row.id, 0, 1, None).await);
    assert_eq!(
        store.webhook(&row.id).await.unwrap().unwrap().standing,
        failing,
        "passing over shows nothing"
    );
    assert!(advance(&store, &row.id, 1, 2, Some(NOW)).await);
    let kept = store.webhook(&row.id).await.unwrap().unwrap();
    assert_eq!((kept.standing, kept.last_error), (Standing::default(), None));
}

async fn a_webhook_is_given_up_once_and_goes_on_where_it_stopped(scene: &Scene) {
    let store = scene.open().await;
    let row = add(&store).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert!(!Store::disable_webhook(&mut tx, &row.id, 5, "gone", NOW).await.unwrap());
    assert!(Store::disable_webhook(&mut tx, &row.id, 0, "gone", NOW).await.unwrap());
    assert!(!Store::disable_webhook(&mut tx, &row.id, 0, "gone", NOW).await.unwrap());
    tx.commit().await.unwrap();
    let disabled = store.webhook(&row.id).await.unwrap().unwrap();
    assert_eq!(disabled.disabled, Some((NOW, "gone".into())));
    let mut tx = store.begin().await.unwrap();
    let enabled = Store::enable_webhook(&mut tx, &row.id).await.unwrap().unwrap();
    assert_eq!((enabled.disabled, enabled.standing, enabled.sequence), (None, Standing::default(), 0));
    assert_eq!(Store::enable_webhook(&mut tx, "none").await.unwrap(), None);
    tx.commit().await.unwrap();
}

async fn events_of_a_kind_are_followed_from_where_a_reader_stopped(scene: &Scene) {
    let store = scene.open().await;
    happens(&store, &["drift", "rollout", "drift"]).await;
    assert_eq!(store.newest_event_of_kind("drift").await.unwrap(), 3);
    assert_eq!(store.newest_event_of_kind("other").await.unwrap(), 0);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(Store::cursor(&mut tx, "reader").await.unwrap(), 0);
    let events = Store::events_of_kind(&mut tx, "drift", 0).await.unwrap();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 3]);
    Store::set_cursor(&mut tx, "reader", 1).await.unwrap();
    Store::set_cursor(&mut tx, "reader", 3).await.unwrap();
    assert_eq!(Store::cursor(&mut tx, "reader").await.unwrap(), 3);
    assert!(Store::events_of_kind(&mut tx, "drift", 3).await.unwrap().is_empty());
    tx.commit().await.unwrap();
    // What rollouts have heard of drift begins with what comes.
    let mut tx = store.begin().await.unwrap();
    assert_eq!(Store::cursor(&mut tx, "rollouts.drift").await.unwrap(), 0);
    tx.rollback().await.unwrap();
}
