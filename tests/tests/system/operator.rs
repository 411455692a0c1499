//! What an operator sees and does on the device itself.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::Value;
use system_tests::{
    cli::{Answer, Exit, answer},
    device::{Device, DeviceOptions},
    digits::test_images,
    fleet::Fleet,
    models::{Policy, Publication},
    traffic::Traffic,
    wait::{PATIENCE, until_true},
};

fn ask(device: &Device, words: &[&str]) -> Answer {
    let mut command = device.agent();
    command.args(words).arg("--config").arg(device.config());
    answer(command)
}

fn json(device: &Device, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["-o", "json"]).collect();
    ask(device, &words).ok().json()
}

/// State of a check of the doctor.
fn state_of(checks: &Value, name: &str) -> String {
    let check = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("no check '{name}' in {checks:#}"))["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_device_at_work_tells_how_it_is_in_words_and_as_json() {
    let mut fleet = Fleet::start(1);
    let release = fleet.bring(&Publication::digits(2));
    let device = &mut fleet.devices[0];
    let _ = ask(device, &["status"]).ok().says(&["cam-1", "up since", "ready, process", "until", &release]);
    let status = json(device, &["status"]);
    assert_eq!((&status["device"], &status["link"]["up"]), (&Value::from("cam-1"), &Value::Bool(true)));
    assert_eq!(status["pid"], device.process().pid());
    assert_eq!(status["runner"]["pid"].as_u64(), device.runner().map(u64::from));
    assert_eq!(status["clock"]["trust"], "system");
    assert!(status["certificate_until"].as_u64() > status["clock"]["now"].as_u64(), "{status:#}");

    let _ = ask(device, &["models"]).ok().says(&["COMMITTED", &release, "committed after"]);
    let models = json(device, &["models"]);
    assert_eq!(
        (&models[0]["committed"], &models[0]["step"]),
        (&Value::from(release.clone()), &Value::from("idle"))
    );
    assert!(models[0]["held_bytes"].as_u64().unwrap() > 1_000, "{models:#}");
    let _ = ask(device, &["why"]).ok().says(&[&format!("{release} is committed")]);

    until_true("everything is told", PATIENCE, || json(device, &["status"])["waiting"]["reports"] == 0);
    fleet.server.stop();
    until_true("the link is seen to be down", PATIENCE, || {
        json(&fleet.devices[0], &["status"])["link"]["up"] == false
    });
    let _ = ask(&fleet.devices[0], &["status"]).ok().says(&["down since", "last failure"]);
    let _ = ask(&fleet.devices[0], &["why"]).ok().says(&["it is offline", "the last failure"]);
}

#[test]
fn a_device_tells_why_it_went_back_in_the_words_of_the_server() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let bad = fleet.publish(&Publication::digits(3).with_policy(Policy::WATCHFUL));
    let rollout = fleet.start_rollout(&bad);
    let traffic = Traffic::start(fleet.devices[0].http(), "digits", test_images());
    let _ = fleet.watch(&rollout).exits(Exit::RolloutFailed);
    drop(traffic);
    let words =
        ["digits@1 is committed", "digits@2: rolled back", "non-finite", "sequential test", "condemn"];
    let told = ask(&fleet.devices[0], &["why", "digits"]).ok().says(&words).says(&["not tried again"]);
    let sentence = told.stdout.lines().find_map(|line| line.split_once("digits@2: rolled back")).unwrap().1;
    let _ = fleet.cli().run(["device", "why", "cam-1"]).ok().says(&[sentence]);
}

#[test]
fn an_operator_sends_a_version_on_probation_back_at_once() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let device = &fleet.devices[0];
    let _ = ask(device, &["rollback", "digits"]).exits(Exit::Conflict).is_clear();

    let next = fleet.publish(&Publication::digits(2).with_policy(Policy::WATCHFUL));
    let rollout = fleet.start_rollout(&next);
    device.wait_for_version("2", &test_images()[0], PATIENCE);
    until_true("it is on probation", PATIENCE, || json(device, &["models"])[0]["step"] == "probation");
    let after = json(device, &["rollback", "digits"]);
    assert_eq!((&after["committed"], &after["candidate"]), (&Value::from("digits@1"), &Value::Null));
    device.wait_for_version("1", &test_images()[0], PATIENCE);
    let _ = ask(device, &["rollback", "digits"]).exits(Exit::Conflict).is_clear();
    let _ = fleet.watch(&rollout).exits(Exit::RolloutFailed);
    let _ = fleet.cli().run(["device", "why", "cam-1"]).ok().says(&["sent back by a person on the device"]);
}

#[test]
fn an_unknown_model_is_answered_with_the_known_ones() {
    let fleet = Fleet::start(1);
    let device = &fleet.devices[0];
    let _ = ask(device, &["models"]).ok().says(&["no rollout asks it"]);
    let _ = ask(device, &["why", "digits"]).exits(Exit::NotFound).says(&["it runs none"]).is_clear();
    fleet.bring(&Publication::digits(1));
    for command in ["why", "rollback"] {
        for name in ["digit", "no such/model", "../digits"] {
            let _ = ask(device, &[command, name]).exits(Exit::NotFound).says(&["it has digits"]).is_clear();
        }
    }
}

#[test]
fn an_agent_that_is_down_is_said_to_be_unreachable_and_the_doctor_still_examines() {
    let mut fleet = Fleet::start(1);
    let _ = ask(&fleet.devices[0], &["doctor"]).ok();
    fleet.devices[0].kill();
    let device = &fleet.devices[0];
    assert!(device.data_dir().join("control.sock").exists(), "a killed agent leaves its socket");
    for command in [&["status"][..], &["models"], &["why"], &["rollback", "digits"]] {
        let _ = ask(device, command).exits(Exit::Unreachable).says(&["control.sock", "doctor"]).is_clear();
    }
    let checks = ask(device, &["doctor", "-o", "json"]).exits(Exit::Failed).json();
    assert_eq!(state_of(&checks, "agent"), "fail");
    for name in ["configuration", "data directory", "clock", "disk", "identity", "certificate", "server"] {
        assert_eq!(state_of(&checks, name), "ok", "{name} in {checks:#}");
    }
    fleet.devices[0].run();
    until_true("the old socket is replaced", PATIENCE, || {
        ask(&fleet.devices[0], &["status"]).code == Some(0)
    });
}

#[test]
fn the_doctor_finds_what_keeps_a_device_from_its_work() {
    let mut fleet = Fleet::start(1);
    let device = &fleet.devices[0];
    let key = device.data_dir().join("identity/report.key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let _ = ask(device, &["doctor"]).exits(Exit::Failed).says(&["identity", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fleet.server.stop();
    let _ = ask(&fleet.devices[0], &["doctor"]).exits(Exit::Failed).says(&["server", "refused"]);

    let nobody = Device::new("nobody", DeviceOptions::default());
    let _ = ask(&nobody, &["doctor"]).exits(Exit::Failed).says(&["not enrolled", "data directory"]);
    fs::write(nobody.config(), "[serving]\nhtp = 1\n").unwrap();
    let _ = ask(&nobody, &["doctor"]).exits(Exit::Failed).says(&["configuration", "line 2"]);
    let _ = ask(&nobody, &["status"]).exits(Exit::Usage).says(&["line 2"]).is_clear();
}

#[test]
fn nobody_but_the_owner_may_ask() {
    let fleet = Fleet::start(1);
    let device = &fleet.devices[0];
    let socket = device.data_dir().join("control.sock");
    until_true("the agent listens to its operator", PATIENCE, || socket.exists());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(&device.data_dir())), (0o600, 0o700));
    if !rustix::process::geteuid().is_root() {
        // Without root there is no other user to be: the owner takes the right away from itself.
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o0)).unwrap();
        let _ = ask(device, &["status"]).exits(Exit::NotAuthorised).says(&["root"]).is_clear();
        return;
    }
    // Where the program lies, others may not be able to go.
    let program = device.config().with_file_name("agent");
    fs::copy(device.agent().get_program(), &program).unwrap();
    let ask_as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command.args(["status", "--config"]).arg(device.config());
        answer(command)
    };
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    open(device.config().parent().unwrap());
    let _ = ask_as_nobody().exits(Exit::NotAuthorised).says(&["as root"]).is_clear();
    open(&device.data_dir());
    let _ = ask_as_nobody().exits(Exit::NotAuthorised).says(&["as root"]).is_clear();
    // Even a socket that somebody opened to all is not answered: the kernel tells who calls.
    open(&socket);
    let _ = ask_as_nobody().fails().is_clear();
    let _ = ask(device, &["status"]).ok();
}
