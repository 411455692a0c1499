//! Figures of devices, where people and machines look for them.

use serde_json::{Value, json};
use system_tests::{
    digits::test_images,
    fleet::Fleet,
    models::Publication,
    views,
    wait::{PATIENCE, until_true},
};

const INFERENCES: usize = 40;

fn fleet_at_work() -> Fleet {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(2));
    for digit in &test_images()[..INFERENCES] {
        fleet.devices[0].infer(digit).unwrap();
    }
    fleet
}

#[test]
fn inferences_show_in_device_show_the_api_and_the_metrics() {
    let fleet = fleet_at_work();
    let counted = |json: &Value| views::numbers(json, "ok").into_iter().sum::<u64>() >= INFERENCES as u64;
    until_true("device show counts them", PATIENCE, || counted(&fleet.device("cam-1")));
    let _ = fleet.cli().run(["device", "show", "cam-1"]).ok().says(&["digits@1", "memory", "ms"]);

    let answer = fleet.server.get("/api/v1/devices/cam-1");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(counted(&answer.json()), "{answer:?}");
    assert!(views::numbers(&answer.json(), "memory_total_mib").into_iter().any(|mib| mib > 0), "{answer:?}");

    until_true("the metrics count them", PATIENCE, || {
        let metrics = fleet.server.get("/metrics").text();
        let sum: f64 = metrics
            .lines()
            .filter(|line| line.contains("inferences") && line.contains("digits"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        sum >= INFERENCES as f64
    });
}

#[test]
fn what_an_application_reports_and_how_sure_the_model_is_show_with_the_version_that_answered() {
    let fleet = fleet_at_work();
    for length in [3, 6] {
        let report = json!({"model": "digits", "name": "queue", "kind": "gauge", "value": length});
        let answer = fleet.devices[0].http().post_json("/muster/v1/metrics", &report).unwrap();
        assert_eq!((answer.status, answer.json()["model_version"].as_str()), (200, Some("1")), "{answer:?}");
    }
    let queue = json!({"kind": "gauge", "sum": 9.0, "reports": 2, "value": 4.5});
    until_true("the server knows the queue", PATIENCE, || {
        let figures = &fleet.device("cam-1")["figures"][0];
        figures["release"] == "digits@1" && figures["custom"]["queue"] == queue
    });
    let confidence = fleet.device("cam-1")["figures"][0]["confidence"].as_f64().unwrap();
    assert!((0.5..=1.0).contains(&confidence), "the model is good at its digits: {confidence}");
}

#[test]
fn nobody_reads_the_api_without_a_token() {
    let fleet = Fleet::start(0);
    for path in ["/api/v1/devices", "/api/v1/models", "/api/v1/rollouts"] {
        let answer = fleet.server.https().get(path).unwrap();
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    }
}

#[test]
fn health_is_told_to_anybody() {
    let fleet = Fleet::start(0);
    for path in ["/healthz", "/readyz"] {
        let answer = fleet.server.https().get(path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
}
