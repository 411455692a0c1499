//! A challenger on real devices: it answers nobody, disturbs no rollout, and is compared with what answers.

use serde_json::Value;
use system_tests::{
    digits::{images_with_ink_in_margin, test_images},
    fleet::{Fleet, SITE},
    models::Publication,
    wait::{PATIENCE, until_true},
};

const INFERENCES: usize = 120;

fn report(fleet: &Fleet, release: &str) -> Value {
    fleet.cli().json(&["challenger", "report", release])
}

/// Devices at this step.
fn at(report: &Value, step: &str) -> u64 {
    report["steps"][step].as_u64().unwrap_or(0)
}

fn generation(fleet: &Fleet, device: &str) -> Value {
    fleet.device(device)["generation"].clone()
}

#[test]
fn a_challenger_is_compared_with_its_champion_and_answers_nobody() {
    let fleet = Fleet::start(1);
    let champion = fleet.bring(&Publication::digits(1));
    let challenger = fleet.publish(&Publication::digits(2));
    let before = generation(&fleet, "cam-1");

    let arguments = ["challenger", "start", &challenger, "--on", SITE, "--share", "1", "--cpu", "100"];
    let _ = fleet.cli().run(arguments).ok().says(&["1 devices", "cam-1"]);
    until_true("the challenger runs", PATIENCE, || at(&report(&fleet, &challenger), "running") == 1);

    let images = test_images();
    let (mut right, mut asked) = (0, 0);
    let compared = || report(&fleet, &challenger)["matches"][0]["compared"].as_u64().unwrap_or(0);
    until_true("enough is compared", PATIENCE, || {
        for digit in images.iter().cycle().skip(asked).take(8) {
            let answer = fleet.devices[0].infer(digit).unwrap();
            assert_eq!(answer.version, "1", "a challenger answers nobody");
            right += usize::from(answer.digit() == digit.label);
            asked += 1;
        }
        asked >= INFERENCES && compared() >= INFERENCES as u64 / 2
    });
    assert!(right * 10 >= asked * 8, "{right} of {asked}");

    let report = report(&fleet, &challenger);
    let one = &report["matches"][0];
    assert_eq!(one["champion"], champion.as_str());
    let number = |name: &str| one[name].as_f64().unwrap_or_else(|| panic!("{name} in {one}"));
    assert_eq!(number("agreed") + number("disagreed"), number("compared"), "{one}");
    // Both were trained on the same digits and are right about nine times of ten.
    let agreement = &one["agreement"];
    assert!(agreement["share"].as_f64().unwrap() > 0.8, "{one}");
    assert!(agreement["low"].as_f64().unwrap() < agreement["high"].as_f64().unwrap(), "{one}");
    assert!(number("score_delta_p50") <= number("score_delta_p99"), "{one}");
    assert!(number("latency_p50_ms") > 0.0 && number("failed") == 0.0, "{one}");
    let text = fleet.cli().run(["challenger", "report", &challenger]).ok();
    let _ = text.says(&["beside digits@1, on 1 devices", "agreement", "scores", "1 running"]);

    // Nothing of it is a change of what the device shall run, or of what it did.
    assert_eq!(generation(&fleet, "cam-1"), before);
    let figures = fleet.device("cam-1")["figures"].to_string();
    assert!(!figures.contains(&challenger), "{figures}");

    let _ = fleet.cli().run(["challenger", "stop", &challenger]).ok().says(&["1 devices"]);
    assert_eq!(self::report(&fleet, &challenger)["devices"], 0);
    assert!(compared() > 0, "what came of it stays");
    let audit = fleet.server.get("/api/v1/audit").text();
    assert!(audit.contains("challenger.start") && audit.contains("challenger.stop"), "{audit}");
}

#[test]
fn a_rollout_passes_a_challenger_by_and_the_next_champion_is_challenged() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let challenger = fleet.publish(&Publication::digits(2));
    let _ = fleet.cli().run(["challenger", "start", &challenger, "--on", "all", "--share", "1"]).ok();
    until_true("the challenger runs", PATIENCE, || at(&report(&fleet, &challenger), "running") == 1);

    // Version 1 again under another name of its bytes: a rollout like any other.
    let marked = Publication::digits(1).marked(fleet.server.scratch(), 7);
    assert_eq!(fleet.bring(&marked), "digits@3");
    until_true("the challenger runs again", PATIENCE, || at(&report(&fleet, &challenger), "running") == 1);
    let images = images_with_ink_in_margin();
    let mut next = images.iter().cycle();
    until_true("it is compared with the new champion", PATIENCE, || {
        let answer = fleet.devices[0].infer(next.next().expect("without end")).unwrap();
        assert_eq!(answer.version, "3");
        let matches = report(&fleet, &challenger)["matches"].as_array().cloned().unwrap_or_default();
        matches.iter().any(|one| one["champion"] == "digits@3" && one["compared"].as_u64() > Some(0))
    });

    // The challenger becomes the champion: its bytes are there.
    let rollout = fleet.start_rollout(&challenger);
    let _ = fleet.watch(&rollout).ok();
    assert_eq!(fleet.devices[0].infer(&images[0]).unwrap().version, "2");
    until_true("it challenges nobody", PATIENCE, || at(&report(&fleet, &challenger), "over") == 1);
}

#[test]
fn whoever_cannot_run_a_challenger_is_named_with_the_reason() {
    let fleet = Fleet::start(1);
    let release = fleet.publish(&Publication::digits(1));
    let refused = fleet.cli().run(["challenger", "start", &release, "--on", "all"]);
    refused.exits(system_tests::cli::Exit::Conflict).says(&["cam-1", "runs no version"]).is_clear();
    let rollout = fleet.start_rollout(&release);
    let _ = fleet.watch(&rollout).ok();
    let refused = fleet.cli().run(["challenger", "start", &release, "--on", "all"]);
    refused.exits(system_tests::cli::Exit::Conflict).says(&["runs it"]).is_clear();
    let refused = fleet.cli().run(["challenger", "start", &release, "--on", "all", "--share", "1.5"]);
    refused.fails().says(&["1.5"]).is_clear();
}
