//! No model takes a device down or stays on it, however it came to be signed.

use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::{
    cli::Exit,
    digits::test_images,
    fleet::Fleet,
    hostile::{Attack, attacks},
    models::Publication,
    smuggle::smuggle,
    traffic::Traffic,
    views,
    wait::PATIENCE,
};

/// Longest a client may wait between two answers while a device deals with a hostile model.
const LONGEST_GAP: Duration = Duration::from_secs(2);

#[test]
fn a_device_names_what_is_wrong_with_every_hostile_model_and_goes_on_answering() {
    let mut fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let attacks = attacks();
    let releases = smuggle_into(&mut fleet, 2, &attacks);
    let (pid, boots) = (fleet.devices[0].process().pid(), boots(&fleet));
    let traffic = Traffic::start(fleet.devices[0].http(), "digits", test_images());

    for (attack, release) in attacks.iter().zip(&releases) {
        let since = Instant::now();
        let reason = refusal(&fleet, release, &[]);
        eprintln!("{:>26}: {:>6.0} ms, {reason}", attack.name, since.elapsed().as_secs_f64() * 1_000.0);
        assert!(reason.starts_with(sentence(&attack.expects)), "{}: {reason}", attack.name);
    }
    for (attack, release) in
        attacks.iter().zip(&releases).filter(|(attack, _)| is_first_of_its_kind(attack, &attacks))
    {
        let reason = refusal(&fleet, release, &[]);
        assert!(reason.contains("refused or rolled back here before"), "{} again: {reason}", attack.name);
    }

    let totals = traffic.stop();
    assert!(totals.failed.is_empty() && totals.non_finite == 0, "{totals:?}");
    assert_eq!(totals.of("1").count, totals.sent, "only version 1 may answer: {totals:?}");
    assert!(totals.longest_gap < LONGEST_GAP, "{:?}", totals.longest_gap);
    eprintln!("{} requests meanwhile, longest gap {:?}", totals.sent, totals.longest_gap);
    assert_eq!(fleet.devices[0].ended(), None);
    let now = (fleet.devices[0].process().pid(), self::boots(&fleet));
    assert_eq!(now, (pid, boots), "the agent was started again");
}

/// Lets the server sign what its gate would have refused.
fn smuggle_into(fleet: &mut Fleet, first: u32, attacks: &[Attack]) -> Vec<String> {
    fleet.server.stop();
    let releases = smuggle(&fleet.server, first, attacks);
    fleet.server.run();
    fleet.wait_until_online();
    releases
}

/// Rolls a release out to its bitter end and gives the reason that the device names.
#[track_caller]
fn refusal(fleet: &Fleet, release: &str, options: &[&str]) -> String {
    let start = ["rollout", "start", release, "--to", system_tests::fleet::SITE];
    let started = fleet.cli().json(&[&start[..], options].concat());
    let rollout = views::text(&started, "id");
    let _ = fleet.watch(&rollout).exits(Exit::RolloutFailed);
    let told = format!("reported {release}: rejected: ");
    system_tests::wait::until("the server knows why", PATIENCE, || {
        let why = fleet.cli().json(&["device", "why", "cam-1"]);
        let sentences = why["reasons"].as_array().cloned().unwrap_or_default();
        let mut sentences = sentences.iter().filter_map(Value::as_str);
        sentences.find_map(|text| Some(text.split_once(&told)?.1.to_owned()))
    })
}

/// One of each kind is tried a second time; what is remembered does not depend on more.
fn is_first_of_its_kind(attack: &Attack, attacks: &[Attack]) -> bool {
    attacks
        .iter()
        .find(|other| other.expects == attack.expects)
        .is_some_and(|first| first.name == attack.name)
}

/// How often the agent began.
fn boots(fleet: &Fleet) -> usize {
    fleet.devices[0].log_text().matches("the agent runs").count()
}

/// How a refusal begins, in the words of reports.
fn sentence(expects: &str) -> &'static str {
    match expects {
        "bad_structure" => "model structure refused",
        "incompatible" => "cannot run here",
        "load_failed" => "model does not load",
        "golden_mismatch" => "golden case",
        "bad_manifest" => "manifest refused",
        "over_budget" => "over budget",
        "bad_artifact" => "artifact refused",
        other => panic!("no attack may end in '{other}'"),
    }
}
