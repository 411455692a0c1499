//! Tallies and evidence are read as they were written.

use fleet_core::verdict::{CanaryJudge, Cohorts, Look, Tally, VerdictPolicy};

use super::*;

on_each_database! {
    tallies_are_read_in_order_and_forgotten_in_time,
    evidence_is_kept_by_wave_and_what_was_learned_is_replaced,
}

async fn tallies_are_read_in_order_and_forgotten_in_time(scene: &Scene) {
    let store = scene.open().await;
    let mut tx = store.begin().await.unwrap();
    assert_eq!(Store::newest_tally(&mut tx).await.unwrap(), None);
    let model = ModelName::new("digits").unwrap();
    let tally = Tally([(device_id(), BTreeMap::new())].into());
    for number in [7, 5, 6] {
        Store::insert_tally(&mut tx, &model, number, &tally).await.unwrap();
    }
    Store::trim_tallies(&mut tx, 6).await.unwrap();
    let read = Store::tallies(&mut tx).await.unwrap();
    assert_eq!(read[&model], [(6, tally.clone()), (7, tally)]);
    assert_eq!(Store::newest_tally(&mut tx).await.unwrap(), Some(7));
}

async fn evidence_is_kept_by_wave_and_what_was_learned_is_replaced(scene: &Scene) {
    let store = scene.open().await;
    let rollout = RolloutId::new("r1").unwrap();
    let (policy, cohorts) = (VerdictPolicy::default(), Cohorts::default());
    let judge = CanaryJudge::start(policy.clone(), cohorts.clone(), &[]).unwrap();
    let opening = Opening { candidate: release().version, cohorts, policy };
    let mut row = ComparisonRow { rollout: rollout.clone(), wave: 1, opening, judge, opened_at: NOW };
    let look = |number| Look { number, ..Look::default() };
    let mut tx = store.begin().await.unwrap();
    Store::save_comparison(&mut tx, &row).await.unwrap();
    let before = LookRow { at: NOW, look: look(1), record: None };
    Store::insert_look(&mut tx, &rollout, 1, &before).await.unwrap();
    let record = row.judge.observe(&look(2)).unwrap();
    Store::save_comparison(&mut tx, &row).await.unwrap();
    let since = LookRow { at: NOW, look: look(2), record: Some(record) };
    Store::insert_look(&mut tx, &rollout, 1, &since).await.unwrap();
    assert_eq!(Store::comparison(&mut tx, &rollout, 1).await.unwrap().as_ref(), Some(&row));
    assert_eq!(Store::comparison(&mut tx, &rollout, 0).await.unwrap(), None);
    tx.commit().await.unwrap();
    assert_eq!(store.looks_of(&rollout, 1, None).await.unwrap(), [before.clone(), since.clone()]);
    assert_eq!(store.looks_of(&rollout, 1, Some(before.look.number)).await.unwrap(), [since]);
    assert_eq!(store.comparisons_of(&rollout).await.unwrap(), [row]);
}
