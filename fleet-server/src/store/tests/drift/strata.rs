//! The number of strata is bounded whatever labels there are and whatever devices say, and nobody's counts go where another's belong.

use super::*;

on_each_database! {
    a_label_of_which_every_device_has_its_own_value_makes_no_rows_without_end,
    a_device_that_says_another_version_each_time_takes_no_stratum_from_others,
    what_others_say_too_is_not_lost_with_a_device_that_is_beyond_its_bound,
    a_label_that_is_called_as_what_devices_say_is_the_operators_word,
    a_device_whose_row_is_damaged_keeps_no_other_devices_windows_out,
}

async fn a_label_of_which_every_device_has_its_own_value_makes_no_rows_without_end(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1"]).await;
    let mut tx = store.begin().await.unwrap();
    let id = DeviceId::new("a-1").unwrap();
    for n in 0..1_002 {
        let labels = BTreeMap::from([("site".to_owned(), format!("s-{n}"))]);
        Store::set_labels(&mut tx, &id, &labels).await.unwrap();
        if n % 167 == 0 {
            tx.commit().await.unwrap();
            add(&store, &[window("a-1", n + 1, at(1))], at(2)).await;
            tx = store.begin().await.unwrap();
        }
        sqlx::query("INSERT INTO drift_strata (model, version, stratum, last_day) VALUES ('digits', 2, $1, 1) ON CONFLICT DO NOTHING")
            .bind(format!("site=s-{n}"))
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    Store::set_labels(&mut tx, &id, &BTreeMap::from([("site".into(), "new".into())])).await.unwrap();
    tx.commit().await.unwrap();
    let left_out = add(&store, &[window("a-1", 2_000, at(1))], at(2)).await;
    assert_eq!(left_out, LeftOutOfWindows { strata: 1, releases: 0 });
    assert!(sums(&store, &release(), "site=new").await.is_empty());
    assert_eq!(sums(&store, &release(), ALL).await.len(), 1, "the sum of all devices has it");
}

async fn say_version(store: &Store, device: &str, version: &str) {
    let inventory = Inventory { agent_version: version.into(), ..Inventory::default() };
    let mut tx = store.begin().await.unwrap();
    sqlx::query("UPDATE devices SET inventory = $1 WHERE id = $2")
        .bind(serde_json::to_string(&inventory).unwrap())
        .bind(device)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn a_device_that_says_another_version_each_time_takes_no_stratum_from_others(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1", "a-2"]).await;
    for n in 1..=9 {
        say_version(&store, "a-1", &format!("9.9.{n}")).await;
        add(&store, &[window("a-1", n, at(1))], at(2)).await;
    }
    say_version(&store, "a-2", "1.2.0").await;
    assert_eq!(add(&store, &[window("a-2", 1, at(1))], at(2)).await.strata, 0);
    assert!(!sums(&store, &release(), "firmware=9.9.2").await.is_empty(), "two in a week are usual");
    assert!(sums(&store, &release(), "firmware=9.9.3").await.is_empty());
    assert_eq!(sums(&store, &release(), "firmware=1.2.0").await.len(), 1);
    assert_eq!(windows_of(&store, "firmware=other").await, 7, "the others are together");
    say_version(&store, "a-1", "9.9.4").await;
    let week = 7 * 1_440;
    assert_eq!(add(&store, &[window("a-1", 10, at(week))], at(week)).await.strata, 0, "a week later");
}

async fn what_others_say_too_is_not_lost_with_a_device_that_is_beyond_its_bound(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1", "a-2"]).await;
    for n in 1..=3 {
        say_version(&store, "a-1", &format!("9.9.{n}")).await;
        add(&store, &[window("a-1", n, at(1))], at(2)).await;
    }
    for device in ["a-1", "a-2"] {
        say_version(&store, device, "1.3.0").await;
    }
    let both = [window("a-1", 4, at(1)), window("a-2", 1, at(1))];
    assert_eq!(add(&store, &both, at(2)).await.strata, 0);
    assert_eq!(windows_of(&store, "firmware=1.3.0").await, 2);
    assert_eq!(windows_of(&store, "firmware=other").await, 1);
}

async fn a_label_that_is_called_as_what_devices_say_is_the_operators_word(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1", "a-2"]).await;
    let id = DeviceId::new("a-1").unwrap();
    for n in 1..=300 {
        let labels = BTreeMap::from([("hardware".to_owned(), format!("board-{n}"))]);
        let mut tx = store.begin().await.unwrap();
        Store::set_labels(&mut tx, &id, &labels).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(add(&store, &[window("a-1", n, at(1))], at(2)).await.strata, 0, "board {n}");
    }
    let inventory = Inventory { arch: "riscv64".into(), ..Inventory::default() };
    let mut tx = store.begin().await.unwrap();
    sqlx::query("UPDATE devices SET inventory = $1 WHERE id = 'a-2'")
        .bind(serde_json::to_string(&inventory).unwrap())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    add(&store, &[window("a-2", 1, at(1))], at(2)).await;
    assert_eq!(windows_of(&store, "hardware=riscv64").await, 1, "they leave what devices say its room");
}

async fn a_device_whose_row_is_damaged_keeps_no_other_devices_windows_out(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1", "a-2"]).await;
    say_version(&store, "a-2", "1.2.0").await;
    let mut tx = store.begin().await.unwrap();
    let spoil = sqlx::query("UPDATE devices SET labels = 'x', inventory = 'y' WHERE id = 'a-1'");
    spoil.execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    add(&store, &[window("a-1", 1, at(1)), window("a-2", 1, at(1))], at(2)).await;
    assert_eq!(windows_of(&store, ALL).await, 2);
    assert_eq!(windows_of(&store, "firmware=1.2.0").await, 1);
}
