//! `rollout history` and `events`: what happened, as dated lines.

use fleet_core::{Event, Progress, experiment};
use serde_json::Value;

use super::{
    Client, Failure,
    args::{EventsArgs, HistoryArgs},
    output::Output,
    patience::Patience,
};
use crate::{clock::moment, store::EventRow};

/// One request waits this long for an event.
const WAIT_MS: u64 = 20_000;

pub(super) async fn rollout(client: &Client, args: HistoryArgs, output: &Output) -> Result<(), Failure> {
    let mut events: Vec<EventRow> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.sequence);
        let query = [("after", after.to_string())];
        let page: Vec<EventRow> = client.get(&format!("/rollouts/{}/events", args.id), &query).await?;
        if page.is_empty() {
            break;
        }
        events.extend(page);
    }
    output.list(["when", "what"], &events, |event| [moment(event.at), words(&event.document)]);
    Ok(())
}

pub(super) async fn events(client: &Client, args: EventsArgs, output: &Output) -> Result<(), Failure> {
    let mut events: Vec<EventRow> = client.get("/events", &[]).await?;
    if !args.follow {
        output.list(["when", "about", "what"], &events, |event| {
            [moment(event.at), event.subject.clone(), words(&event.document)]
        });
        return Ok(());
    }
    let (mut after, mut patience) = (0, Patience::default());
    loop {
        for event in &events {
            output.event(event, || {
                format!("{}  {}  {}", moment(event.at), event.subject, words(&event.document))
            });
            after = event.sequence;
        }
        let query = [("after", after.to_string()), ("wait_ms", WAIT_MS.to_string())];
        events = match client.get("/events", &query).await {
            Err(failure) if patience.waits(&failure, None).await => vec![],
            answer => {
                patience.answered();
                answer?
            }
        };
    }
}

/// An event in words. Those of a newer server are told by their names.
fn words(document: &Value) -> String {
    if let Ok(event) = serde_json::from_value(document.clone()) {
        return known(event);
    }
    if let Some(text) = document.get("text").and_then(Value::as_str) {
        return of_drift(document, text);
    }
    serde_json::from_value(document.clone()).map_or_else(|_| named(document), of_experiment)
}

fn of_drift(document: &Value, text: &str) -> String {
    let id = document.pointer("/alarm/id").and_then(Value::as_u64).unwrap_or(0);
    match document.get("event").and_then(Value::as_str) {
        Some("drift.closed") => format!("alarm {id} is over: {text}"),
        Some("drift.repeated") => format!("alarm {id} is still there: {text}"),
        _ => format!("alarm {id}: {text}"),
    }
}

fn of_experiment(event: experiment::Event) -> String {
    match event {
        experiment::Event::Started { devices } => {
            format!("experiment started: {} devices in arm A, {} in arm B", devices.a, devices.b)
        }
        experiment::Event::Comparing => "both arms have begun and are compared".into(),
        experiment::Event::Ended { end } => format!("experiment over: {end}"),
        experiment::Event::AdoptionStarted { rollout } => format!("the winner is rolled out by {rollout}"),
        experiment::Event::NotAdopted { why } => format!("the winner is not rolled out: {why}"),
    }
}

fn known(event: Event) -> String {
    match event {
        Event::WaveStarted { wave, devices } => format!("wave {} started: {devices} devices", wave + 1),
        Event::DeviceProgressed { device, progress } => format!("{device} {}", step(&progress)),
        Event::WaveBaking { wave, until } => {
            format!("wave {} settled and is watched until {}", wave + 1, moment(until))
        }
        Event::WavePassed { wave } => format!("wave {} passed", wave + 1),
        Event::Paused { by } => format!("paused by {by}"),
        Event::Resumed { by } => format!("resumed by {by}"),
        Event::Halted { verdict } => format!("halted: {verdict}"),
        Event::RollingBack { cause, devices } => format!("{devices} devices are brought back: {cause}"),
        Event::DeviceRestored { device } => format!("{device} no longer has the release"),
        Event::RolledBack { counts } => {
            format!("rolled back: {} of {} devices confirmed it", counts.restore_confirmed, counts.restored)
        }
        Event::Superseded { counts } => {
            format!("superseded: {} of {} devices are with others", counts.superseded, counts.devices)
        }
        Event::Completed { counts } => {
            format!("completed: {} of {} devices committed", counts.committed, counts.devices)
        }
        Event::ApprovalNeeded { wave } => format!("wave {} waits for approval", wave + 1),
        Event::Approved { wave, by } => format!("wave {} approved by {by}", wave + 1),
        Event::DeviceReturned { device } => format!("{device} belongs to it again"),
        Event::DeviceJoined { device } => format!("{device} came to match and joins"),
        Event::WaveHeld { wave, why } => format!("wave {} is held: {why}", wave + 1),
        Event::WaveJudged { wave, verdict } => format!("wave {}, metrics: {verdict}", wave + 1),
        Event::WaveDrifted { wave, alarm } => format!("wave {}: {alarm}", wave + 1),
        Event::Promoted { wave, by } => format!("wave {} promoted by {by}", wave + 1),
        Event::Retried { by, devices } => format!("{devices} devices are asked again, by {by}"),
    }
}

fn step(progress: &Progress) -> String {
    let value = serde_json::to_value(progress).unwrap_or_default();
    let step = value["kind"].as_str().unwrap_or("went on").replace('_', " ");
    let figures = match progress {
        Progress::Committed { inferences, failures } => {
            format!(" after {inferences} inferences, {failures} failed")
        }
        Progress::SelfTested(figures) => format!(": {figures}"),
        Progress::Retrying { attempt, why, .. } => format!(" (try {}): {why}", attempt + 1),
        other => other.failure().map(|why| format!(": {why}")).unwrap_or_default(),
    };
    format!("{step}{figures}")
}

/// `held wave=1 why=…`
fn named(document: &Value) -> String {
    let Value::Object(fields) = document else { return document.to_string() };
    let name = fields.get("event").and_then(Value::as_str).unwrap_or("event").replace('_', " ");
    let others = fields.iter().filter(|(field, _)| *field != "event");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    others.fold(name, |line, (field, value)| format!("{line} {field}={}", text(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::report::RollbackReason;

    use super::*;

    #[test]
    fn events_are_told_in_words_and_unknown_ones_by_their_names() {
        let crashed = Progress::RolledBack(RollbackReason::CrashLoop { starts: 3 });
        let device = shared::DeviceId::new("cam-7").unwrap();
        let progressed = Event::DeviceProgressed { device, progress: crashed };
        for (document, told) in [
            (json!({"event": "wave_started", "wave": 0, "devices": 3}), "wave 1 started: 3 devices"),
            (
                serde_json::to_value(progressed).unwrap(),
                "cam-7 rolled back: started 3 times without passing probation",
            ),
            (
                json!({"event": "experiment_started", "devices": {"a": 3, "b": 2}}),
                "experiment started: 3 devices in arm A, 2 in arm B",
            ),
            (json!({"event": "moon_rose", "by": "ada", "wave": 2}), "moon rose by=ada wave=2"),
            (json!(7), "7"),
        ] {
            assert_eq!(words(&document), told);
        }
    }

    #[test]
    fn a_commit_is_told_with_its_figures() {
        let committed = Progress::Committed { inferences: 50, failures: 1 };
        assert_eq!(step(&committed), "committed after 50 inferences, 1 failed");
        assert_eq!(step(&Progress::Silent), "silent");
    }
}
