//! Transactions that never began leave nothing behind on the one connection that writes.

use sqlx::Executor as _;

use super::*;

/// Until another connection waits for the right to write, which `holder` has.
async fn somebody_waits(holder: &Store) {
    let waiting = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = \
                   (SELECT oid FROM pg_database WHERE datname = current_database())";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&holder.reader).await.unwrap() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nobody waits");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn after_a_wait_that_was_too_long_a_server_writes_again() {
    let scene = Scene::postgres().await;
    let (holder, store) = (scene.open().await, scene.open().await);
    assert!(add_device(&holder).await);
    store.writer.execute("SET lock_timeout = 50").await.unwrap();
    let held = holder.begin().await.unwrap();
    assert!(store.begin().await.is_err());
    held.commit().await.unwrap();
    let tx = store.begin().await.unwrap();
    tx.commit().await.unwrap();
    store.set_connected(&device_id(), true, NOW).await.unwrap();
    assert!(holder.device(&device_id()).await.unwrap().unwrap().connected);
}

#[tokio::test]
async fn a_begin_that_nobody_waits_for_any_more_holds_up_nobody_and_swallows_no_write() {
    let scene = Scene::postgres().await;
    let (holder, store) = (scene.open().await, scene.open().await);
    assert!(add_device(&holder).await);
    let held = holder.begin().await.unwrap();
    tokio::select! {
        _ = store.begin() => panic!("two write at once"),
        () = somebody_waits(&holder) => {}
    }
    held.commit().await.unwrap();
    store.set_connected(&device_id(), true, NOW).await.unwrap();
    assert!(holder.device(&device_id()).await.unwrap().unwrap().connected);
    holder.begin().await.unwrap().commit().await.unwrap();
}
