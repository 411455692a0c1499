//! Questions about the past, after real devices made it.

use serde_json::Value;
use system_tests::{
    cli::Exit,
    digits::test_images,
    fleet::Fleet,
    models::{Policy, Publication},
    traffic::Traffic,
    wait::PATIENCE,
};

#[test]
fn which_version_answered_is_told_for_the_moments_before_within_and_after_a_rollback() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let bad = fleet.publish(&Publication::digits(3).with_policy(Policy::WATCHFUL));
    let rollout = fleet.start_rollout(&bad);
    let traffic = Traffic::start(fleet.devices[0].http(), "digits", test_images());
    let _ = fleet.watch(&rollout).exits(Exit::RolloutFailed);
    drop(traffic);
    fleet.devices[0].wait_for_version("1", &test_images()[0], PATIENCE);

    let after = answer(&fleet, "now");
    assert_eq!(
        (&after["release"], &after["standing"]),
        (&"digits@1".into(), &"committed".into()),
        "{after:#}"
    );
    assert_eq!(kinds(&after), ["self_tested", "probation", "committed", "rolled_back"]);
    let counted = &after["evidence"][3]["report"]["event"];
    assert!(counted["bad"].as_u64().is_some_and(|bad| bad > 0), "the figures that condemned it: {after:#}");

    let back_at = after["since"].as_u64().unwrap();
    let within = answer(&fleet, &(back_at - 1).to_string());
    assert_eq!((&within["release"], &within["standing"]), (&"digits@2".into(), &"probation".into()));
    assert_eq!(within["until"], back_at, "{within:#}");
    assert_eq!(within["rollout"]["id"], rollout.as_str(), "{within:#}");
    assert_eq!(kinds(&within), ["self_tested", "probation"]);

    let began_at = within["since"].as_u64().unwrap();
    let before = answer(&fleet, &(began_at - 1).to_string());
    assert_eq!((&before["release"], &before["until"]), (&"digits@1".into(), &began_at.into()), "{before:#}");
    assert_ne!(before["rollout"]["id"], rollout.as_str());
    assert_eq!(before["rollout"], after["rollout"], "the rollout that brought it, not the one that failed");
}

/// What answered of digits.
fn answer(fleet: &Fleet, time: &str) -> Value {
    fleet.cli().json(&["device", "at", "cam-1", time, "--model", "digits"])["answers"][0].clone()
}

fn kinds(answer: &Value) -> Vec<&str> {
    let evidence = answer["evidence"].as_array().unwrap();
    evidence.iter().filter_map(|report| report["report"]["event"]["kind"].as_str()).collect()
}
