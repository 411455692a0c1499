//! What must hold of a rollout to a crew, whatever became of the servers meanwhile: nothing is lost, nothing is doubled.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use shared::{DeviceId, Generation};

use crate::{
    crew::{Crew, Diary},
    database::Database,
};

/// Panics unless one rollout of so many waves has asked every device of `crew` exactly once, has heard of everything that
/// it was told, and has told everything once.
#[track_caller]
pub fn assert_rolled_out_once(database: &Database, crew: &Crew, waves: usize) {
    let diaries = crew.diaries();
    for (device, diary) in &diaries {
        assert_asked_once(device, diary);
    }
    let generations = database.numbers("SELECT generation FROM desired");
    assert_eq!(generations, vec![1; diaries.len()]);
    assert_eq!(database.texts("SELECT phase FROM rollouts"), ["completed"]);
    assert_every_report_is_there_once(database, &diaries);
    assert_told_once(database, &diaries, waves);
}

fn assert_asked_once(device: &DeviceId, diary: &Diary) {
    let asked: Vec<_> = diary.told.iter().filter(|(_, named)| !named.is_empty()).collect();
    assert_eq!(asked.len(), 1, "{device} was told {:?}", diary.told);
    assert_eq!(asked[0].0, Generation(1), "{device}");
}

fn assert_every_report_is_there_once(database: &Database, diaries: &BTreeMap<DeviceId, Diary>) {
    let stored = database.texts("SELECT document FROM reports ORDER BY device, sequence");
    let stored = stored.iter().map(|text| {
        let report: Value = serde_json::from_str(text).expect("JSON");
        (
            report["device"].as_str().expect("a device").to_owned(),
            report["sequence"].as_u64().expect("a number"),
        )
    });
    let made = diaries.iter().flat_map(|(device, diary)| {
        assert_eq!(diary.acknowledged, (1..=diary.reported).collect::<BTreeSet<_>>(), "{device}");
        (1..=diary.reported).map(|sequence| (device.to_string(), sequence))
    });
    let (mut stored, mut made): (Vec<_>, Vec<_>) = (stored.collect(), made.collect());
    // Databases sort texts each in its way.
    stored.sort();
    made.sort();
    assert_eq!(stored, made);
}

/// Events have no gap and no double: their numbers, every device's end, every wave's beginning and end.
fn assert_told_once(database: &Database, diaries: &BTreeMap<DeviceId, Diary>, waves: usize) {
    let numbers = database.numbers("SELECT sequence FROM events ORDER BY sequence");
    assert!(numbers.iter().zip(1..).all(|(number, expected)| *number == expected), "{numbers:?}");
    let texts = database.texts("SELECT document FROM events ORDER BY sequence");
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len(), "{texts:#?}");
    let events: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let of_kind = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    let found = ["wave_started", "wave_passed", "completed"].map(of_kind);
    assert_eq!(found, [waves, waves, 1], "{texts:#?}");
    let ends = texts.iter().filter(|text| text.contains("device_progressed") && text.contains("committed"));
    assert_eq!(ends.count(), diaries.len(), "{texts:#?}");
}
