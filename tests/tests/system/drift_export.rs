//! What was counted, read by Apache DataSketches.

use std::process::Command;

use serde_json::Value;
use system_tests::{
    cli::answer,
    digits::test_images,
    fleet::Fleet,
    models::Publication,
    programs::{python, repository},
    server::Server,
    wait::{PATIENCE, until_true},
};

/// Every image counts, and the end of the agent closes the window.
const FEATURES: &str = "[capture]\nevery = 1\nwindow_secs = 3600\nmin_rows = 20\n";

/// Images that are answered.
const IMAGES: usize = 400;

const RANKS: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

#[test]
fn a_kll_sketch_of_what_devices_counted_has_its_quantiles_in_python() {
    let mut fleet = Fleet::start_on(Server::start_with_sections("[drift]\ncheck_secs = 3600\n"), 1);
    fleet.bring(&Publication::digits(2).watched(FEATURES));
    let images = test_images();
    for digit in images.iter().cycle().take(IMAGES) {
        fleet.devices[0].infer(digit).unwrap();
    }
    fleet.devices[0].stop();
    fleet.devices[0].run();
    let report = || fleet.cli().json(&["drift", "report", "digits"]);
    let rows = |report: &Value| report["strata"][0]["features"][0]["rows"].as_u64().unwrap_or(0);
    until_true("all of it has arrived", PATIENCE, || rows(&report()) >= IMAGES as u64);

    let report = report();
    let features = report["features"].as_array().unwrap();
    let mut compared = 0;
    for (place, feature) in features.iter().enumerate().filter(|(_, feature)| !feature["edges"].is_null()) {
        let counted = &report["strata"][0]["features"][place];
        if counted["lowest"] == counted["highest"] {
            continue;
        }
        let name = feature["feature"].as_str().unwrap();
        let file = fleet.server.scratch().join("feature.kll");
        let path = file.to_str().unwrap();
        let export = ["drift", "export", "digits", name, "--format", "kll", "--file", path];
        let _ = fleet.cli().run(export).ok();
        let sketch = read(path);
        assert_eq!(sketch["n"], counted["rows"], "{name}: {sketch}");
        assert_eq!(
            (number(&sketch["min"]), number(&sketch["max"])),
            (number(&counted["lowest"]), number(&counted["highest"])),
            "{name}"
        );
        for (rank, quantile) in RANKS.iter().zip(sketch["quantiles"].as_array().unwrap()) {
            // A rank of the sketch is off by 1.3 % at most, and by the values at one point of a bin.
            let (least, most) = shares(feature, counted, number(quantile));
            assert!(
                least - 0.03 <= *rank && *rank <= most + 0.03,
                "{name}: {rank} is {quantile}, {least} to {most}"
            );
        }
        compared += 1;
    }
    assert!(compared > 0, "no number is watched: {report}");
}

fn number(value: &Value) -> f32 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number")) as f32
}

/// Which part of what was counted lies below the bin of a value, and which below its end.
fn shares(feature: &Value, counted: &Value, value: f32) -> (f64, f64) {
    let edges: Vec<f32> = feature["edges"].as_array().unwrap().iter().map(number).collect();
    let counts: Vec<u64> =
        counted["counts"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
    let bin = edges.partition_point(|edge| value >= *edge);
    let total = counts.iter().sum::<u64>() as f64;
    let below = |end: usize| counts[..end].iter().sum::<u64>() as f64 / total;
    (below(bin), below(bin + 1))
}

/// What Apache DataSketches says of a file.
fn read(path: &str) -> Value {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/python/read_kll.py")).arg(path);
    command.args(RANKS.map(|rank| rank.to_string()));
    serde_json::from_str(&answer(command).ok().stdout).unwrap()
}
