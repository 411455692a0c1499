//! Experiments and their evidence are read as they were written.

use fleet_core::{
    experiment::{ArmsJudge, Rules},
    verdict::{Cohorts, Look},
};
use shared::ExperimentId;

use super::*;

on_each_database! {
    a_name_is_taken_once_and_changes_are_numbered_over_all,
    the_judge_is_replaced_and_evidence_is_read_in_order,
}

fn row(name: &str) -> ExperimentRow {
    ExperimentRow {
        id: ExperimentId::new(name).unwrap(),
        model: ModelName::new("digits").unwrap(),
        state: "1".into(),
        phase: "preparing".into(),
        finished: false,
        change: 1,
        created_by: "test".into(),
        created_at: NOW,
        changed_at: NOW,
    }
}

async fn a_name_is_taken_once_and_changes_are_numbered_over_all(scene: &Scene) {
    let store = scene.open().await;
    let (first, second) = (row("first"), row("second"));
    let mut tx = store.begin().await.unwrap();
    assert!(Store::insert_experiment(&mut tx, &first).await.unwrap());
    assert!(!Store::insert_experiment(&mut tx, &first).await.unwrap());
    assert!(Store::insert_experiment(&mut tx, &second).await.unwrap());
    let next = ("2", "undecided", true);
    assert_eq!(Store::save_experiment(&mut tx, &first.id, next, NOW + HOUR).await.unwrap(), 3);
    let changed = Store::experiments_changed(&mut tx, 1).await.unwrap();
    let changed: Vec<_> = changed.iter().map(|row| (row.id.as_str(), row.change)).collect();
    assert_eq!(changed, [("second", 2), ("first", 3)]);
    tx.commit().await.unwrap();
    let second = ExperimentRow { change: 2, ..second };
    assert_eq!(store.unfinished_experiments().await.unwrap(), [second]);
    assert_eq!(store.experiments().await.unwrap().len(), 2);
    assert_eq!(store.newest_experiment_change().await.unwrap(), 3);
    let read = store.experiment(&first.id).await.unwrap().unwrap();
    assert_eq!((read.state.as_str(), read.finished, read.changed_at), ("2", true, NOW + HOUR));
}

async fn the_judge_is_replaced_and_evidence_is_read_in_order(scene: &Scene) {
    let store = scene.open().await;
    let row = row("speed");
    let mut judge = ArmsJudge::start(&Rules::default(), &Cohorts::default(), &[]).unwrap();
    let look = |number| Look { number, ..Look::default() };
    let mut tx = store.begin().await.unwrap();
    Store::insert_experiment(&mut tx, &row).await.unwrap();
    assert_eq!(Store::experiment_judge(&mut tx, &row.id).await.unwrap(), None);
    let before = ExperimentLookRow { at: NOW, look: look(1), record: None };
    Store::insert_experiment_look(&mut tx, &row.id, &before).await.unwrap();
    let record = Some(judge.observe(&look(2)).unwrap());
    let since = ExperimentLookRow { at: NOW + HOUR, look: look(2), record };
    Store::insert_experiment_look(&mut tx, &row.id, &since).await.unwrap();
    Store::save_experiment_judge(&mut tx, &row.id, &judge).await.unwrap();
    assert_eq!(Store::experiment_judge(&mut tx, &row.id).await.unwrap(), Some(judge));
    tx.commit().await.unwrap();
    assert_eq!(store.experiment_looks(&row.id, None).await.unwrap(), [before, since.clone()]);
    assert_eq!(store.experiment_looks(&row.id, Some(1)).await.unwrap(), std::slice::from_ref(&since));
    let mut tx = store.begin().await.unwrap();
    Store::trim_experiment_looks(&mut tx, NOW + HOUR).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.experiment_looks(&row.id, None).await.unwrap(), [since]);
}
