//! `muster sim`: fifty virtual devices before a real server, and what it says of them.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;
use system_tests::{
    cli::{Answer, Exit, answer},
    programs,
    server::Server,
};
use tempfile::TempDir;

fn kept(name: &str) -> PathBuf {
    programs::repository().join("fleet-server/sim/live").join(name)
}

fn sim(scenario: &PathBuf, more: &[&str]) -> Answer {
    let mut command = Command::new(programs::muster());
    command
        .arg("sim")
        .arg("--scenario")
        .arg(scenario)
        .args(more)
        .env("NO_COLOR", "1")
        .env_remove("MUSTER_CONTEXT");
    answer(command)
}

fn story(scratch: &TempDir, text: &str) -> PathBuf {
    let path = scratch.path().join("story.toml");
    fs::write(&path, text).unwrap();
    path
}

/// How many devices of all classes keep a release, by their own ledgers.
fn keep(summary: &Value, release: &str) -> u64 {
    let classes = summary["classes"].as_array().unwrap();
    classes.iter().filter_map(|class| class["keeps"][release].as_u64()).sum()
}

#[test]
fn a_good_release_reaches_fifty_devices_while_their_links_flap() {
    let scratch = TempDir::new().unwrap();
    let transcript = scratch.path().join("transcript.txt");
    let more = ["-o", "json", "--transcript", transcript.to_str().unwrap()];
    let summary = sim(&kept("good-while-links-flap.toml"), &more).ok().json();
    let rollout = &summary["rollouts"][0];
    assert_eq!(
        (&rollout["state"], &rollout["counts"]["committed"]),
        (&"completed".into(), &50.into()),
        "{summary:#}"
    );
    assert_eq!(keep(&summary, "digits@1"), 50, "{summary:#}");
    // It was no fair weather, and what was damaged was noticed.
    assert!(summary["links"]["breaks"].as_u64() > Some(20), "{summary:#}");
    assert!(summary["links"]["damaged_blocks"].as_u64() > Some(0), "{summary:#}");
    assert_eq!(summary["links"]["disbelieved"], 0, "{summary:#}");
    let told = fs::read_to_string(transcript).unwrap();
    for part in
        ["lose their links", "r1 asks wave 2", "r1 cam-46 keeps it", "r1 COMPLETED: 50 committed of 50"]
    {
        assert!(told.contains(part), "'{part}' is missing:\n{told}");
    }
}

#[test]
fn a_bad_release_is_halted_and_taken_back_while_links_flap() {
    let summary = sim(&kept("bad-while-links-flap.toml"), &["-o", "json"]).ok().json();
    let rollout = &summary["rollouts"][0];
    assert_eq!(rollout["state"], "rolled_back", "{summary:#}");
    assert!(rollout["reason"].as_str().unwrap().contains("wave 1"), "{summary:#}");
    let (first, rest) = (&rollout["waves"][0]["counts"], &rollout["waves"][1]["counts"]);
    assert!(first["rolled_back"].as_u64() > Some(0), "{summary:#}");
    assert_eq!((&first["committed"], &rest["waiting"]), (&0.into(), &40.into()), "{summary:#}");
    assert_eq!((keep(&summary, "digits@1"), keep(&summary, "digits@2")), (50, 0), "{summary:#}");
    assert!(summary["links"]["breaks"].as_u64() > Some(0), "{summary:#}");
}

#[test]
fn on_a_server_of_others_only_the_devices_of_the_run_are_reached() {
    let scratch = TempDir::new().unwrap();
    let server = Server::start();
    let text = "title = 'x'\nend = '0:01'\n[[device]]\nname = 'cam'\ntraffic = 1200\n[[release]]\nrelease = 'digits@1'\n\
         probation_secs = 1\nmin_inferences = 5\n[[act]]\nat = '0:00'\ndo = 'start'\nrollout = 'r1'\nrelease = 'digits@1'\n\
         [expect.r1]\nstate = 'completed'\n";
    let context = server.data_dir().join("admin-context.toml");
    let url = server.cli().json(&["model", "list"]);
    assert_eq!(url, Value::Array(vec![]));
    let address = fs::read_to_string(&context).unwrap();
    let address = address.lines().find_map(|line| line.strip_prefix("server = ")).unwrap().trim_matches('"');
    for _ in 0..2 {
        let more =
            ["--devices", "3", "--server", address, "--context", context.to_str().unwrap(), "-o", "json"];
        let summary = sim(&story(&scratch, text), &more).ok().json();
        assert_eq!(summary["rollouts"][0]["counts"]["committed"], 3, "{summary:#}");
    }
    let devices = server.cli().json(&["device", "list"]);
    assert_eq!(devices.as_array().map(Vec::len), Some(6), "{devices:#}");
}

#[test]
fn what_was_expected_in_vain_decides_the_exit_code_and_is_told() {
    let scratch = TempDir::new().unwrap();
    let text = "title = 'x'\nend = '0:00:20'\n[[device]]\nname = 'cam'\ncount = 2\n[[release]]\nrelease = 'digits@1'\n\
         nature = 'fails_trial'\n[[act]]\nat = '0:00'\ndo = 'start'\nrollout = 'r1'\nrelease = 'digits@1'\n\
         [expect.r1]\nstate = 'completed'\n";
    sim(&story(&scratch, text), &[])
        .exits(Exit::Failed)
        .says(&["r1 should be completed and is rolled_back", "NOT AS EXPECTED"])
        .is_clear();
}

#[test]
fn a_story_that_cannot_be_told_is_refused_before_anything_starts() {
    let scratch = TempDir::new().unwrap();
    let head = "title = 'x'\nend = '1:00'\n[[device]]\nname = 'cam'\n";
    let cases = [
        (format!("{head}trafic = 3\n"), "line 5"),
        (format!("{head}[network]\nloss_ppm = 3\n"), "`outage`"),
        (format!("{head}[[act]]\nat = '0:01'\ndo = 'stop_server'\n"), "virtual time"),
    ];
    for (text, hint) in cases {
        sim(&story(&scratch, &text), &[]).exits(Exit::Usage).says(&["story.toml", hint]).is_clear();
    }
    let path = story(&scratch, head);
    sim(&path, &["--devices", "0"]).exits(Exit::Usage).says(&["0 devices"]).is_clear();
    sim(&path, &["--devices", "26000"]).exits(Exit::Usage).says(&["25000"]).is_clear();
    sim(&scratch.path().join("none.toml"), &[]).exits(Exit::Usage).says(&["none.toml"]).is_clear();
}
